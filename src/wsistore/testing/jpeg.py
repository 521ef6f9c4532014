"""JPEG streams taken apart and put together otherwise (ITU T.81, annex B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
DQT, DHT, SOS, APP0, APP14 = 0xDB, 0xC4, 0xDA, 0xE0, 0xEE
SOF = frozenset({0xC0, 0xC1, 0xC2})

_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"


class Segment(NamedTuple):
    """A marker and its segment; the last one (SOS) reaches to the end of the stream."""

    marker: int
    data: bytes


def segments(stream: bytes) -> Iterator[Segment]:
    """Yield the segments of a stream, markers included, without SOI.

    Raises
    ------
    ValueError
        If it is not a JPEG stream.
    """
    if stream[:2] != SOI:
        raise ValueError(f"no JPEG stream: starts with {stream[:2].hex()}, not ffd8")
    at = 2
    while stream[at : at + 2] != EOI:
        marker = stream[at + 1]
        length = struct.unpack_from(">H", stream, at + 2)[0] + 2
        if marker == SOS:
            yield Segment(marker, stream[at:])
            return
        yield Segment(marker, stream[at : at + length])
        at += length


def adobe(transform: int) -> bytes:
    """Return an Adobe APP14 segment: transform 0 says RGB, 1 says YCbCr."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def with_ids(stream: bytes, ids: tuple[int, ...]) -> bytes:
    """Return the stream with other component ids, in its frame and in its scan."""
    parts = [SOI]
    for marker, data in segments(stream):
        changed = bytearray(data)
        if marker in SOF:
            changed[10 : 10 + 3 * len(ids) : 3] = bytes(ids)
        elif marker == SOS:
            changed[5 : 5 + 2 * len(ids) : 2] = bytes(ids)
        parts.append(bytes(changed))
    return b"".join(parts)


def with_marks(stream: bytes, *, app14: int | None, jfif: bool) -> bytes:
    """Return the stream with these application markers and no others."""
    parts = [SOI, _JFIF if jfif else b"", b"" if app14 is None else adobe(app14)]
    parts += [data for marker, data in segments(stream) if not APP0 <= marker <= APP0 + 15]
    return b"".join(parts)


def split_tables(stream: bytes, markers: frozenset[int]) -> tuple[bytes, bytes]:
    """Return (tables stream, stream without them) for the segments named by `markers`."""
    tables, rest = [SOI], [SOI]
    for marker, data in segments(stream):
        (tables if marker in markers else rest).append(data)
    return b"".join([*tables, EOI]), b"".join(rest)


def merge_tables(tables: bytes, stream: bytes) -> bytes:
    """Return a full stream from JPEGTables and an abbreviated one."""
    return SOI + tables[2:-2] + stream[2:] if tables else stream
