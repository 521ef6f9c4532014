from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from wsistore.testing import VARIANTS, SyntheticSlide, texture

Factory = Callable[..., SyntheticSlide]

SMALL = {"size": (600, 420), "levels": (1, 2)}
READ_BY_OPENSLIDE = [name for name, variant in VARIANTS.items() if variant.openslide]
REFUSED_BY_OPENSLIDE = [name for name, variant in VARIANTS.items() if not variant.openslide]
FIXTURE = {"j2k_33003_422", "j2k_33003_422_photo6"}
WRONG_COLOUR = {name for name in VARIANTS if name.startswith("x_")}
# Marks that the tag overrules: the samples are what the tag says, so colours come out right.
RIGHT_BY_TAG = {"x_rgbtag_rgb_app14_ycbcr", "x_rgbtag_rgb_jfif", "x_ycbcrtag_ycbcr_app14_rgb"}


@functools.cache
def the_texture() -> NDArray[np.uint8]:
    return texture(600, 420)


def over_white(image: object) -> NDArray[np.int64]:
    pixels = np.asarray(image).astype(np.int64)
    alpha = pixels[..., 3:]
    return (pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255


def difference(a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.int64]:
    return np.abs(a.astype(np.int64) - b.astype(np.int64))


@pytest.mark.parametrize("name", READ_BY_OPENSLIDE)
def test_openslide_sees_the_same_pixels(name: str, slide_factory: Factory) -> None:
    slide = slide_factory(name, **SMALL)
    with openslide.OpenSlide(slide.path) as other:
        assert other.properties["openslide.vendor"] == "aperio"
        assert other.level_dimensions == slide.level_sizes
        assert set(other.associated_images) == {"thumbnail", "label", "macro"}
        for level, size in enumerate(slide.level_sizes):
            seen = over_white(other.read_region((0, 0), level, size))
            worst = difference(seen, slide.level_pixels(level)).max()
            assert worst <= slide.variant.tolerance


@pytest.mark.parametrize("name", REFUSED_BY_OPENSLIDE)
def test_what_openslide_is_said_to_refuse_is_refused(name: str, slide_factory: Factory) -> None:
    with pytest.raises(openslide.OpenSlideError, match="compression"):
        openslide.OpenSlide(slide_factory(name, **SMALL).path)


@pytest.mark.parametrize("name", VARIANTS)
def test_tifffile_reads_the_structure(name: str, slide_factory: Factory) -> None:
    slide = slide_factory(name, **SMALL)
    variant = slide.variant
    with tifffile.TiffFile(slide.path) as tiff:
        assert tiff.is_svs
        assert len(tiff.pages) == 5
        for level, page in ((0, tiff.pages[0]), (1, tiff.pages[2])):
            size = slide.level_sizes[level]
            assert (page.imagewidth, page.imagelength) == size
            assert (page.tilewidth, page.tilelength) == (256, 256)
            assert int(page.compression) == variant.compression
            assert int(page.photometric) == variant.photometric
            assert int(page.predictor) == variant.predictor
            assert page.samplesperpixel == variant.channels
            assert (page.jpegtables or b"") == slide.jpeg_tables(level)
            tag = page.tags.get(530)
            assert (tag and tag.value) == variant.subsampling_tag
            blocks = [
                slide.tile_bytes(level, c, r)
                for r in range(page.shape[0] // 256 + 1)
                for c in range(page.shape[1] // 256 + 1)
            ]
            assert [len(block) for block in blocks] == list(page.databytecounts)


@pytest.mark.parametrize("name", [n for n in VARIANTS if n not in FIXTURE])
def test_the_truth_is_the_texture(name: str, slide_factory: Factory) -> None:
    slide = slide_factory(name, **SMALL)
    drawn = the_texture()
    if slide.variant.stream == "gray":
        weighted = drawn @ np.array([0.299, 0.587, 0.114])
        drawn = np.repeat(np.rint(weighted)[..., None], 3, axis=2).astype(np.uint8)
    error = difference(slide.level_pixels(0), drawn)
    if slide.variant.lossless:
        assert error.max() <= (1 if slide.variant.stream == "gray" else 0)
    elif name in WRONG_COLOUR - RIGHT_BY_TAG:
        assert error.mean() > 30  # the tag, which readers follow, is wrong about the stream
    else:
        assert 0 < error.mean() < 5


def test_the_subsampled_fixture_shows_tissue(slide_factory: Factory) -> None:
    tile = slide_factory("j2k_33003_422", **SMALL).tile_pixels(0, 0, 0)
    # The window of the texture that it was made from; see the README beside it.
    assert difference(tile, texture(256, 256, x=180, y=330)).mean() < 8


@pytest.mark.parametrize("tables", ["shared", "dqt", "inline"])
def test_tables_lie_where_the_variant_says(tables: str, slide_factory: Factory) -> None:
    name = {
        "shared": "jpeg_ycbcr422_tables",
        "dqt": "jpeg_ycbcr422_tables_dqt",
        "inline": "jpeg_ycbcr422_full",
    }[tables]
    slide = slide_factory(name, **SMALL)
    shared, block = slide.jpeg_tables(0), slide.tile_bytes(0, 0, 0)
    assert (b"\xff\xdb" in shared, b"\xff\xc4" in shared) == {
        "shared": (True, True),
        "dqt": (True, False),
        "inline": (False, False),
    }[tables]
    header = block[: block.index(b"\xff\xda")]
    assert (b"\xff\xdb" in header, b"\xff\xc4" in header) == {
        "shared": (False, False),
        "dqt": (False, True),
        "inline": (True, True),
    }[tables]


def test_aperios_own_jpeg_has_no_marks_and_lies_about_chroma(slide_factory: Factory) -> None:
    slide = slide_factory("jpeg_rgb_tables", **SMALL)
    block = slide.tile_bytes(0, 1, 1)
    frame = block.index(b"\xff\xc0")
    assert block[2:4] == b"\xff\xc0"  # nothing before the frame
    assert block[frame + 10 : frame + 19 : 3] == b"\0\1\2"
    assert block[frame + 11 : frame + 19 : 3] == b"\x11\x11\x11"  # not subsampled ...
    assert slide.variant.subsampling_tag == (2, 2)  # ... whatever tag 530 says
    assert len(slide.jpeg_tables(0)) == 289  # as in CMU-1


def test_every_variant_says_what_it_is() -> None:
    assert len(VARIANTS) >= 50
    assert {v.codec for v in VARIANTS.values()} >= {"jpeg", "jpeg2000", "lzw", "deflate", "none"}
    assert len({v.description + str(v.compression) for v in VARIANTS.values()}) == len(VARIANTS)
    assert VARIANTS["j2k_33003"].color == VARIANTS["j2k_33003_photo6"].color == "ycbcr"
    assert VARIANTS["x_ycbcrtag_rgb_bare"].color == "ycbcr"
    assert VARIANTS["gray_white_is_zero"].color == "white-is-zero"
