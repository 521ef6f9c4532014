"""Regions, scales and given buffers: all equal to slicing the whole tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.codecs import BlockFormat, decode, scales
from wsistore.errors import UsageError
from wsistore.geometry import Box, ceil_div

_SIZES = [(256, 256), (250, 243), (61, 47), (9, 8), (5, 40)]


@st.composite
def regions(draw, sizes=_SIZES):
    width, height = draw(st.sampled_from(sizes))
    scale = draw(st.sampled_from([1, 2, 4, 8]))
    left = draw(st.integers(0, (width - 1) // scale))
    top = draw(st.integers(0, (height - 1) // scale))
    right = draw(st.integers(left + 1, ceil_div(width, scale)))
    bottom = draw(st.integers(top + 1, ceil_div(height, scale)))
    x, y = left * scale, top * scale
    box = Box(x, y, min(right * scale, width) - x, min(bottom * scale, height) - y)
    return (width, height), scale, box


@given(
    regions(),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.sampled_from([0, 1]),
    st.sampled_from(["strict", "fast"]),
)
def test_a_jpeg_region_is_a_slice_of_the_scaled_tile(
    pillow_jpeg, case, subsampling, progressive, restart, integrity
) -> None:
    (width, height), scale, box = case
    tile = pillow_jpeg(
        width,
        height,
        subsampling=subsampling,
        progressive=progressive,
        restart_marker_rows=restart,
    )
    whole = decode(tile.block, tile.block_format, scale=scale)
    assert whole.shape == (ceil_div(height, scale), ceil_div(width, scale), 3)
    got = decode(tile.block, tile.block_format, region=box, scale=scale, integrity=integrity)
    top, left = box.y // scale, box.x // scale
    expected = whole[top : top + got.shape[0], left : left + got.shape[1]]
    assert got.shape == (ceil_div(box.height, scale), ceil_div(box.width, scale), 3)
    assert (got == expected).all()


def test_regions_of_every_variant_equal_slices(any_tile) -> None:
    box = Box(40, 17, 100, 130)
    whole = decode(any_tile.block, any_tile.block_format)
    for integrity in ("strict", "fast"):
        got = decode(any_tile.block, any_tile.block_format, region=box, integrity=integrity)
        assert (got == whole[17:147, 40:140]).all()


def test_any_kind_of_out_gets_the_same_pixels(any_tile) -> None:
    whole = decode(any_tile.block, any_tile.block_format)
    batch = np.zeros((3, 256, 256, 3), np.uint8)
    bigger = np.zeros((300, 300, 3), np.uint8)
    turned = np.zeros((3, 256, 256), np.uint8).transpose(1, 2, 0)
    for out in (batch[1], bigger[20:276, 30:286], turned):
        assert decode(any_tile.block, any_tile.block_format, out=out) is out
        assert (out == whole).all()
    assert not batch[[0, 2]].any()
    assert not bigger[:20].any()
    assert not bigger[:, 286:].any()


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_scaled_decode_is_near_the_area_average(tile_of, scale) -> None:
    tile = tile_of("jpeg_ycbcr422_tables")
    shape = (256 // scale, scale, 256 // scale, scale, 3)
    average = tile.pixels.reshape(shape).mean((1, 3))
    got = decode(tile.block, tile.block_format, scale=scale)
    assert np.abs(got - average).mean() < 4
    shifted = np.abs(np.roll(got, 1, 0).astype(float) - average).mean()
    assert np.abs(got - average).mean() < shifted / 2


def test_scale_used_is_the_one_asked_at_every_small_size(pillow_jpeg) -> None:
    # Where several DCT scales give one size, libjpeg takes the smallest: not offered.
    for width in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17):
        for height in (1, 4, 8, 9, 17):
            tile = pillow_jpeg(width, height, subsampling=0, quality=95)
            if max(width, height) < 8:
                assert scales(tile.block_format) == (1,)
                continue
            for scale in scales(tile.block_format):
                got = decode(tile.block, tile.block_format, scale=scale)
                assert got.shape[:2] == (ceil_div(height, scale), ceil_div(width, scale))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 3}, "1/3"),
        ({"scale": 16}, "1/16"),
        ({"scale": 0}, "1/0"),
        ({"scale": 2, "region": Box(1, 0, 4, 4)}, "multiples"),
        ({"scale": 2, "region": Box(0, 0, 5, 4)}, "multiples"),
        ({"region": Box(0, 0, 257, 4)}, "not inside"),
        ({"region": Box(-1, 0, 4, 4)}, "not inside"),
        ({"region": Box(0, 0, 0, 4)}, "positive"),
        ({"integrity": "sloppy"}, "sloppy"),
        ({"out": np.zeros((256, 255, 3), np.uint8)}, "255"),
        ({"out": np.zeros((256, 256, 3), np.int8)}, "int8"),
        ({"out": np.broadcast_to(np.zeros(3, np.uint8), (256, 256, 3))}, "read-only"),
    ],
)
def test_wrong_calls_are_refused(tile_of, options, words) -> None:
    tile = tile_of("jpeg_rgb_tables")
    with pytest.raises(UsageError, match=words):
        decode(tile.block, tile.block_format, **options)


def test_a_scale_that_the_codec_lacks_is_a_usage_error(tile_of) -> None:
    tile = tile_of("lzw")
    assert scales(tile.block_format) == (1,)
    with pytest.raises(UsageError, match="1/2"):
        decode(tile.block, tile.block_format, scale=2)


def test_scales_of_jpeg_end_at_an_eighth() -> None:
    assert scales(BlockFormat("jpeg", 256, 256)) == (1, 2, 4, 8)
