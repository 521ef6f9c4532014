"""Runs that segment and plan: what is written, resumed, shared and refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsistore.durable import FileLock
from wsistore.durable.atomic import temporary_name
from wsistore.engine.planning import PlanningOptions, PlanningReport, plan_slides, run_folder
from wsistore.errors import UsageError
from wsistore.export import read_plan
from wsistore.slides import open_slide
from wsistore.testing import SyntheticSlide
from wsistore.tiles.filters import BlackFilter, WhiteFilter
from wsistore.tiles.spec import TileSpec

pytest.importorskip("h5py")

SPEC = TileSpec(128, None, "10x")


def two_pieces(thumbnail: np.ndarray) -> np.ndarray:
    """Two pieces that share lattice cells at their border, the right one at the edge."""
    height, width = thumbnail.shape[:2]
    mask = np.zeros((height, width), np.bool_)
    mask[: height // 2, : width // 2 - 1] = True
    mask[height // 4 :, width // 2 + 1 :] = True
    return mask


def options(**changes: Any) -> PlanningOptions:
    told = {"spec": SPEC, "method": two_pieces, "workers": 2, "contact_sheet": False}
    return PlanningOptions(**{**told, **changes})


@pytest.fixture(scope="module")
def source(aperio: Callable[..., SyntheticSlide]) -> SyntheticSlide:
    return aperio(size=(1500, 1100), levels=(1, 4), seed=11)


@pytest.fixture
def slides(source: SyntheticSlide, tmp_path: Path) -> list[str]:
    """Three slides and a file that is none."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(source.path, folder / f"{name}.svs")
    (folder / "bad.svs").write_bytes(b"II*\0" + bytes(100))
    return sorted(str(path) for path in folder.iterdir())


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("patches/*.h5")}


def statuses(report: PlanningReport) -> dict[str, str]:
    return {result.name: result.status for result in report.results}


def test_a_run_writes_what_was_asked(slides: list[str], tmp_path: Path) -> None:
    root = run_folder(tmp_path / "out", SPEC)
    told: list[str] = []
    report = plan_slides(
        slides,
        root,
        options(pictures=("grids", "mask", "contours"), save_images=True, contact_sheet=True),
        lambda result: told.append(result.name),
    )
    assert root.name == "10x_128px_0px_overlap"
    assert statuses(report) == {"a": "done", "b": "done", "bad": "failed", "c": "done"}
    assert report.exit_code == 3
    assert sorted(told) == ["a", "b", "bad", "c"]
    assert sorted(path.name for path in (root / "patches").iterdir()) == ["a.h5", "b.h5", "c.h5"]
    assert sorted(p.name for p in (root / "visualization").glob("*.png")) == sorted(
        f"{stem}{kind}.png" for stem in "abc" for kind in ("", "_mask", "_contours")
    )
    for path in (root / "visualization").glob("*.png"):
        with Image.open(path) as image:
            assert max(image.size) == 1024
    assert report.sheets == (root / "contact_sheet.png",)
    with open_slide(slides[0]) as slide:
        plan = read_plan(root / "patches" / "a.h5", slide)
        names = {f"a_x{x}_y{y}.png" for x, y in plan.boxes[:, :2].tolist()}
        assert {path.name for path in (root / "images" / "a").iterdir()} == names
        x, y = plan.x[3], plan.y[3]
        with Image.open(root / "images" / "a" / f"a_x{x}_y{y}.png") as image:
            assert image.size == (128, 128)
            expected = slide.read((int(x), int(y), 256, 256), "10x")
            assert np.abs(np.asarray(image).astype(int) - expected).mean() < 3
    assert not list(root.rglob("*.lock"))
    assert not list(root.rglob("*wsistore-tmp"))


def test_no_patch_twice_and_none_beyond_the_edge(slides: list[str], tmp_path: Path) -> None:
    plan_slides(slides[:1], tmp_path, options())
    plan = read_plan(tmp_path / "patches" / "a.h5")
    places = plan.boxes[:, :2]
    assert len(np.unique(places, axis=0)) == len(places) > 5
    assert set(plan.contour.tolist()) == {1, 2}
    assert (places >= 0).all()
    assert (places + 256 <= [1500, 1100]).all()
    assert (plan.valid_fraction == 1).all()


@pytest.mark.parametrize("edge", ["drop", "shift", "pad", "keep"])
def test_edges_are_as_asked_and_recorded(edge: Any, slides: list[str], tmp_path: Path) -> None:
    plan_slides(slides[:1], tmp_path, options(spec=TileSpec(128, None, "10x", edge=edge)))
    plan = read_plan(tmp_path / "patches" / "a.h5")
    assert plan.spec.edge == edge
    beyond = (plan.boxes[:, :2] + 256 > [1500, 1100]).any()
    assert beyond == (edge in ("pad", "keep"))


