"""Contours of tissue in level-0 px, and which boxes belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.tissue import morphology
from wsistore.tissue.mask import TissueMask, as_boxes
from wsistore.tissue.polygons import Polygon, inside, polygon_coverage, rasterised
from wsistore.tissue.rings import nested, trace

Rule = Literal["four_pt", "four_pt_hard", "center", "basic", "any"]


_ROUNDING = 1e-12
"""Coverage that is nothing but rounding."""


@dataclass(frozen=True, eq=False)
class Contour:
    """One piece of tissue with its holes.

    Parameters
    ----------
    polygon : Polygon
        Exterior and holes in level-0 px.
    tissue_id : int
        From 1, in the order of the topmost and, of these, leftmost px.
    area_mm2 : float or None
        Area without the holes; None where the slide has no pixel size.
    """

    polygon: Polygon
    tissue_id: int
    area_mm2: float | None = None


def find_contours(
    mask: TissueMask,
    *,
    least_fraction: float = 0.0,
    most_holes: int | None = None,
    least_hole_px: int = 0,
) -> list[Contour]:
    """Return the contours of a mask, in two levels: pieces, and the holes of each.

    They run along the edges of the mask's px, so nothing is lost or shifted: the areas are
    those of the px, and `contours_mask` gives the mask back. Pieces that touch at a corner
    only are apart; tissue within a hole is a piece of its own.

    Parameters
    ----------
    mask : TissueMask
        Any mask.
    least_fraction : float
        Pieces below this fraction of the slide's area are left out, 0 to 1.
    most_holes : int, optional
        Largest number of holes, over the whole slide; smaller ones are filled.
    least_hole_px : int
        Holes of fewer px of the mask are filled.
    """
    pixels = morphology.without_small(mask.pixels, least_fraction * mask.pixels.size)
    if most_holes is not None or least_hole_px > 0:
        count = pixels.size if most_holes is None else most_holes
        pixels = morphology.with_few_holes(pixels, count, least_hole_px)
    labels, areas = morphology.components(pixels)
    scale = np.array(mask.downsample)
    px_mm2 = None if mask.mpp is None else mask.mpp[0] * mask.mpp[1] * 1e-6
    found: list[Contour] = []
    for exterior, holes in nested(trace(pixels), labels, pixels):
        polygon = Polygon(exterior * scale, tuple(hole * scale for hole in holes))
        tissue_id = len(found) + 1
        area = None if px_mm2 is None else float(areas[tissue_id]) * px_mm2
        found.append(Contour(polygon, tissue_id, area))
    return found


def contours_mask(
    contours: Sequence[Contour],
    slide_size: Size | tuple[int, int],
    shape: tuple[int, int],
    *,
    mpp: tuple[float, float] | None = None,
    method: str = "contours",
) -> TissueMask:
    """Return the mask of px whose centres lie within a contour.

    Parameters
    ----------
    contours : sequence of Contour
        In level-0 px.
    slide_size : Size
        Level-0 px.
    shape : (h, w)
        Of the mask.
    mpp : (x, y), optional
        µm per px of level 0.
    method : str
        What the mask says of its making.
    """
    size = Size(*slide_size)
    pixels = rasterised([contour.polygon for contour in contours], size, shape)
    own = None
    if mpp is not None:
        own = (mpp[0] * size.width / shape[1], mpp[1] * size.height / shape[0])
    return TissueMask(pixels, size, own, method=method)


def contour_ids(
    contours: Sequence[Contour], boxes: ArrayLike, rule: Rule = "four_pt"
) -> NDArray[np.int32]:
    """Return the contour that each box belongs to.

    Rules look at points of a box against the exterior of a contour, as CLAM does:

    - ``"four_pt"``: any of the four points at the centre +- a quarter of the sides;
    - ``"four_pt_hard"``: all four of them;
    - ``"center"``: the centre;
    - ``"basic"``: the top-left corner;
    - ``"any"``: box and contour, holes taken off, share some area.

    But for ``"any"``, a box whose centre lies in a hole of the contour is not of it.

    Parameters
    ----------
    contours : sequence of Contour
        In level-0 px.
    boxes : (n, 4) int
        x, y, width, height in level-0 px.
    rule : str
        One of the above.

    Returns
    -------
    (n,) int32
        The `tissue_id` of the first contour that takes the box, 0 where none does.

    Raises
    ------
    UsageError
        If there is no such rule, or the boxes are none.
    """
    if rule not in get_args(Rule):
        raise UsageError(f"rule is one of {', '.join(get_args(Rule))}, got {rule!r}")
    array = as_boxes(boxes)
    found = np.zeros(len(array), np.int32)
    x, y, width, height = array.T
    for contour in contours:
        left, top, right, bottom = contour.polygon.bounds
        near = (found == 0) & (x <= right) & (x + width >= left)
        near &= (y <= bottom) & (y + height >= top)
        at = np.flatnonzero(near)
        if len(at):
            found[at[_takes(contour.polygon, array[at], rule)]] = contour.tissue_id
    return found


def _takes(polygon: Polygon, boxes: NDArray[np.int64], rule: Rule) -> NDArray[np.bool_]:
    if rule == "any":
        return np.asarray(polygon_coverage(polygon, boxes) > _ROUNDING, np.bool_)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    taken = _hit(polygon, boxes, centres, rule)
    if polygon.holes:
        taken &= ~inside(polygon.holes, centres)
    return taken


def _hit(
    polygon: Polygon, boxes: NDArray[np.int64], centres: NDArray[np.float64], rule: Rule
) -> NDArray[np.bool_]:
    """Return whether the points of a rule lie within the exterior."""
    if rule == "center":
        return inside([polygon.exterior], centres)
    if rule == "basic":
        return inside([polygon.exterior], boxes[:, :2])
    quarters = boxes[:, 2:] / 4
    corners = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)])
    points = (centres[:, None] + quarters[:, None] * corners).reshape(-1, 2)
    hits = inside([polygon.exterior], points).reshape(-1, 4)
    counts = hits.sum(axis=1)
    return np.asarray(counts == 4 if rule == "four_pt_hard" else counts > 0, np.bool_)
