"""Annotations in the XML of Aperio ImageScope and of ASAP.

Read by the standard library's parser, which fetches nothing; a document type, and with it
every entity, is refused.
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import AnnotationError, UsageError
from wsistore.tissue.annotations import Annotation, Collected
from wsistore.tissue.polygons import Polygon, inside

_ELLIPSE_CORNERS = 72
_NO_AREA = {"3": "an arrow", "4": "a ruler", "5": "text"}
"""Types of ImageScope's regions beside 0 (freehand), 1 (rectangle) and 2 (ellipse)."""


class _Strict(ET.TreeBuilder):
    """Builds a tree of documents without a DTD."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse a document type."""
        del name, pubid, system
        raise UsageError("it has a document type")


def read(data: bytes, found: Collected) -> None:
    """Read ImageScope's or ASAP's XML into `found`."""
    parser = ET.XMLParser(target=_Strict())  # noqa: S314
    try:
        parser.feed(data)
        root = parser.close()
    except UsageError as error:
        raise AnnotationError(f"{found.source}: {error.message}; that is not read") from error
    except (ET.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{found.source} is no XML: {error}") from error
    if root.tag == "ASAP_Annotations":
        _read_asap(root, found)
    elif root.tag == "Annotations":
        _read_imagescope(root, found)
    else:
        raise AnnotationError(
            f"{found.source}: the root is <{root.tag}>",
            hint="ImageScope has <Annotations>, ASAP has <ASAP_Annotations>.",
        )


# ------------------------------------------------------------------ ImageScope


def _read_imagescope(root: ET.Element, found: Collected) -> None:
    for layer_at, layer in enumerate(root.iter("Annotation")):
        color = _packed_color(layer.get("LineColor"))
        areas: list[tuple[Polygon, str]] = []
        holes: list[tuple[str, NDArray[np.float64]]] = []
        for region_at, region in enumerate(layer.iter("Region")):
            where = (
                f"<Annotation> {layer.get('Id', layer_at)}, <Region> {region.get('Id', region_at)}"
            )
            points = _region_points(region, where, found)
            if points is None:
                continue
            if region.get("NegativeROA", "0") == "1":
                holes.append((where, points))
            else:
                areas.append((found.polygon(where, points), _region_label(layer, region)))
        for polygon, label in _with_holes(areas, holes, found):
            found.items.append(Annotation(polygon, label, layer.get("Name", ""), color))


def _region_label(layer: ET.Element, region: ET.Element) -> str:
    """Return the name of a region: its text, its attribute's value, or its layer's name."""
    told = [region.get("Text")]
    told += [attribute.get("Value") for attribute in region.iter("Attribute")]
    told.append(layer.get("Name"))
    own = layer.find("Attributes")
    if own is not None:
        told += [attribute.get("Name") for attribute in own.iter("Attribute")]
    return next((text.strip() for text in told if text and text.strip()), "")


def _region_points(region: ET.Element, where: str, found: Collected) -> NDArray[np.float64] | None:
    """Return the corners of a region, None where it has no area."""
    kind = region.get("Type", "0")
    points = _points(region.iter("Vertex"), "X", "Y", f"{where}, <Vertex>", found)
    if kind in _NO_AREA:
        found.notes.append(f"{where}: {_NO_AREA[kind]} is no area")
        return None
    if kind in {"1", "2"} and len(points) in {2, 4}:
        left, top = points.min(axis=0)
        right, bottom = points.max(axis=0)
        if kind == "1":
            return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        turn = np.arange(_ELLIPSE_CORNERS) * (2 * math.pi / _ELLIPSE_CORNERS)
        middle, half = ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top)
        x = middle[0] + np.cos(turn) * half[0] / 2
        return np.column_stack([x, middle[1] + np.sin(turn) * half[1] / 2])
    if len(points) < 3:
        found.notes.append(f"{where}: {len(points)} corners make no area")
        return None
    return points


def _with_holes(
    areas: list[tuple[Polygon, str]],
    holes: list[tuple[str, NDArray[np.float64]]],
    found: Collected,
) -> list[tuple[Polygon, str]]:
    """Return the areas of a layer with its negative regions cut out of them."""
    inner: list[list[NDArray[np.float64]]] = [[] for _ in areas]
    for where, points in holes:
        around = [i for i, (area, _) in enumerate(areas) if _surrounds(area, points)]
        if not around:
            found.notes.append(f"{where}: a negative region that lies in no region of its layer")
        for index in around:
            inner[index].append(found.polygon(where, points).exterior)
    return [
        (Polygon(area.exterior, tuple(cut)) if cut else area, label)
        for (area, label), cut in zip(areas, inner, strict=True)
    ]


def _surrounds(area: Polygon, points: NDArray[np.float64]) -> bool:
    return bool(inside([area.exterior], points).mean() > 0.5)


def _packed_color(told: str | None) -> tuple[int, int, int] | None:
    """Return ImageScope's colour, a number with red lowest."""
    try:
        number = int(told or "")
    except ValueError:
        return None
    return number & 255, number >> 8 & 255, number >> 16 & 255


# ------------------------------------------------------------------ ASAP


def _read_asap(root: ET.Element, found: Collected) -> None:
    for index, element in enumerate(root.iter("Annotation")):
        name = element.get("Name", "")
        where = f"<Annotation> {index} ({name!r})"
        kind = element.get("Type", "Polygon")
        if kind not in {"Polygon", "Spline", "Rectangle"}:
            found.notes.append(f"{where}: {kind} is no area")
            continue
        corners = sorted(element.iter("Coordinate"), key=lambda c: _order(c, where, found))
        points = _points(corners, "X", "Y", f"{where}, <Coordinate>", found)
        if len(points) < 3:
            found.notes.append(f"{where}: {len(points)} corners make no area")
            continue
        group = element.get("PartOfGroup", "")
        label = "" if group == "None" else group
        polygon = found.polygon(where, points)
        found.items.append(Annotation(polygon, label, name, _hex_color(element.get("Color"))))


def _order(element: ET.Element, where: str, found: Collected) -> float:
    return _number(element, "Order", f"{where}, <Coordinate>", found)


def _hex_color(told: str | None) -> tuple[int, int, int] | None:
    try:
        number = int((told or "").removeprefix("#"), 16)
    except ValueError:
        return None
    return number >> 16 & 255, number >> 8 & 255, number & 255


# ------------------------------------------------------------------ both


def _points(elements: Any, x: str, y: str, where: str, found: Collected) -> NDArray[np.float64]:
    values = [(_number(e, x, where, found), _number(e, y, where, found)) for e in elements]
    return np.array(values, np.float64).reshape(-1, 2)


def _number(element: ET.Element, key: str, where: str, found: Collected) -> float:
    told = element.get(key)
    try:
        # ASAP and ImageScope write decimals as the machine's language has them.
        return float((told or "").replace(",", "."))
    except ValueError as error:
        raise AnnotationError(f"{found.source}, {where}: {key}={told!r} is no number") from error
