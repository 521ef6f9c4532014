"""From a slide and a spec to the tiles worth reading: `plan_tiles`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.tiles.filtering import Filters, apply_filters, as_filters
from wsistore.tiles.handles import default_cache
from wsistore.tiles.lattice import TileGeometry, tile_geometry
from wsistore.tiles.laying import (
    Laid,
    SlideLattice,
    check_alignment,
    joined,
    region_tiles,
)
from wsistore.tiles.model import SlideLike
from wsistore.tiles.plan import TilePlan, make_boxes
from wsistore.tiles.provenance import Rule, SlideFacts
from wsistore.tiles.spec import TileSpec
from wsistore.tissue import TissueMask
from wsistore.tissue.contours import Contour, contour_ids
from wsistore.tissue.contours import Rule as ContourRule

MIN_TISSUE = 0.5
"""Least tissue ratio where a mask decides and nothing else is said."""

ROWS_AT_ONCE = 1 << 16
"""Tiles put to a mask at a time, to bound memory."""

Mask = TissueMask | NDArray[Any]


def plan_tiles(
    slide: SlideLike,
    spec: TileSpec,
    mask: Mask | None = None,
    *,
    min_tissue: float | None = None,
    contours: Sequence[Contour] | None = None,
    contour_rule: ContourRule = "four_pt",
    filters: Filters = (),
    **reading: Any,
) -> TilePlan:
    """Return the tiles of a slide that are worth reading.

    No pixel is read but for `filters`. The same arguments give the same plan.

    Parameters
    ----------
    slide : Slide, str or PathLike
        The slide.
    spec : TileSpec
        Size, stride, resolution and edges.
    mask : TissueMask or (h, w) array, optional
        Where tissue is, over the whole slide; non-zero in an array.
    min_tissue : float, optional
        Least fraction of a tile's area that is tissue, 0 to 1. With a mask alone it is 0.5
        where not said; with contours too, the contours decide, and the ratio is recorded.
    contours : sequence of Contour, optional
        As `wsistore.tissue.contours.find_contours` makes them; only tiles of a contour
        stay. A tile of several contours is planned once, for the first of them.
    contour_rule : {"four_pt", "four_pt_hard", "center", "basic", "any"}
        When a tile is of a contour; see `wsistore.tissue.contours.contour_ids`.
    filters : sequence of PixelFilter or str
        Look at pixels, cheap ones first; see `wsistore.tiles.filters`. Their scores become
        columns.
    **reading
        For the filters, as in `wsistore.tiles.iter_tiles`.

    Returns
    -------
    TilePlan
        Ordered by y and then x, without repeats.

    Raises
    ------
    wsistore.errors.ResolutionError, wsistore.errors.MetadataError
        If the slide is not fine enough, or lacks the units that the spec needs.
    wsistore.errors.UsageError
        If arguments don't fit together or don't fit the slide.
    wsistore.errors.WsistoreError
        If the slide can't be opened, or pixels for the filters can't be read.
    """
    opened = slide if isinstance(slide, Slide) else default_cache().get(slide)
    chosen = as_filters(filters)
    if reading and not chosen:
        raise UsageError(f"without filters nothing is read: {', '.join(reading)}")
    tissue = as_mask(mask, opened)
    least = _least_tissue(min_tissue, tissue, contours)
    if spec.origin == "region" and contours is None:
        raise UsageError('origin="region" needs contours', hint='Use origin="slide".')
    geometry = tile_geometry(opened, spec)
    if spec.align == "tiles":
        check_alignment(opened, geometry, spec)
    laid, contour, rules = _lay(geometry, spec, contours, contour_rule)
    ratio = np.full(len(laid.x), np.nan, np.float32)
    if tissue is not None:
        exact = tissue_ratios(tissue, laid.x, laid.y, geometry.size_level0)
        kept = exact >= least
        rules.append(_tissue_rule(tissue, least, kept))
        ratio = exact.astype(np.float32)
        if not kept.all():
            laid, contour, ratio = laid.take(kept), contour[kept], ratio[kept]
    plan = _as_plan(opened, spec, geometry, laid, contour, ratio, rules)
    return apply_filters(plan, opened, chosen, **reading) if chosen else plan


def as_mask(mask: Mask | None, slide: Slide) -> TissueMask | None:
    """Return the mask, checked to be of a slide of this size.

    Raises
    ------
    wsistore.errors.UsageError
        If it is no mask, or of another slide.
    """
    if mask is None:
        return None
    if not isinstance(mask, TissueMask):
        return TissueMask(np.asarray(mask), slide.size, method="array", source=slide.fingerprint)
    if mask.slide_size != slide.size:
        raise UsageError(
            f"the mask is of a slide of {mask.slide_size.width}x{mask.slide_size.height} px, "
            f"{slide.name} has {slide.size.width}x{slide.size.height}"
        )
    return mask


def tissue_ratios(
    mask: TissueMask, x: NDArray[np.int64], y: NDArray[np.int64], size: Size
) -> NDArray[np.float64]:
    """Return the fraction of each tile's area that is tissue, exactly.

    Parameters
    ----------
    mask : TissueMask
        Of the slide.
    x, y : (n,) int64
        Top-left corners in level-0 px.
    size : Size
        Of all tiles, level-0 px.
    """
    found = np.empty(len(x), np.float64)
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = mask.coverage(make_boxes(x[part], y[part], size))
    return found


def _least_tissue(
    told: float | None, mask: TissueMask | None, contours: Sequence[Contour] | None
) -> float:
    if told is None:
        return MIN_TISSUE if contours is None else 0.0
    if mask is None:
        raise UsageError("min_tissue needs a mask")
    if not 0 <= told <= 1:
        raise UsageError(f"min_tissue is a fraction from 0 to 1, got {told!r}")
    return float(told)


def _tissue_rule(mask: TissueMask, least: float, kept: NDArray[np.bool_]) -> Rule:
    parameters = {
        "min_tissue": least,
        "mask": mask.fingerprint,
        "method": mask.method,
        "method_parameters": dict(mask.parameters),
    }
    return Rule("tissue", parameters, len(kept), len(kept) - int(np.count_nonzero(kept)))


def _lay(
    geometry: TileGeometry,
    spec: TileSpec,
    contours: Sequence[Contour] | None,
    rule: ContourRule,
) -> tuple[Laid, NDArray[np.int32], list[Rule]]:
    """Return the tiles that edges and contours leave, with the rules so far."""
    lattice = SlideLattice.of(geometry, spec)
    rules = []
    if spec.origin == "slide":
        full = len(SlideLattice.of(geometry, spec, "keep"))
        rules.append(Rule("edge", {"edge": spec.edge}, full, full - len(lattice)))
    if contours is None:
        laid = lattice.tiles(geometry)
        return laid, np.zeros(len(laid.x), np.int32), rules
    parts, ids, seen = [], [], []
    for contour in contours:
        bounds = contour.polygon.bounds
        if spec.origin == "slide":
            laid = lattice.tiles(geometry, bounds)
        else:
            laid = region_tiles(geometry, spec, bounds)
        own = _members(contour, laid, geometry.size_level0, rule)
        seen.append(laid)
        parts.append(laid.take(own > 0))
        ids.append(own[own > 0])
    found = joined(parts)
    first = _first_of_each(found)
    count = len(lattice) if spec.origin == "slide" else len(_first_of_each(joined(seen)))
    told = {"rule": rule, "count": len(contours), "contours": contours_fingerprint(contours)}
    rules.append(Rule("contours", told, count, count - len(first)))
    contour_column = np.concatenate([*ids, np.zeros(0, np.int32)])[first]
    return found.take(first), contour_column, rules


def _members(contour: Contour, laid: Laid, size: Size, rule: ContourRule) -> NDArray[np.int32]:
    """Return the id of the contour for its tiles, 0 for others."""
    found = np.zeros(len(laid.x), np.int32)
    for start in range(0, len(found), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = contour_ids([contour], make_boxes(laid.x[part], laid.y[part], size), rule)
    return found


def _first_of_each(laid: Laid) -> NDArray[np.intp]:
    """Return the first tile at each place, in the order of y and then x."""
    order = np.lexsort((laid.x, laid.y))  # stable, so the first contour comes first
    x, y = laid.x[order], laid.y[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (x[1:] != x[:-1]) | (y[1:] != y[:-1])
    return order[fresh]


def contours_fingerprint(contours: Sequence[Contour]) -> str:
    """Return the SHA-256 of the contours' ids and corners, as hexadecimal digits."""
    digest = hashlib.sha256()
    for contour in contours:
        rings = contour.polygon.rings
        digest.update(f"{contour.tissue_id}:{[len(ring) for ring in rings]};".encode())
        for ring in rings:
            digest.update(np.ascontiguousarray(ring, "<f8").data)
    return digest.hexdigest()


