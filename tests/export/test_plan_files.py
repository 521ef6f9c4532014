"""Plan files: each gives its plan back, is told by its content, and is whole or not there."""

from __future__ import annotations

import builtins
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsistore.durable import atomic
from wsistore.errors import (
    DependencyError,
    SourceNotFoundError,
    StoreCorruptError,
    StoreWriteError,
    UsageError,
)
from wsistore.export import PLAN_FORMATS, read_plan, sniff_format, write_plan
from wsistore.export.parquet_files import read_all_parquet
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.spec import TileSpec

NAMES = sorted(PLAN_FORMATS)
H5 = ("slideprocessor", "atlaspatch", "clam", "trident")


def place(folder: Path, name: str) -> Path:
    return folder / f"plan{PLAN_FORMATS[name].extension}"


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_gives_the_plan_back(
    name: str, data: st.DataObject, any_plan: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan: TilePlan = data.draw(any_plan)
    path = write_plan(plan, place(tmp_path_factory.mktemp("plan"), name), name)
    assert sniff_format(path).name == name
    found = read_plan(path)
    assert found == plan
    assert found.plan_id == plan.plan_id
    for column, values in plan.columns.items():
        assert found.columns[column].dtype == values.dtype, column


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_a_slide_comes_back_with_its_slide(
    name: str, make_plan: Callable[..., TilePlan], slide: Slide, tmp_path: Path
) -> None:
    plan = make_plan()
    assert len(plan) > 10
    path = write_plan(plan, tmp_path / "deep" / "er" / f"p{PLAN_FORMATS[name].extension}", name)
    assert read_plan(path, slide) == plan


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_of_another_slide_is_refused(
    name: str,
    make_plan: Callable[..., TilePlan],
    aperio: Callable[..., Any],
    tmp_path: Path,
) -> None:
    import wsistore

    path = write_plan(make_plan(), place(tmp_path, name), name)
    with (
        wsistore.open_slide(aperio(seed=7).path) as other,
        pytest.raises(UsageError, match=r"not the slide of this plan|holds 0 plans"),
    ):
        read_plan(path, other)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "parquet"])
