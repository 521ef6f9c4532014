"""Grid arithmetic: where tiles start, in any number of dimensions, without pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError

Last = Literal["keep", "drop", "shift"]


def axis_starts(extent: int, tile: int, stride: int, last: Last) -> NDArray[np.int64]:
    """Return where tiles start along one axis.

    Parameters
    ----------
    extent, tile, stride : int
        Lengths in px of one space; positive.
    last : {"keep", "drop", "shift"}
        What becomes of a last tile that reaches over the end: kept as it is, left out, or
        moved back so that it ends with the axis.

    Returns
    -------
    (n,) int64
        Ascending and without repeats; never negative, never a tile wholly outside.

    Notes
    -----
    ``drop`` gives ``floor((extent - tile) / stride) + 1`` starts, ``keep`` and ``shift``
    ``ceil((extent - tile) / stride) + 1``, less those that would lie wholly outside (a
    stride longer than the tile). A tile longer than the axis gives the one start 0 with
    ``keep`` and ``shift``.
    """
    if extent < 1 or tile < 1 or stride < 1:
        raise UsageError(f"extent {extent}, tile {tile} and stride {stride} must be at least 1 px")
    if last not in ("keep", "drop", "shift"):
        raise UsageError(f"last must be keep, drop or shift, got {last!r}")
    room = extent - tile
    if room < 0:
        return np.zeros(0 if last == "drop" else 1, np.int64)
    steps = room // stride if last == "drop" else -(-room // stride)
    starts = np.arange(steps + 1, dtype=np.int64) * stride
    if last == "shift":
        return np.minimum(starts, room)
    return starts[starts < extent]


def grid_array(
    slide_extent: Sequence[int],
    tile_extent: Sequence[int],
    stride: Sequence[int],
    last: Last = "keep",
) -> NDArray[np.int64]:
    """Return the starts of all tiles of a grid, x fastest.

    Parameters
    ----------
    slide_extent, tile_extent, stride : sequence of int
        One length per dimension, x first, in px of one space.
    last : {"keep", "drop", "shift"}
        As in `axis_starts`.

    Returns
    -------
    (n, d) int64

    Raises
    ------
    wsistore.errors.UsageError
        If the numbers of dimensions differ, or a length is below 1.

    Warns
    -----
    UserWarning
        If the tile is larger than the slide in some dimension.
    """
    return _grid(slide_extent, tile_extent, stride, last)


def grid_tiles(
    slide_extent: Sequence[int],
    tile_extent: Sequence[int],
    stride: Sequence[int],
    last: Last = "keep",
) -> Iterator[NDArray[np.int64]]:
    """Yield the start of each tile of a grid, x fastest; see `grid_array`.

    Parameters
    ----------
    slide_extent, tile_extent, stride : sequence of int
        One length per dimension, x first, in px of one space.
    last : {"keep", "drop", "shift"}
        As in `axis_starts`.

    Returns
    -------
    iterator of (d,) int64
    """
    return iter(_grid(slide_extent, tile_extent, stride, last))


def _grid(
    slide_extent: Sequence[int], tile_extent: Sequence[int], stride: Sequence[int], last: Last
) -> NDArray[np.int64]:
    if not len(slide_extent) == len(tile_extent) == len(stride) > 0:
        raise UsageError(
            "slide_extent, tile_extent and stride need one number per dimension, got "
            f"{len(slide_extent)}, {len(tile_extent)} and {len(stride)}"
        )
    if any(t > s for s, t in zip(slide_extent, tile_extent, strict=True)):
        warnings.warn(
            f"tiles of {tuple(tile_extent)} px are larger than the slide of "
            f"{tuple(slide_extent)} px",
            stacklevel=3,  # the caller of grid_array or grid_tiles
        )
    axes = [
        axis_starts(s, t, d, last)
        for s, t, d in zip(slide_extent, tile_extent, stride, strict=True)
    ]
    mesh = np.meshgrid(*axes[::-1], indexing="ij")
    return np.stack([m.reshape(-1) for m in mesh[::-1]], axis=1)
