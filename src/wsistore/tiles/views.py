"""A slide seen at one resolution: which level, which decoder scale, which canvas.

A *canvas* is the grid of pixels that the decoder gives: the pixels of a level, or of a
level decoded at 1/2, 1/4 or 1/8. A patch is a window of a canvas, and where the canvas is
finer than asked for, the window is area-averaged to the size of the patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import scales
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide, TileTable
from wsistore.slides.lazily import lazy
from wsistore.slides.resolving import TOLERANCE

SAME = 1e-6
"""Px by which a coordinate may fall short of a whole one through rounding alone."""


@dataclass(frozen=True)
class View:
    """A slide at one resolution, ready to be cut into patches.

    Parameters
    ----------
    slide : Slide
        The slide.
    level : int
        Level that is read.
    level_downsample : float
        Level-0 px per px of that level.
    scale : {1, 2, 4, 8}
        Downsampling within the decoder.
    shrink : float
        Canvas px per px of the patch; 1.0 where the canvas is used as it is, below 1 only
        when upsampling was allowed.
    exact : bool
        Whether windows keep their sub-pixel place on the canvas.
    """

    slide: Slide
    level: int
    level_downsample: float
    scale: int
    shrink: float
    exact: bool

    @lazy
    def table(self) -> TileTable | None:
        """Table of encoded tiles; None where pixels come from the container itself."""
        return self.slide.tile_table(self.level)

    @lazy
    def canvas_size(self) -> Size:
        """Size of the whole canvas in canvas px; a partial last px is left out."""
        # Levels tell their downsamples, and so need the calibration; a table does not.
        table = self.table
        size = self.slide.levels[self.level].size if table is None else table.size
        return Size(size.width // self.scale, size.height // self.scale)

    @lazy
    def unit(self) -> float:
        """Level-0 px per canvas px."""
        return self.level_downsample * self.scale

    @property
    def is_direct(self) -> bool:
        """Whether canvas px are patch px."""
        return self.shrink == 1.0

    def origin(self, position: int) -> float:
        """Return the canvas coordinate of a level-0 coordinate.

        A whole number but for exact views: the floor at a level's own scale (as OpenSlide
        has it), the nearest canvas px for scaled decoding, whose pixels are fixed to the
        file's own 8 px blocks.
        """
        where = position / self.unit
        if self.exact and not self.is_direct:
            return where
        if self.scale == 1 and self.is_direct:
            return math.floor(where + SAME)
        return math.ceil(where - 0.5 - SAME)

    def starts(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first canvas px of windows at these level-0 coordinates."""
        where = positions / self.unit
        if self.exact and not self.is_direct:
            found = np.floor(where)
        elif self.scale == 1 and self.is_direct:
            found = np.floor(where + SAME)
        else:
            found = np.ceil(where - 0.5 - SAME)
        return found.astype(np.int64)

    def window(self, size: Size) -> Size:
        """Return the size in canvas px of the window behind a patch of this size."""
        if self.is_direct:
            return size
        return Size(self._length(size.width), self._length(size.height))

    def _length(self, side: int) -> int:
        length = side * self.shrink
        whole = math.ceil(length - SAME) if self.exact else math.floor(length + 0.5 + SAME)
        return max(1, whole)


def make_view(slide: Slide, resolution: Resolution, *, exact: bool, allow_upsample: bool) -> View:
    """Return the view of a slide at a resolution.

    Parameters
    ----------
    slide : Slide
        The slide.
    resolution : Resolution
        How finely.
    exact : bool
        Decode whole pixels and area-average them, keeping sub-pixel places; otherwise
        JPEG tiles are decoded at 1/2, 1/4 or 1/8 where that serves.
    allow_upsample : bool
        Whether a resolution finer than level 0 may be had by enlarging.

    Raises
    ------
    wsistore.errors.ResolutionError, wsistore.errors.MetadataError
        As `Slide.resolve`.
    """
    chosen = slide.resolve(resolution, allow_upsample=allow_upsample)
    scale = 1
    table = slide.tile_table(chosen.level)
    if table is not None and not exact:
        form = table.block_format
        for candidate in scales(form):
            fits = form.width % candidate == 0 and form.height % candidate == 0
            if fits and scale < candidate <= chosen.factor * (1 + TOLERANCE):
                scale = candidate
    shrink = chosen.factor / scale
    if abs(shrink - 1) <= TOLERANCE:
        shrink = 1.0
    return View(slide, chosen.level, chosen.level_downsample, scale, shrink, exact)
