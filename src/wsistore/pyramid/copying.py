"""Copying a shard: the slide's encoded tiles become its inner chunks, none is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import check_crc32c
from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    MissingTileError,
    TileError,
)
from wsistore.geometry import Box
from wsistore.pyramid.options import BadTilePolicy
from wsistore.pyramid.readahead import read_ahead
from wsistore.pyramid.shardfile import Chunk
from wsistore.pyramid.tilecodec import Completer, completer
from wsistore.slides.model import TileRefs, TileTable

BATCH_BYTES = 512 << 10
"""Encoded bytes read at a time: less than a core's cache."""
REMOTE_BATCH_BYTES = 4 << 20
"""The same of objects, where a request costs more than bytes do."""
REMOTE_AHEAD = 2
"""Batches of objects that are fetched before their turn."""
AT_ONCE_BYTES = 16 << 20
"""Remote tiles of a shard that has no more bytes are all asked for at once: they will be held
together anyway, to be written with one request."""


@dataclass(slots=True)
class LeftOut:
    """What a shard was made of: bytes that were read, and tiles that have no chunk.

    Parameters
    ----------
    missing : int
        Tiles that the slide holds no bytes for.
    damaged : list of (column, row, reason)
        Tiles whose bytes are not usable, in tile coordinates of the level.
    bytes_in : int
        Bytes of tiles, or of pixels, that were read.
    """

    missing: int = 0
    damaged: list[tuple[int, int, str]] = field(default_factory=list)
    bytes_in: int = 0


class TileCopier:
    """Moves tiles of one level into shards.

    Parameters
    ----------
    table : TileTable
        The level's tiles.
    codec : str
        Stored codec; see `wsistore.pyramid.tilecodec.stored_codec`.
    where : str
        Slide and level, for messages.
    on_bad_tile : {"fill-missing", "fill", "raise"}
        What becomes of tiles without usable bytes.
    remote : bool
        Whether the tiles lie in objects: then they are read in larger batches, the next
        ones while one is written.
    """

    def __init__(
        self,
        table: TileTable,
        codec: str,
        where: str,
        on_bad_tile: BadTilePolicy,
        *,
        remote: bool = False,
    ) -> None:
        self._table = table
        self._batch_bytes = REMOTE_BATCH_BYTES if remote else BATCH_BYTES
        self._ahead = REMOTE_AHEAD if remote else 0
        self._where = where
        self._on_bad_tile = on_bad_tile
        self._completer: Completer = completer(table, codec)

    def chunks(self, tiles: Box, columns: int, left_out: LeftOut) -> Iterator[Chunk]:
        """Yield the tiles of one shard as chunks, row by row.

        They are read few at a time, so that what is read is checked and written while it
        is still in the processor's cache: three times as fast as a shard at a time.

        Parameters
        ----------
        tiles : Box
            Part of the tile grid, in columns and rows.
        columns : int
            Columns of a whole shard.
        left_out : LeftOut
            Is told of tiles without a chunk, and how much was read.

        Raises
        ------
        wsistore.errors.TileError
            If a tile is not usable, and the policy says to raise.
        wsistore.errors.CorruptSlideError
            If the table points outside of the file.
        wsistore.errors.SourceError
            If bytes can't be had.
        """
        y, x = np.divmod(np.arange(tiles.width * tiles.height, dtype=np.int64), tiles.width)
        refs = self._table.locate(x + tiles.x, y + tiles.y)
        self._check_counts(refs, tiles)
        present = np.flatnonzero(refs.counts)
        if len(present) < len(refs.counts):
            left_out.missing = len(refs.counts) - len(present)
            self._check_missing(refs, x + tiles.x, y + tiles.y)
        slots = y * columns + x
        left_out.bytes_in = int(refs.counts.sum())
        complete = self._completer.complete
        batches = list(_batches(present, refs.counts, self._batch_bytes))
        ahead = self._ahead
        if ahead and left_out.bytes_in <= AT_ONCE_BYTES:
            ahead = len(batches)
        for some, blocks in read_ahead(partial(self._read, refs), batches, ahead):
            for number, slot, block in zip(
                some.tolist(), slots[some].tolist(), blocks, strict=True
            ):
                try:
                    pieces, crc = complete(block)
                except TileError as error:
                    column, row = tiles.x + int(x[number]), tiles.y + int(y[number])
                    self._forgive(error, column, row)
                    left_out.damaged.append((column, row, error.message))
                else:
                    yield Chunk(slot, pieces, crc)

    def _read(self, refs: TileRefs, present: NDArray[np.intp]) -> list[memoryview]:
        """Return the bytes of tiles that are there, in order, without their checksums."""
        parts = refs.parts[present]
        offsets, counts = refs.offsets[present], refs.counts[present]
        blocks: list[memoryview] = [memoryview(b"")] * len(present)
        for part in np.unique(parts).tolist():
            mine = np.flatnonzero(parts == part)
            # Arrays are sequences enough for every source, and cheaper to plan with.
            views = self._table.source(part).read_many(offsets[mine], counts[mine])  # type: ignore[arg-type]
            if len(mine) == len(present):
                blocks = views
            else:
                for number, view in zip(mine.tolist(), views, strict=True):
                    blocks[number] = view
        if self._table.checksum == "crc32c":
            blocks = [check_crc32c(block, "the tile") for block in blocks]
        return blocks

    def _check_missing(self, refs: TileRefs, x: NDArray[np.int64], y: NDArray[np.int64]) -> None:
        if self._on_bad_tile == "raise":
            first = int(np.flatnonzero(refs.counts == 0)[0])
            raise MissingTileError(
                f"{self._where}, tile column {x[first]}, row {y[first]}: "
                "the file holds no bytes for it",
                hint="Use on_bad_tile='fill-missing' to leave such tiles out.",
            )

    def _check_counts(self, refs: TileRefs, tiles: Box) -> None:
        most = self._table.block_format.max_block_bytes
        largest = int(refs.counts.max(initial=0))
        if largest > most:
            raise CorruptSlideError(
                f"{self._where}, tiles from column {tiles.x}, row {tiles.y}: one claims "
                f"{largest} bytes, at most {most} are believed"
            )

    def _forgive(self, error: TileError, column: int, row: int) -> None:
        if self._on_bad_tile == "fill" and isinstance(error, DamagedTileError):
            return
        raise type(error)(
            f"{self._where}, tile column {column}, row {row}: {error.message}",
            hint=error.hint or "Use on_bad_tile='fill' to leave such tiles out.",
        ) from error


def _batches(
    present: NDArray[np.intp], counts: NDArray[np.int64], size: int
) -> Iterator[NDArray[np.intp]]:
    """Cut a run of tiles where another `size` bytes are full."""
    if not len(present):
        return
    ends = np.cumsum(counts[present])
    edges = np.flatnonzero(np.diff(ends // size)) + 1
    yield from np.split(present, edges)
