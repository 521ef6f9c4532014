"""`wsistore segment`: masks, contours and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.testing import SyntheticSlide
from wsistore.tissue import load_mask


@pytest.fixture
def slide(aperio: Callable[..., SyntheticSlide]) -> Path:
    return aperio(size=(1500, 1100), levels=(1, 4), seed=11).path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["segment", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("method", ["default", "otsu"])
def test_masks_contours_and_pictures(method: str, slide: Path, tmp_path: Path) -> None:
    code, out, _ = run(slide, "--method", method, "-o", tmp_path, "--json")
    assert code == 0
    (record,) = json.loads(out)["slides"]
    assert record["tiles"] is None
    stem = slide.stem
    mask = load_mask(tmp_path / "masks" / f"{stem}.png")
    assert mask.slide_size == (1500, 1100)
    assert record["tissue_fraction"] == pytest.approx(mask.tissue_fraction)
    content = json.loads((tmp_path / "contours" / f"{stem}.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert len(content["features"]) == record["pieces"]
    for kind in ("mask", "contours"):
        assert (tmp_path / "visualization" / f"{stem}_{kind}.png").exists()
    assert (tmp_path / "contact_sheet.png").exists()


def test_finished_slides_are_skipped_until_forced(slide: Path, tmp_path: Path) -> None:
    run(slide, "-o", tmp_path)
    assert "1 skipped" in run(slide, "-o", tmp_path)[1]
    code, _, err = run(slide, "--method", "otsu", "-o", tmp_path)
    assert code == 1
    assert "segmentation.method" in err
    assert run(slide, "--method", "otsu", "-o", tmp_path, "--force")[0] == 0


def test_wrong_calls(slide: Path, tmp_path: Path) -> None:
    assert run(slide, "--method", "absent", "-o", tmp_path)[0] == 2
    assert (
        run(slide, "--device", "tpu", "--method", "sam2", "--weights", "x", "-o", tmp_path)[0] == 2
    )
    assert run(tmp_path, "-o", tmp_path / "out")[0] == 2
