"""Overlays and contact sheets: what is drawn where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsistore.errors import UsageError
from wsistore.export import (
    Cell,
    contact_sheets,
    draw_contours,
    draw_grid,
    draw_mask,
    save_picture,
)
from wsistore.export.contact_sheet import PER_SHEET, cell_side
from wsistore.export.drawing import BLUE, GREEN, ORANGE, RED, bar_length, drawable
from wsistore.tissue import TissueMask, find_contours

PINK = np.full((300, 400, 3), (220, 150, 190), np.uint8)
SIZE = (4000, 3000)


def near(pixel: np.ndarray, colour: tuple[int, int, int], within: int = 60) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= within)


def count(picture: np.ndarray, colour: tuple[int, int, int], within: int = 30) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= within).sum())


def test_a_grid_keeps_tiles_and_pales_the_rest() -> None:
    boxes = np.array([[1000, 1000, 500, 500], [1500, 1000, 500, 500]])
    drawn = draw_grid(PINK, boxes, SIZE)
    assert drawn.shape == PINK.shape
    assert (drawn[125, 125] == PINK[0, 0]).all()
    assert (drawn[20, 20] > PINK[0, 0]).all()
    for x, y in ((100, 120), (150, 120), (200, 120), (120, 100), (120, 150)):
        assert near(drawn[y, x], BLUE), (x, y)
    assert (drawn[125, 149] == PINK[0, 0]).all()  # the line between neighbours is one px
    assert (drawn[125, 151] == PINK[0, 0]).all()
    assert (PINK == (220, 150, 190)).all()


def test_tiles_too_small_for_lines_are_tinted() -> None:
    x, y = np.meshgrid(np.arange(1000, 2000, 20), np.arange(1000, 2000, 20))
    boxes = np.column_stack([x.ravel(), y.ravel(), np.full((2500, 2), 20)])
    drawn = draw_grid(PINK, boxes, SIZE)
    inside = drawn[101:199, 101:199].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert not (inside[0] == PINK[0, 0]).all()


def test_an_empty_plan_pales_everything() -> None:
    drawn = draw_grid(PINK, np.empty((0, 4), np.int64), SIZE)
    assert (drawn == drawn[0, 0]).all()
    assert (drawn[0, 0] > PINK[0, 0]).all()


def test_a_mask_is_edged_and_the_rest_paled() -> None:
    pixels = np.zeros((30, 40), np.bool_)
    pixels[10:20, 10:30] = True
    drawn = draw_mask(PINK, TissueMask(pixels, SIZE, method="drawn"))
    assert near(drawn[150, 101], GREEN, 5)
    assert near(drawn[150, 298], GREEN, 5)
    assert near(drawn[150, 200], PINK[0, 0], 40)
    assert (drawn[20, 20] > PINK[0, 0]).all()


def test_contours_follow_tissue_and_holes() -> None:
    pixels = np.zeros((30, 40), np.bool_)
    pixels[10:25, 10:30] = True
    pixels[15:20, 15:25] = False
    mask = TissueMask(pixels, SIZE, method="drawn")
    drawn = draw_contours(PINK, find_contours(mask), SIZE)
    assert any(near(drawn[200, x], GREEN, 40) for x in (98, 99, 100, 101))
    assert any(near(drawn[175, x], ORANGE, 40) for x in (148, 149, 150, 151))
    assert (drawn[220, 200] == PINK[0, 0]).all()
    assert count(drawn, GREEN) > 100
    plain = draw_contours(PINK, [], SIZE)
    assert (plain == PINK).all()


def test_thumbnails_of_another_shape_are_met_edge_to_edge() -> None:
    """A thumbnail is whole px: its scale along x and y differ a little (here, a lot)."""
    low = np.full((100, 80, 3), 200, np.uint8)
    drawn = draw_grid(low, np.array([[0, 1500, 1000, 1500]]), (1000, 3000))
    assert near(drawn[70, 79], BLUE)
    assert near(drawn[50, 40], BLUE)
    assert near(drawn[99, 40], BLUE)


@pytest.mark.parametrize(
    ("most", "length"), [(1.2, 1.0), (0.99, 0.5), (0.2, 0.2), (7, 5.0), (0.013, 0.01)]
)
def test_scale_bars_are_round(most: float, length: float) -> None:
    assert bar_length(most) == pytest.approx(length)


def test_a_scale_bar_has_its_length() -> None:
    white = np.full((300, 400, 3), 255, np.uint8)
    drawn = draw_grid(white, np.empty((0, 4), np.int64), SIZE, mpp=0.25)  # 2.5 µm a picture px
    dark = (drawn[250:] < 90).all(axis=2)
    longest = max(int(row.sum()) for row in dark)
    assert longest == 80  # 0.2 mm
    assert (draw_grid(white, np.empty((0, 4), np.int64), SIZE) == 255).all()


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="picture"):
        draw_grid(np.zeros((3, 3)), np.empty((0, 4), np.int64), SIZE)


def test_pictures_are_files_of_their_extension(tmp_path: Path) -> None:
    for extension, kind in ((".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF")):
        save_picture(tmp_path / f"a{extension}", PINK)
        with Image.open(tmp_path / f"a{extension}") as image:
            assert image.format == kind
            assert image.size == (400, 300)
    with pytest.raises(UsageError, match=r"\.xyz"):
        save_picture(tmp_path / "a.xyz", PINK)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_sheet_marks_what_went_wrong() -> None:
    cells = [
        Cell("good", "12 tiles", picture=lambda: PINK),
        Cell("bad", "WSI302: the tile offsets of page 0 lie beyond the end of the file", "failed"),
        Cell("odd", "0 tiles", "warning", lambda: PINK),
    ]
    (sheet,) = contact_sheets(cells, "20x, 256 px")
    side = cell_side(3)
    assert sheet.shape[1] > 3 * side
    assert count(sheet, RED, 5) > 3 * 4 * side - 40  # a frame three px wide
    assert count(sheet, ORANGE, 5) > 3 * 4 * side - 40
    assert count(sheet, (220, 150, 190), 3) > 2 * side * side / 2


def test_a_sheet_without_failures_has_no_frames() -> None:
    (sheet,) = contact_sheets([Cell("good", "12 tiles", picture=lambda: PINK)], "x")
    assert count(sheet, RED, 5) == count(sheet, ORANGE, 5) == 0


def test_a_picture_that_is_gone_is_replaced_by_its_caption() -> None:
    (sheet,) = contact_sheets([Cell("good", "12 tiles", picture=lambda: None)], "x")
    assert sheet.shape[2] == 3


def test_long_names_and_reasons_stay_in_their_cells() -> None:
    cells = [Cell("n" * 300, "reason " * 300, "failed"), Cell("b", "x" * 500, "failed")]
    (sheet,) = contact_sheets(cells, "t" * 500)
    margin = sheet[:, -20:]
    assert (margin == 255).all()


def test_large_runs_give_several_sheets() -> None:
    cells = [Cell(str(n), "1 tile") for n in range(PER_SHEET + 1)]
    sheets = contact_sheets(cells, "many")
    assert len(sheets) == 2
    assert max(sheets[0].shape) < 8000
    with pytest.raises(UsageError):
        contact_sheets([], "none")


def test_signs_that_the_typeface_lacks_are_spelt() -> None:
    assert drawable("0.5 µm/px \u00d7 2 \u2013 3\n4") == "0.5 um/px x 2 - 3 4"
