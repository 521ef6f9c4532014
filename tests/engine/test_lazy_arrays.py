"""Slides as lazy arrays."""

import pickle

import numpy as np
import pytest

import wsistore
from wsistore.engine.lazy_arrays import as_xarray
from wsistore.errors import MetadataError, ResolutionError, UsageError
from wsistore.geometry import Box, Resolution
from wsistore.pyramid.views.pixels import SlidePixels

da = pytest.importorskip("dask.array")
pytest.importorskip("xarray")

SMALL = {"size": (610, 437), "tile": 64, "levels": (1, 4)}


def test_a_level_is_lazy_and_its_pixels_are_those_of_the_slide(aperio):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        for level in (0, 1):
            array = as_xarray(slide, level, chunks=(128, 192))
            width, height = slide.levels[level].size
            assert array.dims == ("c", "y", "x")
            assert array.shape == (3, height, width)
            assert array.dtype == np.uint8
            assert array.data.chunksize == (3, min(128, height), min(192, width))
            expected = slide.read_level(level, (0, 0, width, height))
            pixels = array.compute(scheduler="threads").transpose("y", "x", "c").values
            np.testing.assert_array_equal(pixels, expected)


def test_coordinates_are_micrometres_at_the_centres_of_pixels(aperio):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        array = as_xarray(slide, 1)
        assert list(array.c.values) == ["R", "G", "B"]
        np.testing.assert_allclose(array.x.values[:2], [0.499 * 2, 0.499 * 6])
        assert array.y.values[-1] == pytest.approx((array.sizes["y"] - 0.5) * 4 * 0.499)
        assert array.x.attrs["units"] == "µm"
        assert "top-left corner of level 0" in array.y.attrs["origin"]
        assert array.attrs["level"] == 1
        assert array.attrs["downsample"] == 4
        assert array.attrs["mpp"] == pytest.approx([1.996, 1.996])
        assert array.attrs["slide"] == slide.name
        assert array.attrs["fingerprint"] == slide.fingerprint
        near = array.sel(x=100, y=50, method="nearest")
        np.testing.assert_array_equal(near, array[:, 25, 50])


def test_without_a_pixel_size_coordinates_are_level_0_px(aperio):
    made = aperio(mpp=None, magnification=None, **SMALL)
    array = as_xarray(made.path, 1)
    assert array.x.attrs["units"] == "level-0 px"
    assert array.x.values[0] == 2
    assert "mpp" not in array.attrs
    with pytest.raises(MetadataError):
        as_xarray(made.path, "1mpp")
    assert as_xarray(made.path, "1mpp", mpp=0.5).x.attrs["units"] == "µm"


@pytest.mark.parametrize("resolution", ["level:1", "20x", Resolution.mpp(1.996)])
def test_a_resolution_that_a_level_serves_is_that_level(aperio, resolution):
    array = as_xarray(aperio(**SMALL).path, resolution)
    level = 0 if resolution == "20x" else 1
    assert array.attrs["level"] == level
    assert array.sizes["x"] == (610, 152)[level]


@pytest.mark.parametrize("factor", [2, 3, 2.5, 3.3])
def test_between_levels_blocks_are_area_averages_without_seams(aperio, factor):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        array = as_xarray(slide, Resolution.mpp(0.499 * factor), chunks=100)
        assert array.shape == (3, int(437 / factor), int(610 / factor))
        assert array.attrs["level"] == 0
        pixels = array.transpose("y", "x", "c").values.astype(int)
        found = SlidePixels(slide, Resolution.mpp(0.499 * factor))
        at_once = found.read(Box(0, 0, *found.size)).astype(int)
        # Parts add fractions in another order: a half may be rounded to the other side.
        assert np.abs(pixels - at_once).max() <= (0 if factor == int(factor) else 1)
        level = slide.read_level(0, (0, 0, 610, 437)).astype(float)
        assert np.abs(pixels - mean_of(level, factor, found.size)).max() <= 0.51


def mean_of(level, factor, size):
    """Area average by weights, one matrix for each axis."""
    weights = []
    for count, side in ((size.height, level.shape[0]), (size.width, level.shape[1])):
        starts, px = np.arange(count)[:, None] * factor, np.arange(side)[None]
        inside = np.minimum(starts + factor, px + 1) - np.maximum(starts, px)
        weights.append(np.clip(inside, 0, None) / factor)
    return np.einsum("yh,hwc,xw->yxc", weights[0], level, weights[1], optimize=True)


def test_default_blocks_end_between_tiles(aperio):
    with wsistore.open_slide(aperio(size=(5000, 300), tile=240, distinct_tiles=9).path) as slide:
        assert as_xarray(slide).data.chunksize == (3, 300, 2160)
        assert as_xarray(slide, Resolution.mpp(0.998)).data.chunksize == (3, 150, 1080)


def test_it_pickles_small_and_computes_elsewhere(aperio):
    array = as_xarray(aperio(**SMALL).path, 1, chunks=64)
    again = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(again.compute(scheduler="threads"), array.values)
    assert again.attrs == array.attrs
    pixels = pickle.dumps(SlidePixels(wsistore.open_slide(aperio(**SMALL).path), 1))
    assert len(pixels) < 2000


def test_equal_slides_have_equal_graphs_and_others_don_t(aperio):
    path = aperio(**SMALL).path
    assert as_xarray(path).data.name == as_xarray(path).data.name
    others = [as_xarray(path, 1), as_xarray(path, chunks=99), as_xarray(path, fill=3)]
    others.append(as_xarray(aperio("lzw", **SMALL).path))
    assert as_xarray(path).data.name not in {other.data.name for other in others}


def test_a_store_and_a_slide_in_a_bucket_give_the_same(aperio, bucket, tmp_path):
    obstore = pytest.importorskip("obstore")
    from obstore.store import from_url

    made = aperio(**SMALL)
    obstore.put(from_url(bucket), "slide.svs", made.path.read_bytes())
    wsistore.convert(made.path, tmp_path / "slide.ome.zarr")
    expected = as_xarray(made.path, 1).compute(scheduler="threads")
    for place in (tmp_path / "slide.ome.zarr", f"{bucket}/slide.svs"):
        found = as_xarray(place, 1).compute(scheduler="threads")
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(found.x, expected.x)


def test_wrong_arguments_are_told(aperio):
    path = aperio(**SMALL).path
    for chunks in (0, -1, (1, 2, 3), "many", {"z": 3}, 1.5, (2.5, 3)):
        with pytest.raises(UsageError, match="chunks"):
            as_xarray(path, chunks=chunks)
    assert as_xarray(path, chunks={"y": 100}).data.chunksize == (3, 100, 610)
    with pytest.raises(ResolutionError):
        as_xarray(path, "80x")
    with wsistore.open_slide(path) as slide:
        with pytest.raises(UsageError, match="open already"):
            as_xarray(slide, mpp=1)
        pixels = SlidePixels(slide, 0)
        with pytest.raises(UsageError, match="steps"):
            pixels[:, ::2]
        with pytest.raises(UsageError, match="slices"):
            pixels[0]
        assert pixels[:2, 3:3].shape == (2, 0, 610)
