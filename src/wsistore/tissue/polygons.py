"""Polygons in level-0 px: points inside of them, and boxes covered by them, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.tissue.rings import signed_area

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CELLS_AT_ONCE = 1 << 20
"""Boxes times edges that are computed at once."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """An area with holes.

    Parameters
    ----------
    exterior : (n, 2) array
        Corners x, y in level-0 px, either way round; a last point equal to the first one
        is dropped.
    holes : sequence of (n, 2) arrays
        Likewise.

    Raises
    ------
    UsageError
        If a line has fewer than three corners, or a coordinate is no finite number.
    """

    exterior: Points
    holes: tuple[Points, ...] = ()

    def __post_init__(self) -> None:
        """Check the lines, and turn them: positive area outside, negative for holes."""
        object.__setattr__(self, "exterior", _as_ring(self.exterior, 1))
        object.__setattr__(self, "holes", tuple(_as_ring(hole, -1) for hole in self.holes))

    @property
    def rings(self) -> tuple[Points, ...]:
        """Exterior and holes."""
        return (self.exterior, *self.holes)

    @property
    def area(self) -> float:
        """Area in level-0 px², holes taken off."""
        return sum(signed_area(ring) for ring in self.rings)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in level-0 px."""
        left, top = self.exterior.min(axis=0)
        right, bottom = self.exterior.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def moved(self, x: float, y: float) -> Polygon:
        """Return the polygon shifted by (x, y) level-0 px."""
        by = np.array([x, y])
        return Polygon(self.exterior + by, tuple(hole + by for hole in self.holes))

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Return which points (n, 2) lie inside and in no hole; see `inside`."""
        return inside(self.rings, points)


def _as_ring(ring: ArrayLike, sign: int) -> Points:
    try:
        points = np.array(ring, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a line of a polygon is (n, 2) numbers: {error}") from error
    if points.ndim == 2 and len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise UsageError(
            f"a line of a polygon has three corners (x, y) or more, got {points.shape}"
        )
    if not np.isfinite(points).all():
        raise UsageError("a corner of a polygon is not a finite number")
    if signed_area(points) * sign < 0:
        points = points[::-1].copy()
    points.flags.writeable = False
    return points


def inside(rings: Sequence[Points], points: ArrayLike) -> NDArray[np.bool_]:
    """Return which points lie inside of an odd number of rings.

    A point on a left or upper edge is inside, on a right or lower one outside, so areas
    that share an edge share no point.

    Parameters
    ----------
    rings : sequence of (n, 2) float64
        Closed lines.
    points : (m, 2) array
        x, y in the same space.

    Returns
    -------
    (m,) bool
    """
    array = np.asarray(points, np.float64)
    ys, row = np.unique(array[:, 1], return_inverse=True)
    rows, xs = _crossings(rings, ys)
    if len(xs) == 0:
        return np.zeros(len(array), np.bool_)
    # One sorted key of (row, x): the x by their rank, so that nothing is rounded.
    known, rank = np.unique(xs, return_inverse=True)
    keys = np.sort(rows * (len(known) + 1) + rank)
    starts = np.searchsorted(keys, np.arange(len(ys)) * (len(known) + 1))
    ranks = np.searchsorted(known, array[:, 0], side="right")
    left = np.searchsorted(keys, row * (len(known) + 1) + ranks) - starts[row]
    return np.asarray(left & 1, np.bool_)


def _crossings(rings: Sequence[Points], ys: Points) -> tuple[NDArray[np.int64], Points]:
    """Return where rings cross horizontal lines at ascending ys: numbers of lines, and x."""
    x0, y0, x1, y1 = edges(rings)
    first = np.searchsorted(ys, np.minimum(y0, y1))
    last = np.searchsorted(ys, np.maximum(y0, y1))
    times = last - first
    edge = np.repeat(np.arange(len(x0)), times)
    begin = np.cumsum(times) - times
    row = first[edge] + np.arange(len(edge)) - begin[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    return row.astype(np.int64), x0[edge] + (ys[row] - y0[edge]) * slope


def edges(rings: Sequence[Points]) -> tuple[Points, Points, Points, Points]:
    """Return x0, y0, x1, y1 of all edges that are not horizontal."""
    starts = np.concatenate([*rings, np.empty((0, 2))])
    ends = np.concatenate([*(np.roll(ring, -1, axis=0) for ring in rings), np.empty((0, 2))])
    keep = starts[:, 1] != ends[:, 1]
    starts, ends = starts[keep], ends[keep]
    return starts[:, 0], starts[:, 1], ends[:, 0], ends[:, 1]


def rasterised(polygons: Iterable[Polygon], slide_size: Size, shape: tuple[int, int]) -> Mask:
    """Return a mask of the whole slide with the px whose centres lie in a polygon.

    Parameters
    ----------
    polygons : iterable of Polygon
        In level-0 px.
    slide_size : Size
        Level-0 px.
    shape : (h, w)
        Of the mask.

    Returns
    -------
    (h, w) bool
    """
    height, width = shape
    mask = np.zeros(shape, np.bool_)
    scale = np.array([width / slide_size.width, height / slide_size.height])
    for polygon in polygons:
        rings = [ring * scale for ring in polygon.rings]
        left, top = np.clip(np.floor(rings[0].min(axis=0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(rings[0].max(axis=0)), 0, (width, height)).astype(int)
        if left >= right or top >= bottom:
            continue
        rows, xs = _crossings(rings, np.arange(top, bottom) + 0.5)
        columns = np.clip(np.ceil(xs - 0.5), left, right).astype(np.int64) - left
        flips = np.zeros((bottom - top, right - left + 1), np.int32)
        np.add.at(flips, (rows, columns), 1)
        mask[top:bottom, left:right] |= (np.cumsum(flips, axis=1)[:, :-1] & 1).astype(np.bool_)
    return mask


def polygon_coverage(polygon: Polygon, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fraction of the area of each box that a polygon covers, exactly.

    By Green's theorem the common area of polygon and box is the integral of x, held
    between the sides of the box, along the edges between its top and its bottom.

    Parameters
    ----------
    polygon : Polygon
        Its lines must not cross themselves or each other.
    boxes : (n, 4) int64
        x, y, width, height in level-0 px; those of one row are computed together.

    Returns
    -------
    (n,) float64
        0 to 1.
    """
    out = np.zeros(len(boxes), np.float64)
    left, top, right, bottom = polygon.bounds
    x, y, width, height = boxes.T
    near = (x < right) & (x + width > left) & (y < bottom) & (y + height > top)
    chosen = np.flatnonzero(near)
    if len(chosen) == 0:
        return out
    lines = edges(polygon.rings)
    bands, band = np.unique(boxes[chosen][:, [1, 3]], axis=0, return_inverse=True)
    order = np.argsort(band, kind="stable")
    ends = np.cumsum(np.bincount(band, minlength=len(bands)))
    for (above, tall), members in zip(bands, np.split(chosen[order], ends[:-1]), strict=True):
        parts = _band_edges(lines, float(above), float(above + tall))
        for some in _slices(members, len(parts[0])):
            area = _band_areas(parts, boxes[some, 0], boxes[some, 0] + boxes[some, 2])
            out[some] = area / (boxes[some, 2] * float(tall))
    return np.clip(out, 0.0, 1.0)


