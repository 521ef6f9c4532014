"""Plans as GeoJSON that QuPath imports: a rectangle a tile.

QuPath reads a FeatureCollection whose features have an ``id`` (UUID) and the properties
``objectType`` (``detection``, ``annotation`` or ``tile``), ``classification`` (``name``,
``color``), ``name``, ``isLocked`` and ``measurements`` (name to number; NaN is no JSON, so
what is unknown is left out). Positions are px of the full-resolution image *as QuPath shows
it*: where it crops a slide to its bounds, these have to be taken off.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.documents import FORMAT, as_json, plan_document, plan_from_document
from wsistore.export.foreign import positions_plan
from wsistore.export.json_files import dump, load
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.spec import TileSpec

EXTENSIONS = (".geojson",)
MEMBER = "wsistore"
"""Foreign member of the collection that gives the plan back; QuPath ignores it."""

OBJECT_TYPES = ("detection", "annotation", "tile")
_ROWS_AT_ONCE = 5000
_IDS = uuid.UUID("6a2f2b7e-3c55-4a1e-9d0c-2f0f6f7c4e11")
"""Namespace of the ids of tiles: a tile of a plan has the same id in every file."""

_MEASURED = ("tissue_ratio", "valid_fraction")


def write_geojson(
    plan: TilePlan,
    path: Path,
    *,
    object_type: str = "detection",
    classification: str = "Tile",
    class_column: str | None = None,
    color: Sequence[int] = (0, 114, 178),
    bounds_offset: Sequence[int] = (0, 0),
    locked: bool = True,
) -> None:
    """Write a plan as GeoJSON for QuPath.

    Parameters
    ----------
    plan : TilePlan
        Any plan.
    path : Path
        The file; its folder must exist.
    object_type : {"detection", "annotation", "tile"}
        What tiles become in QuPath. Detections are drawn fast in any number; annotations
        can be edited.
    classification : str
        Class of all tiles; an empty text leaves them without one.
    class_column : str, optional
        Further column whose texts are the classes instead; empty texts mean none.
    color : (r, g, b)
        Of the class.
    bounds_offset : (x, y)
        Level-0 px that are taken off: the left top corner of what QuPath shows, where that
        is not the slide's own (``openslide.bounds-x``, ``-y``).
    locked : bool
        Whether QuPath keeps tiles from being moved by hand.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """
    if object_type not in OBJECT_TYPES:
        raise UsageError(f"object_type is one of {', '.join(OBJECT_TYPES)}, got {object_type!r}")
    rgb = [int(value) for value in color]
    if len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb):
        raise UsageError(f"color is (r, g, b) from 0 to 255, got {color!r}")
    offset = [int(value) for value in bounds_offset]
    if len(offset) != 2:
        raise UsageError(f"bounds_offset is (x, y) in level-0 px, got {bounds_offset!r}")
    classes = _classes(plan, classification, class_column)
    common = {"objectType": object_type, "isLocked": locked}
    atomic_write(path, _pieces(plan, common, classes, rgb, offset))


def _classes(plan: TilePlan, name: str, column: str | None) -> list[str]:
    if column is None:
        return [name] * len(plan)
    values = plan.extras.get(column)
    if values is None:
        raise UsageError(
            f"the plan has no further column {column!r}",
            hint=f"It has {', '.join(plan.extras) or 'none'}.",
        )
    return [str(value) for value in values.tolist()]


def _pieces(
    plan: TilePlan, common: dict[str, Any], classes: list[str], rgb: list[int], offset: list[int]
) -> Iterator[bytes]:
    others = {name: as_json(v) for name, v in plan.columns.items() if name not in ("x", "y")}
    own = {**plan_document(plan), "bounds_offset": offset, "columns": others}
    yield b'{"type":"FeatureCollection","' + MEMBER.encode() + b'":' + dump(own)
    yield b',"features":['
    measured = {
        name: values
        for name, values in plan.columns.items()
        if name in _MEASURED or (name in plan.extras and values.dtype.kind in "biuf")
    }
    width, height = plan.size_level0
    for run in plan.split(_ROWS_AT_ONCE):
        numbers = {name: as_json(_plain(values[run])) for name, values in measured.items()}
        left, top = (plan.x[run] - offset[0]).tolist(), (plan.y[run] - offset[1]).tolist()
        features = []
        for at, (x, y) in enumerate(zip(left, top, strict=True)):
            row = run.start + at
            properties = {
                **common,
                "name": f"{plan.column[row]},{plan.row[row]}",
                "measurements": {
                    name: column[at]
                    for name, column in numbers.items()
                    if isinstance(column[at], (int, float))  # neither unknown nor infinite
                },
            }
            if classes[row]:
                properties["classification"] = {"name": classes[row], "color": rgb}
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(_IDS, f"{plan.plan_id}/{plan.x[row]}/{plan.y[row]}")),
                    "geometry": _rectangle(x, y, width, height),
                    "properties": properties,
                }
            )
        yield (b"," if run.start else b"") + dump(features)[1:-1]
    yield b"]}"


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return bools as 0 and 1: QuPath's measurements are numbers."""
    return values.astype(np.int8) if values.dtype.kind == "b" else values


