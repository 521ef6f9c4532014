"""A strict and lazy index of the image file directories (IFDs) of a TIFF.

Classic TIFF and BigTIFF, both byte orders. The walk is bounded: an IFD is visited once,
and there are limits to the number of IFDs and of their entries.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.ifd import Ifd
from wsistore.slides.tiff.layout import Layout
from wsistore.sources import Source

MAX_IFDS = 1024
"""IFDs believed in one file, SubIFDs included; slides have 3-30."""


class TiffIndex:
    """All IFDs of the main chain of a TIFF, and the SubIFDs that are asked for.

    Parameters
    ----------
    source : Source
        The file.
    look : callable, optional
        ``look(ifd)`` is called with the first IFD before the next one is followed, so
        that dialects with chains of their own (NDPI) can be refused by raising.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If it is no TIFF, or has more than `MAX_IFDS` IFDs.
    wsistore.errors.CorruptSlideError
        If the chain of IFDs is broken: none, cyclic, or outside of the file.
    """

    def __init__(self, source: Source, look: Callable[[Ifd], None] | None = None) -> None:
        self.source = source
        self.layout, offset = _read_header(source)
        self._seen: dict[int, str] = {}
        self._smallest = (
            self.layout.count_bytes + self.layout.entry_bytes + self.layout.inline_bytes
        )
        ifds: list[Ifd] = []
        while offset:
            ifd = self._visit(f"IFD {len(ifds)}", offset)
            if look and not ifds:
                look(ifd)
            ifds.append(ifd)
            offset = ifd.next_offset
        if not ifds:
            raise CorruptSlideError(
                f"{source.name}: the TIFF header points to no IFD, expected at least one",
                hint="The file was not written to its end.",
            )
        self.ifds = tuple(ifds)
        self._subs: dict[int, tuple[Ifd, ...]] = {}

    def sub_ifds(self, ifd: Ifd) -> tuple[Ifd, ...]:
        """Return the SubIFDs (tag 330) of an IFD, in the order of the tag.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If one is broken, outside of the file, or visited already.
        """
        known = self._subs.get(ifd.offset)
        if known is None:
            name = ifd.label.removeprefix("IFD ")
            offsets = ifd.numbers(tags.SUB_IFDS, most=MAX_IFDS)
            known = tuple(
                self._visit(f"SubIFD {name}.{number}", offset)
                for number, offset in enumerate(offsets)
            )
            self._subs[ifd.offset] = known
        return known

    def _visit(self, label: str, offset: int) -> Ifd:
        name, size, seen = self.source.name, self.source.size, self._seen
        if offset in seen:
            raise CorruptSlideError(
                f"{name}: {label} lies at byte {offset}, where {seen[offset]} lies already"
            )
        if len(seen) >= MAX_IFDS:
            raise UnsupportedSlideError(f"{name}: more than {MAX_IFDS} IFDs, as no slide has")
        if offset < 8 or offset + self._smallest > size:
            raise CorruptSlideError(
                f"{name}: {label} should lie at byte {offset}, the file has {size} bytes",
                hint="The file was not copied whole; compare its size with the original's.",
            )
        seen[offset] = label
        return Ifd(self.source, self.layout, label, offset)


_ORDERS: dict[bytes, Literal["<", ">"]] = {b"II": "<", b"MM": ">"}


def _read_header(source: Source) -> tuple[Layout, int]:
    """Return the layout and the offset of the first IFD."""
    head = source.read(0, min(16, source.size))
    order = _ORDERS.get(head[:2])
    if order is None or len(head) < 8:
        raise UnsupportedSlideError(f"{source.name} is no TIFF: it begins with {head[:8]!r}")
    version, offset_bytes, zero = struct.unpack_from(order + "HHH", head, 2)
    if version == 42:
        return Layout.classic(order), struct.unpack_from(order + "I", head, 4)[0]
    if version != 43:
        raise UnsupportedSlideError(f"{source.name} is no TIFF: version {version}, not 42 or 43")
    if len(head) < 16 or (offset_bytes, zero) != (8, 0):
        raise CorruptSlideError(
            f"{source.name}: BigTIFF header with offsets of {offset_bytes} bytes, expected 8"
        )
    return Layout.big(order), struct.unpack_from(order + "Q", head, 8)[0]


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
