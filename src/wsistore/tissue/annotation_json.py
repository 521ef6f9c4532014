"""GeoJSON as QuPath reads and writes it, and plain lists of polygons.

Format: RFC 7946 with pixels for degrees, and the properties that QuPath gives its objects
(``objectType``, ``name``, ``classification`` with ``name`` and ``color``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wsistore.errors import AnnotationError
from wsistore.tissue.annotations import Annotation, Annotations, Collected
from wsistore.tissue.contours import Contour
from wsistore.tissue.polygons import Points, Polygon

TISSUE_COLOR = (0, 200, 0)


def read(data: bytes, found: Collected) -> None:
    """Read GeoJSON, or a list of polygons, into `found`."""
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{found.source} is no JSON: {error}") from error
    if isinstance(content, list):
        if content and not isinstance(content[0], dict):
            _read_plain(content, found)
            return
        features = content
    elif content.get("type") == "FeatureCollection":
        features = content.get("features")
    else:
        features = [content]
    if not isinstance(features, list):
        raise AnnotationError(f"{found.source}: 'features' is no list")
    for index, feature in enumerate(features):
        _read_feature(feature, f"feature {index}", found)


def _read_plain(content: list[Any], found: Collected) -> None:
    """Read [[x, y], ...] or a list of these; each is an exterior without a label."""
    first = content[0] if content else None
    flat = isinstance(first, list) and bool(first) and not isinstance(first[0], list)
    for index, ring in enumerate([content] if flat else content):
        found.items.append(Annotation(found.polygon(f"polygon {index}", ring)))


def _read_feature(feature: Any, where: str, found: Collected) -> None:
    if not isinstance(feature, dict):
        raise AnnotationError(f"{found.source}, {where}: is no object")
    is_feature = feature.get("type") == "Feature"
    geometry = feature.get("geometry") if is_feature else feature
    properties = (feature.get("properties") or {}) if is_feature else {}
    if not isinstance(properties, dict) or not isinstance(geometry, dict | None):
        raise AnnotationError(f"{found.source}, {where}: has no properties or geometry")
    label, color = _classification(properties)
    name = str(properties.get("name") or "")
    for polygon in _polygons(geometry, where, found):
        found.items.append(Annotation(polygon, label, name, color))


def _classification(properties: dict[str, Any]) -> tuple[str, tuple[int, int, int] | None]:
    """Return label and colour; QuPath's own class, a plain name, or names of a derived one."""
    told = properties.get("classification")
    color = properties.get("color")
    if isinstance(told, dict):
        color = told.get("color", told.get("colorRGB", color))
        names = told.get("names")
        label = told.get("name") or (": ".join(map(str, names)) if names else "")
    else:
        label = told or ""
    return str(label), _color(color)


def _color(told: Any) -> tuple[int, int, int] | None:
    if isinstance(told, list) and len(told) >= 3 and all(isinstance(v, int) for v in told):
        return told[0] & 255, told[1] & 255, told[2] & 255
    if isinstance(told, int):  # QuPath's older packed colours: ARGB
        return told >> 16 & 255, told >> 8 & 255, told & 255
    return None


def _polygons(geometry: dict[str, Any] | None, where: str, found: Collected) -> list[Polygon]:
    kind = None if geometry is None else geometry.get("type")
    try:
        if geometry is None or kind in {"Point", "MultiPoint", "LineString", "MultiLineString"}:
            found.notes.append(f"{where}: {kind or 'nothing'} is no area")
            return []
        if kind == "Polygon":
            parts = [geometry["coordinates"]]
        elif kind == "MultiPolygon":
            parts = list(geometry["coordinates"])
        elif kind == "GeometryCollection":
            return [p for g in geometry["geometries"] for p in _polygons(g, where, found)]
        else:
            raise AnnotationError(f"{found.source}, {where}: no geometry of type {kind!r} is known")
        return [_part(part, where, found) for part in parts]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AnnotationError(f"{found.source}, {where}: is damaged: {error!r}") from error


def _part(rings: list[Any], where: str, found: Collected) -> Polygon:
    if not rings:
        raise AnnotationError(f"{found.source}, {where}: a polygon without corners")
    # A position may have a height, which is of no use here.
    flat = [[position[:2] for position in ring] for ring in rings]
    return found.polygon(where, flat[0], flat[1:])


def to_geojson(
    items: Iterable[Contour] | Annotations,
    *,
    label: str = "Tissue",
    color: tuple[int, int, int] = TISSUE_COLOR,
    offset: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Return GeoJSON that QuPath imports as annotations.

    Parameters
    ----------
    items : contours or Annotations
        Contours get `label` and `color`, and are named ``"<label> <tissue_id>"``.
    label, color : str, (r, g, b)
        Class of contours, and of annotations that have none.
    offset : (x, y)
        Subtracted from every corner, level-0 px: the origin of the slide's bounds for
        programs that count from there.

    Returns
    -------
    dict
        A FeatureCollection.
    """
    features = [_feature(item, label, color, offset) for item in items]
    return {"type": "FeatureCollection", "features": features}


def _feature(
    item: Contour | Annotation,
    label: str,
    color: tuple[int, int, int],
    offset: tuple[float, float],
) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation"}
    if isinstance(item, Contour):
        properties["name"] = f"{label} {item.tissue_id}"
        # QuPath keeps "metadata" as text.
        properties["metadata"] = {"tissue_id": str(item.tissue_id)}
        if item.area_mm2 is not None:
            properties["metadata"]["area_mm2"] = repr(item.area_mm2)
    else:
        if item.name:
            properties["name"] = item.name
        label, color = item.label or label, item.color or color
    properties["classification"] = {"name": label, "color": list(color)}
    lines = [_closed(ring, offset) for ring in item.polygon.rings]
    geometry = {"type": "Polygon", "coordinates": lines}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: Points, offset: tuple[float, float]) -> list[list[float]]:
    """Return corners with the first one repeated; whole numbers without a fraction."""
    moved = ring - np.array(offset)
    # RFC 7946 wants exteriors counterclockwise with y upwards, which is what a positive
    # area is with y downwards seen as plain numbers.
    points = [[int(v) if v == int(v) else v for v in point] for point in moved.tolist()]
    return [*points, points[0]]


def from_geojson(content: dict[str, Any] | str | bytes, *, source: str = "GeoJSON") -> Annotations:
    """Return the annotations in GeoJSON, given as text or parsed.

    Raises
    ------
    AnnotationError
        If it is none.
    """
    data = json.dumps(content) if isinstance(content, dict) else content
    found = Collected(source)
    read(data.encode() if isinstance(data, str) else data, found)
    return found.finish()


def contours_of(
    annotations: Annotations, mpp: tuple[float, float] | None = None
) -> Sequence[Contour]:
    """Return annotations as contours, numbered from 1; `mpp` of level 0 gives their areas."""
    px_mm2 = None if mpp is None else mpp[0] * mpp[1] * 1e-6
    return [
        Contour(item.polygon, index, None if px_mm2 is None else item.polygon.area * px_mm2)
        for index, item in enumerate(annotations, 1)
    ]
