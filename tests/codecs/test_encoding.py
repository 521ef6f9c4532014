"""Encoding for transcoding: what goes in comes out, and options mean what they say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from wsistore.codecs import BlockFormat, decode, encode, encoders, read_jpeg_header
from wsistore.errors import UsageError

_LOSSLESS = ["jpeg2000", "jpegxl", "webp", "png", "zstd", "blosc", "deflate", "none"]


@pytest.mark.parametrize("codec", _LOSSLESS)
@pytest.mark.parametrize("size", [(64, 48), (61, 47), (1, 1)])
def test_lossless_codecs_give_back_the_pixels(picture, codec, size) -> None:
    pixels = picture(*size)
    block = encode(pixels, codec)
    assert isinstance(block, bytes)
    assert (decode(block, BlockFormat(codec, *size)) == pixels).all()


@pytest.mark.parametrize("codec", ["jpeg", "jpegxl", "webp", "jpeg2000"])
def test_quality_trades_size_for_likeness(picture, codec) -> None:
    pixels = picture(128, 128)
    form = BlockFormat(codec, 128, 128, color="ycbcr" if codec == "jpeg" else "rgb")
    low, high = (30, 45) if codec == "jpeg2000" else (40, 95)
    coarse, fine = encode(pixels, codec, quality=low), encode(pixels, codec, quality=high)
    assert len(coarse) < len(fine) < pixels.nbytes

    def error(block: bytes) -> float:
        return float(np.abs(decode(block, form).astype(int) - pixels).mean())

    assert error(fine) < error(coarse) < 12


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({}, (2, 1)),
        ({"subsampling": "444"}, (1, 1)),
        ({"subsampling": "422"}, (2, 1)),
        ({"subsampling": "420"}, (2, 2)),
        ({"color": "rgb"}, (1, 1)),
    ],
)
def test_jpeg_is_complete_and_says_its_colour(picture, options, factors) -> None:
    pixels = picture(64, 48)
    block = encode(pixels, "jpeg", quality=95, **options)
    assert read_jpeg_header(block).subsampling[0] == factors
    assert block.count(b"Adobe") == 1
    with Image.open(io.BytesIO(block)) as image:
        shown = np.asarray(image)
    form = BlockFormat("jpeg", 64, 48, color=options.get("color", "ycbcr"))
    assert (decode(block, form) == shown).all()
    assert np.abs(shown.astype(int) - pixels).mean() < 6


@pytest.mark.parametrize("codec", ["zstd", "blosc", "deflate", "none"])
def test_byte_codecs_take_any_contiguous_buffer_in_any_layout(picture, codec) -> None:
    planar = np.ascontiguousarray(picture(64, 48).transpose(2, 0, 1))
    blocks = {encode(data, codec) for data in (planar, planar.tobytes(), memoryview(planar))}
    assert len(blocks) == 1
    form = BlockFormat(codec, 64, 48, layout="cyx")
    assert (decode(blocks.pop(), form) == picture(64, 48)).all()


def test_strided_pixels_are_taken(picture) -> None:
    pixels = picture(64, 48)[::2, ::2]
    assert (decode(encode(pixels, "png"), BlockFormat("png", 32, 24)) == pixels).all()


def test_level_is_effort(picture) -> None:
    pixels = picture(128, 128)
    for codec, low, high in (("zstd", -5, 19), ("deflate", 1, 9), ("png", 1, 9), ("blosc", 1, 9)):
        assert len(encode(pixels, codec, level=high)) < len(encode(pixels, codec, level=low))
    assert (
        decode(encode(pixels, "jpegxl", level=1), BlockFormat("jpegxl", 128, 128)) == pixels
    ).all()


def test_all_encoders_have_decoders() -> None:
    from wsistore.codecs import names

    assert set(encoders()) <= set(names())
    assert set(_LOSSLESS) | {"jpeg"} == set(encoders())


@pytest.mark.parametrize(
    ("codec", "options", "words"),
    [
        ("lzw", {}, "no encoder"),
        ("png", {"quality": 5}, "no option quality"),
        ("jpeg", {"level": 5}, "no option level"),
        ("jpeg", {"quality": 0}, "1 to 100"),
        ("jpeg", {"quality": float("nan")}, "1 to 100"),
        ("webp", {"quality": 101}, "0 to 100"),
        ("zstd", {"level": 23}, "-7 to 22"),
        ("jpeg", {"color": "cmyk"}, "cmyk"),
        ("jpeg", {"subsampling": "411"}, "411"),
        ("jpeg", {"color": "rgb", "subsampling": "420"}, "no chroma"),
    ],
)
def test_wrong_options_are_refused(picture, codec, options, words) -> None:
    with pytest.raises(UsageError, match=words):
        encode(picture(8, 8), codec, **options)


@pytest.mark.parametrize("codec", ["png", "zstd"])
def test_wrong_pixels_are_refused(picture, codec) -> None:
    strided, empty = picture(8, 8)[:, ::2], np.zeros((0, 8, 3), np.uint8)
    wrong = [empty, 5] + ([strided] if codec == "zstd" else [strided[..., 0]])
    for pixels in wrong:
        with pytest.raises(UsageError, match="expected"):
            encode(pixels, codec)
