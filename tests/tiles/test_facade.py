"""slice-extractor's call: sizes, levels, layouts, missing metadata."""

import cv2
import numpy as np
import pytest

from wsistore.errors import MetadataError, SourceNotFoundError, UsageError
from wsistore.tiles import load_single_tile

FORTY = {"magnification": "40", "mpp": "0.2500"}


@pytest.fixture(scope="module")
def two_levels(aperio):
    return aperio(size=(600, 600), levels=(1, 4), **FORTY)


@pytest.fixture(scope="module")
def one_level(aperio):
    return aperio(size=(600, 600), levels=(1,), **FORTY)


@pytest.mark.parametrize(
    ("levels", "size", "magnification", "read"),
    [
        ((1, 4), 256, 20, 512),
        ((1, 4), 256, 10, 256),
        ((1,), 256, 10, 1024),
        ((1,), 256, 5, 2048),
        ((1,), 512, 10, 2048),
        ((1,), 256, 80, 128),
    ],
)
def test_sides_are_exact(aperio, levels, size, magnification, read):
    slide = aperio(size=(600, 600), levels=levels, **FORTY)  # tiles may reach outside
    tile = load_single_tile(slide.path, 0, 0, size, magnification)
    assert tile.shape == (size, size, 3)
    assert tile.dtype == np.uint8
    raw = load_single_tile(slide.path, 0, 0, size, magnification, resize=False)
    assert raw.shape == (read, read, 3)


def test_a_level_that_fits_is_read_as_it_is(two_levels):
    tile = load_single_tile(two_levels.path, 200, 80, 60, 10)
    assert np.array_equal(tile, two_levels.level_pixels(1)[20:80, 50:110])
    same = load_single_tile(two_levels.path, 200, 80, 60, 10, resize=False)
    assert np.array_equal(tile, same)


def test_without_the_level_it_is_averaged_from_a_finer_one(one_level):
    tile = load_single_tile(str(one_level.path), 64, 128, 64, 10, exact=True)
    raw = load_single_tile(one_level.path, 64, 128, 64, 10, resize=False)
    assert np.array_equal(raw, one_level.level_pixels(0)[128:384, 64:320])
    expected = cv2.resize(raw, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(tile.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("variant", ["jpeg_rgb_tables", "j2k_33005"])
def test_the_caller_chooses_the_layout_not_the_codec(aperio, variant):
    slide = aperio(variant, size=(256, 256), levels=(1,))
    tile = load_single_tile(slide.path, 0, 0, 40, 20)
    planar = load_single_tile(slide.path, 0, 0, 40, 20, layout="chw")
    assert planar.shape == (3, 40, 40)
    assert np.array_equal(planar.transpose(1, 2, 0), tile)
    assert np.array_equal(tile, slide.level_pixels(0)[:40, :40])


def test_the_pixel_size_serves_where_the_magnification_is_absent(aperio):
    slide = aperio(size=(512, 512), levels=(1,), magnification=None, mpp="0.5")
    tile = load_single_tile(slide.path, 0, 0, 64, 10, resize=False)
    assert np.array_equal(tile, slide.level_pixels(0)[:128, :128])


def test_without_either_it_says_so(aperio):
    slide = aperio(size=(256, 256), levels=(1,), magnification=None, mpp=None)
    with pytest.raises(MetadataError, match="no magnification"):
        load_single_tile(slide.path, 0, 0, 64, 10)


def test_beyond_the_edges_it_is_white(one_level):
    tile = load_single_tile(one_level.path, 600 - 10, -20, 30, 40)
    assert np.array_equal(tile[20:, :10], one_level.level_pixels(0)[:10, -10:])
    assert (tile[:20] == 255).all()
    assert (tile[:, 10:] == 255).all()


def test_problems_are_errors_and_not_the_end_of_the_process(tmp_path, one_level):
    with pytest.raises(SourceNotFoundError):
        load_single_tile(tmp_path / "none.svs", 0, 0, 256, 20)
    with pytest.raises(UsageError, match="positive"):
        load_single_tile(one_level.path, 0, 0, 0, 20)
    with pytest.raises(UsageError, match="positive number"):
        load_single_tile(one_level.path, 0, 0, 16, 0)
    with pytest.raises(UsageError, match="finest level"):
        load_single_tile(one_level.path, 0, 0, 16, 80, allow_upsample=False)
