"""Good tiles of every form decode to the pixels that other decoders give."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from wsistore.codecs import BlockFormat, complete_jpeg, decode
from wsistore.testing.encode import rgb_to_ycbcr
from wsistore.testing.jpeg import adobe

# 33003: the reference rounds the float formula, here it is libjpeg's 16-bit arithmetic.
_TOLERANCE = {"jpeg2000": 1}


def test_every_variant_equals_the_reference(any_tile) -> None:
    got = decode(any_tile.block, any_tile.block_format)
    assert got.dtype == np.uint8
    assert got.shape == (256, 256, 3)
    difference = np.abs(got.astype(int) - any_tile.pixels.astype(int))
    assert difference.max() <= _TOLERANCE.get(any_tile.block_format.codec, 0)
    assert (difference > 0).mean() < 0.002


def test_a_memoryview_decodes_like_bytes(any_tile) -> None:
    view = memoryview(b"xx" + any_tile.block)[2:]
    assert (
        decode(view, any_tile.block_format) == decode(any_tile.block, any_tile.block_format)
    ).all()


def test_every_complete_jpeg_is_a_file_of_its_own(any_jpeg) -> None:
    stream = complete_jpeg(any_jpeg.block, any_jpeg.block_format)
    with Image.open(io.BytesIO(stream)) as image:
        shown = np.asarray(image.convert("RGB"))
    if any_jpeg.block_format.color == "white-is-zero":
        shown = 255 - shown  # a JPEG can't say this; the container does
    assert (shown == any_jpeg.pixels).all()


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [0, 2])
@pytest.mark.parametrize(("width", "height"), [(256, 256), (250, 243), (17, 9), (1, 1)])
def test_jpeg_forms_equal_pillow(
    pillow_jpeg, subsampling, progressive, restart, width, height
) -> None:
    tile = pillow_jpeg(
        width,
        height,
        subsampling=subsampling,
        progressive=progressive,
        restart_marker_rows=restart,
    )
    assert (decode(tile.block, tile.block_format) == tile.pixels).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_gray_jpeg_is_repeated_and_white_is_zero_inverted(pillow_jpeg, progressive) -> None:
    tile = pillow_jpeg(mode="L", progressive=progressive)
    assert (decode(tile.block, tile.block_format) == tile.pixels).all()
    inverted = BlockFormat("jpeg", 256, 256, 1, "white-is-zero")
    assert (decode(tile.block, inverted) == 255 - tile.pixels).all()


@pytest.mark.parametrize("mark", ["none", "adobe 0", "adobe 1", "jfif"])
def test_the_container_decides_the_colour(pillow_jpeg, mark) -> None:
    tile = pillow_jpeg(subsampling=0)
    jfif_length = 2 + int.from_bytes(tile.block[4:6], "big")
    body = tile.block[2 + jfif_length :]
    marks = {
        "none": b"",
        "adobe 0": adobe(0),
        "adobe 1": adobe(1),
        "jfif": tile.block[2 : 2 + jfif_length],
    }
    block = b"\xff\xd8" + marks[mark] + body
    as_ycbcr = decode(block, BlockFormat("jpeg", 256, 256, 3, "ycbcr"))
    as_rgb = decode(block, BlockFormat("jpeg", 256, 256, 3, "rgb"))
    with Image.open(io.BytesIO(tile.block)) as image:
        image.draft("YCbCr", (256, 256))
        samples = np.asarray(image)
    assert (as_ycbcr == tile.pixels).all()
    assert (as_rgb == samples).all()


def test_other_segments_stay_and_jfif_goes(pillow_jpeg) -> None:
    tile = pillow_jpeg(comment=b"a comment", icc_profile=b"profile " * 9, restart_marker_rows=1)
    stream = complete_jpeg(tile.block, tile.block_format)
    assert b"a comment" in stream
    assert b"profile profile" in stream
    assert b"\xff\xdd\x00\x04" in stream
    assert b"JFIF" not in stream
    assert stream.count(b"Adobe") == 1
    assert (decode(tile.block, tile.block_format) == tile.pixels).all()


def test_ycbcr_arithmetic_is_libjpegs(picture, pillow_jpeg) -> None:
    # All chroma pairs, against OpenSlide's and libjpeg's formula in plain integers.
    from wsistore.codecs.ycbcr import ycbcr_to_rgb

    cb, cr = np.meshgrid(np.arange(256), np.arange(256))
    for y in (0, 1, 100, 254, 255):
        planes = np.stack([np.full_like(cb, y), cb, cr], -1).astype(np.uint8)
        b, r = cb - 128, cr - 128
        green = (-22554 * b - 46802 * r + 32768) >> 16
        expected = np.stack([y + ((91881 * r + 32768) >> 16), y + green, 0 * b], -1)
        expected[..., 2] = y + ((116130 * b + 32768) >> 16)
        out = np.empty_like(planes)
        ycbcr_to_rgb(planes, out)
        assert (out == np.clip(expected, 0, 255)).all()
        real = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], -1)
        assert np.abs(out - np.clip(real, 0, 255)).max() < 0.502
        ycbcr_to_rgb(planes, planes)
        assert (planes == out).all()


@pytest.mark.parametrize("codec", ["none", "jpeg2000"])
def test_four_channels_are_laid_over_white(picture, codec) -> None:
    import imagecodecs

    colors = picture(48, 32)
    alpha = np.tile(np.arange(48, dtype=np.uint8) * 5, (32, 1))[..., None]
    for opacity in (alpha, np.full_like(alpha, 255)):
        samples = np.ascontiguousarray(np.concatenate([colors, opacity], -1))
        block = samples.tobytes()
        if codec == "jpeg2000":
            block = imagecodecs.jpeg2k_encode(samples, codecformat="j2k", reversible=True)
        got = decode(bytes(block), BlockFormat(codec, 48, 32, 4))
        a = opacity.astype(float) / 255
        assert np.abs(got - (colors * a + 255 * (1 - a))).max() <= 0.5
        if opacity.min() == 255:
            assert (got == colors).all()


def test_ycbcr_without_subsampling_is_converted_by_us(picture) -> None:
    pixels = picture(64, 64)
    block = rgb_to_ycbcr(pixels).tobytes()
    got = decode(block, BlockFormat("none", 64, 64, 3, "ycbcr"))
    assert np.abs(got.astype(int) - pixels).max() <= 2  # two roundings
    assert not (got == rgb_to_ycbcr(pixels)).all()
