"""Labels of boxes by annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import DependencyError, UsageError
from wsistore.geometry import Size
from wsistore.tissue.annotations import Annotations
from wsistore.tissue.mask import as_boxes
from wsistore.tissue.polygons import Polygon, polygon_coverage, rasterised

LabelRule = Literal["top-left", "center", "coverage"]

_OVERLAP_SIDE = 512
"""Longest side in px of the picture on which overlaps of a class are looked for."""


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """Which labels each box has.

    Parameters
    ----------
    labels : tuple of str
        The labels, in the order of the file.
    hits : (n, len(labels)) bool
        Whether a box has a label.
    coverage : (n, len(labels)) float64 or None
        Fraction of the box that annotations of the label cover; with the rule
        ``"coverage"`` alone.
    first : (n,) int32
        Index of one label: that of the first annotation in the file that has the point,
        or the one that covers most; -1 where there is none.
    excluded : (n,) bool
        Whether a box is hit by a label of exclusion.
    unknown : tuple of str
        Labels of the file that the wanted ones do not name; they label nothing.
    """

    labels: tuple[str, ...]
    hits: NDArray[np.bool_]
    coverage: NDArray[np.float64] | None
    first: NDArray[np.int32]
    excluded: NDArray[np.bool_]
    unknown: tuple[str, ...] = ()

    def names(self, default: str = "") -> list[str]:
        """Return one label for each box, `default` where it has none."""
        known = np.array([*self.labels, default], dtype=object)
        return [str(name) for name in known[self.first]]

    def codes(self, label_map: Mapping[str, int], default: int = -1) -> NDArray[np.int64]:
        """Return a number for each box: that of its one label, `default` without."""
        known = [label_map.get(label, default) for label in self.labels]
        return np.array([*known, default], np.int64)[self.first]


def label_boxes(
    annotations: Annotations,
    boxes: ArrayLike,
    rule: LabelRule = "center",
    *,
    min_coverage: float = 0.5,
    several: bool = True,
    labels: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
) -> BoxLabels:
    """Return the labels that annotations give to boxes.

    Parameters
    ----------
    annotations : Annotations
        In level-0 px.
    boxes : (n, 4) int
        x, y, width, height in level-0 px.
    rule : {"top-left", "center", "coverage"}
        A box has a label where that point of it lies in an annotation, or where
        annotations of the label cover at least `min_coverage` of its area, exactly.
    min_coverage : float
        Above 0, at most 1.
    several : bool
        Whether a box may have several labels; otherwise `hits` keeps the one of `first`.
    labels : iterable of str, optional
        The labels that count; others are told in `BoxLabels.unknown`. All by default.
    exclude : iterable of str
        Labels of regions of exclusion, by the same rule; they give no label.

    Raises
    ------
    UsageError
        If an argument makes no sense.
    DependencyError
        If annotations of one label overlap, so that coverage needs shapely, which is not
        installed.
    """
    if rule not in get_args(LabelRule):
        raise UsageError(f"rule is one of {', '.join(get_args(LabelRule))}, got {rule!r}")
    if not 0 < min_coverage <= 1:
        raise UsageError(f"min_coverage is above 0 and at most 1, got {min_coverage!r}")
    array = as_boxes(boxes)
    out = frozenset(exclude)
    wanted = None if labels is None else frozenset(labels)
    known = tuple(
        label
        for label in annotations.labels
        if label not in out and (wanted is None or label in wanted)
    )
    unknown = tuple(label for label in annotations.labels if label not in {*known, *out})
    barred = _hits(annotations, tuple(sorted(out)), array, rule, min_coverage)[0]
    hits, coverage, first = _hits(annotations, known, array, rule, min_coverage)
    if not several:
        hits = np.zeros_like(hits)
        at = np.flatnonzero(first >= 0)
        hits[at, first[at]] = True
    excluded = np.asarray(barred.any(axis=1), np.bool_)
    return BoxLabels(known, hits, coverage, first, excluded, unknown)


def _hits(
    annotations: Annotations,
    labels: tuple[str, ...],
    boxes: NDArray[np.int64],
    rule: LabelRule,
    least: float,
) -> tuple[NDArray[np.bool_], NDArray[np.float64] | None, NDArray[np.int32]]:
    if rule != "coverage":
        hits, first = _point_hits(annotations, labels, boxes, rule)
        return hits, None, first
    coverage = np.zeros((len(boxes), len(labels)), np.float64)
    for column, label in enumerate(labels):
        polygons = [item.polygon for item in annotations if item.label == label]
        for polygon in _apart(polygons, label):
            coverage[:, column] += polygon_coverage(polygon, boxes)
    coverage = np.minimum(coverage, 1.0)
    hits = coverage >= least - 1e-12
    first = np.full(len(boxes), -1, np.int32)
    if labels:
        most = coverage.argmax(axis=1).astype(np.int32)
        first = np.where(hits.any(axis=1), most, first).astype(np.int32)
    return hits, coverage, first


def _point_hits(
    annotations: Annotations, labels: tuple[str, ...], boxes: NDArray[np.int64], rule: LabelRule
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    points = boxes[:, :2].astype(np.float64)
    if rule == "center":
        points += boxes[:, 2:] / 2
    hits = np.zeros((len(boxes), len(labels)), np.bool_)
    first = np.full(len(boxes), -1, np.int32)
    for item in annotations:
        if item.label not in labels:
            continue
        column = labels.index(item.label)
        left, top, right, bottom = item.polygon.bounds
        near = (points >= (left, top)).all(axis=1) & (points <= (right, bottom)).all(axis=1)
        at = np.flatnonzero(near)
        at = at[item.polygon.contains(points[at])]
        hits[at, column] = True
        first[at[first[at] < 0]] = column
    return hits, first


def _apart(polygons: list[Polygon], label: str) -> list[Polygon]:
    """Return polygons of the same area that do not overlap."""
    if not _overlap(polygons):
        return polygons
    try:
        import shapely
    except ImportError as error:
        raise DependencyError(
            f"annotations of {label!r} overlap; their coverage needs shapely",
            hint="pip install 'wsistore[mask]'",
        ) from error
    shapes = [shapely.make_valid(shapely.Polygon(p.exterior, p.holes)) for p in polygons]
    merged = shapely.union_all(shapes)
    parts = [g for g in getattr(merged, "geoms", [merged]) if g.geom_type == "Polygon"]
    return [
        Polygon(
            shapely.get_coordinates(part.exterior),
            tuple(map(shapely.get_coordinates, part.interiors)),
        )
        for part in parts
    ]


def _overlap(polygons: list[Polygon]) -> bool:
    """Return whether polygons share an area that can be seen at `_OVERLAP_SIDE` px."""
    if len(polygons) < 2:
        return False
    bounds = np.array([polygon.bounds for polygon in polygons])
    for index in range(len(polygons)):
        later = bounds[index + 1 :]
        own = bounds[index]
        near = (later[:, :2] < own[2:]).all(axis=1) & (later[:, 2:] > own[:2]).all(axis=1)
        if any(_share(polygons[index], polygons[index + 1 + k]) for k in np.flatnonzero(near)):
            return True
    return False


def _share(one: Polygon, two: Polygon) -> bool:
    low = np.maximum(one.bounds[:2], two.bounds[:2])
    high = np.minimum(one.bounds[2:], two.bounds[2:])
    # The common part of their bounds, stretched to a square picture.
    scale = _OVERLAP_SIDE / (high - low)
    size = Size(_OVERLAP_SIDE, _OVERLAP_SIDE)
    pictures = []
    for polygon in (one, two):
        exterior, *holes = [(ring - low) * scale for ring in polygon.rings]
        stretched = Polygon(exterior, tuple(holes))
        pictures.append(rasterised([stretched], size, (_OVERLAP_SIDE, _OVERLAP_SIDE)))
    return bool((pictures[0] & pictures[1]).any())
