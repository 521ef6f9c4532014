"""Slides that have sizes and units and no pixels, of any size: for plans and their speed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Box, Magnification, Mpp, Size
from wsistore.slides import Slide
from wsistore.slides.model import Container, LevelShape


class _Blank(Container):
    format = "blank"
    properties = MappingProxyType({})
    associated = MappingProxyType({})

    def __init__(
        self, levels: tuple[LevelShape, ...], mpp: Mpp | None, magnification: Magnification | None
    ) -> None:
        self.levels = levels
        self.mpp = mpp
        self.magnification = magnification

    def read_pixels(self, level: int, box: Box) -> NDArray[np.uint8]:
        raise NotImplementedError(f"a blank slide has no pixels (level {level}, {box})")

    def fingerprint(self) -> str:
        return "blank-" + hashlib.sha256(repr(self.levels).encode()).hexdigest()[:16]

    def close(self) -> None:
        return


def blank_slide(
    size: tuple[int, int],
    downsamples: Sequence[float] = (1, 4, 16),
    *,
    tile: int | None = 256,
    mpp: float | tuple[float, float] | None = 0.25,
    magnification: float | None = 40.0,
    name: str = "blank.svs",
) -> Slide:
    """Return a slide without pixels; reading any raises `NotImplementedError`.

    Parameters
    ----------
    size : (width, height)
        Level-0 px.
    downsamples : sequence of float
        Of the levels; their sizes are floors, at least 1 px.
    tile : int, optional
        Side of an encoded tile as the levels state it, px.
    mpp : float or (x, y), optional
        µm per level-0 px.
    magnification : float, optional
        Objective power.
    name : str
        Path of the slide, for its name.
    """
    encoded = None if tile is None else Size(tile, tile)
    levels = tuple(
        LevelShape(Size(*(max(1, int(side / d)) for side in size)), float(d), encoded)
        for d in downsamples
    )
    pair = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
    container = _Blank(
        levels,
        None if pair is None else Mpp(*pair, "blank"),
        None if magnification is None else Magnification(magnification, "blank"),
    )
    return Slide(container, name)