# Again


def test_a_second_run_leaves_finished_slides_alone(slides: list[str], tmp_path: Path) -> None:
    plan_slides(slides, tmp_path, options(pictures=("grids",)))
    before = stamps(tmp_path)
    report = plan_slides(slides, tmp_path, options(pictures=("grids",)))
    assert statuses(report) == {"a": "skipped", "b": "skipped", "bad": "failed", "c": "skipped"}
    assert stamps(tmp_path) == before
    assert report.exit_code == 3
    assert next(result.tiles for result in report.results if result.name == "a")


def test_only_what_is_missing_is_made(slides: list[str], tmp_path: Path) -> None:
    """Killed between slides (one file is missing) and inside one (one is cut short)."""
    plan_slides(slides, tmp_path, options(save_images=True))
    before = stamps(tmp_path)
    (tmp_path / "patches" / "b.h5").unlink()
    cut = tmp_path / "patches" / "c.h5"
    cut.write_bytes(cut.read_bytes()[:3000])
    images = sorted((tmp_path / "images" / "a").iterdir())
    pixels = [image.read_bytes() for image in images]
    for image in images[2:5]:
        image.unlink()
    kept = images[1].stat().st_mtime_ns
    report = plan_slides(slides, tmp_path, options(save_images=True))
    assert statuses(report) == {"a": "done", "b": "done", "bad": "failed", "c": "done"}
    after = stamps(tmp_path)
    assert after["a.h5"] == before["a.h5"]
    assert after["c.h5"] != before["c.h5"]
    assert [image.read_bytes() for image in images] == pixels
    assert images[1].stat().st_mtime_ns == kept
    assert len(read_plan(cut)) == len(read_plan(tmp_path / "patches" / "a.h5"))


def test_pictures_asked_for_later_are_added_without_planning(
    slides: list[str], tmp_path: Path
) -> None:
    plan_slides(slides[:1], tmp_path, options())
    before = stamps(tmp_path)
    report = plan_slides(slides[:1], tmp_path, options(pictures=("grids", "contours")))
    assert stamps(tmp_path) == before
    assert statuses(report) == {"a": "done"}
    assert (tmp_path / "visualization" / "a.png").exists()
    assert (tmp_path / "visualization" / "a_contours.png").exists()


def test_force_makes_all_anew(slides: list[str], tmp_path: Path) -> None:
    plan_slides(slides[:2], tmp_path, options())
    before = stamps(tmp_path)
    report = plan_slides(slides[:2], tmp_path, options(force=True, tissue_thresh=0.3))
    assert set(statuses(report).values()) == {"done"}
    assert all(stamps(tmp_path)[name] != stamp for name, stamp in before.items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tissue_thresh": 0.02}, "tissue_thresh"),
        ({"spec": TileSpec(128, 64, "10x")}, "spec.stride"),
        ({"contour_rule": "center"}, "contour_rule"),
        ({"filters": (WhiteFilter(saturation=20),)}, "filters"),
        ({"mpp": {"a": 0.25}}, "slide.mpp"),
        ({"method": "otsu"}, "segmentation.method"),
    ],
)
def test_other_settings_are_refused_with_what_differs(
    changes: dict[str, Any], named: str, slides: list[str], tmp_path: Path
) -> None:
    plan_slides(slides[:1], tmp_path, options())
    before = stamps(tmp_path)
    (result,) = plan_slides(slides[:1], tmp_path, options(**changes)).results
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "WSI502"
    assert named in result.detail
    assert "--force" in result.error.hint
    assert stamps(tmp_path) == before


def test_another_slide_of_the_same_name_is_refused(
    slides: list[str], aperio: Callable[..., SyntheticSlide], tmp_path: Path
) -> None:
    plan_slides(slides[:1], tmp_path, options())
    shutil.copy(aperio(size=(1500, 1100), levels=(1, 4), seed=12).path, slides[0])
    (result,) = plan_slides(slides[:1], tmp_path, options()).results
    assert result.status == "failed"
    assert "slide.fingerprint" in result.detail


def test_a_slide_that_was_moved_is_still_finished(slides: list[str], tmp_path: Path) -> None:
    plan_slides(slides[:1], tmp_path / "out", options())
    moved = tmp_path / "elsewhere" / "a.svs"
    moved.parent.mkdir()
    shutil.move(slides[0], moved)
    (result,) = plan_slides([str(moved)], tmp_path / "out", options()).results
    assert result.status == "skipped"


