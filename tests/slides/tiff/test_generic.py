"""Tiled TIFFs that no vendor claims, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from wsistore.errors import UnsupportedSlideError


def test_a_pyramid_of_pages(tiffs: Any, layout: dict[str, Any]) -> None:
    container = tiffs.open(
        tiffs.tiled_page(400, 300, t305=(2, b"some writer\0")),
        tiffs.tiled_page(200, 150, t254=(4, 1)),
        tiffs.tiled_page(100, 75),  # no reduced bit, but a plain smaller copy
        **layout,
    )
    assert container.format == "generic-tiff"
    assert [level.downsample for level in container.levels] == [1, 2, 4]
    assert container.properties["tiff.Software"] == "some writer"
    assert container.properties["wsistore.format"] == "generic-tiff"
    assert container.associated == {}
    assert container.magnification is None
    assert container.mpp is None
    assert container.notes == ()


def test_a_pyramid_of_subifds(tiffs: Any, layout: dict[str, Any]) -> None:
    page = tiffs.tiled_page(400, 300)
    subs = (tiffs.tiled_page(200, 150, t254=(4, 1)), tiffs.tiled_page(100, 75, t254=(4, 1)))
    container = tiffs.open(tiffs.PageSpec(page.tags, page.blocks, subs), **layout)
    assert [level.size for level in container.levels] == [(400, 300), (200, 150), (100, 75)]
    assert container.tile_table(2).locate_all().counts.tolist() == [[3072] * 4] * 3


def test_masks_are_no_levels(tiffs: Any) -> None:
    container = tiffs.open(tiffs.tiled_page(400, 300), tiffs.tiled_page(200, 150, t254=(4, 5)))
    assert len(container.levels) == 1


def test_gray(tiffs: Any) -> None:
    page = tiffs.tiled_page(t262=(3, 0), t277=(3, 1), t258=(3, 8))
    assert tiffs.open(page).tile_table(0).block_format.color == "white-is-zero"


def test_pixel_size_by_resolution(tiffs: Any) -> None:
    tags = {"t282": (5, (40000, 1)), "t283": (5, (20000, 1)), "t296": (3, 3)}
    container = tiffs.open(tiffs.tiled_page(**tags))
    assert container.mpp == (0.25, 0.5)
    assert container.mpp.origin == "tiff.XResolution"


def test_a_default_resolution_is_noted(tiffs: Any) -> None:
    tags = {"t282": (5, (1, 1)), "t283": (5, (1, 1)), "t296": (3, 1)}
    container = tiffs.open(tiffs.tiled_page(**tags))
    assert container.mpp is None
    assert "tiff.XResolution = 1/1, 1/1 (unit 1) is not used" in container.notes[0]


def test_strips_are_refused(tiffs: Any) -> None:
    with pytest.raises(UnsupportedSlideError, match="IFD 0: its first image lies in strips"):
        tiffs.open(tiffs.striped_page())


@pytest.mark.parametrize(
    ("changes", "vendor"),
    [
        ({"t65420": (4, 1)}, "Hamamatsu NDPI"),
        ({"t305": (2, b"Philips DP v1.0\0")}, "Philips TIFF"),
        ({"t305": (2, b"MedScan 1\0")}, "Trestle TIFF"),
        ({"t700": (7, b"<?xml?><Metadata><iScan Magnification='40'/></Metadata>")}, "Ventana BIF"),
        (
            {"t270": (2, b'<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">\0')},
            "Leica SCN",
        ),
    ],
)
def test_other_vendors_are_named(tiffs: Any, changes: dict[str, Any], vendor: str) -> None:
    with pytest.raises(UnsupportedSlideError, match=f"a {vendor}") as caught:
        tiffs.open(tiffs.tiled_page(**changes))
    assert "wsistore[openslide]" in caught.value.hint


def test_a_vendor_is_named_before_strips_and_broken_pages_are(tiffs: Any) -> None:
    first = tiffs.striped_page(t700=(7, b"<iScan/>"))
    with pytest.raises(UnsupportedSlideError, match="Ventana"):
        tiffs.open(first, tiffs.tiled_page(t256=None))


def test_an_ndpi_is_refused_before_its_chain_is_followed(tiffs: Any) -> None:
    tiff = tiffs.Tiff()
    tiff.add(tiffs.tiled_page(t65420=(4, 1)))
    tiff.data[tiff.link : tiff.link + 4] = b"\xff" * 4
    with pytest.raises(UnsupportedSlideError, match="NDPI"):
        tiffs.open_bytes(bytes(tiff.data))
