"""Regions of a level out of its tile table: each encoded tile is decoded once.

All coordinates are px of the level, or columns and rows of its tile grid.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import check_crc32c, decode
from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    MissingTileError,
    TileError,
    UnsupportedCodecError,
    UsageError,
)
from wsistore.geometry import Box
from wsistore.slides.model import TileRefs, TileTable

PORTION_BYTES = 64 << 20
"""Encoded bytes held at a time while a large region is read."""

PORTION_TILES = 16384
"""Tiles looked up at a time."""

PARALLEL_TILES = 16
"""Fewer tiles than this are decoded in the caller's thread: starting threads costs 0.1 ms,
decoding a tile of 256 px 0.2 ms."""

TASK_TILES = 8
"""Tiles that a thread takes at a time: handing over a task costs 30 µs."""

OnBadTile = Literal["fill-missing", "raise", "fill"]
_WORDS: tuple[OnBadTile, ...] = get_args(OnBadTile)
Pixels = NDArray[np.uint8]
Note = Callable[[int, int, str], None]
Encoded = tuple[int, int, memoryview]
"""Column and row of a tile, and its bytes."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of tiles without pixels.

    Parameters
    ----------
    on_bad_tile : {"fill-missing", "raise", "fill"}
        ``"fill-missing"`` paints tiles that the scanner left out and raises on damage;
        ``"raise"`` raises on both; ``"fill"`` paints both.
    fill : (3,) uint8
        Colour that is painted.
    """

    on_bad_tile: OnBadTile
    fill: Pixels

    def forgives(self, error: TileError) -> bool:
        """Return whether the tile is painted instead of raising."""
        if isinstance(error, UnsupportedCodecError):
            return False  # nothing is wrong with the tile: a decoder is missing
        if self.on_bad_tile == "fill":
            return True
        return self.on_bad_tile == "fill-missing" and isinstance(error, MissingTileError)


WHITE = 255
_GREYS = np.repeat(np.arange(WHITE + 1, dtype=np.uint8)[:, None], 3, axis=1)
_GREYS.flags.writeable = False


def make_policy(on_bad_tile: str, fill: int | Sequence[int]) -> Policy:
    """Return the policy that the arguments of `open_slide` name.

    Raises
    ------
    UsageError
        If the word is none of the three, or the colour is not of bytes.
    """
    grey = type(fill) is int and 0 <= fill <= WHITE  # by far the most, and numpy is slow to ask
    color = _GREYS[fill] if grey else _color(fill)
    for word in _WORDS:
        if on_bad_tile == word:
            break
    else:
        raise UsageError(
            f"on_bad_tile is {on_bad_tile!r}",
            hint="Use 'fill-missing', 'raise' or 'fill'.",
        )
    return Policy(word, color)


def _color(fill: int | Sequence[int]) -> Pixels:
    try:
        color = np.broadcast_to(np.asarray(fill), (3,))
        fits = bool(np.all((color == color.astype(np.uint8)) & (color >= 0)))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise UsageError(f"fill must be 0 to 255, or three of them (r, g, b), got {fill!r}")
    return color.astype(np.uint8)


class TileReader:
    """Paints parts of one level from its tile table.

    Parameters
    ----------
    table : TileTable
        Tiles of the level.
    where : str
        Slide and level, for messages: ``"CMU-1.svs: level 0"``.
    policy : Policy
        What becomes of tiles without pixels.
    note : callable
        ``note(column, row, reason)`` is told of each tile that was painted.
    threads : int, optional
        Most threads that decode; by default one for each CPU of the process.
    """

    def __init__(
        self, table: TileTable, where: str, policy: Policy, note: Note, threads: int | None = None
    ) -> None:
        self.table = table
        self.where = where
        self.policy = policy
        self.note = note
        self.threads = cpu_count() if threads is None else threads

    def paint(self, box: Box, out: Pixels) -> None:
        """Decode the pixels of a box into `out`.

        Parameters
        ----------
        box : Box
            Wholly inside the level, in level px.
        out : (h, w, 3) uint8
            Of the size of the box; may be a strided view.

        Raises
        ------
        TileError
            If a tile has no pixels and the policy does not forgive it.
        CorruptSlideError
            If an entry of the table points outside of its file.
        SourceError
            If bytes can't be had.
        """
        width, height = self.table.tile_size
        first, last = box.x // width, (box.right - 1) // width
        top, bottom = box.y // height, (box.bottom - 1) // height
        count = (last - first + 1) * (bottom - top + 1)
        jobs = self._jobs(first, last - first + 1, top, count)
        if count < PARALLEL_TILES or self.threads < 2:
            for job in jobs:
                self._put_all(job, box, out)
            return
        # A pool for each call: none is left over that a fork could break.
        pool = ThreadPoolExecutor(min(self.threads, count), "wsistore-decode")
        try:
            for job in jobs:
                tasks = [
                    pool.submit(self._put_all, job[i : i + TASK_TILES], box, out)
                    for i in range(0, len(job), TASK_TILES)
                ]
                for task in tasks:
                    task.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _jobs(self, first: int, columns: int, top: int, count: int) -> Iterator[list[Encoded]]:
        """Yield tiles with their bytes in portions, row by row; decode none."""
        for start in range(0, count, PORTION_TILES):
            index = np.arange(start, min(count, start + PORTION_TILES), dtype=np.int64)
            y, x = np.divmod(index, columns)
            x += first
            y += top
            refs = self._locate(x, y)
            for part in portions(refs.counts, PORTION_BYTES):
                blocks = self._fetch(refs, part)
                yield list(zip(x[part].tolist(), y[part].tolist(), blocks, strict=True))

    def _locate(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> TileRefs:
        try:
            return self.table.locate(x, y)
        except CorruptSlideError:
            if self.policy.on_bad_tile != "fill":
                raise
        return self._locate_singly(x, y)

    def _locate_singly(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> TileRefs:
        """Look up tile by tile, so that an entry that leads nowhere costs that tile alone."""
        refs = TileRefs(np.zeros(x.size, np.int32), np.zeros_like(x), np.full_like(x, -1))
        for i in range(x.size):
            try:
                one = self.table.locate(x[i : i + 1], y[i : i + 1])
            except CorruptSlideError as error:
                # Told here; a count of -1 makes `_put` paint without asking again.
                self.note(int(x[i]), int(y[i]), error.message)
                continue
            refs.parts[i], refs.offsets[i] = one.parts[0], one.offsets[0]
            refs.counts[i] = one.counts[0]
        return refs

    def _fetch(self, refs: TileRefs, part: slice) -> list[memoryview]:
        """Return the bytes of the tiles, in order; `_NOWHERE` for those without an entry."""
        parts = refs.parts[part]
        offsets, counts = refs.offsets[part], refs.counts[part]
        blocks: list[memoryview] = [_NOWHERE] * len(parts)
        for number in np.unique(parts[counts >= 0]).tolist():
            mine = np.flatnonzero((parts == number) & (counts >= 0))
            views = self.table.source(number).read_many(
                offsets[mine].tolist(), counts[mine].tolist()
            )
            for i, view in zip(mine.tolist(), views, strict=True):
                blocks[i] = view
        return blocks

    def _put_all(self, tiles: list[Encoded], box: Box, out: Pixels) -> None:
        for column, row, block in tiles:
            self._put(column, row, block, box, out)

    def _put(self, column: int, row: int, block: memoryview, box: Box, out: Pixels) -> None:
        """Decode the part of a tile that lies in the box, and lay it where it belongs."""
        width, height = self.table.tile_size
        tile = Box(column * width, row * height, width, height)
        part = tile.intersect(box)
        target = out[part.y - box.y : part.bottom - box.y, part.x - box.x : part.right - box.x]
        if block is _NOWHERE:
            target[:] = self.policy.fill
            return
        region = Box(part.x - tile.x, part.y - tile.y, part.width, part.height)
        try:
            self._decode(block, region, target)
        except TileError as error:
            if not self.policy.forgives(error):
                raise self._named(error, column, row) from error
            target[:] = self.policy.fill
            missing = isinstance(error, MissingTileError)
            self.note(column, row, "missing" if missing else error.message)

    def _decode(self, block: memoryview, region: Box, target: Pixels) -> None:
        if not len(block):
            raise MissingTileError("the file holds no bytes for it")
        if self.table.checksum == "crc32c":
            # The checksum vouches for the bytes, so the decoder may stop early.
            whole = check_crc32c(block, "the tile")
            decode(whole, self.table.block_format, out=target, region=region, integrity="fast")
        else:
            decode(block, self.table.block_format, out=target, region=region)

    def _named(self, error: TileError, column: int, row: int) -> TileError:
        """Return the error with the names of slide, level, column and row."""
        hint = error.hint
        if not hint and isinstance(error, (MissingTileError, DamagedTileError)):
            hint = "Pass on_bad_tile='fill' to paint such tiles and list them in bad_tiles."
        return type(error)(
            f"{self.where}, tile column {column}, row {row}: {error.message}", hint=hint
        )


_NOWHERE = memoryview(b"")
"""Stands for a tile whose entry points outside of the file (told by identity)."""


def portions(counts: NDArray[np.int64], budget: int) -> Iterator[slice]:
    """Cut a run of tiles into portions of at most `budget` bytes, or of one tile.

    Parameters
    ----------
    counts : (n,) int64
        Bytes of the tiles; negative ones count as 0.
    budget : int
        Most bytes of a portion.
    """
    ends = np.cumsum(np.maximum(counts, 0))
    start, done = 0, 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(ends, done + budget, side="right")))
        yield slice(start, stop)
        start, done = stop, int(ends[stop - 1])


def cpu_count() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
