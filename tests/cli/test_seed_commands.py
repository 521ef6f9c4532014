"""`wsistore segment-and-get-coords`: its options, exit codes and output."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.cli.seedcommands import segment_and_get_coords
from wsistore.testing import SyntheticSlide

pytest.importorskip("h5py")

DEFAULTS = {
    "step_size": None,
    "output": "./output",
    "device": "cuda",
    "tissue_thresh": 0.01,
    "white_thresh": 15,
    "black_thresh": 50,
    "seg_batch_size": 1,
    "patch_workers": None,
    "max_open_slides": 200,
    "write_batch": 8192,
    "save_images": False,
    "fast_mode": True,
    "visualize_grids": False,
    "visualize_mask": False,
    "visualize_contours": False,
    "recursive": False,
    "mpp_csv": None,
    "skip_existing": True,
    "verbose": False,
}
KEYS = {
    "path", "name", "status", "width", "height", "mpp", "mpp_origin", "tissue_fraction", "pieces",
    "tiles", "seconds", "files", "detail", "error",
}  # fmt: skip


@pytest.fixture
def folder(aperio: Callable[..., SyntheticSlide], tmp_path: Path) -> Path:
    place = tmp_path / "slides"
    place.mkdir()
    slide = aperio(size=(1500, 1100), levels=(1, 4), seed=11)
    for name in ("a", "b"):
        shutil.copy(slide.path, place / f"{name}.svs")
    return place


def run(*arguments: object) -> tuple[int, str, str]:
    words = ["segment-and-get-coords", *(str(argument) for argument in arguments)]
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_names_and_defaults_are_those_of_the_seed() -> None:
    parameters = inspect.signature(segment_and_get_coords).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS
    assert parameters["patch_size"].default is inspect.Parameter.empty
    code, out, _ = run("--help")
    assert code == 0
    assert "Example" in out


def test_every_option_is_taken(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "mpp.csv"
    table.write_text("wsi,mpp\na.svs,0.5\nb.svs,0.25\nc.svs,none\n")
    code, out, err = run(
        folder, "--patch-size", 128, "--target-mag", 10, "--step-size", 96, "-o", tmp_path / "out",
        "--device", "cpu", "--tissue-thresh", 0.005, "--white-thresh", 20, "--black-thresh", 40,
        "--seg-batch-size", 2, "--patch-workers", 2, "--max-open-slides", 4, "--write-batch", 100,
        "--save-images", "--no-fast-mode", "--visualize-grids", "--visualize-mask",
        "--visualize-contours", "--recursive", "--mpp-csv", table, "--force", "--verbose",
    )  # fmt: skip
    assert code == 0, err
    root = tmp_path / "out" / "10x_128px_32px_overlap"
    for name in ("patches/a.h5", "patches/b.h5", "images/a", "visualization/a.png",
                 "visualization/b_mask.png", "visualization/b_contours.png"):  # fmt: skip
        assert (root / name).exists(), name
    assert "warning" in err
    assert "none" in err
    assert err.count("[OK]") == 2
    assert "2 done, 0 skipped, 0 failed" in out


def test_the_table_names_slides_and_tiles(folder: Path, tmp_path: Path) -> None:
    out = run(folder, "--patch-size", 128, "--target-mag", 10, "-o", tmp_path / "out")[1]
    first = next(line for line in out.splitlines() if line.strip().startswith("a "))
    assert "1500 x 1100" in first
    assert "done" in first
    again = run(folder, "--patch-size", 128, "--target-mag", 10, "-o", tmp_path / "out")
    assert again[0] == 0
    assert "0 done, 2 skipped, 0 failed" in again[1]


def test_json_is_one_object(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.svs").write_bytes(b"no slide")
    code, out, err = run(
        folder, "--patch-size", 128, "--target-mag", 10, "-o", tmp_path / "out", "--json"
    )
    report = json.loads(out)
    assert code == report["exit_code"] == 3
    assert err == ""
    assert set(report) == {"folder", "exit_code", "contact_sheets", "slides"}
    by_name = {slide["name"]: slide for slide in report["slides"]}
    assert set(by_name) == {"a", "b", "bad"}
    for slide in by_name.values():
        assert set(slide) == KEYS
    assert by_name["bad"]["error"]["code"].startswith("WSI3")
    assert by_name["a"]["status"] == "done"
    assert by_name["a"]["tiles"] > 0


def test_exit_codes_and_the_list_of_failures(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.svs").write_bytes(b"no slide")
    asked = ("--patch-size", 128, "--target-mag", 10, "-o", tmp_path / "out")
    code, out, err = run(folder, *asked)
    assert code == 3
    assert "1 failed" in out
    assert "bad.svs" in err
    assert "error WSI3" in err
    assert run(folder / "bad.svs", *asked)[0] == 1
    assert run(folder / "absent.svs", *asked)[0] == 1
    assert run(tmp_path / "out", *asked)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--patch-size", 128),
        ("--patch-size", 128, "--target-mag", 10, "--target-mpp", 1),
        ("--patch-size", 0, "--target-mag", 10),
        ("--patch-size", 128, "--target-mag", 10, "--edge", "wrap"),
        ("--patch-size", 128, "--target-mag", 10, "--method", "absent"),
        ("--patch-size", 128, "--target-mag", 10, "--method", "sam2"),
        ("--patch-size", 128, "--target-mag", 10, "--weights", "x"),
        ("--patch-size", 128, "--target-mag", 10, "--white-thresh", 300),
        ("--patch-size", 128, "--target-mag", 10, "--layout", "csv"),
        ("--patch-size", 128, "--target-mag", -1),
        ("--target-mag", 10),
    ],
)
def test_wrong_calls(arguments: tuple[Any, ...], folder: Path, tmp_path: Path) -> None:
    code, _, err = run(folder, *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (("--target-mag", 7.5), "7.5x_64px_0px_overlap"),
        (("--target-mpp", 1), "1mpp_64px_0px_overlap"),
        (("--target-mpp", 0.998, "--step-size", 32), "0.998mpp_64px_32px_overlap"),
    ],
)
def test_fractional_powers_and_pixel_sizes(
    asked: tuple[Any, ...], name: str, folder: Path, tmp_path: Path
) -> None:
    code, _, _ = run(folder / "a.svs", "--patch-size", 64, *asked, "-o", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / name / "patches" / "a.h5").exists()


def test_a_power_above_the_slides_own_fails(folder: Path, tmp_path: Path) -> None:
    code, _, err = run(
        folder / "a.svs", "--patch-size", 64, "--target-mag", 40, "-o", tmp_path / "out"
    )
    assert code == 1
    assert "WSI101" in err


def test_a_cohort_of_real_slides(shared_data: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    code, out, _ = run(
        shared_data, "--patch-size", 256, "--target-mag", 10, "-o", tmp_path, "--json"
    )
    assert code == 3
    by_name = {slide["name"]: slide for slide in json.loads(out)["slides"]}
    assert by_name["CMU-1-Small-Region"]["tiles"] > 5
    assert by_name["osp-unreadable"]["status"] == "failed"
    root = tmp_path / "10x_256px_0px_overlap"
    with h5py.File(root / "patches" / "CMU-1-Small-Region.h5") as file:
        assert (file["coords"][:] + 512 <= [2220, 2967]).all()
        assert file.attrs["patch_size_level0"] == 512
    assert (root / "contact_sheet.png").exists()