def test_a_full_disk_leaves_the_former_file(
    name: str, make_plan: Callable[..., TilePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_plan(make_plan(), place(tmp_path, name), name)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "write", full)
    monkeypatch.setattr(atomic.os, "writev", full)
    with pytest.raises(StoreWriteError, match="No space left"):
        write_plan(make_plan(64), path, name)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_table_whose_writing_failed_is_not_taken_for_the_new_plan(
    make_plan: Callable[..., TilePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The JSON beside it is written first: the former table no longer fits it."""
    path = write_plan(make_plan(), tmp_path / "p.csv")
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "writev", full)  # what pieces are written with
    with pytest.raises(StoreWriteError):
        write_plan(make_plan(64), path)
    assert path.read_bytes() == before
    with pytest.raises(StoreCorruptError):
        read_plan(path)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "parquet"])
@pytest.mark.parametrize("keep", [0.97, 0.5, 0.02])
def test_a_file_cut_short_is_told(
    name: str, keep: float, make_plan: Callable[..., TilePlan], tmp_path: Path
) -> None:
    path = write_plan(make_plan(), place(tmp_path, name), name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(StoreCorruptError):
        read_plan(path, format=name)


@pytest.mark.parametrize(
    ("name", "module"),
    [*[(name, "h5py") for name in H5], ("parquet", "pyarrow")],
)
def test_a_missing_package_is_named_with_its_extra(
    name: str,
    module: str,
    make_plan: Callable[..., TilePlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib

    def fail(wanted: str, *rest: Any) -> Any:
        if wanted.split(".", maxsplit=1)[0] == module:
            raise ImportError(wanted)
        return original(wanted, *rest)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(DependencyError, match=module) as caught:
        write_plan(make_plan(), place(tmp_path, name), name)
    assert "wsistore[export]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_importing_the_room_needs_neither_h5py_nor_pyarrow() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import wsistore.export, wsistore.cli.app; "
        "print([m for m in ('h5py', 'pyarrow', 'pandas', 'torch', 'dask') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# CSV


def test_csv_is_a_table_that_anyone_reads(
    make_plan: Callable[..., TilePlan], tmp_path: Path
) -> None:
    plan = make_plan()
    plan = plan.with_columns(label=np.array(['a, "b"\n'] * len(plan)), ok=plan.x % 256 == 0)
    path = write_plan(plan, tmp_path / "p.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "slide", "x", "y", "column", "row", "level", "read_width", "read_height", "tissue_ratio",
        "contour", "valid_fraction", "label", "ok", "width", "height", "resolution",
    ]  # fmt: skip
    first = rows[0]
    assert (first["x"], first["y"]) == (str(plan.x[0]), str(plan.y[0]))
    assert (first["width"], first["height"], first["resolution"]) == ("256", "256", "20x")
    assert first["label"] == 'a, "b"\n'
    assert first["ok"] in ("true", "false")
    assert np.float32(first["tissue_ratio"]) == plan.tissue_ratio[0]
    beside = json.loads((tmp_path / "p.csv.json").read_text())
    assert beside["plan_id"] == plan.plan_id
    assert beside["provenance"] == json.loads(json.dumps(plan.provenance))


def test_csv_without_its_json_needs_slide_and_spec(
    make_plan: Callable[..., TilePlan], slide: Slide, tmp_path: Path
) -> None:
    plan = make_plan()
    path = write_plan(plan, tmp_path / "p.csv")
    (tmp_path / "p.csv.json").unlink()
    with pytest.raises(UsageError, match=r"p\.csv\.json"):
        read_plan(path, slide)
    found = read_plan(path, slide, spec=plan.spec)
    assert np.array_equal(found.boxes, plan.boxes)
    assert found.geometry == plan.geometry
    assert found.slide == plan.slide


def test_a_foreign_table_of_places_becomes_a_plan(slide: Slide, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("x,y,note\n512,256,b\n0,0,a\n512,256,again\n2200,0,over the edge\n")
    plan = read_plan(path, slide, spec=TileSpec(128, None, "20x"))
    assert plan.boxes[:, :2].tolist() == [[0, 0], [2200, 0], [512, 256]]
    assert plan.extras["source_row"].tolist() == [1, 3, 0]
    assert plan.valid_fraction.tolist() == pytest.approx([1, 100 / 256, 1])
    assert plan.spec.edge == "pad"


def test_a_changed_table_is_told(make_plan: Callable[..., TilePlan], tmp_path: Path) -> None:
    path = write_plan(make_plan(), tmp_path / "p.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], *lines[4:]]))
    with pytest.raises(StoreCorruptError, match="was changed after it was written"):
        read_plan(path)


# JSON


def test_json_says_what_the_plan_is(make_plan: Callable[..., TilePlan], tmp_path: Path) -> None:
    plan = make_plan()
    path = write_plan(plan, tmp_path / "p.json", indent=2)
    found = json.loads(path.read_text())
    assert found["format"] == "wsistore-plan"
    assert found["version"] == 1
    assert found["tiles"] == len(plan)
    assert found["columns"]["x"] == plan.x.tolist()
    assert found["provenance"]["coordinates"] == "top-left corners in level-0 px"
    assert path.read_text().startswith("{\n  ")


def test_json_of_a_newer_version_is_refused(
    make_plan: Callable[..., TilePlan], tmp_path: Path
) -> None:
    path = write_plan(make_plan(), tmp_path / "p.json")
    path.write_text(path.read_text().replace('"version":1', '"version":2'))
    with pytest.raises(UsageError, match="version 2"):
        read_plan(path)


# Parquet


def test_parquet_holds_two_tables_joined_by_a_hash(
    make_plan: Callable[..., TilePlan], tmp_path: Path
) -> None:
    dataset = pytest.importorskip("pyarrow.dataset")
    plans = [make_plan(), make_plan(64, "10x")]
    for plan in plans:
        write_plan(plan, tmp_path / "plans", "parquet")
    slides = dataset.dataset(tmp_path / "plans" / "slides").to_table().to_pylist()
    tiles = dataset.dataset(tmp_path / "plans" / "tiles").to_table()
    assert len(slides) == 2
    assert tiles.num_rows == sum(map(len, plans))
    assert tiles.column_names[:3] == ["slide_id", "x", "y"]
    by_id = {row["id"]: row for row in slides}
    assert set(tiles["slide_id"].to_pylist()) == set(by_id)
    row = next(row for row in slides if row["plan_id"] == plans[0].plan_id)
    assert len(row["id"]) == 64
    assert (row["extent_x"], row["extent_y"]) == (2300, 1700)
    assert (row["tile_extent_x"], row["stride_y"], row["level"]) == (128, 128, 0)
    assert (row["mpp_x"], row["downsample"]) == (0.5, 2.0)
    found = read_all_parquet(tmp_path / "plans")
    assert {plan.plan_id for plan in found} == {plan.plan_id for plan in plans}
    with pytest.raises(UsageError, match="holds 2 plans"):
        read_plan(tmp_path / "plans")


def test_writing_a_plan_again_adds_nothing(
    make_plan: Callable[..., TilePlan], tmp_path: Path
) -> None:
    for _ in range(2):
        write_plan(make_plan(), tmp_path / "plans", "parquet")
    assert len(list((tmp_path / "plans").rglob("*.parquet"))) == 2


def test_a_broken_parquet_table_is_told(make_plan: Callable[..., TilePlan], tmp_path: Path) -> None:
    write_plan(make_plan(), tmp_path / "plans", "parquet")
    file = next((tmp_path / "plans" / "tiles").iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StoreCorruptError, match="can't be read as Parquet"):
        read_plan(tmp_path / "plans")


# Choosing


def test_extensions_choose_a_format(make_plan: Callable[..., TilePlan], tmp_path: Path) -> None:
    plan = make_plan()
    for name, format_name in (
        ("a.csv", "csv"), ("a.json", "json"), ("a.geojson", "geojson"),
        ("a.h5", "slideprocessor"), ("a.hdf5", "slideprocessor"), ("folder", "parquet"),
    ):  # fmt: skip
        assert sniff_format(write_plan(plan, tmp_path / name)).name == format_name


def test_wrong_names_are_told(make_plan: Callable[..., TilePlan], tmp_path: Path) -> None:
    plan = make_plan()
    with pytest.raises(UsageError, match="'xlsx'"):
        write_plan(plan, tmp_path / "a", "xlsx")
    with pytest.raises(UsageError, match=r"'\.xls'"):
        write_plan(plan, tmp_path / "a.xls")
    with pytest.raises(UsageError, match="no option colour"):
        write_plan(plan, tmp_path / "a.csv", colour="red")
    with pytest.raises(SourceNotFoundError):
        read_plan(tmp_path / "absent.csv")
    (tmp_path / "x.bin").write_bytes(b"\0\1\2")
    with pytest.raises(UsageError, match="no plan that is known"):
        read_plan(tmp_path / "x.bin")
    assert not (tmp_path / "a").exists()


def test_the_builtin_open_is_not_needed_for_writing(
    make_plan: Callable[..., TilePlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 files are made in memory: h5py never opens one on the disk for writing."""
    h5py = pytest.importorskip("h5py")
    opened = []
    original = h5py.File

    def spy(name: Any, mode: str = "r", **options: Any) -> Any:
        opened.append((name, mode, options.get("driver"), options.get("backing_store")))
        return original(name, mode, **options)

    monkeypatch.setattr(h5py, "File", spy)
    for name in H5:
        write_plan(make_plan(), tmp_path / f"{name}.h5", name)
    assert [entry[1:] for entry in opened] == [("w", "core", False)] * 4
    assert builtins.open is open
