"""Features as Parquet, into and out of a feature store, and as AnnData where it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsistore.errors import (
    DependencyError,
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    UsageError,
)
from wsistore.export import features_anndata
from wsistore.export.feature_formats import FEATURE_FORMATS, check_format, read_features
from wsistore.export.features_anndata import (
    read_anndata,
    read_spatialdata,
    write_anndata,
    write_spatialdata,
)
from wsistore.export.features_parquet import read_features_parquet, write_features_parquet
from wsistore.export.slide_features import ROWS_AT_ONCE, SlideFeatures
from wsistore.export.store_features import import_features, stored_features
from wsistore.features import FeatureCohort
from wsistore.geometry import Resolution
from wsistore.slides import open_slide
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec


@pytest.fixture(scope="module")
def data(slide_factory: Callable[..., Any]) -> SlideFeatures:
    path = slide_factory("jpeg_rgb_tables", size=(600, 400), mpp="0.5", magnification="20").path
    plan = plan_tiles(open_slide(path), TileSpec(64, 40, Resolution.level(0)))
    plan = plan.with_columns(
        label=np.arange(len(plan)) % 3, who=np.array(["a", "ü", ""] * len(plan))[: len(plan)]
    )
    rng = np.random.default_rng(3)
    tables = {
        name: rng.standard_normal((len(plan), width)).astype(np.float32)
        for name, width in (("resnet18", 12), ("uni_v1", 5))
    }
    tables["uni_v1"][4] = np.nan
    facts = {"resnet18": {"fingerprint": "abc", "precision": "float32"}}
    return SlideFeatures(plan, tables, facts)


def same(found: SlideFeatures, data: SlideFeatures) -> None:
    assert found.plan == data.plan
    assert set(found.features) == set(data.features)
    for name, table in data.features.items():
        np.testing.assert_array_equal(found.features[name][0 : len(data.plan)], table)


def test_parquet_gives_back_what_was_stored(data: SlideFeatures, tmp_path: Path) -> None:
    path = write_features_parquet(data, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"{data.name}.parquet"]
    found = read_features_parquet(path)
    same(found, data)
    assert found.attributes["resnet18"] == data.attributes["resnet18"]
    same(read_features(path), data)
    # Other programs see columns, and vectors of a fixed length.
    table = pq.read_table(path)
    assert table.num_rows == len(data.plan)
    assert table.schema.field("resnet18").type == pa.list_(pa.float32(), 12)
    assert table["x"].to_pylist() == data.plan.x.tolist()
    frame = table.to_pandas()
    np.testing.assert_array_equal(np.stack(frame["resnet18"]), data.features["resnet18"])


def test_parquet_of_several_groups_of_rows_and_of_none(
    data: SlideFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.export.features_parquet.ROWS_AT_ONCE", 10)
    path = write_features_parquet(data, tmp_path)
    assert pq.ParquetFile(path).num_row_groups == -(-len(data.plan) // 10)
    same(read_features_parquet(path), data)
    empty = {name: table[0:0] for name, table in data.features.items()}
    none = SlideFeatures(data.plan[0:0], empty)
    same(read_features_parquet(write_features_parquet(none, tmp_path)), none)
    assert ROWS_AT_ONCE == 4096


def test_parquet_that_is_broken_or_none_of_ours(data: SlideFeatures, tmp_path: Path) -> None:
    path = write_features_parquet(data, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreCorruptError):
        read_features_parquet(path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(UsageError, match="no features"):
        read_features_parquet(path)
    with pytest.raises(SourceNotFoundError):
        read_features_parquet(tmp_path / "none.parquet")
    clash = SlideFeatures(data.plan, {"label": data.features["uni_v1"]})
    with pytest.raises(UsageError, match="both named"):
        write_features_parquet(clash, tmp_path)


def test_features_go_into_a_store_and_come_back(data: SlideFeatures, tmp_path: Path) -> None:
    store = tmp_path / "cohort.zarr"
    import_features(data, store, unit_tiles=16)
    cohort = FeatureCohort(store)
    found = stored_features(cohort, data.name)
    same(found, data)
    assert found.attributes["resnet18"]["fingerprint"] == "abc"
    assert cohort.status(data.name, "uni_v1").tolist().count(0) == len(data.plan) - 1
    assert [p.name for p in tmp_path.iterdir()] == ["cohort.zarr"]
    with pytest.raises(StoreExistsError, match="has features"):
        import_features(data, store)
    import_features(data, store, overwrite=True)
    with pytest.raises(UsageError, match="no finished features of virchow"):
        stored_features(cohort, data.name, ["virchow"])
    with pytest.raises(UsageError, match="no features"):
        import_features(SlideFeatures(data.plan, {}), store)


@pytest.mark.parametrize("kind", ["slideprocessor", "atlaspatch", "parquet", "trident", "stamp"])
def test_each_format_is_read_back_from_a_store(
    kind: str, data: SlideFeatures, tmp_path: Path
) -> None:
    import_features(data, tmp_path / "cohort.zarr")
    stored = stored_features(FeatureCohort(tmp_path / "cohort.zarr"), data.name)
    files = FEATURE_FORMATS[kind].write(stored, tmp_path / kind)
    found: dict[str, Any] = {}
    for path in files:
        read = read_features(path)
        assert read.plan == data.plan
        found |= read.features
    assert set(found) == set(data.features)
    for name, table in data.features.items():
        np.testing.assert_array_equal(found[name], table)


def test_names_of_formats() -> None:
    assert check_format("CLAM") == "clam"
    assert check_format("lmdb") == "lmdb"
    with pytest.raises(UsageError, match="no format"):
        check_format("excel")


def test_files_of_no_features(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError, match="neither"):
        read_features(tmp_path / "a.txt")
    with pytest.raises(SourceNotFoundError):
        read_features(tmp_path / "none")


def test_anndata_gives_back_what_was_stored(data: SlideFeatures, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    path = write_anndata(data, tmp_path, encoder="resnet18")
    found = read_anndata(path)
    assert found.plan == data.plan
    np.testing.assert_array_equal(found.features["resnet18"][:], data.features["resnet18"])
    made = anndata.read_h5ad(path)
    assert made.shape == (len(data.plan), 12)
    np.testing.assert_array_equal(made.obsm["spatial"][:, 0], data.plan.x + 32)
    assert made.obs_names[0] == f"{data.name}_x0_y0"


@pytest.mark.filterwarnings("ignore")  # of spatialdata's own dependencies
def test_spatialdata_is_written(data: SlideFeatures, tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata")
    path = write_spatialdata(data, tmp_path, encoder="resnet18")
    made = spatialdata.read_zarr(path)
    assert len(made.shapes["tiles"]) == len(data.plan)
    np.testing.assert_array_equal(made.tables["features"].X, data.features["resnet18"])
    found = read_features(path)
    assert found.plan == data.plan
    np.testing.assert_array_equal(found.features["resnet18"][:], data.features["resnet18"])
    spatialdata.SpatialData().write(tmp_path / "empty.zarr")
    with pytest.raises(UsageError, match="not made by wsistore"):
        read_spatialdata(tmp_path / "empty.zarr")
    with pytest.raises(SourceNotFoundError):
        read_spatialdata(tmp_path / "none.zarr")
    (path / "zarr.json").write_text("{")
    with pytest.raises(StoreCorruptError, match="SpatialData"):
        read_spatialdata(path)


def test_a_missing_package_is_named(
    data: SlideFeatures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    monkeypatch.setitem(__import__("sys").modules, "spatialdata", None)
    with pytest.raises(DependencyError, match="anndata"):
        write_anndata(data, tmp_path, encoder="resnet18")
    with pytest.raises(DependencyError, match="spatialdata"):
        write_spatialdata(data, tmp_path, encoder="resnet18")
    assert features_anndata.UNS == "wsistore"