def _rectangle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """Return a closed ring, counterclockwise where y goes up as RFC 7946 has it."""
    right, bottom = x + width, y + height
    ring = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


def read_geojson(
    path: Path,
    slide: Slide | None = None,
    *,
    spec: TileSpec | None = None,
    bounds_offset: Sequence[int] = (0, 0),
) -> TilePlan:
    """Read a plan that `write_geojson` wrote, or rectangles that QuPath exported.

    Parameters
    ----------
    path : Path
        The file.
    slide : Slide, optional
        Needed, with `spec`, for a file that QuPath has written anew: it keeps the
        rectangles, and drops the plan.
    spec : TileSpec, optional
        Size and resolution of the tiles.
    bounds_offset : (x, y)
        Level-0 px that were taken off, where the file itself does not say.
    """
    collection = load(path)
    features = collection.get("features") if isinstance(collection, dict) else collection
    if not isinstance(features, list):
        raise UsageError(f"{path} is JSON, but no FeatureCollection")
    own = collection.get(MEMBER) if isinstance(collection, dict) else None
    told = own if isinstance(own, dict) and own.get("format") == FORMAT else None
    offset = bounds_offset if told is None else told.get("bounds_offset", (0, 0))
    corners = _corners(features, path) + np.array([int(value) for value in offset], np.int64)
    if told is not None and spec is None:
        columns = {**told.get("columns", {}), "x": corners[:, 0], "y": corners[:, 1]}
        return plan_from_document(told, columns, str(path))
    if slide is None or spec is None:
        raise UsageError(
            f"{path} doesn't say how its tiles are read",
            hint="Name slide=... and spec=TileSpec(...).",
        )
    return positions_plan(corners[:, 0], corners[:, 1], slide, spec)


def _corners(features: list[Any], path: Path) -> NDArray[np.int64]:
    """Return the left top corner of each feature's polygon, (n, 2)."""
    found = np.empty((len(features), 2), np.int64)
    for number, feature in enumerate(features):
        try:
            kind = feature["geometry"]["type"]
            corner = np.array(feature["geometry"]["coordinates"][0], np.float64).min(axis=0)
            found[number] = corner
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StoreCorruptError(f"feature {number} of {path} is no tile: {error}") from error
        if kind != "Polygon" or not np.array_equal(found[number], corner):
            raise StoreCorruptError(
                f"feature {number} of {path} is no tile: a {kind} with its corner at "
                f"{corner.tolist()}, expected a Polygon at whole px"
            )
    return found


def sniff_geojson(path: Path, head: bytes) -> bool:
    """Return whether a file starts as a FeatureCollection, or a list of features."""
    del path
    return head.lstrip()[:1] in (b"{", b"[") and (b'"Feature' in head)
