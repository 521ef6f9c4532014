"""A small raw writer of little-endian TIFF and BigTIFF, with every offset in our hands.

TIFF 6.0; BigTIFF as at https://www.awaresystems.be/imaging/tiff/bigtiff.html.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8, IFD8 = 2, 3, 4, 5, 7, 16, 18
_FORMAT = {SHORT: "H", LONG: "I", RATIONAL: "I", LONG8: "Q", IFD8: "Q"}


class Tag(NamedTuple):
    """A directory entry: tag number, field type, and its value."""

    code: int
    type: int
    value: int | bytes | str | Sequence[int]

    def encoded(self) -> tuple[int, bytes]:
        """Return (count, little-endian bytes) of the value."""
        if isinstance(self.value, str):
            raw = self.value.encode("utf-8") + b"\0"
            return len(raw), raw
        if isinstance(self.value, bytes):
            return len(self.value), self.value
        values = (self.value,) if isinstance(self.value, int) else tuple(self.value)
        raw = struct.pack(f"<{len(values)}{_FORMAT[self.type]}", *values)
        return len(values) // (2 if self.type == RATIONAL else 1), raw


class RawTiff:
    """An open TIFF under construction; blocks and directories are only ever appended.

    Parameters
    ----------
    path : Path
        File to write; replaced where it exists.
    big : bool
        BigTIFF (8-byte offsets).
    """

    def __init__(self, path: Path, *, big: bool = False) -> None:
        self.big = big
        self._inline = 8 if big else 4
        self._file = path.open("wb")
        header = (
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0)
            if big
            else struct.pack("<2sHI", b"II", 42, 0)
        )
        self._file.write(header.ljust(16, b"\0"))  # Aperio's data starts at byte 16
        self._link = 8 if big else 4

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def offset_type(self) -> int:
        """Field type of tile and strip offsets."""
        return LONG8 if self.big else LONG

    def skip(self, length: int) -> None:
        """Leave a hole of `length` bytes; file systems keep it sparse."""
        self._file.seek(length, 1)

    def add_block(self, block: bytes) -> int:
        """Append a block and return its offset."""
        offset = self._file.tell()
        self._check(offset + len(block))
        self._file.write(block)
        return offset

    def add_ifd(self, tags: Sequence[Tag], *, chained: bool = True) -> int:
        """Append a directory behind the values that don't fit into it.

        Parameters
        ----------
        tags : sequence of Tag
            In any order.
        chained : bool
            Whether the chain of main directories leads to it; False for SubIFDs.

        Returns
        -------
        int
            Its offset.
        """
        entries = [self._entry(tag) for tag in sorted(tags)]
        self._align()
        offset = self._file.tell()
        self._file.write(struct.pack("<Q" if self.big else "<H", len(entries)))
        self._file.write(b"".join(entries))
        link = self._file.tell()
        self._file.write(bytes(self._inline))
        self._check(link)
        if chained:
            self._file.seek(self._link)
            self._file.write(self._pointer(offset))
            self._file.seek(0, 2)
            self._link = link
        return offset

    def _entry(self, tag: Tag) -> bytes:
        count, raw = tag.encoded()
        if len(raw) > self._inline:
            self._align()
            offset = self._file.tell()
            self._file.write(raw)
            raw = self._pointer(offset)
        head = struct.pack("<HHQ" if self.big else "<HHI", tag.code, tag.type, count)
        return head + raw.ljust(self._inline, b"\0")

    def _align(self) -> None:
        """Go to an even byte, where directories and values must begin (TIFF 6.0, section 2)."""
        if self._file.tell() % 2:
            self._file.write(b"\0")

    def _pointer(self, offset: int) -> bytes:
        self._check(offset)
        return struct.pack("<Q" if self.big else "<I", offset)

    def _check(self, end: int) -> None:
        if not self.big and end >= 1 << 32:
            raise ValueError("a classic TIFF can't hold more than 4 GiB; pass bigtiff=True")
