"""Transcoded stores: pixels, pyramids, white chunks, other readers."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import wsistore
from wsistore.geometry import Box
from wsistore.pyramid.options import ConversionOptions
from wsistore.pyramid.planning import plan_conversion
from wsistore.pyramid.transcoding import BAND_BYTES, band_height, halve, planar
from wsistore.slides import open_slide
from wsistore.testing import write_slide

LOSSLESS = [("0.5", c) for c in ("zstd", "blosc", "gzip", "jpegxl")] + [
    ("0.4", c) for c in ("zstd", "blosc", "gzip")
]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "a.svs"
    return write_slide(path, size=(301, 203), tile=64, levels=(1, 4), missing=[(0, 0, 0)])


def naive_halve(pixels):
    out = np.empty(((pixels.shape[0] + 1) // 2, (pixels.shape[1] + 1) // 2, 3), np.uint8)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            block = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(-1, 3).astype(float)
            out[y, x] = np.rint(block.mean(axis=0))
    return out


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_halving_averages_the_px_that_exist(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(halve(pixels), naive_halve(pixels))


def test_planar_is_a_transpose():
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 3), np.uint8)
    np.testing.assert_array_equal(planar(pixels), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(planar(pixels[1:4, 2:]), pixels[1:4, 2:].transpose(2, 0, 1))


@pytest.mark.parametrize(("version", "codec"), LOSSLESS)
def test_lossless_store_has_the_true_pixels_and_a_2x_pyramid(tmp_path, slide, version, codec):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec=codec, format=version).raise_for_failures()
    group = zarr.open_group(store, mode="r")
    expected = slide.level_pixels(0)
    level = 0
    with open_slide(store) as opened:
        while True:
            read = group[str(level)][:].transpose(1, 2, 0)
            np.testing.assert_array_equal(read, expected)
            height, width = expected.shape[:2]
            np.testing.assert_array_equal(opened.read_level(level, (0, 0, width, height)), expected)
            if max(expected.shape) <= 64:
                break
            expected, level = naive_halve(expected), level + 1
        assert opened.level_count == level + 1 == 4


@pytest.mark.parametrize(("version", "driver"), [("0.5", "zarr3"), ("0.4", "zarr")])
def test_tensorstore_reads_it(tmp_path, slide, version, driver):
    tensorstore = pytest.importorskip("tensorstore")
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="zstd", format=version).raise_for_failures()
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(store / "0")}}
    read = tensorstore.open(spec, read=True).result().read().result()
    np.testing.assert_array_equal(read.transpose(1, 2, 0), slide.level_pixels(0))


@pytest.mark.parametrize("options", [{"chunk": 100}, {"chunk": 48, "shard": 96}, {"chunk": 512}])
def test_chunks_need_not_be_tiles(tmp_path, slide, options):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="zstd", **options).raise_for_failures()
    read = zarr.open_group(store, mode="r")["0"]
    assert read.chunks[1:] == (options["chunk"],) * 2
    np.testing.assert_array_equal(read[:].transpose(1, 2, 0), slide.level_pixels(0))


@pytest.mark.parametrize(("codec", "quality"), [("jpeg", 95), ("jpeg2000", 45)])
def test_lossy_store_is_close_and_states_its_quality(tmp_path, slide, codec, quality):
    store = tmp_path / "a.ome.zarr"
    report = wsistore.convert(slide.path, store, codec=codec, quality=quality)
    report.raise_for_failures()
    group = zarr.open_group(store, mode="r")
    read = group["0"][:].transpose(1, 2, 0).astype(int)
    assert 0 < np.abs(read - slide.level_pixels(0)).mean() < 3
    assert {level["quality"] for level in group.attrs["wsistore"]["levels"]} == {quality}


def test_kept_levels_hold_the_slides_pixels(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="zstd", keep_levels=True).raise_for_failures()
    group = zarr.open_group(store, mode="r")
    for level in range(2):
        read = group[str(level)][:].transpose(1, 2, 0)
        np.testing.assert_array_equal(read, slide.level_pixels(level))


def test_added_levels_are_averages_of_the_level_above(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, add_levels=True).raise_for_failures()
    group = zarr.open_group(store, mode="r")
    notes = group.attrs["wsistore"]["levels"]
    assert [note["pixels"] for note in notes] == ["tiles", "store", "tiles", "store"][: len(notes)]
    read = group["1"][:].transpose(1, 2, 0).astype(int)
    assert np.abs(read - naive_halve(slide.level_pixels(0))).mean() < 4


def test_white_chunks_are_left_out(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="zstd", format="0.4").raise_for_failures()
    assert not (store / "0/0/0/0").exists()
    assert (store / "0/0/0/1").exists()


def test_bands_end_between_tiles_and_are_bounded(slide):
    with open_slide(slide.path) as opened:
        plan = plan_conversion(opened, ConversionOptions(codec="zstd", chunk=48))
    level = plan.levels[0]
    height = band_height(level, 301, 64)
    assert height % 48 == height % 64 == 0
    assert band_height(level, 10**6, 64) * 3 * 10**6 <= max(BAND_BYTES, 48 * 3 * 10**6)


def test_each_tile_is_decoded_once(tmp_path, slide, monkeypatch):
    from wsistore.slides import reading

    seen = []
    decode = reading.decode

    def counting(block, *args, **kwargs):
        seen.append(bytes(block))
        return decode(block, *args, **kwargs)

    monkeypatch.setattr(reading, "decode", counting)
    wsistore.convert(
        slide.path, tmp_path / "a.ome.zarr", codec="zstd", keep_levels=True, workers=1
    ).raise_for_failures()
    tiles = sum(int((level.counts > 0).sum()) for level in slide.written)
    assert len(seen) == tiles


def test_box_of_a_task_is_clipped(slide):
    from wsistore.pyramid.units import ShardTask, SlideRef

    with open_slide(slide.path) as opened:
        level = plan_conversion(opened, ConversionOptions(shard=256)).levels[0]
    task = ShardTask(SlideRef(str(slide.path)), "", level, 0, 1, "0.5", "raise")
    assert task.box == Box(256, 0, 45, 203)