def _as_plan(
    slide: Slide,
    spec: TileSpec,
    geometry: TileGeometry,
    laid: Laid,
    contour: NDArray[np.int32],
    ratio: NDArray[np.float32],
    rules: Sequence[Rule],
) -> TilePlan:
    count = len(laid.x)
    inside = [
        np.clip(extent - starts, 0, side)
        for starts, side, extent in zip(
            (laid.x, laid.y), geometry.size_level0, geometry.extent, strict=True
        )
    ]
    area = geometry.size_level0.width * geometry.size_level0.height
    read = [np.full(count, side, np.int32) for side in geometry.read_size]
    if spec.edge == "keep":
        read = [_ragged(starts, slide, geometry, axis) for axis, starts in enumerate(laid[:2])]
    return TilePlan(
        slide=SlideFacts.of(slide),
        spec=spec,
        geometry=geometry,
        x=laid.x,
        y=laid.y,
        column=laid.column,
        row=laid.row,
        level=np.full(count, geometry.level, np.int16),
        read_width=read[0],
        read_height=read[1],
        tissue_ratio=ratio,
        contour=contour,
        valid_fraction=(inside[0] * inside[1] / area).astype(np.float32),
        rules=tuple(rules),
    )


def _ragged(
    starts: NDArray[np.int64], slide: Slide, geometry: TileGeometry, axis: int
) -> NDArray[np.int32]:
    """Return what is read of each tile along one axis, px of the level, cut at the edge."""
    begin = np.floor(starts / geometry.level_downsample + 1e-6).astype(np.int64)
    room = slide.levels[geometry.level].size[axis] - begin
    return np.clip(room, 1, geometry.read_size[axis]).astype(np.int32)
