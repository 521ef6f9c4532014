"""`wsistore tile`: a plan as a file of any format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.export import PLAN_FORMATS, read_plan, sniff_format
from wsistore.slides import open_slide
from wsistore.testing import SyntheticSlide
from wsistore.tissue import TissueMask, save_mask

KEYS = {
    "slide", "plan_id", "tiles", "width", "height", "resolution", "level", "downsample",
    "width_level0", "height_level0", "read_width", "read_height", "tissue_fraction", "rules",
    "columns", "file",
}  # fmt: skip


@pytest.fixture
def slide(aperio: Callable[..., SyntheticSlide]) -> Path:
    return aperio(size=(1500, 1100), levels=(1, 4), seed=11).path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["tile", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", sorted(PLAN_FORMATS))
def test_every_format(name: str, slide: Path, tmp_path: Path) -> None:
    path = tmp_path / f"plan{PLAN_FORMATS[name].extension}"
    code, out, _ = run(
        slide, path, "--size", 64, "--target-mag", 10, "--mask", "none", "--format", name, "--json"
    )
    assert code == 0
    record = json.loads(out)
    assert set(record) == KEYS
    assert sniff_format(path).name == name
    with open_slide(slide) as opened:
        plan = read_plan(path, opened)
    assert plan.plan_id == record["plan_id"]
    assert len(plan) == record["tiles"] == 11 * 8


def test_options_reach_the_plan(slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    code, out, _ = run(
        slide, path, "--size", "100,50", "--stride", "80,40", "--unit", "um", "--target-mpp", 1,
        "--edge", "shift", "--mask", "none", "--filter", "std", "--filter", "entropy",
        "--mpp", 0.25, "--hexagonal", "--overlay", tmp_path / "new" / "o.png",
    )  # fmt: skip
    assert code == 0
    plan = read_plan(path)
    assert plan.size == (100, 50)
    assert plan.size_level0 == (400, 200)
    assert (plan.spec.edge, plan.spec.layout, plan.spec.unit) == ("shift", "hexagonal", "um")
    assert set(plan.extras) == {"std", "entropy"}
    assert plan.slide.mpp_origin == "argument"
    assert (tmp_path / "new" / "o.png").exists()
    assert plan.plan_id in out.replace("\n", "")


def test_a_mask_from_a_file(slide: Path, tmp_path: Path) -> None:
    pixels = np.zeros((11, 15), np.bool_)
    pixels[:6, :5] = True
    save_mask(TissueMask(pixels, (1500, 1100), method="drawn"), tmp_path / "mask.png")
    out = run(
        slide, "--size", 100, "--level", 0, "--mask", tmp_path / "mask.png", "--min-tissue", 1,
        "--json",
    )[1]  # fmt: skip
    record = json.loads(out)
    assert record["tiles"] == 30
    assert record["tissue_fraction"] == pytest.approx(30 / 165)
    assert record["file"] is None


def test_regions_start_lattices_of_their_own(slide: Path) -> None:
    code, out, _ = run(slide, "--size", 64, "--mag", 10, "--origin", "region", "--json")
    assert code == 0
    assert any(rule["name"] == "contours" for rule in json.loads(out)["rules"])


def test_alignment_is_offered_where_it_fits(slide: Path) -> None:
    assert run(slide, "--size", 256, "--level", 0, "--align", "tiles")[0] == 0
    code, _, err = run(slide, "--size", 200, "--level", 0, "--align", "tiles")
    assert code == 2
    assert "hint" in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--level", 0, "--mag", 10),
        ("--level", 9),
        ("--level", 0, "--size", "a"),
        ("--level", 0, "--size", "1,2,3"),
        ("--level", 0, "--mask", "absent.png"),
        ("--level", 0, "--filter", "absent"),
        ("--level", 0, "--edge", "wrap"),
        ("--level", 0, "--format", "xlsx"),
    ],
)
def test_wrong_calls(arguments: tuple[Any, ...], slide: Path, tmp_path: Path) -> None:
    code, _, err = run(slide, tmp_path / "plan.csv", *arguments)
    assert code == 2
    assert "error WSI1" in err
    assert not (tmp_path / "plan.csv").exists()


def test_an_extension_of_no_format_is_told_in_words_of_the_command_line(
    slide: Path, tmp_path: Path
) -> None:
    target = tmp_path / "tiles.parquet"
    code, _, err = run(slide, target, "--level", 0)
    assert (code, "'.parquet'" in err, "--format" in err) == (2, True, True)
    assert run(slide, target, "--level", 0, "--format", "parquet")[0] == 0  # as it says
    assert target.is_dir()
