"""The tile table of one level of a TIFF, read no further than it is needed."""

from __future__ import annotations

import functools
import threading
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import BlockFormat
from wsistore.errors import CorruptSlideError
from wsistore.geometry import Size
from wsistore.slides.model import TileRefs, TileTable
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.layout import Entry, Layout
from wsistore.slides.tiff.page import Segments
from wsistore.sources import Source

SPAN_ENTRIES = 4096
"""Longest run of entries that is read for one lookup; beyond it, the whole array."""
SPAN_LOOKUPS = 16
"""Lookups served by runs before the arrays are read whole: a sampler asks for many."""

FEW = 64
"""Tiles of a lookup that is done without numpy."""

FIRST_BYTE = 8
"""First byte of a file that may belong to a tile: the header lies before."""

BEYOND = 1 << 61
"""Where offsets and counts are cut off: outside of every file."""

Arrays = tuple[NDArray[np.int64], NDArray[np.int64]]


class TiffTileTable(TileTable):
    """Offsets and byte counts of the tiles of one level; safe in threads.

    Parameters
    ----------
    source : Source
        The file.
    layout : Layout
        How integers lie in it.
    segments : Segments
        Where the two arrays lie.
    size : Size
        Size of the level in px of the level.
    block_format : BlockFormat
        How each tile is encoded.
    level : int
        Index of the level, for messages.
    """

    def __init__(
        self,
        source: Source,
        layout: Layout,
        segments: Segments,
        size: Size,
        block_format: BlockFormat,
        level: int,
    ) -> None:
        super().__init__(size, block_format)
        self._source = source
        self._layout = layout
        self._segments = segments
        self._level = level
        self._columns, self._rows = self.grid
        self._lock = threading.Lock()
        self._whole: Arrays | None = None
        self._lookups = 0

    def source(self, part: int) -> Source:
        """Return the file; a TIFF has one part, number 0."""
        if part != 0:
            raise IndexError(f"a TIFF has one part, number 0, not {part}")
        return self._source

    def locate(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> TileRefs:
        """Return where these tiles lie; see `TileTable.locate`."""
        columns = np.asarray(columns, dtype=np.int64)
        rows = np.asarray(rows, dtype=np.int64)
        if columns.ndim == 1 and 0 < columns.size <= FEW and columns.shape == rows.shape:
            found = self._locate_few(columns.tolist(), rows.tolist())
            if found is not None:
                return found
        return self._locate_many(columns, rows)

    def _locate_few(self, columns: list[int], rows: list[int]) -> TileRefs | None:
        """Return where some tiles lie, in plain Python: numpy takes a microsecond a step.

        None where anything is wrong with one of them, which `_locate_many` can tell.
        """
        width, height = self._columns, self._rows
        if min(columns) < 0 or max(columns) >= width or min(rows) < 0 or max(rows) >= height:
            return None
        numbers = [row * width + column for column, row in zip(columns, rows, strict=True)]
        (all_offsets, all_counts), start = self._entries(min(numbers), max(numbers) + 1)
        places = [number - start for number in numbers]
        counts = all_counts[places]
        offsets = all_offsets[places]
        size, most = self._source.size, self.block_format.max_block_bytes
        for place, (offset, count) in enumerate(
            zip(offsets.tolist(), counts.tolist(), strict=True)
        ):
            if count == 0:
                offsets[place] = 0
            elif offset < FIRST_BYTE or offset + count > size or count > most:
                return None
        return TileRefs(np.zeros(len(places), np.int32), offsets, counts)

    def _locate_many(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> TileRefs:
        self._expect_inside(columns, rows)
        numbers = rows * self._columns + columns
        if not numbers.size:
            empty = np.zeros(numbers.shape, np.int64)
            return TileRefs(empty.astype(np.int32), empty, empty.copy())
        first = int(numbers.min())
        (offsets, counts), start = self._entries(first, int(numbers.max()) + 1)
        numbers = numbers - start
        offsets, counts = offsets[numbers], counts[numbers]
        bad = self._outside(offsets, counts)
        if bad.any():
            self._refuse(columns, rows, offsets, counts, bad)
        offsets[counts == 0] = 0
        return TileRefs(np.zeros(offsets.shape, np.int32), offsets, counts)

    def locate_all(self) -> TileRefs:
        """Return where all tiles lie, as arrays of shape (rows, columns)."""
        shape = (self._rows, self._columns)
        offsets, counts = (array.reshape(shape) for array in self.entries())
        bad = self._outside(offsets, counts)
        if bad.any():
            rows, columns = np.indices(shape)
            self._refuse(columns, rows, offsets, counts, bad)
        return TileRefs(np.zeros(shape, np.int32), np.where(counts == 0, 0, offsets), counts.copy())

    def entries(self) -> Arrays:
        """Return offsets and counts of all tiles as the file states them, unchecked."""
        with self._lock:
            if self._whole is None:
                self._whole = self._read(0, self._columns * self._rows)
            return self._whole

    def is_outside(self) -> NDArray[np.bool_]:
        """Return which tiles (of all, in the order of the file) can't be where it says."""
        return self._outside(*self.entries())

    def _expect_inside(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        if columns.shape != rows.shape:
            raise IndexError(f"columns {columns.shape} and rows {rows.shape} differ in shape")
        if columns.size and not (
            0 <= columns.min() <= columns.max() < self._columns
            and 0 <= rows.min() <= rows.max() < self._rows
        ):
            raise IndexError(
                f"tile coordinates outside of the grid of {self._columns} x {self._rows}"
            )

    def _entries(self, first: int, stop: int) -> tuple[Arrays, int]:
        """Return the arrays, or the run of them that holds these entries, and its start."""
        total = self._columns * self._rows
        if self._whole is None and stop - first <= SPAN_ENTRIES < total:
            self._lookups += 1  # a lost update by another thread only delays the switch
            if self._lookups <= SPAN_LOOKUPS:
                return self._read(first, stop), first
        return self.entries(), 0

    def _read(self, first: int, stop: int) -> Arrays:
        offsets, counts = self._segments
        return self._read_array(offsets, first, stop), self._read_array(counts, first, stop)

    def _read_array(self, entry: Entry, first: int, stop: int) -> NDArray[np.int64]:
        dtype = _dtype_of(entry.type, self._layout.order)
        data = self._source.read(
            entry.position + first * dtype.itemsize, (stop - first) * dtype.itemsize
        )
        values = np.frombuffer(data, dtype)
        if dtype.itemsize == 8:
            values = np.minimum(values, BEYOND)  # neither the sign nor a sum may overflow
        return values.astype(np.int64)

    def _outside(self, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        outside: NDArray[np.bool_] = offsets + counts > self._source.size
        outside |= offsets < FIRST_BYTE
        outside |= counts > self.block_format.max_block_bytes
        outside &= counts != 0
        return outside

    def _refuse(
        self,
        columns: NDArray[np.int64],
        rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        counts: NDArray[np.int64],
        bad: NDArray[np.bool_],
    ) -> None:
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        offset, count = int(offsets[at]), int(counts[at])
        others = int(bad.sum()) - 1
        raise CorruptSlideError(
            f"{self._source.name}: level {self._level}, tile column {int(columns[at])}, "
            f"row {int(rows[at])}: {count} bytes at {offset}, expected at most "
            f"{self.block_format.max_block_bytes} bytes within a file of {self._source.size}"
            + (f" ({others} more tiles like it)" if others else ""),
            hint="The file is damaged or was not copied whole; compare it with the original.",
        )


@functools.cache
def _dtype_of(field_type: int, order: Literal["<", ">"]) -> np.dtype[np.unsignedinteger[Any]]:
    return np.dtype(tags.UNSIGNED[field_type]).newbyteorder(order)
