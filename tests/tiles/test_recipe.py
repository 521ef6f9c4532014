"""The recipe of the example: few lines, and the same files as the loop written by hand."""

import importlib.util
import inspect
from pathlib import Path

import pytest
from PIL import Image

import wsistore
from wsistore.tiles.grids import grid_tiles

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "local_recipe.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("local_recipe", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["whole", "holes"])
def slide(request, slide_factory):
    """Return a slide of 4 x 3 tiles, and the numbers of those that are flat."""
    # Tile 5 of the grid lies on encoded tiles 2 and 3 both ways; without bytes it is white.
    holes = [(0, column, row) for column in (2, 3) for row in (2, 3)]
    missing = tuple(holes) if request.param == "holes" else ()
    file = slide_factory(size=(1700, 1100), tile=256, levels=(1, 4), mpp="0.4", missing=missing)
    return file.path, {5} if missing else set()


def by_hand(path, out, cap, level):
    """Save tiles as the recipe of seed 004 does."""
    saved = 0
    with wsistore.open_slide(path) as slide:
        grid = grid_tiles(slide.levels[level].size, (512, 512), (512, 512), last="shift")
        for index, (x, y) in enumerate(grid):
            tile = slide.read_level(level, (int(x), int(y), 512, 512))
            if tile.std() <= 8:
                continue
            Image.fromarray(tile).save(out / f"tile_{index:05d}.png")
            saved += 1
            if saved == cap:
                return


@pytest.mark.parametrize("cap", [64, 7])
def test_the_recipe_saves_what_the_loop_by_hand_saves(example, slide, tmp_path, cap):
    path, flat = slide
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    example.save_tiles(path, ours, cap)
    by_hand(path, theirs, cap, level=0)
    names = sorted(p.name for p in theirs.iterdir())
    numbers = [number for number in range(12) if number not in flat][:cap]
    assert names == [f"tile_{number:05d}.png" for number in numbers]
    assert names == sorted(p.name for p in ours.iterdir())
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_the_recipe_is_short_and_needs_no_scheduler(example):
    lines = inspect.getsource(example.save_tiles).splitlines()
    assert len([line for line in lines[2:] if line.strip()]) <= 10
    assert "dask" not in EXAMPLE.read_text()
