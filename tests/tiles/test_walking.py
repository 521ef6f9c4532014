"""Ordered walks: all patches in order, each encoded tile decoded once, memory bounded."""

import numpy as np
import pytest

import wsistore
from wsistore.errors import DamagedTileError, UsageError
from wsistore.testing import damage
from wsistore.tiles import SlideCache, iter_tiles
from wsistore.tiles.grids import grid_array


@pytest.fixture
def slide(aperio):
    return aperio(
        "jpeg_rgb_tables", size=(1024, 1024), tile=256, levels=(1,), magnification="40", mpp="0.25"
    )


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("stride", "origin"), [(256, 0), (256, 100), (128, 0), (77, 3)])
def test_a_walk_gives_every_patch_in_order_and_decodes_each_tile_once(
    slide, stride, origin, threads, prefetch
):
    grid = grid_array((900, 900), (256, 256), (stride, stride), "drop") + origin
    truth = slide.level_pixels(0)
    seen = decoded = 0
    for batch in iter_tiles(
        slide.path, grid, 256, 0, batch_size=5, threads=threads, prefetch=prefetch
    ):
        assert batch.start == seen
        for x, y, pixels in zip(batch.x, batch.y, batch.pixels, strict=True):
            assert [x, y] == grid[seen].tolist()
            assert np.array_equal(pixels, truth[y : y + 256, x : x + 256])
            seen += 1
        decoded += batch.report.tiles_decoded
    assert seen == len(grid)
    reach = grid.max() + 256
    assert decoded == (-(-reach // 256)) ** 2 - (0 if origin < 256 else 1)


@pytest.mark.parametrize("resolution", ["20x", "0.6mpp"])
def test_walks_at_other_resolutions_equal_batches(slide, resolution):
    grid = grid_array((1024, 1024), (200, 200), (150, 150), "shift")
    whole = np.concatenate(
        [b.pixels for b in iter_tiles(slide.path, grid, 90, resolution, batch_size=7)]
    )
    expected = wsistore.tiles.read_tiles(
        [(slide.path, x, y) for x, y in grid.tolist()], 90, resolution
    )
    assert np.array_equal(whole, expected)


def test_without_room_for_tiles_the_pixels_are_the_same(slide):
    grid = grid_array((1024, 1024), (256, 256), (128, 128), "drop")
    rich = [b.pixels for b in iter_tiles(slide.path, grid, 256, 0)]
    poor = list(iter_tiles(slide.path, grid, 256, 0, batch_size=64, cache_bytes=200_000))
    assert np.array_equal(np.concatenate(rich), np.concatenate([b.pixels for b in poor]))
    none = iter_tiles(slide.path, grid, 256, 0, cache_bytes=0)
    assert np.array_equal(np.concatenate(rich), np.concatenate([b.pixels for b in none]))


def test_damage_is_raised_in_its_turn(slide, tmp_path):
    copy = tmp_path / "damaged.svs"
    copy.write_bytes(slide.path.read_bytes())
    damage.overwrite_tile(copy, 0, 2, 1, "truncate")
    grid = grid_array((1024, 1024), (256, 256), (256, 256), "drop")
    walk = iter_tiles(copy, grid, 256, 0, batch_size=4, prefetch=2)
    assert len(next(walk)) == 4
    with pytest.raises(DamagedTileError, match="column 2, row 1"):
        next(walk)
    filled = list(iter_tiles(copy, grid, 256, 0, batch_size=4, on_bad_tile="fill"))
    assert [len(b.report.faults) for b in filled] == [0, 1, 0, 0]


def test_leaving_a_walk_early_ends_its_thread(slide):
    import threading

    grid = grid_array((1024, 1024), (256, 256), (64, 64), "drop")
    before = set(threading.enumerate())
    walk = iter_tiles(slide.path, grid, 256, 0, batch_size=2, prefetch=1, cache=SlideCache())
    next(walk)
    started = [t for t in threading.enumerate() if t not in before and "ahead" in t.name]
    assert len(started) == 1
    walk.close()
    assert not started[0].is_alive()


def test_plans_with_columns_and_empty_plans(slide):
    class Plan:
        x = np.array([0, 256])
        y = np.array([0, 512])

    (batch,) = iter_tiles(slide.path, Plan(), 256, 0)
    assert batch.y.tolist() == [0, 512]
    assert list(iter_tiles(slide.path, [], 256, 0)) == []


@pytest.mark.parametrize(
    ("positions", "options", "message"),
    [
        ([[1.5, 2]], {}, "whole level-0 px"),
        ([[1, 2, 3]], {}, r"shape \(n, 2\)"),
        ([[0, 0]], {"batch_size": 0}, "at least 1, 0 and 0"),
        ([[0, 0]], {"prefetch": -1}, "at least 1, 0 and 0"),
    ],
)
def test_wrong_calls_are_refused(slide, positions, options, message):
    with pytest.raises(UsageError, match=message):
        iter_tiles(slide.path, positions, 256, 0, **options)