def test_two_runs_on_one_folder_do_each_slide_once(slides: list[str], tmp_path: Path) -> None:
    good = [path for path in slides if "bad" not in path]
    reports: list[PlanningReport] = []
    barrier = threading.Barrier(2)

    def run() -> None:
        barrier.wait()
        reports.append(plan_slides(good, tmp_path, options()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [
        result.name for report in reports for result in report.results if result.status == "done"
    ]
    assert sorted(done) == ["a", "b", "c"]
    assert all(report.exit_code == 0 for report in reports)


def test_a_slide_that_another_run_holds_is_left_to_it(slides: list[str], tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "patches" / "a.lock", "a")
    lock.acquire()
    try:
        (result,) = plan_slides(slides[:1], tmp_path, options()).results
    finally:
        lock.release()
    assert result.status == "skipped"
    assert "another run" in result.detail
    assert not stamps(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path

root, rename, left = Path(sys.argv.pop(1)), os.rename, [5]

def dying(*told, **more):
    rename(*told, **more)
    if len(list(root.glob("patches/*.h5"))) == 3:
        left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

os.rename = dying
from wsistore.cli import main
main()
"""
"""A command that dies amid the pictures of its third slide."""


def test_a_killed_run_goes_on(source: SyntheticSlide, tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(5):
        shutil.copy(source.path, folder / f"s{number:02d}.svs")
    out = tmp_path / "out"
    root = out / "10x_128px_0px_overlap"
    command = [
        "segment-and-get-coords", str(folder), "--patch-size", "128", "--target-mag", "10",
        "-o", str(out), "--patch-workers", "1", "--save-images", "--json",
    ]  # fmt: skip
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = stamps(root)
    assert len(before) == 3
    third = list((root / "images" / "s02").glob("*.png"))
    assert 0 < len(third) < len(read_plan(root / "patches" / "s02.h5"))
    done = subprocess.run(
        [sys.executable, "-m", "wsistore.cli", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 0
    after = stamps(root)
    assert len(after) == 5
    assert {name: after[name] for name in before} == before
    for path in root.glob("patches/*.h5"):
        plan = read_plan(path)
        assert len(list((root / "images" / path.stem).glob("*.png"))) == len(plan)


# Pixel sizes


def test_a_stated_pixel_size_drives_geometry_though_the_slide_has_a_power(
    slides: list[str], tmp_path: Path
) -> None:
    """The slide says 0.499 µm/px and 20x; it is told to be of 0.25 µm/px."""
    plan_slides(slides[:1], tmp_path / "own", options())
    plan_slides(slides[:1], tmp_path / "told", options(mpp={"a": 0.25}))
    own = read_plan(tmp_path / "own" / "patches" / "a.h5")
    told = read_plan(tmp_path / "told" / "patches" / "a.h5")
    assert own.size_level0 == (256, 256)
    assert told.size_level0 == (512, 512)
    assert (told.slide.mpp, told.slide.mpp_origin) == ((0.25, 0.25), "argument")
    assert own.slide.mpp_origin == "aperio.MPP"


@pytest.mark.parametrize("mpp", [0.05, 20.0, float("nan")])
def test_absurd_pixel_sizes_are_refused(mpp: float, slides: list[str], tmp_path: Path) -> None:
    (result,) = plan_slides(slides[:1], tmp_path, options(mpp={"a": mpp})).results
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "WSI303"
    assert not stamps(tmp_path)


def test_a_plain_image_needs_a_pixel_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 255, (700, 900, 3), np.uint8)).save(path)
    (result,) = plan_slides([str(path)], tmp_path / "out", options()).results
    assert result.error is not None
    assert result.error.code == "WSI303"
    assert "--mpp-csv" in result.error.hint
    (result,) = plan_slides([str(path)], tmp_path / "out", options(mpp={"a": 0.5})).results
    assert result.status == "done"
    assert result.tiles
    assert (result.mpp, result.mpp_origin) == (0.5, "argument")


def test_a_power_above_the_slides_own_is_refused(slides: list[str], tmp_path: Path) -> None:
    (result,) = plan_slides(slides[:1], tmp_path, options(spec=TileSpec(128, None, "40x"))).results
    assert result.error is not None
    assert result.error.code == "WSI101"


# Choices


def test_content_filters_drop_white_and_black(tmp_path: Path) -> None:
    pixels = np.full((512, 768, 3), 255, np.uint8)
    pixels[:, 256:512] = (200, 120, 170)
    pixels[:, 512:] = 10
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)

    def everywhere(thumbnail: np.ndarray) -> np.ndarray:
        return np.ones(thumbnail.shape[:2], np.bool_)

    chosen = options(
        spec=TileSpec(256, None, "level:0"),
        method=everywhere,
        mpp={"a": 0.5},
        filters=(BlackFilter(grey=50), WhiteFilter(saturation=15)),
    )
    plan_slides([str(path)], tmp_path / "out", chosen)
    plan = read_plan(tmp_path / "out" / "patches" / "a.h5")
    assert set(plan.x.tolist()) == {256}


def test_a_slide_without_tissue_is_done_and_marked(slides: list[str], tmp_path: Path) -> None:
    def nowhere(thumbnail: np.ndarray) -> np.ndarray:
        return np.zeros(thumbnail.shape[:2], np.bool_)

    report = plan_slides(slides[:1], tmp_path, options(method=nowhere, save_images=True))
    (result,) = report.results
    assert (result.status, result.tiles, result.pieces) == ("done", 0, 0)
    assert result.is_odd
    assert "no tissue" in result.detail
    assert len(read_plan(tmp_path / "patches" / "a.h5")) == 0


def test_batches_go_through_the_segmenter_together(slides: list[str], tmp_path: Path) -> None:
    one = plan_slides(slides, tmp_path / "one", options())
    many = plan_slides(slides, tmp_path / "many", options(seg_batch_size=3))
    assert statuses(one) == statuses(many)
    for name in ("a", "b", "c"):
        found = [read_plan(tmp_path / run / "patches" / f"{name}.h5") for run in ("one", "many")]
        assert found[0] == found[1]


def test_one_slide_whose_thumbnail_is_bad_fails_alone_in_its_batch(
    slides: list[str], tmp_path: Path
) -> None:
    calls = []

    def picky(thumbnail: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) in (2, 4):  # the second slide, together and then alone
            raise UsageError("this one can't be segmented")
        return np.ones(thumbnail.shape[:2], np.bool_)

    good = [path for path in slides if "bad" not in path]
    told: list[str] = []
    report = plan_slides(
        good,
        tmp_path,
        options(method=picky, seg_batch_size=3, workers=1),
        lambda result: told.append(result.name),
    )
    assert sorted(told) == ["a", "b", "c"]
    assert sorted(statuses(report).values()) == ["done", "done", "failed"]


@pytest.mark.parametrize("layout", ["atlaspatch", "clam", "trident"])
def test_other_layouts(layout: str, slides: list[str], tmp_path: Path) -> None:
    from wsistore.export import sniff_format

    for expected in ("done", "skipped"):
        report = plan_slides(slides[:1], tmp_path, options(layout=layout))
        assert statuses(report) == {"a": expected}
    assert sniff_format(tmp_path / "patches" / "a.h5").name == layout


def test_tissue_alone(slides: list[str], tmp_path: Path) -> None:
    from wsistore.tissue import from_geojson, load_mask

    chosen = options(spec=None, pictures=("mask", "contours"), tissue_thresh=0.0)
    report = plan_slides(slides, tmp_path, chosen)
    assert statuses(report) == {"a": "done", "b": "done", "bad": "failed", "c": "done"}
    mask = load_mask(tmp_path / "masks" / "a.png")
    assert mask.method == "two_pieces"
    assert len(from_geojson((tmp_path / "contours" / "a.geojson").read_bytes())) == 2
    assert (tmp_path / "visualization" / "a_mask.png").exists()
    again = plan_slides(slides[:2], tmp_path, chosen)
    assert set(statuses(again).values()) == {"skipped"}


@pytest.mark.parametrize(
    "changes",
    [
        {"seg_batch_size": 0},
        {"workers": 0},
        {"max_open_slides": 0},
        {"write_batch": 0},
        {"tissue_thresh": 1.5},
        {"tissue_thresh": float("nan")},
        {"pictures": ("masks",)},
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        options(**changes)


def test_a_missing_package_ends_the_run_at_its_start(
    slides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    from wsistore.errors import DependencyError

    def fail(name: str, *rest: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return original(name, *rest)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(DependencyError, match="h5py"):
        plan_slides(slides, tmp_path / "out", options())
    assert not (tmp_path / "out").exists()


def test_open_slides_are_bounded() -> None:
    assert options(workers=16, max_open_slides=12, seg_batch_size=4).threads == 3
    assert options(workers=2, max_open_slides=1, seg_batch_size=4).batch == 1


def test_folders_are_named_by_resolution_size_and_overlap(tmp_path: Path) -> None:
    names = {
        TileSpec(256, None, "20x"): "20x_256px_0px_overlap",
        TileSpec(512, 256, "7.5x"): "7.5x_512px_256px_overlap",
        TileSpec(256, None, "0.5mpp"): "0.5mpp_256px_0px_overlap",
        TileSpec(256, None, "level:1"): "level1_256px_0px_overlap",
    }
    for spec, name in names.items():
        assert run_folder(tmp_path, spec) == tmp_path / name


def test_what_killed_runs_left_half_written_is_removed_with_their_slides(
    slides: list[str], tmp_path: Path
) -> None:
    (tmp_path / "patches").mkdir()
    left = [tmp_path / "patches" / temporary_name(f"{Path(s).stem}.h5") for s in slides[:2]]
    for path in left:
        path.write_bytes(b"half")
    plan_slides(slides[:1], tmp_path, options())
    assert [path.exists() for path in left] == [False, True]  # the other slide may be at work
