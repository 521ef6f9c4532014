"""Tiles laid over a slide or over a contour's box: positions and places, without rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.slides import Slide
from wsistore.tiles.grids import Last
from wsistore.tiles.lattice import TileGeometry, axis_positions, half_up, to_level0
from wsistore.tiles.spec import TileSpec

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom in level-0 px."""

LAST: dict[str, Last] = {"drop": "drop", "keep": "keep", "pad": "keep", "shift": "shift"}


class Laid(NamedTuple):
    """Tiles of a lattice, ordered by rows; arrays of length n.

    Parameters
    ----------
    x, y : (n,) int64
        Top-left corners in level-0 px.
    column, row : (n,) int32
        Places in the lattice.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    column: NDArray[np.int32]
    row: NDArray[np.int32]

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Laid:
        """Return some of the tiles."""
        return Laid(self.x[chosen], self.y[chosen], self.column[chosen], self.row[chosen])


def joined(parts: list[Laid]) -> Laid:
    """Return the tiles of all parts, one after another."""
    wide, narrow = np.zeros(0, np.int64), np.zeros(0, np.int32)
    return Laid(
        np.concatenate([wide, *(part.x for part in parts)]),
        np.concatenate([wide, *(part.y for part in parts)]),
        np.concatenate([narrow, *(part.column for part in parts)]),
        np.concatenate([narrow, *(part.row for part in parts)]),
    )


@dataclass(frozen=True, eq=False)
class SlideLattice:
    """The lattice of a spec over the whole slide.

    Parameters
    ----------
    even, odd : (n,) int64
        Starts of the columns in even and in odd rows, level-0 px.
    rows : (m,) int64
        Starts of the rows.
    """

    even: NDArray[np.int64]
    odd: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, geometry: TileGeometry, spec: TileSpec, edge: str = "") -> SlideLattice:
        """Return the lattice; `edge` stands for another policy than the spec's."""
        last = LAST[edge or spec.edge]
        even = axis_positions(geometry, 0, last)
        odd = even
        if spec.layout == "hexagonal":
            odd = axis_positions(geometry, 0, last, offset=(geometry.size.width + 1) // 2)
        return cls(even, odd, axis_positions(geometry, 1, last))

    def __len__(self) -> int:
        odd_rows = len(self.rows) // 2
        return (len(self.rows) - odd_rows) * len(self.even) + odd_rows * len(self.odd)

    def tiles(self, geometry: TileGeometry, bounds: Bounds | None = None) -> Laid:
        """Return its tiles, all or those that meet a box."""
        size = geometry.size_level0
        if bounds is None:
            bounds = (-math.inf, -math.inf, math.inf, math.inf)
        rows = _meeting(self.rows, size.height, bounds[1], bounds[3])
        if self.odd is self.even:
            return self._block(_meeting(self.even, size.width, bounds[0], bounds[2]), rows)
        parts = []
        for parity, starts in enumerate((self.even, self.odd)):
            columns = _meeting(starts, size.width, bounds[0], bounds[2])
            parts.append(self._block(columns, rows[rows % 2 == parity], starts))
        laid = joined(parts)
        return laid.take(np.argsort(laid.row, kind="stable"))

    def _block(
        self,
        columns: NDArray[np.int32],
        rows: NDArray[np.int32],
        starts: NDArray[np.int64] | None = None,
    ) -> Laid:
        starts = self.even if starts is None else starts
        return Laid(
            np.tile(starts[columns], len(rows)),
            np.repeat(self.rows[rows], len(columns)),
            np.tile(columns, len(rows)),
            np.repeat(rows, len(columns)),
        )


def _meeting(starts: NDArray[np.int64], length: int, low: float, high: float) -> NDArray[np.int32]:
    """Return the indices of starts whose tiles meet the open interval (low, high)."""
    return np.flatnonzero((starts + length > low) & (starts < high)).astype(np.int32)


def region_tiles(geometry: TileGeometry, spec: TileSpec, bounds: Bounds) -> Laid:
    """Return the tiles of a lattice that starts in the corner of a box.

    Columns and rows go on while a tile starts within the box; the slide's edges are dealt
    with as the spec says.

    Parameters
    ----------
    geometry : TileGeometry
        Of the tiles.
    spec : TileSpec
        What is wanted.
    bounds : (left, top, right, bottom)
        Of the region, in level-0 px.
    """
    left, top, right, bottom = bounds
    rows = _region_axis(geometry, spec, 1, (top, bottom), 0)
    even = _region_axis(geometry, spec, 0, (left, right), 0)
    odd = even
    if spec.layout == "hexagonal":
        half = (geometry.size.width + 1) // 2
        odd = _region_axis(geometry, spec, 0, (left, right), half)
    return SlideLattice(even, odd, rows).tiles(geometry)


def _region_axis(
    geometry: TileGeometry, spec: TileSpec, axis: int, span: tuple[float, float], offset: int
) -> NDArray[np.int64]:
    """Return where tiles start along one axis of a region, level-0 px."""
    ratio, extent = geometry.ratio, geometry.extent[axis]
    begin = max(0, math.floor(span[0]))
    if spec.align == "tiles":
        grid = half_up(geometry.size[axis], ratio)
        begin -= begin % grid
    end = min(extent, math.ceil(span[1]))
    stride = geometry.stride[axis]
    count = max(0, math.ceil(Fraction(end - begin) / (stride * ratio)) + 1)
    starts = begin + to_level0(np.arange(count, dtype=np.int64) * stride + offset, ratio)
    starts = starts[starts < end]
    room = extent - geometry.size_level0[axis]
    if spec.edge == "drop":
        return starts[starts <= room]
    if spec.edge == "shift":
        return np.unique(np.minimum(starts, max(0, room)))
    return starts


def check_alignment(slide: Slide, geometry: TileGeometry, spec: TileSpec) -> None:
    """Raise if tiles of a spec don't each lie in one encoded tile of the file.

    Raises
    ------
    wsistore.errors.UsageError
        With the reason, and with the sizes that would fit.
    """
    if spec.layout == "hexagonal" or spec.edge == "shift":
        what = "a hexagonal layout" if spec.layout == "hexagonal" else 'edge="shift"'
        raise UsageError(f"{what} moves tiles off the file's own grid", hint="Use align='none'.")
    encoded = slide.levels[geometry.level].tile_size
    if encoded is None:
        raise UsageError(
            f"level {geometry.level} of {slide.name} has no encoded tiles to align with"
        )
    factor = geometry.ratio / Fraction(geometry.level_downsample).limit_denominator(10**9)
    for side, step, tile in zip(geometry.size, geometry.stride, encoded, strict=True):
        read, apart = side * factor, step * factor
        if read.denominator != 1 or tile % read or apart % read:
            fitting = [n for n in range(tile, 0, -1) if tile % n == 0 and n % factor == 0]
            sizes = ", ".join(str(int(n / factor)) for n in fitting[:4])
            raise UsageError(
                f"tiles of {side} px, {step} px apart, don't fit the encoded tiles of {tile} px "
                f"of level {geometry.level} of {slide.name}: they are {float(read):g} px there",
                hint=f"Sizes that fit: {sizes} px, with a stride of a multiple of the size."
                if sizes
                else "No size at this resolution fits.",
            )
