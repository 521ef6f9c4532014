"""Aperio: roles of pages, and metadata with origins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wsistore.errors import CorruptSlideError, UnsupportedSlideError

HEAD = "Aperio Image Library v11.2.1 \r\n"
FIRST = HEAD + "400x300 [0,0 400x300] (32x32) JPEG/RGB Q=30"


@pytest.fixture
def pages(tiffs: Any) -> list[Any]:
    """Return the pages of an Aperio file in their usual order."""
    return [
        tiffs.tiled_page(400, 300, description=FIRST + "|AppMag = 20|MPP = 0.4990"),
        tiffs.striped_page(40, 30, description=HEAD + "400x300 -> 40x30 - |AppMag = 20"),
        tiffs.tiled_page(100, 75, description=HEAD + "400x300 [0,0 400x300] -> 100x75"),
        tiffs.striped_page(20, 11, description=HEAD + "label 20x11", t254=(4, 1)),
        tiffs.striped_page(30, 12, description=HEAD + "macro 30x12", t254=(4, 9)),
    ]


def test_roles_of_pages(tiffs: Any, pages: list[Any], layout: dict[str, Any]) -> None:
    container = tiffs.open(*pages, **layout)
    assert container.format == "aperio"
    assert [(tuple(level.size), level.downsample) for level in container.levels] == [
        ((400, 300), 1.0),
        ((100, 75), 4.0),
    ]
    assert list(container.associated) == ["thumbnail", "label", "macro"]
    assert container.mpp == (0.499, 0.499)
    assert container.mpp.origin == "aperio.MPP"
    assert container.magnification == 20
    assert container.magnification.origin == "aperio.AppMag"
    assert container.notes == ()
    assert container.properties["wsistore.format"] == "aperio"
    assert container.properties["aperio.MPP"] == "0.4990"
    assert container.properties["tiff.ResolutionUnit"] == "inch"
    assert container.properties["tiff.ImageDescription"].startswith("Aperio")
    assert container.icc_profile is None


def test_associated_images_are_read_when_asked(tiffs: Any, pages: list[Any]) -> None:
    source = tiffs.MemorySource(tiffs.build(*pages))
    container = tiffs.open_tiff_source(source)
    strips = container.associated["label"]
    before = len(source.reads)
    label = strips()
    assert len(source.reads) > before
    assert label.shape == (11, 20, 3)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label[:, 7, 1], [0] * 4 + [1] * 4 + [2] * 3)
    assert container.associated["macro"]().shape == (12, 30, 3)


def test_subfile_types_name_images_without_a_description(tiffs: Any, pages: list[Any]) -> None:
    pages[3], pages[4] = pages[3].having(t270=None), pages[4].having(t270=None)
    assert list(tiffs.open(*pages).associated) == ["thumbnail", "label", "macro"]


def test_the_description_wins_over_the_subfile_type(tiffs: Any, pages: list[Any]) -> None:
    pages[3] = pages[3].having(t254=(4, 9))
    pages[4] = pages[4].having(t254=(4, 1))
    container = tiffs.open(*pages)
    assert container.associated["label"]().shape == (11, 20, 3)


def test_a_label_in_the_thumbnails_place_is_no_thumbnail(tiffs: Any, pages: list[Any]) -> None:
    assert list(tiffs.open(pages[0], pages[3]).associated) == ["label"]
    assert list(tiffs.open(pages[0], pages[4].having(t270=None)).associated) == ["macro"]


def test_a_tiled_label_is_no_level(tiffs: Any, pages: list[Any]) -> None:
    pages[3] = tiffs.tiled_page(200, 150, description=HEAD + "label 200x150")
    container = tiffs.open(*pages)
    assert len(container.levels) == 2
    image = container.associated["label"]()
    assert image.shape == (150, 200, 3)
    assert image[40, 70].tolist() == [1 * 7 + 2] * 3  # second row of 7 tiles, third tile


def test_what_is_left_out_is_noted(tiffs: Any, pages: list[Any]) -> None:
    pages += [pages[3], tiffs.striped_page(), tiffs.tiled_page(64, 64)]
    notes = tiffs.open(*pages).notes
    assert notes == (
        "IFD 5 is left out: a second label",
        "IFD 6 is left out: in strips, and nothing says what it shows",
        "IFD 7 is left out: 64x64 px is no reduced copy of 100x75 px",
    )


def test_a_decimal_comma(tiffs: Any) -> None:
    container = tiffs.open(tiffs.tiled_page(description=FIRST + "|AppMag = 40,0|MPP = 0,2520"))
    assert container.mpp == (0.252, 0.252)
    assert container.magnification == 40


@pytest.mark.parametrize("value", ["0", "nan", "1e9", "half a micron", "-0.5"])
def test_absurd_values_stay_in_the_properties_alone(tiffs: Any, value: str) -> None:
    container = tiffs.open(tiffs.tiled_page(description=FIRST + f"|AppMag = {value}|MPP = {value}"))
    assert container.mpp is None
    assert container.magnification is None
    assert container.properties["aperio.MPP"] == value
    assert [note.split(" is not used")[0] for note in container.notes] == [
        f"aperio.MPP = {value!r}",
        f"aperio.AppMag = {value!r}",
    ]


def test_resolution_tags_of_an_aperio_are_not_believed(tiffs: Any) -> None:
    page = tiffs.tiled_page(description=FIRST, t282=(5, (40000, 1)), t283=(5, (40000, 1)))
    container = tiffs.open(page.having(t296=(3, 3)))
    assert container.mpp is None
    assert container.properties["tiff.XResolution"] == "40000"
    assert container.properties["tiff.ResolutionUnit"] == "centimeter"


def test_an_icc_profile_is_read_when_asked(tiffs: Any, pages: list[Any]) -> None:
    profile = bytes(range(256)) * 100
    pages[0] = pages[0].having(t34675=(7, profile))
    source = tiffs.MemorySource(tiffs.build(*pages))
    container = tiffs.open_tiff_source(source)
    assert max(count for _, count in source.reads) < len(profile)
    assert container.icc_profile == profile


def test_tables_are_made_once(tiffs: Any, pages: list[Any]) -> None:
    container = tiffs.open(*pages)
    table = container.tile_table(1)
    assert table is container.tile_table(1)
    assert (table.size, table.grid) == ((100, 75), (4, 3))
    with pytest.raises(IndexError):
        container.tile_table(2)


def test_levels_of_a_kind_that_is_not_read_are_refused(tiffs: Any, pages: list[Any]) -> None:
    pages[2] = pages[2].having(t258=(3, (16, 16, 16)))
    with pytest.raises(UnsupportedSlideError, match="IFD 2: bits per sample"):
        tiffs.open(*pages)


def test_levels_with_too_few_offsets_are_refused(tiffs: Any, pages: list[Any]) -> None:
    pages[2] = pages[2].having(t324=(4, (8, 8)))
    with pytest.raises(CorruptSlideError, match=r"IFD 2 at byte \d+: TileOffsets"):
        tiffs.open(*pages)


def test_a_broken_label_breaks_only_itself(tiffs: Any, pages: list[Any]) -> None:
    pages[3] = pages[3].having(t279=(4, (10**8,) * 3))
    container = tiffs.open(*pages)
    with pytest.raises(CorruptSlideError):
        container.associated["label"]()
    assert container.associated["macro"]().any()
