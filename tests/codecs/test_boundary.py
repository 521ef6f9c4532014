"""Errors of the libraries beneath never cross the room's boundary as they are."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from wsistore.codecs import (
    BlockFormat,
    decode,
    decoder_for,
    jpeg_regions,
    names,
    register,
    registry,
    scales,
)
from wsistore.codecs.failures import LIBRARY_ERRORS
from wsistore.errors import DamagedTileError, UnsupportedCodecError, UsageError


def exception_classes(module) -> set[type[Exception]]:
    found = {getattr(module, name, None) for name in dir(module) if name.endswith("Error")}
    return {c for c in found if isinstance(c, type) and issubclass(c, Exception)}


@pytest.mark.parametrize("module", [imagecodecs, simplejpeg, simplejpeg._jpeg, Image])
def test_every_exception_class_of_the_libraries_is_mapped(module) -> None:
    unmapped = {c for c in exception_classes(module) if not issubclass(c, LIBRARY_ERRORS)}
    # Pillow's bomb guard can't trigger: sizes are compared with the tile's before.
    assert unmapped - {Image.DecompressionBombError} == set()


def test_the_enumeration_finds_the_classes() -> None:
    found = {c.__name__ for c in exception_classes(imagecodecs)}
    assert {"Jpeg2kError", "Jpeg8Error", "ImcdError", "WebpError", "JpegxlError"} <= found


@pytest.mark.parametrize("error", [*LIBRARY_ERRORS, imagecodecs.Jpeg2kError, OverflowError])
@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("jpeg_rgb_tables", "simplejpeg.decode_jpeg"),
        ("j2k_33005", "imagecodecs.jpeg2k_decode"),
        ("j2k_33003_422", "PIL.Image.open"),
    ],
)
def test_whatever_the_library_raises_is_a_damaged_tile(
    tile_of, monkeypatch, error, codec, name
) -> None:
    tile = tile_of(codec)
    monkeypatch.setattr(jpeg_regions, "_core", None)  # which would not ask the library
    decode(tile.block, tile.block_format)

    def fail(*args, **kwargs):
        raise error("the library's words")

    monkeypatch.setattr(name, fail)
    with pytest.raises(DamagedTileError, match="library's words") as caught:
        decode(tile.block, tile.block_format)
    assert "256x256" in str(caught.value)
    assert isinstance(caught.value.__cause__, error)


def test_unknown_codecs_are_named_with_those_known() -> None:
    with pytest.raises(UnsupportedCodecError, match=r"'jbig'.*jpeg, jpeg2000"):
        decode(b"x", BlockFormat("jbig", 8, 8))
    with pytest.raises(UnsupportedCodecError):
        decoder_for("")
    with pytest.raises(UnsupportedCodecError):
        scales(BlockFormat("jbig", 8, 8))


def test_all_names_have_decoders() -> None:
    assert {"jpeg", "jpeg2000", "lzw", "deflate", "packbits", "none", "zstd"} <= set(names())
    for name in names():
        assert decoder_for(name).scales[0] == 1


def test_a_faster_decoder_is_slotted_in_without_its_callers(monkeypatch, tile_of) -> None:
    monkeypatch.setattr(registry, "_decoders", dict(registry._decoders))
    tile = tile_of("jpeg_rgb_tables")

    class Faster:
        scales = (1, 2)

        def decode_into(self, block, block_format, out, region, scale, integrity) -> None:
            out[...] = (region.width // 2, scale, len(block) % 256)

    register("jpeg", Faster())
    assert scales(tile.block_format) == (1, 2)
    got = decode(tile.block, tile.block_format, scale=2)
    assert got.shape == (128, 128, 3)
    assert (got == np.array([128, 2, len(tile.block) % 256])).all()


def test_what_is_no_decoder_is_refused() -> None:
    with pytest.raises(UsageError, match="lacks"):
        register("mine", object())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="name"):
        register("", decoder_for("none"))


def test_an_unknown_predictor_is_refused(tile_of) -> None:
    tile = tile_of("lzw")
    with pytest.raises(UnsupportedCodecError, match="predictor 3"):
        decode(tile.block, BlockFormat("lzw", 256, 256, predictor=3))
