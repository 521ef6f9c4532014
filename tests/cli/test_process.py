"""`wsistore process` and `wsistore embed`: from slides to features, again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.cli.encoder_options import choose, split_names
from wsistore.encoders import load_encoder
from wsistore.errors import UsageError
from wsistore.export import read_plan
from wsistore.features import FeatureCohort
from wsistore.slides import open_slide
from wsistore.tiles.batch import read_tiles

RUN = "20x_64px_0px_overlap"


@pytest.fixture
def slides(slide_factory: Callable[..., Any], tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name, size in (("one", (400, 300)), ("two", (320, 260))):
        made = slide_factory("jpeg_rgb_tables", size=size, mpp="0.5", magnification="20")
        (folder / f"{name}.svs").write_bytes(Path(made.path).read_bytes())
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(slides: Path, out: Path, *more: object, encoder: str = "colour-stats") -> Any:
    return run(
        "process", slides, "--patch-size", 64, "--target-mag", 20, "--device", "cpu", "-o", out,
        "--feature-extractors", encoder, "--no-contact-sheet", *more,
    )  # fmt: skip


def test_two_slides_end_to_end(slides: Path, tmp_path: Path) -> None:
    done = process(slides, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "2 completed, 0 failed" in done.output
    folder = tmp_path / "out" / RUN
    cohort = FeatureCohort(folder / "features.zarr")
    assert sorted(cohort) == ["one", "two"]
    encoder = load_encoder("colour-stats")
    for name in cohort:
        path = folder / "patches" / f"{name}.h5"
        plan = read_plan(path)
        assert len(plan) > 5
        slide = open_slide(slides / f"{name}.svs")
        pixels = read_tiles(plan.requests(slide), plan.size, plan.resolution, layout="nchw")
        # A hand-written loop: tile by tile, with the same model.
        wanted = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(len(plan))])
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["features/colour-stats"][:], wanted)
            assert file["features/colour-stats"].attrs["fingerprint"] == encoder.fingerprint
            (told,) = json.loads(file.attrs["feature_sets"])
            assert told == {
                "name": "colour-stats",
                "embedding_dim": encoder.dim,
                "dataset": "features/colour-stats",
            }
        np.testing.assert_array_equal(cohort.bag(name), wanted)


def test_what_is_finished_is_left_alone(slides: Path, tmp_path: Path) -> None:
    process(slides, tmp_path / "out")
    path = tmp_path / "out" / RUN / "patches" / "one.h5"
    before = path.read_bytes(), path.stat().st_mtime_ns
    again = process(slides, tmp_path / "out", "--json")
    told = json.loads(again.stdout)
    assert [slide["status"] for slide in told["slides"]] == ["skipped", "skipped"]
    assert told["counters"]["tiles"] == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    forced = json.loads(process(slides, tmp_path / "out", "--force", "--json").stdout)
    assert forced["counters"]["tiles"] == sum(slide["tiles"] for slide in told["slides"])


def test_a_further_encoder_costs_only_itself(slides: Path, tmp_path: Path) -> None:
    process(slides, tmp_path / "out")
    path = tmp_path / "out" / RUN / "patches" / "one.h5"
    with h5py.File(path) as file:
        first = file["features/colour-stats"][:]
    more = process(slides, tmp_path / "out", "--json", encoder="Colour-Stats null")
    told = json.loads(more.stdout)
    assert told["exit_code"] == 0
    assert {encoder["name"] for encoder in told["encoders"]} == {"colour-stats", "null"}
    with h5py.File(path) as file:
        assert set(file["features"]) == {"colour-stats", "null"}
        np.testing.assert_array_equal(file["features/colour-stats"][:], first)


def test_features_lost_from_a_file_are_written_again_from_the_store(
    slides: Path, tmp_path: Path
) -> None:
    process(slides, tmp_path / "out")
    path = tmp_path / "out" / RUN / "patches" / "one.h5"
    with h5py.File(path, "a") as file:
        wanted = file["features/colour-stats"][:]
        del file["features/colour-stats"]
    told = json.loads(process(slides, tmp_path / "out", "--json").stdout)
    assert told["counters"]["tiles"] == 0
    assert [slide["status"] for slide in told["slides"]] == ["done", "skipped"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features/colour-stats"][:], wanted)


def test_features_of_other_weights_are_replaced(slides: Path, tmp_path: Path) -> None:
    process(slides, tmp_path / "out")
    path = tmp_path / "out" / RUN / "patches" / "one.h5"
    with h5py.File(path, "a") as file:
        dataset = file["features/colour-stats"]
        wanted = dataset[:]
        dataset[:] = 0
        dataset.attrs["fingerprint"] = "that of older weights"
    told = json.loads(process(slides, tmp_path / "out", "--json").stdout)
    assert [slide["status"] for slide in told["slides"]] == ["done", "skipped"]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features/colour-stats"][:], wanted)


def test_bad_slides_end_nothing(slides: Path, tmp_path: Path) -> None:
    (slides / "bad.svs").write_bytes(b"no slide at all")
    done = process(slides, tmp_path / "out", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == told["exit_code"] == 3
    by_name = {slide["name"]: slide for slide in told["slides"]}
    assert [by_name[name]["status"] for name in ("bad", "one", "two")] == [
        "failed", "done", "done",
    ]  # fmt: skip
    assert by_name["bad"]["stage"] == "plan"
    assert by_name["bad"]["error"]["code"] == "WSI301"
    assert "error WSI301" in done.stderr
    for good in ("one", "two"):
        (slides / f"{good}.svs").unlink()
    assert process(slides, tmp_path / "out2").exit_code == 1


def test_exports_and_a_store_elsewhere(slides: Path, tmp_path: Path) -> None:
    store = tmp_path / "cohort.zarr"
    more = ["--store", store, "--layout", "atlaspatch"]
    for kind in ("parquet", "trident", "lmdb", "images", "tar", "hdf5-tiles"):
        more += ["--export", kind]
    done = process(slides, tmp_path / "out", *more)
    assert done.exit_code == 0, done.output
    exports = tmp_path / "out" / RUN / "exports"
    assert sorted(p.name for p in (exports / "parquet").iterdir()) == ["one.parquet", "two.parquet"]
    assert (exports / "trident" / "features_colour-stats" / "one.h5").is_file()
    from wsistore.export.patch_store import open_patches

    total = sum(info.tiles for info in FeatureCohort(store).infos.values())
    for kind in ("lmdb", "images", "tar", "hdf5-tiles"):
        with open_patches(exports / kind) as patches:
            assert len(patches) == total
    with h5py.File(tmp_path / "out" / RUN / "patches" / "one.h5") as file:
        assert file["coords"].shape[1] == 5
        assert "features/colour-stats" in file
    again = json.loads(process(slides, tmp_path / "out", *more, "--json").stdout)
    assert {slide["status"] for slide in again["slides"]} == {"skipped"}


def test_an_export_that_fails_fails_its_slide_alone(slides: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "out" / RUN / "exports" / "parquet" / "one.parquet"
    blocked.mkdir(parents=True)
    (blocked / "taken").touch()
    told = json.loads(
        process(slides, tmp_path / "out", "--export", "parquet", "--force", "--json").stdout
    )
    assert told["exit_code"] == 3
    by_name = {slide["name"]: slide for slide in told["slides"]}
    assert (by_name["one"]["status"], by_name["one"]["stage"]) == ("failed", "export")
    assert by_name["two"]["status"] == "done"


@pytest.mark.parametrize(
    ("more", "encoder", "why"),
    [
        ([], "colour-stats,colour-stats", "named twice"),
        ([], "resnet19", "resnet18"),
        ([], ", ", "no encoder"),
        (["--export", "excel"], "colour-stats", "no format"),
        (["--layout", "clam"], "colour-stats", "hold no features"),
        (["--feature-precision", "int8"], "colour-stats", "precision"),
        (["--device", "tpu"], "colour-stats", "device"),
        (["--scheduler", "magic"], "colour-stats", "scheduler"),
    ],
)
def test_wrong_calls_are_told_before_anything_is_done(
    more: list[str], encoder: str, why: str, slides: Path, tmp_path: Path
) -> None:
    done = process(slides, tmp_path / "out", *more, encoder=encoder)
    assert done.exit_code == 2, done.output
    assert why in done.stderr
    assert not list(tmp_path.glob("out/*/features.zarr"))


PLUGIN = """
import numpy as np
from wsistore.encoders import encoder_from_callable, register_custom_encoder

