"""One image file directory (IFD) of a TIFF: its entries checked, its values lazy.

Opening reads one block. Values stay where they are until they are asked for, and each
range is checked against the file before it is read.
"""

from __future__ import annotations

import struct

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.layout import Entry, Layout, directory
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
        "_block", "_block_at", "_entries", "_first", "_length", "_single", "_source", "_texts",
        "_values", "label", "layout", "next_offset", "offset",
    )  # fmt: skip

    def __init__(self, source: Source, layout: Layout, label: str, offset: int) -> None:
        self._source = source
        self.layout = layout
        self._single = layout.single
        self.label = label
        self.offset = offset
        self._block_at = at = offset - BLOCK_BEFORE if offset > BLOCK_BEFORE else 0
        self._block = source.read(at, min(BLOCK_BYTES, source.size - at))
        self._values: dict[int, tuple[int, ...]] = {}
        self._texts: dict[int, str] = {}
        self._parse()

    def _parse(self) -> None:
        layout, data = self.layout, self._block
        at = self.offset - self._block_at
        (count,) = layout.head.unpack_from(data, at)  # the index saw that this much is there
        if not 1 <= count <= MAX_ENTRIES:
            raise self.corrupt(f"{count} entries, expected 1 to {MAX_ENTRIES}")
        self._first = self.offset + layout.count_bytes
        self._length = count * layout.entry_bytes + layout.inline_bytes
        at += layout.count_bytes
        if at + self._length > len(data):
            data, at = self.raw, 0
        found = directory(layout.codes, count).unpack_from(data, at)
        self.next_offset: int = found[-1]
        # Values of unknown tags are never looked at, so nothing is asked of them. The slices
        # are of one length, and to have that checked would cost a fifth of all this.
        self._entries: dict[int, tuple[int, int, int]] = dict(
            zip(found[:-1:4], zip(found[1::4], found[2::4], found[3::4]))  # noqa: B905
        )
        if len(self._entries) != count:
            self._settle_twins(found)

    def _settle_twins(self, found: tuple[int, ...]) -> None:
        """Take the first entry of a tag that is there twice, if nobody looks at it."""
        entries: dict[int, tuple[int, int, int]] = {}
        for tag, *entry in zip(found[:-1:4], found[1::4], found[2::4], found[3::4], strict=True):
            if tag in entries and tag in tags.NAMES:
                raise self.corrupt(f"{name_of(tag)} is there twice")
            entries.setdefault(tag, (entry[0], entry[1], entry[2]))
        self._entries = entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    @property
    def raw(self) -> bytes:
        """Its entries and the offset of the next IFD, as they lie in the file."""
        return self._read(self._first, self._length, 0)

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
        position, _ = self._extent(tag)
        kind, count, _ = self._entries[tag]
        return Entry(tag, kind, count, position)

    def _extent(self, tag: int) -> tuple[int, int]:
        """Return first byte and length of the values of a tag, checked as `entry` says."""
        found = self._entries.get(tag)
        if found is None:
            raise self.corrupt(f"{name_of(tag)} is missing")
        kind, count, position = found
        size = tags.TYPE_BYTES.get(kind)
        if size is None:
            raise self.corrupt(f"{name_of(tag)} has the unknown field type {kind}")
        if count == 0:
            raise self.corrupt(f"{name_of(tag)} has no values")
        length = count * size
        if length <= self.layout.inline_bytes:
            position = self._place_of(tag)
        elif position + length > self._source.size:
            raise self.corrupt(
                f"{name_of(tag)} needs bytes {position}-{position + length}, "
                f"the file has {self._source.size}"
            )
        return position, length

    def _place_of(self, tag: int) -> int:
        """Return the first byte in the file of a value that lies within its entry."""
        layout = self.layout
        code = struct.Struct("".join(layout.codes[:2]))
        found = [entry[0] for entry in code.iter_unpack(self.raw[: -layout.inline_bytes])]
        return self._first + (found.index(tag) + 1) * layout.entry_bytes - layout.inline_bytes

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
        kind, count, _ = self._entries[tag]
        letter = tags.UNSIGNED.get(kind)
        if letter is None or count > most:
            self._extent(tag)  # what is wrong with the entry itself is told first
            if letter is None:
                raise self.corrupt(f"{name_of(tag)} has field type {kind}, expected integers")
            raise self.corrupt(f"{name_of(tag)} has {count} values, expected {most} at most")
        return struct.unpack(f"{self.layout.order}{count}{letter}", self._bytes(tag))

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the first integer of a tag.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If it is absent and there is no default, or it can't be read.
        """
        found = self._entries.get(tag)
        if found is None:
            if default is None:
                raise self.corrupt(f"{name_of(tag)} is missing")
            return default
        kind, count, value = found
        single = self._single.get(kind)
        if count == 1 and single is not None:  # nearly all: it lies within the entry
            shift, mask = single
            return value >> shift & mask
        return self.numbers(tag)[0]

    def rational(self, tag: int) -> tuple[int, int] | None:
        """Return numerator and denominator of a tag; None if absent or no rational."""
        found = self._entries.get(tag)
        if found is None or found[0] != tags.RATIONAL:
            return None
        position, _ = self._extent(tag)
        data = self._read(position, 8, tag)
        numerator, denominator = struct.unpack(self.layout.order + "II", data)
        return numerator, denominator

    def text(self, tag: int, *, most: int = MAX_TEXT_BYTES) -> str | None:
        """Return the text of a tag up to its first NUL; None if absent or no text.

        Bytes that are not UTF-8 are taken as Latin-1, as older scanners write.
        """
        known = self._texts.get(tag)
        if known is not None:
            return known
        found = self._entries.get(tag)
        if found is None or found[0] not in tags.BYTES_LIKE:
            return None
        data = self._bytes(tag, most).partition(b"\0")[0]
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        self._texts[tag] = text
        return text

    def data(self, tag: int, *, most: int = MAX_DATA_BYTES) -> bytes | None:
        """Return the bytes of a tag, None if absent.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If they are longer than `most`, or lie outside of the file.
        """
        return self._bytes(tag, most) if tag in self._entries else None

    def _bytes(self, tag: int, most: int | None = None) -> bytes:
        """Return the bytes of a tag that is there, `most` of them at most."""
        kind, count, position = self._entries[tag]
        length = count * tags.TYPE_BYTES.get(kind, 0)
        start = position - self._block_at
        near = start >= 0 and start + length <= len(self._block)
        if near and self.layout.inline_bytes < length and (most is None or length <= most):
            return self._block[start : start + length]  # nearly all; nothing is left to check
        position, length = self._extent(tag)
        if most is not None and length > most:
            raise self.corrupt(f"{name_of(tag)} has {length} bytes, expected {most} at most")
        return self._read(position, length, tag)

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
