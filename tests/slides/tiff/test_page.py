"""Geometry and encoding of one page."""

from __future__ import annotations

from typing import Any

import pytest

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import Page


@pytest.fixture
def page_of(tiffs: Any) -> Any:
    """Return a page of a hand-made TIFF, with tags changed."""

    def make(tiled: bool = True, **changes: Any) -> Page:
        spec = tiffs.tiled_page() if tiled else tiffs.striped_page()
        data = tiffs.build(spec.having(**changes))
        return Page(TiffIndex(tiffs.MemorySource(data)).ifds[0])

    return make


def test_geometry_of_tiles_and_strips(page_of: Any) -> None:
    tiled = page_of(t254=(4, 1), t323=(3, 16))
    assert (tiled.size, tiled.segment_size, tiled.segment_grid) == ((100, 70), (32, 16), (4, 5))
    assert (tiled.is_tiled, tiled.is_reduced, tiled.is_mask) == (True, True, False)
    striped = page_of(tiled=False, t254=(4, 4))
    assert (striped.segment_size, striped.segment_grid) == ((20, 4), (1, 3))
    assert (striped.is_tiled, striped.is_reduced, striped.is_mask) == (False, False, True)


def test_strips_without_a_height_are_one(page_of: Any) -> None:
    assert page_of(tiled=False, t278=None).segment_size == (20, 11)
    assert page_of(tiled=False, t278=(4, 2**32 - 1)).segment_size == (20, 11)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t256": None}, r"ImageWidth \(tag 256\) is missing"),
        ({"t256": (4, 0)}, r"ImageWidth \(tag 256\) is 0, expected 1 to 2147483648"),
        ({"t257": (4, 2**31 + 1)}, r"ImageLength \(tag 257\) is 2147483649"),
        ({"t322": (4, 2**15 + 1)}, r"TileWidth \(tag 322\) is 32769, expected 1 to 32768"),
        ({"t323": (4, 0)}, r"TileLength \(tag 323\) is 0"),
        ({"t323": None}, r"TileLength \(tag 323\) is missing"),
        ({"tiled": False, "t278": (4, 0)}, r"RowsPerStrip \(tag 278\) is 0"),
    ],
)
def test_absurd_geometry_is_refused(page_of: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptSlideError, match=message):
        page_of(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t324": (4, (16, 16))}, r"TileOffsets .* 2 values, expected 12 \(4 columns x 3 rows\)"),
        ({"t325": (4, (16,) * 13)}, r"TileByteCounts .* 13 values, expected 12"),
        ({"t325": (7, b"x" * 12)}, r"TileByteCounts .* field type 7, expected unsigned integers"),
        ({"tiled": False, "t279": (4, 3)}, r"StripByteCounts .* 1 values, expected 3"),
    ],
)
def test_as_many_offsets_and_counts_as_tiles(
    page_of: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CorruptSlideError, match=message):
        page_of(**changes).segments()


def test_a_missing_array_is_named(tiffs: Any) -> None:
    spec = tiffs.tiled_page()
    data = tiffs.build(tiffs.PageSpec(spec.tags))
    with pytest.raises(CorruptSlideError, match=r"TileOffsets \(tag 324\) is missing"):
        Page(TiffIndex(tiffs.MemorySource(data)).ifds[0]).segments()


