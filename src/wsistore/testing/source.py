"""What a synthetic slide shows: its tiles' pixels before encoding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Size
from wsistore.testing.texture import block_mean, sample, texture

Pixels = NDArray[np.uint8]
Edge = Literal["garbage", "white", "black"]

_KEEP_PX = 5_000_000
"""Level-0 px up to which a whole image is kept, so that its levels are cut from it."""


@dataclass(frozen=True, slots=True)
class Source:
    """The image of a slide, cut into tiles.

    Parameters
    ----------
    size : Size
        Level-0 px.
    tile : int
        Side of a tile, px.
    seed : int
        Seed of the texture.
    edge : {"garbage", "white", "black"}
        What the tiles hold beyond the image: pixels of another tile, or a colour.
    period : (int, int) or None
        Columns and rows of level-0 tiles after which the image repeats; None for never.
    """

    size: Size
    tile: int
    seed: int
    edge: Edge
    period: tuple[int, int] | None

    def key(self, downsample: int, column: int, row: int) -> tuple[int, ...] | None:
        """Return what tells this tile from others with the same pixels.

        Returns
        -------
        tuple of int or None
            None where the image doesn't repeat.
        """
        if self.period is None:
            return None
        across, down = (p // math.gcd(p, downsample) for p in self.period)
        valid = self._valid(downsample, column, row)
        return (column % across, row % down, *valid)

    def tile_pixels(self, downsample: int, column: int, row: int) -> Pixels:
        """Return (tile, tile, 3) uint8 of a tile, with what lies beyond the edge."""
        width, height = self._valid(downsample, column, row)
        left, top = column * self.tile, row * self.tile
        inside = self._window(left, top, width, height, downsample)
        if (width, height) == (self.tile, self.tile):
            return inside
        pixels = self._padding()
        pixels[:height, :width] = inside
        return pixels

    def overview(self, width: int, height: int) -> Pixels:
        """Return (height, width, 3) uint8 of the whole image by nearest neighbours."""
        xs = (np.arange(width) * self.size.width // width).astype(np.int64)
        ys = (np.arange(height) * self.size.height // height).astype(np.int64)
        return self._sample(xs, ys, 1)

    @property
    def _kept(self) -> bool:
        return self.size.width * self.size.height <= _KEEP_PX

    def _valid(self, downsample: int, column: int, row: int) -> tuple[int, int]:
        width = self.size.width // downsample - column * self.tile
        height = self.size.height // downsample - row * self.tile
        return min(self.tile, width), min(self.tile, height)

    def _window(self, left: int, top: int, width: int, height: int, downsample: int) -> Pixels:
        """Return a window of a level, in px of that level."""
        d = downsample
        if self.period is None and self._kept:
            whole = _whole(self.size, self.seed)
            full = whole[top * d : (top + height) * d, left * d : (left + width) * d]
            return block_mean(np.ascontiguousarray(full), d)
        xs = np.arange(left * d, (left + width) * d)
        ys = np.arange(top * d, (top + height) * d)
        return self._sample(xs, ys, d)

    def _sample(self, xs: NDArray[np.int64], ys: NDArray[np.int64], downsample: int) -> Pixels:
        if self.period is None:
            if downsample == 1 and self._kept:
                return _whole(self.size, self.seed)[ys[:, None], xs]
            return sample(xs, ys, seed=self.seed, downsample=downsample)
        width, height = (p * self.tile for p in self.period)
        return _periodic(xs % width, ys % height, self.seed, downsample, (width, height))

    def _padding(self) -> Pixels:
        if self.edge == "garbage":
            return _stale(self.tile, self.seed).copy()
        return np.full((self.tile, self.tile, 3), 255 if self.edge == "white" else 0, np.uint8)


@lru_cache(maxsize=6)
def _whole(size: Size, seed: int) -> Pixels:
    return texture(*size, seed=seed)


@lru_cache(maxsize=4)
def _stale(tile: int, seed: int) -> Pixels:
    """Return a tile out of the middle of the first piece of tissue."""
    return texture(tile, tile, seed=seed, x=260, y=150)


def _periodic(
    xs: NDArray[np.int64],
    ys: NDArray[np.int64],
    seed: int,
    downsample: int,
    period: tuple[int, int],
) -> Pixels:
    """Return the mean of blocks of the repeating image, a few rows of result at a time."""
    if period[0] * period[1] > _KEEP_PX:
        return sample(xs, ys, seed=seed, downsample=downsample)
    whole = _whole(Size(*period), seed)
    out = np.empty((len(ys) // downsample, len(xs) // downsample, 3), np.uint8)
    step = max(1, 4_000_000 // (len(xs) * downsample))
    for top in range(0, len(out), step):
        rows = ys[top * downsample : (top + step) * downsample]
        full = np.ascontiguousarray(whole[rows][:, xs])
        out[top : top + step] = block_mean(full, downsample)
    return out
