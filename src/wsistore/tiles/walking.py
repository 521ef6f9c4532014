"""Ordered walks over a grid: every encoded tile decoded once, memory bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.slides.resolving import ResolutionLike, as_resolution
from wsistore.tiles.batch import BatchReader
from wsistore.tiles.engine import TileStore
from wsistore.tiles.fetching import BatchFetch, FetchQueue
from wsistore.tiles.model import (
    BatchReport,
    NormalRequest,
    SlideLike,
)
from wsistore.tiles.prefetching import fetched_ahead
from wsistore.tiles.remote_plan import FETCH_BYTES, FetchLimits
from wsistore.tiles.views import View

DEFAULT_BUDGET = 128 << 20
"""Bytes of decoded tiles kept for later patches of a walk."""


class Places(Protocol):
    """Columns of top-left corners in level-0 px, as a `wsistore.TilePlan` has them."""

    @property
    def x(self) -> NDArray[np.int64]:
        """(n,) int64."""
        ...

    @property
    def y(self) -> NDArray[np.int64]:
        """(n,) int64."""
        ...


@dataclass(frozen=True, slots=True)
class TileBatch:
    """Some consecutive patches of a walk.

    Parameters
    ----------
    start : int
        Index of the first patch in the walk.
    x, y : (n,) int64
        Top-left corners in level-0 px.
    pixels : (n, h, w, 3) or (n, 3, h, w) uint8
        The patches; each batch has an array of its own.
    report : BatchReport
        Valid fractions, faults and cost.
    """

    start: int
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    report: BatchReport

    def __len__(self) -> int:
        return len(self.x)


def iter_tiles(
    slide: SlideLike,
    positions: ArrayLike | Places,
    size: int | Sequence[int],
    resolution: ResolutionLike,
    *,
    batch_size: int = 64,
    prefetch: int = 1,
    cache_bytes: int = DEFAULT_BUDGET,
    prefetch_bytes: int = FETCH_BYTES,
    **options: Any,
) -> Iterator[TileBatch]:
    """Read all patches of a grid or plan of one slide, in its order.

    The walk knows which encoded tiles later patches will use, and keeps those decoded until
    their last use, so that patches ordered by rows cost one decode per encoded tile. The
    next batches are read in the background while the caller works on this one.

    Parameters
    ----------
    slide : Slide, str or PathLike
        What to read from.
    positions : (n, 2) array_like of int, or an object with `x` and `y` arrays
        Top-left corners in level-0 px, in the order wanted; row by row is the cheapest.
    size : int or (width, height)
        Size of the patches in px at the resolution.
    resolution : Resolution, str or int
        How finely, as in `wsistore.read_tiles`.
    batch_size : int
        Patches per batch.
    prefetch : int
        Batches read ahead; 0 reads in the caller's own time.
    cache_bytes : int
        Most bytes of decoded tiles kept.
    prefetch_bytes : int
        Most bytes of encoded tiles of a remote slide in flight, as in `TileLoader`.
    **options
        As in `wsistore.read_tiles`, but for `out` and `return_report`.

    Yields
    ------
    TileBatch

    Raises
    ------
    wsistore.errors.WsistoreError
        As in `wsistore.read_tiles`; raised when the batch's turn comes.
    """
    if batch_size < 1 or prefetch < 0 or cache_bytes < 0:
        raise UsageError(
            f"batch_size {batch_size}, prefetch {prefetch} and cache_bytes {cache_bytes} "
            "must be at least 1, 0 and 0"
        )
    x, y = _positions(positions)
    reader = BatchReader(size, **options)
    wanted = as_resolution(resolution)
    opened = reader.cache.get(slide)
    view = reader.view(opened, wanted)
    store = None
    if view.table is not None and cache_bytes:
        store = TileStore(cache_bytes, count_uses(view, x, y, reader.window(view)))

    def requests(start: int) -> list[NormalRequest]:
        part = slice(start, start + batch_size)
        return [
            NormalRequest(opened, left, top, wanted)
            for left, top in zip(x[part].tolist(), y[part].tolist(), strict=True)
        ]

    def read(start: int, fetched: BatchFetch | None) -> TileBatch:
        part = slice(start, start + batch_size)
        pixels, report = reader.read(requests(start), None, store, fetched)
        return TileBatch(start, x[part], y[part], pixels, report)

    def walk() -> Iterator[TileBatch]:
        with FetchQueue(FetchLimits(budget=prefetch_bytes), once=store is not None) as queue:
            yield from fetched_ahead(
                read,
                range(0, len(x), batch_size),
                lambda start: queue.begin(reader, requests(start)),
                prefetch,
                prefetch,
            )

    return walk()


def _positions(positions: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if hasattr(positions, "x") and hasattr(positions, "y"):
        x, y = np.asarray(positions.x), np.asarray(positions.y)
    else:
        table = np.asarray(positions)
        if table.size == 0:
            table = table.reshape(0, 2).astype(np.int64)
        if table.ndim != 2 or table.shape[1] != 2:
            raise UsageError(f"positions must have shape (n, 2), got {table.shape}")
        x, y = table[:, 0], table[:, 1]
    if x.dtype.kind not in "iu" or y.dtype.kind not in "iu":
        raise UsageError(f"positions must be whole level-0 px, got {x.dtype} and {y.dtype}")
    return x.astype(np.int64), y.astype(np.int64)


def count_uses(
    view: View, x: NDArray[np.int64], y: NDArray[np.int64], window: Size
) -> NDArray[np.int32]:
    """Return how often each encoded tile is used by windows at these places.

    Parameters
    ----------
    view : View
        A view with a tile table.
    x, y : (n,) int64
        Top-left corners in level-0 px.
    window : Size
        Size of the windows in canvas px.

    Returns
    -------
    (rows, columns) int32
    """
    table = view.table
    if table is None:
        raise UsageError("uses are counted on tile tables, and this view has none")
    grid = table.grid
    first_x, last_x = _span(view, x, window.width, table.block_format.width, view.canvas_size.width)
    first_y, last_y = _span(
        view, y, window.height, table.block_format.height, view.canvas_size.height
    )
    uses = np.zeros((grid.height, grid.width), np.int32)
    for down in range(int((last_y - first_y).max(initial=-1)) + 1):
        for right in range(int((last_x - first_x).max(initial=-1)) + 1):
            row, column = first_y + down, first_x + right
            here = (row <= last_y) & (column <= last_x)
            np.add.at(uses, (row[here], column[here]), 1)
    return uses


def _span(
    view: View, position: NDArray[np.int64], length: int, tile: int, canvas: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first and last tile index of each window along one axis; empty outside."""
    start = view.starts(position)
    low = np.maximum(start, 0)
    high = np.minimum(start + length, canvas)
    tile //= view.scale
    first = low // tile
    return first, np.where(low < high, (high - 1) // tile, first - 1)