def register_feature_extractors(registry, device, dtype, num_workers):
    def load(device, dtype):
        return encoder_from_callable(
            lambda tiles: np.asarray(tiles, np.float32).mean(axis=(2, 3)),
            name="mean_of_mine",
            dim=3,
            version="1",
        )
    register_custom_encoder(registry, "mean_of_mine", 3, load, device, dtype, num_workers)
"""


@pytest.mark.usefixtures("own_encoders")
def test_a_plug_in_is_run(slides: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    more = ["--feature-plugin", plugin, "--json"]
    done = process(slides, tmp_path / "out", *more, encoder="mean_of_mine colour-stats")
    assert done.exit_code == 0, done.output
    cohort = FeatureCohort(tmp_path / "out" / RUN / "features.zarr")
    found = cohort.bag("one", "mean_of_mine")
    assert found.shape == (cohort.infos["one"].tiles, 3)
    assert ((found > 0) & (found < 255)).all()


def test_names_are_split_and_looked_up() -> None:
    assert split_names(["ResNet18,uni_v1  null", "vit_b_16"]) == [
        "resnet18", "uni_v1", "null", "vit_b_16",
    ]  # fmt: skip
    assert choose(["NULL", "colour_stats"]).names == ("null", "colour-stats")
    with pytest.raises(UsageError, match="named twice"):
        choose(["colour-stats", "colour_stats"])


def test_embed_of_plans(slides: Path, tmp_path: Path) -> None:
    made = run(
        "segment-and-get-coords", slides, "--patch-size", 64, "--target-mag", 20,
        "--device", "cpu", "-o", tmp_path / "plans", "--no-contact-sheet",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    plans = sorted((tmp_path / "plans" / RUN / "patches").glob("*.h5"))
    moved = tmp_path / "moved"
    slides.rename(moved)
    call = ["embed", *plans, "--encoder", "colour-stats", "--store", tmp_path / "c.zarr"]
    call += ["--device", "cpu"]
    lost = run(*call)
    assert lost.exit_code == 1
    done = run(*call, "--slides", moved, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [slide["status"] for slide in told["slides"]] == ["done", "done"]
    assert sorted(FeatureCohort(tmp_path / "c.zarr")) == ["one", "two"]
    assert json.loads(run(*call, "--slides", moved, "--json").stdout)["counters"]["tiles"] == 0


def test_ctrl_c_is_exit_code_130(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsistore.engine.processing.embed", interrupt)
    assert process(slides, tmp_path / "out").exit_code == 130
    monkeypatch.undo()
    assert process(slides, tmp_path / "out").exit_code == 0


def test_verbose_tells_a_line_a_slide(slides: Path, tmp_path: Path) -> None:
    done = process(slides, tmp_path / "out", "--verbose")
    assert done.exit_code == 0
    assert done.stderr.count("[OK]") == 4  # a plan and features, of two slides


@pytest.mark.slow
def test_other_schedulers_write_the_same_features(slides: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    assert process(slides, tmp_path / "threads").exit_code == 0
    near = FeatureCohort(tmp_path / "threads" / RUN / "features.zarr")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        for number, scheduler in enumerate(("processes", cluster.scheduler_address)):
            out = tmp_path / str(number)
            done = process(slides, out, "--scheduler", scheduler, "--workers", 2, "--json")
            assert done.exit_code == 0, done.output
            assert json.loads(done.stdout)["counters"]["bytes_sent"] > 0
            cohort = FeatureCohort(out / RUN / "features.zarr")
            for name in near:
                assert cohort[name].equals(near[name])
