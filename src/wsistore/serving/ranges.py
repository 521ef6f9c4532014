"""The ``Range`` header (RFC 9110, 14.2): one range of bytes."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableError(ValueError):
    """The range has no byte of the resource; it never leaves this room."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of a range and the one behind its last.

    Parameters
    ----------
    header : str
        Value of the header: ``bytes=0-99``, ``bytes=100-`` or ``bytes=-16`` (the last 16).
    size : int
        Bytes of the whole resource.

    Returns
    -------
    (start, stop) or None
        None where the whole is to be sent: the header is malformed, of another unit, or
        names several ranges, which a server may ignore.

    Raises
    ------
    UnsatisfiableError
        If the range is well formed, but has no byte of the resource.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        count = min(int(last), size)
        if count == 0:
            raise UnsatisfiableError
        return size - count, size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return start, min(int(last) + 1, size) if last else size
