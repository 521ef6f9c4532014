"""A slide at one resolution as an array that is read by parts."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Box, Size
from wsistore.pyramid.views.sharing import shared_slide
from wsistore.slides import Slide
from wsistore.slides.reopening import Opening
from wsistore.slides.resampling import Window, shrink
from wsistore.slides.resolving import ResolutionLike, Resolved

_ROUNDING = 1e-6
"""Part of a px that falls short by computing with fractions."""
NO_TILES_ROWS = 512


class SlidePixels:
    """A slide at one resolution: (3, height, width) uint8, read where it is indexed.

    Where a level serves as it is, its px are taken; otherwise each px is the mean over the
    area that it covers in the next finer level, whatever part it is read with. The size is
    the floor of the level's size over the factor, so each px lies wholly in the slide.

    Pickles as how the slide was opened. Safe in threads.

    Parameters
    ----------
    slide : Slide
        Opened.
    resolution : Resolution, str or int
        As for `Slide.resolve`.

    Attributes
    ----------
    resolved : Resolved
        Which level is read, and how it is shrunk.
    size : Size
        Width and height in px of the resolution.

    Raises
    ------
    ResolutionError, MetadataError
        As `Slide.resolve`.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: Slide, resolution: ResolutionLike) -> None:
        self.slide = slide
        self.resolved: Resolved = slide.resolve(resolution)
        whole = slide.levels[self.resolved.level].size
        self.size = Size(*(_shrunk(side, self.resolved.factor) for side in whole))
        self._resolution = resolution

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, height, width)."""
        return (3, self.size.height, self.size.width)

    @property
    def tile_size(self) -> Size | None:
        """Size of an encoded tile in px of its level, None where there are none."""
        return self.slide.levels[self.resolved.level].tile_size

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return the pixels of a box in px of the resolution, (height, width, 3).

        Raises
        ------
        WsistoreError
            As `Slide.read_level`.
        """
        if box.is_empty:  # dask asks for such ones to learn of dtypes
            return np.empty((box.height, box.width, 3), np.uint8)
        level, factor = self.resolved.level, self.resolved.factor
        # Parts are read in threads of the caller's, who knows how many there are.
        read = functools.partial(self.slide.read_level, level, threads=1)
        if factor == 1.0:
            return read(box)
        window = Window(*(side * factor for side in box))
        rows = NO_TILES_ROWS if self.tile_size is None else self.tile_size.height
        return shrink(read, window, Size(box.width, box.height), rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return a part, by slices without steps along c, y, x."""
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > 3 or not all(isinstance(part, slice) for part in parts):
            raise UsageError(f"pixels are read by slices along c, y, x, got {key!r}")
        spans = [
            part.indices(side)
            for part, side in zip(
                parts + (slice(None),) * (3 - len(parts)), self.shape, strict=True
            )
        ]
        if any(step != 1 for _, _, step in spans):
            raise UsageError(f"pixels are read without steps, got {key!r}")
        channels, (top, bottom, _), (left, right, _) = spans
        box = Box(left, top, max(0, right - left), max(0, bottom - top))
        pixels = self.read(box).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels[channels[0] : channels[1]])

    def __reduce__(self) -> tuple[Any, ...]:
        if self.slide.opening is None:
            return self.slide.__reduce__()  # raises, and tells why
        return (_reopened, (self.slide.opening, self._resolution))


def _reopened(opening: Opening, resolution: ResolutionLike) -> SlidePixels:
    return SlidePixels(shared_slide(opening), resolution)


def _shrunk(side: int, factor: float) -> int:
    return max(1, math.floor(side / factor + _ROUNDING))