def _slices(members: NDArray[np.int64], count: int) -> Iterator[NDArray[np.int64]]:
    step = max(1, _CELLS_AT_ONCE // max(1, count))
    for start in range(0, len(members), step):
        yield members[start : start + step]


def _band_edges(
    lines: tuple[Points, Points, Points, Points], top: float, bottom: float
) -> tuple[Points, Points, Points]:
    """Return the smaller and larger x, and the signed height, of edges within a band."""
    x0, y0, x1, y1 = lines
    hit = (np.minimum(y0, y1) < bottom) & (np.maximum(y0, y1) > top)
    x0, y0, x1, y1 = x0[hit], y0[hit], x1[hit], y1[hit]
    slope = (x1 - x0) / (y1 - y0)
    begin, end = np.clip(y0, top, bottom), np.clip(y1, top, bottom)
    from_x, to_x = x0 + (begin - y0) * slope, x0 + (end - y0) * slope
    return np.minimum(from_x, to_x), np.maximum(from_x, to_x), end - begin


def _band_areas(
    parts: tuple[Points, Points, Points], left: NDArray[np.int64], right: NDArray[np.int64]
) -> Points:
    low, high, tall = parts
    width = (right - left).astype(np.float64)[:, None]
    a = low[None, :] - left[:, None]
    b = high[None, :] - left[:, None]
    span = b - a
    # The mean of x, held within 0 and width, while x runs evenly from a to b.
    steep = span < 1e-9
    mean = (_held(b, width) - _held(a, width)) / np.where(steep, 1.0, span)
    mean = np.where(steep, np.clip((a + b) / 2, 0.0, width), mean)
    return np.asarray(mean @ tall, np.float64)


def _held(x: Points, width: Points) -> Points:
    """Return the integral from 0 to x of x held within 0 and width."""
    within = np.clip(x, 0.0, width)
    return within * within / 2 + np.maximum(x - width, 0.0) * width
