"""Where tiles of a spec lie on a slide, in whole level-0 px: one rule of rounding.

Lattices are counted in whole target px, and each length or position of ``n`` target px
becomes ``floor(n * downsample + 1/2)`` level-0 px, computed in exact rational numbers and
never by adding up rounded strides. So the size of a tile at level 0, its stride and the
size that is read agree, and tile ``k`` lies where it lies however the slide is cut up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.tiles.grids import Last, axis_starts
from wsistore.tiles.spec import TileSpec

MAX_DENOMINATOR = 10**9
"""Of the fraction that stands for a downsample: takes ``0.35 / 0.1`` for the 7/2 that was
meant, is off by less than 1/1000 px on a slide of 10^6 px, and fits products in 64 bits."""

ROUNDING = 1e-6
"""Px by which a length may fall short of a whole one through rounding alone."""


@dataclass(frozen=True, slots=True)
class TileGeometry:
    """A spec put to a slide: all lengths of its tiles.

    Parameters
    ----------
    size, stride : Size
        Of a tile in target px.
    level : int
        Level that is read.
    downsample : float
        Level-0 px per target px.
    level_downsample : float
        Level-0 px per px of that level.
    size_level0 : Size
        Of a tile in level-0 px: ``floor(size * downsample + 1/2)``.
    stride_level0 : Size
        The same of the stride: the distance of the first two tiles. Later tiles lie at
        ``floor(k * stride * downsample + 1/2)``.
    read_size : Size
        Of a tile in px of the level: ``floor(size * factor + 1/2)``, with the factor of
        `Slide.resolve`, as the batch reader reads it; it is shrunk to `size`.
    extent : Size
        Level-0 px of the slide that whole target px cover: tiles are "inside" within it.
    mpp : (x, y) or None
        µm per target px.
    """

    size: Size
    stride: Size
    level: int
    downsample: float
    level_downsample: float
    size_level0: Size
    stride_level0: Size
    read_size: Size
    extent: Size
    mpp: tuple[float, float] | None = None

    @property
    def ratio(self) -> Fraction:
        """The downsample as the fraction that positions are computed with."""
        return Fraction(self.downsample).limit_denominator(MAX_DENOMINATOR)

    def to_dict(self) -> dict[str, Any]:
        """Return the lengths as JSON-able values; `from_dict` reads them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the geometry that `to_dict` described.

        Raises
        ------
        wsistore.errors.UsageError
            If a value is missing or makes no sense.
        """
        told = dict(values)
        try:
            for name in ("size", "stride", "size_level0", "stride_level0", "read_size", "extent"):
                told[name] = Size(*(int(side) for side in told[name]))
            if told.get("mpp") is not None:
                told["mpp"] = (float(told["mpp"][0]), float(told["mpp"][1]))
            return cls(**told)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"these are no values of a tile geometry: {values!r}") from error


def tile_geometry(slide: Slide, spec: TileSpec) -> TileGeometry:
    """Put a spec to a slide.

    Parameters
    ----------
    slide : Slide
        Its levels and units are used, no pixel is read.
    spec : TileSpec
        What is wanted.

    Raises
    ------
    wsistore.errors.ResolutionError
        If the slide is not fine enough, or has no such level.
    wsistore.errors.MetadataError
        If the slide lacks the pixel size or magnification that the resolution needs.
    wsistore.errors.UsageError
        If the spec is in µm and the slide has no pixel size.
    """
    found = slide.resolve(spec.resolution)
    mpp = slide.mpp
    target = None if mpp is None else (mpp.x * found.downsample, mpp.y * found.downsample)
    size, stride = spec.to_px(target)
    ratio = Fraction(found.downsample).limit_denominator(MAX_DENOMINATOR)
    size_level0 = Size(*(max(1, half_up(side, ratio)) for side in size))
    # Sizes of levels are floors: only whole px of the resolution can be had unpadded.
    whole = [math.floor(s / found.factor + ROUNDING) for s in slide.levels[found.level].size]
    extent = [
        max(1, min(side, math.floor(n * ratio))) for n, side in zip(whole, slide.size, strict=True)
    ]
    return TileGeometry(
        size=size,
        stride=stride,
        level=found.level,
        downsample=found.downsample,
        level_downsample=found.level_downsample,
        size_level0=size_level0,
        stride_level0=Size(*(max(1, half_up(side, ratio)) for side in stride)),
        read_size=Size(*(max(1, math.floor(side * found.factor + 0.5)) for side in size)),
        extent=Size(*extent),
        mpp=target,
    )


def half_up(length: int, ratio: Fraction) -> int:
    """Return ``floor(length * ratio + 1/2)``: target px in level-0 px."""
    return (2 * length * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)


def to_level0(lengths: NDArray[np.int64], ratio: Fraction) -> NDArray[np.int64]:
    """Return `half_up` of whole arrays; exact for results below 2**31."""
    found: NDArray[np.int64] = (2 * lengths * ratio.numerator + ratio.denominator) // (
        2 * ratio.denominator
    )
    return found


def axis_positions(
    geometry: TileGeometry, axis: int, last: Last, *, offset: int = 0
) -> NDArray[np.int64]:
    """Return where tiles start along one axis of the slide.

    Parameters
    ----------
    geometry : TileGeometry
        Of the tiles.
    axis : {0, 1}
        0 for x, 1 for y.
    last : {"keep", "drop", "shift"}
        As in `wsistore.tiles.grids.axis_starts`.
    offset : int
        Target px by which the lattice is moved right or down.

    Returns
    -------
    (n,) int64
        Level-0 px, ascending. A last tile that fits, and that rounding alone would carry
        over the edge, is moved back by that px.
    """
    ratio = geometry.ratio
    # Level-0 px back to the whole target px that they came from.
    extent = max(1, math.ceil((geometry.extent[axis] + 1) / ratio) - 1)
    if extent <= offset:
        return np.zeros(0, np.int64)
    starts = axis_starts(extent - offset, geometry.size[axis], geometry.stride[axis], last)
    found = to_level0(starts + offset, ratio)
    if last == "keep":
        return found
    return np.minimum(found, max(0, geometry.extent[axis] - geometry.size_level0[axis]))
