"""GeoJSON of plans, property by property as QuPath reads it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export import read_plan, write_plan
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

MakePlan = Callable[..., TilePlan]


def features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["features"]
    return found


def test_every_property_is_one_that_qupath_reads(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    plan = plan.with_columns(
        score=np.linspace(0, 1, len(plan)), chosen=plan.row % 2 == 0, label=["x"] * len(plan)
    )
    collection = json.loads(write_plan(plan, tmp_path / "p.geojson").read_text())
    assert set(collection) == {"type", "wsistore", "features"}
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == len(plan)
    for row, feature in enumerate(collection["features"]):
        assert set(feature) == {"type", "id", "geometry", "properties"}
        assert feature["type"] == "Feature"
        uuid.UUID(feature["id"])
        x, y = int(plan.x[row]), int(plan.y[row])
        assert feature["geometry"] == {
            "type": "Polygon",
            "coordinates": [[[x, y], [x + 256, y], [x + 256, y + 256], [x, y + 256], [x, y]]],
        }
        properties = feature["properties"]
        assert set(properties) == {
            "objectType", "isLocked", "name", "measurements", "classification",
        }  # fmt: skip
        assert properties["objectType"] == "detection"
        assert properties["isLocked"] is True
        assert properties["name"] == f"{plan.column[row]},{plan.row[row]}"
        assert properties["classification"] == {"name": "Tile", "color": [0, 114, 178]}
        assert properties["measurements"] == {
            "tissue_ratio": pytest.approx(plan.tissue_ratio[row]),
            "valid_fraction": 1.0,
            "score": plan.extras["score"][row],
            "chosen": int(plan.extras["chosen"][row]),
        }


def test_ids_are_unique_and_the_same_in_every_file(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan()
    ids = [
        [feature["id"] for feature in features(write_plan(plan, tmp_path / f"{n}.geojson"))]
        for n in range(2)
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(plan)


def test_unknown_and_infinite_numbers_are_no_measurements(
    make_plan: MakePlan, tmp_path: Path
) -> None:
    plan = make_plan()
    values = np.full(len(plan), np.nan)
    values[1:3] = np.inf, 2.0
    path = write_plan(plan.with_columns(score=values), tmp_path / "p.geojson")
    told = [feature["properties"]["measurements"].get("score") for feature in features(path)]
    assert told[:4] == [None, None, 2.0, None]
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()


def test_annotations_classes_and_offset(make_plan: MakePlan, slide: Slide, tmp_path: Path) -> None:
    plan = make_plan()
    labels = np.array(["Tumour" if x < 600 else "" for x in plan.x])
    plan = plan.with_columns(label=labels)
    path = write_plan(
        plan, tmp_path / "p.geojson", object_type="annotation", class_column="label",
        color=(200, 0, 0), bounds_offset=(100, 50), locked=False,
    )  # fmt: skip
    for row, feature in enumerate(features(path)):
        corner = feature["geometry"]["coordinates"][0][0]
        assert corner == [plan.x[row] - 100, plan.y[row] - 50]
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["isLocked"] is False
        expected = {"name": "Tumour", "color": [200, 0, 0]} if labels[row] else None
        assert properties.get("classification") == expected
    assert read_plan(path, slide) == plan


def test_what_qupath_writes_anew_is_read_with_a_spec(
    make_plan: MakePlan, slide: Slide, tmp_path: Path
) -> None:
    plan = make_plan()
    path = write_plan(plan, tmp_path / "p.geojson", bounds_offset=(100, 50))
    collection = json.loads(path.read_text())
    del collection["wsistore"]
    del collection["features"][0]
    path.write_text(json.dumps(collection))
    with pytest.raises(UsageError, match="doesn't say how"):
        read_plan(path, slide)
    found = read_plan(path, slide, spec=plan.spec, bounds_offset=(100, 50))
    assert np.array_equal(found.boxes, plan.boxes[1:])


def test_a_tile_that_was_moved_or_deleted_is_told(make_plan: MakePlan, tmp_path: Path) -> None:
    path = write_plan(make_plan(), tmp_path / "p.geojson")
    collection = json.loads(path.read_text())
    for point in collection["features"][0]["geometry"]["coordinates"][0]:
        point[0] += 5
    path.write_text(json.dumps(collection))
    with pytest.raises(StoreCorruptError, match="was changed"):
        read_plan(path)
    del collection["features"][0]
    path.write_text(json.dumps(collection))
    with pytest.raises(StoreCorruptError):
        read_plan(path)


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [[[0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0.5, 0], [2, 0], [2, 2]]]},
        {"type": "Polygon", "coordinates": [[["a", 0]]]},
        None,
    ],
)
def test_what_is_no_tile_is_told(geometry: Any, slide: Slide, tmp_path: Path) -> None:
    path = tmp_path / "p.geojson"
    feature = {"type": "Feature", "geometry": geometry, "properties": {}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(StoreCorruptError, match="feature 0"):
        read_plan(path, slide)


@pytest.mark.parametrize(
    "options",
    [
        {"object_type": "cell"},
        {"color": (1, 2)},
        {"color": (1, 2, 300)},
        {"bounds_offset": (1,)},
        {"class_column": "absent"},
    ],
)
def test_values_that_make_no_sense(
    options: dict[str, Any], make_plan: MakePlan, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        write_plan(make_plan(), tmp_path / "p.geojson", **options)
    assert list(tmp_path.iterdir()) == []