@pytest.mark.parametrize(
    ("compression", "photometric", "samples", "codec", "color"),
    [
        (1, 2, 3, "none", "rgb"),
        (1, 2, 4, "none", "rgb"),
        (1, 1, 1, "none", "gray"),
        (5, 0, 1, "lzw", "white-is-zero"),
        (7, 2, 3, "jpeg", "rgb"),
        (7, 6, 3, "jpeg", "ycbcr"),
        (7, 1, 1, "jpeg", "gray"),
        (8, 2, 3, "deflate", "rgb"),
        (32946, 2, 3, "deflate", "rgb"),
        (32773, 2, 3, "packbits", "rgb"),
        (33003, 2, 3, "jpeg2000", "ycbcr"),
        (33003, 6, 3, "jpeg2000", "ycbcr"),
        (33005, 6, 3, "jpeg2000", "rgb"),
        (34712, 2, 3, "jpeg2000", "rgb"),
        (34712, 6, 3, "jpeg2000", "ycbcr"),
        (50000, 2, 3, "zstd", "rgb"),
        (34926, 2, 3, "zstd", "rgb"),
        (50001, 2, 3, "webp", "rgb"),
        (34927, 2, 3, "webp", "rgb"),
        (50002, 2, 3, "jpegxl", "rgb"),
    ],
)
def test_the_tags_name_codec_and_colour(
    page_of: Any, compression: int, photometric: int, samples: int, codec: str, color: str
) -> None:
    page = page_of(
        t259=(3, compression), t262=(3, photometric), t277=(3, samples), t258=(3, (8,) * samples)
    )
    found = page.block_format()
    assert (found.codec, found.color, found.channels) == (codec, color, samples)
    assert (found.width, found.height, found.tables, found.predictor) == (32, 32, b"", 1)


def test_jpeg_tables_are_read_when_wanted(page_of: Any) -> None:
    page = page_of(t259=(3, 7), t347=(7, b"\xff\xd8tables\xff\xd9"))
    assert page.block_format().tables == b"\xff\xd8tables\xff\xd9"
    assert page.block_format(with_tables=False).tables == b""
    assert page_of(t259=(3, 5), t347=(7, b"tables")).block_format().tables == b""


def test_the_predictor_counts_only_where_tiff_has_it(page_of: Any) -> None:
    assert page_of(t259=(3, 5), t317=(3, 2)).block_format().predictor == 2
    assert page_of(t259=(3, 7), t317=(3, 2)).block_format().predictor == 1


def test_planes_of_one_sample_are_interleaved_anyhow(page_of: Any) -> None:
    page = page_of(t262=(3, 1), t277=(3, 1), t258=(3, 8), t284=(3, 2))
    assert page.block_format().channels == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t259": (3, 6)}, r"IFD 0: compression 6 \(old-style JPEG\)"),
        ({"t259": (3, 4711)}, r"compression 4711 \(unknown\)"),
        ({"t259": (3, 5), "t317": (3, 3)}, r"Predictor \(tag 317\) 3, only 1 and 2"),
        ({"t258": (3, (16, 16, 16))}, r"bits per sample \(16, 16, 16\)"),
        ({"t258": None}, r"bits per sample \(1,\)"),
        ({"t258": (3, (8, 8))}, r"bits per sample \(8, 8\) of 3 samples"),
        ({"t277": (3, 2), "t258": (3, (8, 8))}, "2 samples per pixel"),
        ({"t339": (3, (3, 3, 3))}, "no unsigned integers"),
        ({"t284": (3, 2)}, "separate planes"),
        ({"t32997": (4, 5)}, "image depth 5"),
        ({"t266": (3, 2)}, "FillOrder 2"),
        ({"t262": (3, 3), "t277": (3, 1), "t258": (3, 8)}, r"interpretation 3 \(palette\)"),
        ({"t262": (3, 5), "t277": (3, 4), "t258": (3, 8)}, r"interpretation 5 \(CMYK\)"),
        ({"t262": (3, 6)}, r"interpretation 6 \(YCbCr\) with the codec none"),
        ({"t262": (3, 99)}, r"interpretation 99 \(unknown\)"),
    ],
)
def test_what_is_not_read_is_said(page_of: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedSlideError, match=message):
        page_of(**changes).block_format()


@pytest.mark.parametrize(
    "changes",
    [
        {"t262": (3, 1)},
        {"t259": (3, 7), "t262": (3, 6), "t277": (3, 4), "t258": (3, (8, 8, 8, 8))},
        {"t262": (3, 2), "t277": (3, 1), "t258": (3, 8)},
        {"t259": (3, 33003), "t277": (3, 1), "t258": (3, 8)},
    ],
)
def test_contradictory_samples_are_refused(page_of: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptSlideError, match=r"samples per pixel with .*, expected"):
        page_of(**changes).block_format()


def test_a_missing_photometric_tag_is_refused(page_of: Any) -> None:
    with pytest.raises(CorruptSlideError, match=r"PhotometricInterpretation \(tag 262\)"):
        page_of(t262=None).block_format()
