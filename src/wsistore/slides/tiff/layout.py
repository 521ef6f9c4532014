"""How integers and values lie in a TIFF: classic or big, of either byte order."""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from typing import Literal, NamedTuple

from wsistore.slides.tiff import tags


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
    head : struct.Struct
        Unpacks the number of entries.
    codes : (str, str, str)
        `struct` codes of the byte order, of one entry (tag, type, number of values, and the
        value or its offset, as one integer), and of an offset.
    single : mapping of int to (int, int)
        By field type, how a single value is had from the last integer of its entry: shifted
        right by so many bits, and masked.
    """

    order: Literal["<", ">"]
    count_bytes: int
    entry_bytes: int
    inline_bytes: int
    head: struct.Struct
    codes: tuple[str, str, str]
    single: Mapping[int, tuple[int, int]]

    @classmethod
    @functools.cache
    def classic(cls, order: Literal["<", ">"]) -> Layout:
        """Return the layout of a classic TIFF: offsets of 32 bits."""
        return cls(
            order, 2, 12, 4, struct.Struct(order + "H"), (order, "HHII", "I"), _single(order, 4)
        )

    @classmethod
    @functools.cache
    def big(cls, order: Literal["<", ">"]) -> Layout:
        """Return the layout of a BigTIFF: offsets of 64 bits."""
        return cls(
            order, 8, 20, 8, struct.Struct(order + "Q"), (order, "HHQQ", "Q"), _single(order, 8)
        )


def _single(order: str, inline_bytes: int) -> dict[int, tuple[int, int]]:
    """Return `Layout.single`: a value lies in the first bytes of its entry's last integer."""
    widths = {kind: tags.TYPE_BYTES[kind] for kind in tags.UNSIGNED}
    return {
        kind: (8 * (inline_bytes - width) if order == ">" else 0, (1 << 8 * width) - 1)
        for kind, width in widths.items()
        if width <= inline_bytes
    }


@functools.lru_cache(maxsize=32)
def directory(codes: tuple[str, str, str], count: int) -> struct.Struct:
    """Return what unpacks a directory of so many entries, with the next one's offset.

    Four integers for each entry, as `Layout.codes` says, and the offset behind them.
    """
    order, entry_code, offset_code = codes
    return struct.Struct(f"{order}{entry_code * count}{offset_code}")


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
