"""The tiles of a Zarr array as a tile table: which object holds each, and where.

Objects are numbered row by row. Shard indexes are read when they are first asked for, one
ranged read each, checked, and kept up to a bound. Nothing here takes a lock, so no lock can
be left locked in a forked child: two threads may read the same index, and both be right.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import append_crc32c, encode
from wsistore.errors import CorruptSlideError, SourceNotFoundError, UsageError
from wsistore.pyramid.arrays import ArrayLayout
from wsistore.pyramid.layout import decode_shard_index, shard_index_bytes
from wsistore.pyramid.memory import MemorySource
from wsistore.slides.model import TileRefs, TileTable
from wsistore.sources import Folder, LocalFolder, Source

MAX_ENTRIES = 1 << 22
"""Index entries kept per level: 64 MiB."""
MAX_SOURCES = 1024
"""Opened objects kept per level."""
REMOTE_READS = 16
"""Shard indexes that are read at the same time from object storage."""

_Value = TypeVar("_Value")
Index = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Offsets and counts of the chunks of an object, row by row; a count of 0 is missing."""


class ZarrTileTable(TileTable):
    """Tiles of one array of a store.

    Parameters
    ----------
    folder : Folder
        The store.
    path : str
        The array within it.
    layout : ArrayLayout
        How its tiles lie.
    absent_is_missing : bool
        What a chunk without bytes is: a tile that the slide lacks, or one that is wholly
        of the fill value, as Zarr's writers leave them out. In the second case the table
        points to an encoded tile of that value, made up.
    expected : callable
        Tells whether an object must be there; one that is absent is then an error.
    """

    def __init__(
        self,
        folder: Folder,
        path: str,
        layout: ArrayLayout,
        *,
        absent_is_missing: bool,
        expected: Callable[[str], bool] = lambda key: False,  # noqa: ARG005
    ) -> None:
        super().__init__(layout.size, layout.block_format, layout.checksum)
        self.layout = layout
        self._folder = folder
        self._path = path
        self._expected = expected
        self._indexes: dict[int, Index] = {}
        self._sources: dict[int, Source] = {}
        columns, rows = layout.shard_grid
        self._constant = -1 if absent_is_missing else columns * rows
        chunks = layout.shard_chunks
        self._kept = max(16, MAX_ENTRIES // (chunks.width * chunks.height))

    def locate(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> TileRefs:
        """Return where these tiles lie; see `TileTable.locate`.

        Raises
        ------
        CorruptSlideError
            If a shard's index is damaged or points outside of the shard.
        SourceError
            If an index can't be had.
        """
        wide, high = self.layout.shard_chunks
        shard_row, row = np.divmod(np.asarray(rows, np.int64), high)
        shard_column, column = np.divmod(np.asarray(columns, np.int64), wide)
        parts = shard_row * self.layout.shard_grid.width + shard_column
        slots = row * wide + column
        offsets, counts = np.zeros_like(slots), np.zeros_like(slots)
        numbers, which = np.unique(parts, return_inverse=True)
        for i, (first, lengths) in enumerate(self._indexes_of(numbers.tolist())):
            mine = which == i
            offsets[mine], counts[mine] = first[slots[mine]], lengths[slots[mine]]
        if self._constant >= 0 and not counts.all():
            absent = counts == 0
            parts[absent], offsets[absent] = self._constant, 0
            counts[absent] = self.source(self._constant).size
        return TileRefs(parts.astype(np.int32), offsets, counts)

    def source(self, part: int) -> Source:
        """Return the object with this number; see `TileTable.source`.

        An object that is absent, as one without a tile is, has no bytes.

        Raises
        ------
        CorruptSlideError
            If it is absent and must not be.
        """
        found = self._sources.get(part)
        if found is None:
            found = self._open(part)
            _keep(self._sources, part, found, MAX_SOURCES)
        return found

    def close(self) -> None:
        """Give back all objects."""
        for source in list(self._sources.values()):
            source.close()

    def _open(self, part: int) -> Source:
        if part == self._constant:
            return BytesSource(constant_block(self.layout), "a chunk of the fill value")
        key = self._key(part)
        layout = self.layout
        try:
            if not layout.sharded or not layout.index_at_end:
                return self._folder.source(key)
            grid = (layout.shard_chunks.height, layout.shard_chunks.width)
            length = shard_index_bytes(grid, checksum=layout.index_checksum)
            return self._folder.source_with_tail(key, length)
        except SourceNotFoundError:
            if not self._expected(key):
                return BytesSource(b"", key)
        raise CorruptSlideError(
            f"{self._folder.name}: object {key} is gone, the store was written with it",
            hint="Copy or convert the store again.",
        )

    def _key(self, part: int) -> str:
        row, column = divmod(part, self.layout.shard_grid.width)
        return f"{self._path}/{self.layout.key(row, column)}"

    def _indexes_of(self, parts: Sequence[int]) -> Sequence[Index]:
        cold = [part for part in parts if part not in self._indexes]
        if len(cold) > 1 and not isinstance(self._folder, LocalFolder):
            # A pool for each call: none is left over that a fork could break.
            with ThreadPoolExecutor(min(REMOTE_READS, len(cold)), "wsistore-index") as pool:
                fresh = dict(zip(cold, pool.map(self._read_index, cold), strict=True))
        else:
            fresh = {part: self._read_index(part) for part in cold}
        result = [fresh[p] if p in fresh else self._index(p) for p in parts]
        for part, index in fresh.items():
            _keep(self._indexes, part, index, self._kept)
        return result

    def _index(self, part: int) -> Index:
        """Return an index that was kept, unless another thread has just dropped it."""
        return self._indexes.get(part) or self._read_index(part)

    def _read_index(self, part: int) -> Index:
        source = self.source(part)
        if isinstance(source, BytesSource):
            chunks = self.layout.shard_chunks
            nothing = np.zeros(chunks.width * chunks.height, np.int64)
            return nothing, nothing
        if not self.layout.sharded:
            if not source.size:
                raise CorruptSlideError(f"chunk {source.name} has 0 bytes")
            return np.zeros(1, np.int64), np.full(1, source.size, np.int64)
        return self._read_shard_index(source)

    def _read_shard_index(self, source: Source) -> Index:
        layout = self.layout
        grid = (layout.shard_chunks.height, layout.shard_chunks.width)
        length = shard_index_bytes(grid, checksum=layout.index_checksum)
        if source.size < length:
            raise CorruptSlideError(
                f"shard {source.name} has {source.size} bytes, its index alone takes {length}",
                hint="The store is damaged: copy or convert it again.",
            )
        start = source.size - length if layout.index_at_end else 0
        offsets, counts = decode_shard_index(
            source.read(start, length), grid, checksum=layout.index_checksum, name=source.name
        )
        low, high = (0, start) if layout.index_at_end else (length, source.size)
        present = counts > 0
        # In this order, so that no sum can overflow.
        inside = (offsets >= low) & (offsets <= high) & (counts <= high - offsets)
        if not inside[present].all():
            raise CorruptSlideError(
                f"index of shard {source.name} points outside of it ({source.size} bytes)",
                hint="The store is damaged: copy or convert it again.",
            )
        return offsets.ravel(), counts.ravel()


def _keep(kept: dict[int, _Value], key: int, value: _Value, most: int) -> None:
    """Keep a value, and drop the oldest ones beyond the bound."""
    kept[key] = value
    if len(kept) > most:
        for old in list(kept)[: max(1, most // 4)]:
            kept.pop(old, None)


class BytesSource(MemorySource):
    """What stands for an object that is absent: nothing, or a chunk of the fill value."""


_PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "zstd": lambda data: encode(data, "zstd"),
    "blosc": lambda data: encode(data, "blosc"),
    "deflate": zlib.compress,
    "gzip": lambda data: zlib.compress(data, wbits=31),
}


def constant_block(layout: ArrayLayout) -> bytes:
    """Return an encoded tile whose samples all have the fill value.

    Raises
    ------
    UsageError
        If there is no encoder for such tiles; see `has_constant_block`.
    """
    form = layout.block_format
    if form.codec in _PACKERS:
        block = _PACKERS[form.codec](bytes([layout.fill]) * form.raw_bytes)
    elif has_constant_block(layout):
        pixels = np.full((form.height, form.width, 3), layout.fill, np.uint8)
        if form.codec == "jpeg":
            in_rgb = form.color == "rgb"
            block = encode(pixels, "jpeg", quality=100, color="rgb" if in_rgb else "ycbcr")
        else:
            block = encode(pixels, form.codec)
    else:
        raise UsageError(f"no constant {form.codec} tile can be made")
    return append_crc32c(block) if layout.checksum else block


def has_constant_block(layout: ArrayLayout) -> bool:
    """Return whether `constant_block` can make a tile for this array."""
    form = layout.block_format
    if form.codec in _PACKERS:
        return True
    return form.channels == 3 and form.color in ("stream", "rgb") and not form.tables
