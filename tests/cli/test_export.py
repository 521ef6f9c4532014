"""`wsistore export` and `wsistore features ls|verify|export|import`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.cli.exporting import label_numbers
from wsistore.engine.embedding import embed
from wsistore.errors import UsageError
from wsistore.export.feature_formats import FEATURE_FORMATS, read_features
from wsistore.export.patch_store import open_patches
from wsistore.features import FeatureCohort
from wsistore.geometry import Resolution
from wsistore.slides import open_slide
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec


@pytest.fixture(scope="module")
def made(slide_factory: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two slides, `one` and `two`, and the slides beside it."""
    folder = tmp_path_factory.mktemp("export")
    works = {}
    for name, size in (("one", (400, 300)), ("two", (300, 300))):
        source = slide_factory("jpeg_rgb_tables", size=size, mpp="0.5", magnification="20", tile=64)
        path = folder / f"{name}.svs"
        path.write_bytes(Path(source.path).read_bytes())
        works[name] = plan_tiles(open_slide(path), TileSpec(64, 64, Resolution.level(0)))
    embed(works, "colour-stats", folder / "cohort.zarr").raise_for_failures()
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", sorted(FEATURE_FORMATS.keys() - {"anndata", "spatialdata"}))
def test_every_format_of_features(kind: str, made: Path, tmp_path: Path) -> None:
    if kind == "clam":
        pytest.importorskip("torch")
    done = run("export", made / "cohort.zarr", "--format", kind.upper(), "-o", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    cohort = FeatureCohort(made / "cohort.zarr")
    for slide in told["slides"]:
        file = next(Path(f) for f in slide["files"] if not f.endswith(".pt"))
        found = read_features(file)
        assert found.plan == cohort.plan(slide["unit"])
        np.testing.assert_array_equal(
            found.features["colour-stats"][:], cohort.bag(slide["unit"], "colour-stats")
        )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("lmdb", ["--keys", "grid"]),
        ("lmdb", ["--codec", "copy"]),
        ("images", []),
        ("images", ["--codec", "jpeg", "--quality", "70"]),
        ("tar", ["--codec", "webp"]),
        ("hdf5-tiles", []),
    ],
)
def test_every_format_of_pixels(kind: str, more: list[str], made: Path, tmp_path: Path) -> None:
    done = run("export", made / "cohort.zarr", "--format", kind, "-o", tmp_path / "out", *more)
    assert done.exit_code == 0, done.output
    assert "2 slides written, 0 failed" in done.stdout
    infos = FeatureCohort(made / "cohort.zarr").infos
    with open_patches(tmp_path / "out") as store:
        assert {s: len(store.table(s)) for s in store.slides} == {
            name: info.tiles for name, info in infos.items()
        }
        assert store.patch("two", 3).pixels.shape == (64, 64, 3)


XML = """<Annotations><Annotation><Regions><Region Text="tumour"><Vertices>
<Vertex X="0" Y="0"/><Vertex X="128" Y="0"/><Vertex X="128" Y="128"/><Vertex X="0" Y="128"/>
</Vertices></Region></Regions></Annotation></Annotations>"""


def test_labels_of_annotations(made: Path, tmp_path: Path) -> None:
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "one.xml").write_text(XML)
    call = ["export", made / "cohort.zarr", "--format", "lmdb", "-o", tmp_path / "out"]
    call += ["--annotations", tmp_path / "xml", "--label", "tumour=1", "--label", "Normal=0"]
    done = run(*call)
    assert done.exit_code == 3  # two has no annotations
    assert "no annotations of two" in done.stderr
    with open_patches(tmp_path / "out") as store:
        assert store.slides == ("one",)
        assert sum(patch.label for patch in store.of_set()) == 4
        assert dict(store.label_map) == {"tumour": 1, "Normal": 0}


def test_wrong_calls(made: Path, tmp_path: Path) -> None:
    store = made / "cohort.zarr"
    for more, code, why in (
        (["--format", "excel"], 2, "no format"),
        (["--format", "parquet", "--slide", "three"], 1, "three"),
        (["--format", "lmdb", "--codec", "bmp"], 2, "no codec"),
        (["--format", "lmdb", "--annotations", tmp_path], 2, "label map"),
        (["--format", "lmdb", "--keys", "rows"], 2, "keys are"),
    ):
        done = run("export", store, "-o", tmp_path / "out", *more)
        assert done.exit_code == code, done.output
        assert why in done.stderr
    assert run("export", tmp_path / "no.zarr", "-o", tmp_path, "--format", "clam").exit_code == 1
    assert label_numbers(["a=1", "b=c=-2"]) == {"a": 1, "b=c": -2}
    for wrong in (["a"], ["a=x"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="number of a class"):
            label_numbers(wrong)


def test_ls(made: Path) -> None:
    done = run("features", "ls", made / "cohort.zarr")
    assert done.exit_code == 0
    assert "2 slides, 2 complete" in done.stdout
    told = json.loads(run("features", "ls", made / "cohort.zarr", "--json").stdout)
    assert [slide["name"] for slide in told["slides"]] == ["one", "two"]
    assert all(slide["done"] for slide in told["slides"])
    assert set(told["slides"][0]["encoders"]) == {"colour-stats"}


def test_verify_sees_features_that_were_changed(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "cohort.zarr"
    shutil.copytree(made / "cohort.zarr", store)
    done = run("features", "verify", store, "-k", 5)
    assert (done.exit_code, "10 tiles computed again, 0 differ" in done.stdout) == (0, True)
    import zarr

    array = zarr.open_array(str(store / "two" / "colour-stats"), mode="r+")
    array[:] = np.asarray(array[:]) + 1
    bad = run("features", "verify", store, "-k", 5, "--json")
    told = json.loads(bad.stdout)
    assert (bad.exit_code, told["ok"], len(told["failed"])) == (1, False, 5)
    assert {found["slide"] for found in told["failed"]} == {"two"}


def test_export_and_import_give_the_store_back(made: Path, tmp_path: Path) -> None:
    source = made / "cohort.zarr"
    for kind, pattern in (("slideprocessor", "patches/*.h5"), ("parquet", "*.parquet")):
        out, store = tmp_path / kind, tmp_path / f"{kind}.zarr"
        assert run("features", "export", source, "--format", kind, "-o", out).exit_code == 0
        files = sorted(out.glob(pattern))
        done = run("features", "import", *files, "--store", store)
        assert done.exit_code == 0, done.output
        one, two = FeatureCohort(source), FeatureCohort(store)
        assert sorted(one) == sorted(two)
        for name in one:
            assert one.plan(name) == two.plan(name)
            np.testing.assert_array_equal(one.bag(name), two.bag(name))
        assert run("features", "verify", store, "-k", 3).exit_code == 0
        again = run("features", "import", *files, "--store", store)
        assert again.exit_code == 1
        assert "Have it overwritten" in again.stderr
        assert run("features", "import", *files, "--store", store, "--overwrite").exit_code == 0


def test_import_of_a_bad_file_ends_nothing(made: Path, tmp_path: Path) -> None:
    run("export", made / "cohort.zarr", "--format", "parquet", "-o", tmp_path)
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 but no more")
    call = ["features", "import", bad, tmp_path / "one.parquet", "--store", tmp_path / "c.zarr"]
    done = run(*call, "--json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert [record["error"] is None for record in told["files"]] == [False, True]
