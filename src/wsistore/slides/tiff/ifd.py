"""One image file directory (IFD) of a TIFF: its entries checked, its values lazy.

Opening reads one block. Values stay where they are until they are asked for, and each
range is checked against the file before it is read.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.slides.tiff import tags
from wsistore.sources import Source

MAX_ENTRIES = 4096
"""Entries believed in one IFD; slides have 12-60."""
MAX_NUMBERS = 4096
"""Values believed in a small array that is parsed at once (not tile offsets)."""
MAX_TEXT_BYTES = 16 << 20
"""Longest text believed; OME-XML of large experiments reaches a few MiB."""
MAX_DATA_BYTES = 16 << 20
"""Longest opaque value believed; ICC profiles reach 1.7 MB."""

BLOCK_BEFORE = 1024
BLOCK_BYTES = 8192
"""One read per IFD: Aperio writes small values just behind it, others just before."""


class Layout(NamedTuple):
    """How integers lie in this file.

    Parameters
    ----------
    order : {"<", ">"}
        Byte order, as `struct` and numpy write it.
    count_bytes : int
        Bytes of the number of entries at the head of an IFD.
    entry_bytes : int
        Bytes of one entry.
    inline_bytes : int
        Longest value that lies within its entry; also the bytes of an offset.
    count_code, offset_code, entry_code : str
        `struct` codes of the number of entries, of one offset, and of tag, type and
        number of values of one entry.
    """

    order: Literal["<", ">"]
    count_bytes: int
    entry_bytes: int
    inline_bytes: int
    count_code: str
    offset_code: str
    entry_code: str

    @classmethod
    def classic(cls, order: Literal["<", ">"]) -> Layout:
        """Return the layout of a classic TIFF: offsets of 32 bits."""
        return cls(order, 2, 12, 4, order + "H", order + "I", order + "HHI4x")

    @classmethod
    def big(cls, order: Literal["<", ">"]) -> Layout:
        """Return the layout of a BigTIFF: offsets of 64 bits."""
        return cls(order, 8, 20, 8, order + "Q", order + "Q", order + "HHQ8x")


class Entry(NamedTuple):
    """Where the values of a tag lie.

    Parameters
    ----------
    tag, type : int
        TIFF tag and field type.
    values : int
        Number of values.
    position : int
        First byte of the values in the file; inside the entry itself where they fit.
    """

    tag: int
    type: int
    values: int
    position: int

    @property
    def bytes(self) -> int:
        """Length of all values."""
        return self.values * tags.TYPE_BYTES[self.type]


class Ifd:
    """One image file directory.

    Parameters
    ----------
    source : Source
        The file.
    layout : Layout
        How integers lie in it.
    label : str
        What messages call it: ``"IFD 3"``, ``"SubIFD 0.2"``.
    offset : int
        Its first byte.
    """

    __slots__ = (
        "_block", "_block_at", "_entries", "_first", "_source", "_values",
        "label", "layout", "next_offset", "offset", "raw",
    )  # fmt: skip

    def __init__(self, source: Source, layout: Layout, label: str, offset: int) -> None:
        self._source = source
        self.layout = layout
        self.label = label
        self.offset = offset
        self._block_at = max(0, offset - BLOCK_BEFORE)
        self._block = source.read(self._block_at, min(BLOCK_BYTES, source.size - self._block_at))
        self._values: dict[int, tuple[int, ...]] = {}
        self._parse()

    def _parse(self) -> None:
        layout = self.layout
        head = self._read(self.offset, layout.count_bytes, 0)
        (count,) = struct.unpack(layout.count_code, head)
        if not 1 <= count <= MAX_ENTRIES:
            raise self.corrupt(f"{count} entries, expected 1 to {MAX_ENTRIES}")
        first = self.offset + layout.count_bytes
        length = count * layout.entry_bytes
        self.raw = self._read(first, length + layout.inline_bytes, 0)
        # Values of unknown tags are never looked at, so nothing is asked of them.
        entries: dict[int, tuple[int, int, int]] = {}
        at = layout.entry_bytes - layout.inline_bytes
        for tag, kind, values in struct.iter_unpack(layout.entry_code, self.raw[:length]):
            if tag in entries and tag in tags.NAMES:
                raise self.corrupt(f"{name_of(tag)} is there twice")
            entries.setdefault(tag, (kind, values, at))
            at += layout.entry_bytes
        self._first = first
        self._entries = entries
        (self.next_offset,) = struct.unpack_from(layout.offset_code, self.raw, length)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    @property
    def tags(self) -> tuple[int, ...]:
        """Its tags, in the order of the file."""
        return tuple(self._entries)

    def corrupt(self, message: str) -> CorruptSlideError:
        """Return the error that says what is broken in this IFD."""
        return CorruptSlideError(
            f"{self._source.name}: {self.label} at byte {self.offset}: {message}",
            hint="The file is damaged or was not copied whole; compare it with the original.",
        )

    def unsupported(self, message: str, *, hint: str = "") -> UnsupportedSlideError:
        """Return the error that says what of this IFD is not read here."""
        return UnsupportedSlideError(f"{self._source.name}: {self.label}: {message}", hint=hint)

    def entry(self, tag: int) -> Entry:
        """Return where the values of a tag lie, checked against the file.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If it is missing, its type is unknown, it has no values, or they lie outside
            of the file.
        """
        found = self._entries.get(tag)
        if found is None:
            raise self.corrupt(f"{name_of(tag)} is missing")
        kind, count, at = found
        size = tags.TYPE_BYTES.get(kind)
        if size is None:
            raise self.corrupt(f"{name_of(tag)} has the unknown field type {kind}")
        if count == 0:
            raise self.corrupt(f"{name_of(tag)} has no values")
        length = count * size
        position = self._first + at
        if length > self.layout.inline_bytes:
            (position,) = struct.unpack_from(self.layout.offset_code, self.raw, at)
            if position + length > self._source.size:
                raise self.corrupt(
                    f"{name_of(tag)} needs bytes {position}-{position + length}, "
                    f"the file has {self._source.size}"
                )
        return Entry(tag, kind, count, position)

    def numbers(self, tag: int, *, most: int = MAX_NUMBERS) -> tuple[int, ...]:
        """Return the unsigned integers of a tag; empty if absent.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If they are no integers, more than `most`, or lie outside of the file.
        """
        known = self._values.get(tag)
        if known is not None:
            return known
        if tag not in self._entries:
            return ()
        self._values[tag] = values = self._parse_numbers(tag, most)
        return values

    def _parse_numbers(self, tag: int, most: int) -> tuple[int, ...]:
        kind, count, at = self._entries[tag]
        if count == 1 and kind in (3, 4):  # nearly all: one SHORT or LONG, within the entry
            return struct.unpack_from(self.layout.order + tags.UNSIGNED[kind], self.raw, at)
        entry = self.entry(tag)
        letter = tags.UNSIGNED.get(kind)
        if letter is None:
            raise self.corrupt(f"{name_of(tag)} has field type {kind}, expected integers")
        if count > most:
            raise self.corrupt(f"{name_of(tag)} has {count} values, expected {most} at most")
        data = self._read(entry.position, entry.bytes, tag)
        return struct.unpack(f"{self.layout.order}{count}{letter}", data)

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the first integer of a tag.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If it is absent and there is no default, or it can't be read.
        """
        values = self.numbers(tag)
        if values:
            return values[0]
        if default is None:
            raise self.corrupt(f"{name_of(tag)} is missing")
        return default

    def rational(self, tag: int) -> tuple[int, int] | None:
        """Return numerator and denominator of a tag; None if absent or no rational."""
        if self._entries.get(tag, (0,))[0] != tags.RATIONAL:
            return None
        entry = self.entry(tag)
        data = self._read(entry.position, 8, tag)
        numerator, denominator = struct.unpack(self.layout.order + "II", data)
        return numerator, denominator

    def text(self, tag: int, *, most: int = MAX_TEXT_BYTES) -> str | None:
        """Return the text of a tag up to its first NUL; None if absent or no text.

        Bytes that are not UTF-8 are taken as Latin-1, as older scanners write.
        """
        if self._entries.get(tag, (0,))[0] not in tags.BYTES_LIKE:
            return None
        data = self.data(tag, most=most)
        if data is None:
            return None
        data = data.split(b"\0", 1)[0]
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def data(self, tag: int, *, most: int = MAX_DATA_BYTES) -> bytes | None:
        """Return the bytes of a tag, None if absent.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If they are longer than `most`, or lie outside of the file.
        """
        if tag not in self._entries:
            return None
        entry = self.entry(tag)
        if entry.bytes > most:
            raise self.corrupt(f"{name_of(tag)} has {entry.bytes} bytes, expected {most} at most")
        return self._read(entry.position, entry.bytes, tag)

    def _read(self, position: int, count: int, tag: int) -> bytes:
        """Read values of a tag, or of the directory itself (tag 0)."""
        start = position - self._block_at
        if start >= 0 and start + count <= len(self._block):
            return self._block[start : start + count]
        if position + count > self._source.size:
            what = name_of(tag) if tag else "the directory"
            raise self.corrupt(
                f"{what} needs bytes {position}-{position + count}, "
                f"the file has {self._source.size}"
            )
        return self._source.read(position, count)


def name_of(tag: int) -> str:
    """Return the name of a tag with its number, for messages."""
    return f"{tags.NAMES[tag]} (tag {tag})" if tag in tags.NAMES else f"tag {tag}"
