"""OME-TIFF: what the OME-XML says, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from wsistore.errors import CorruptSlideError, UnsupportedSlideError

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def pixels(**changes: str | None) -> str:
    attributes = {
        "DimensionOrder": "XYCZT",
        "Type": "uint8",
        "SizeX": "400",
        "SizeY": "300",
        "SizeZ": "1",
        "SizeC": "3",
        "SizeT": "1",
        "PhysicalSizeX": "0.25",
        "PhysicalSizeY": "0.5",
    } | changes
    return " ".join(f'{key}="{value}"' for key, value in attributes.items() if value is not None)


def xml(attributes: str, *, before: str = "", inside: str = "", after: str = "") -> str:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}">{before}'
        f'<Image ID="Image:0" Name="slide">{inside}<Pixels {attributes}>'
        f'<Channel SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image>'
        f"{after}</OME>"
    )


@pytest.fixture
def open_ome(tiffs: Any) -> Any:
    """Open an OME-TIFF of 400x300 px with this OME-XML and these further pages."""

    def make(text: str, *others: Any, first: Any = None, **layout: Any) -> Any:
        page = first or tiffs.tiled_page(400, 300)
        page = page.having(t270=(2, text.encode() + b"\0"))
        subs = (tiffs.tiled_page(200, 150, t254=(4, 1)), tiffs.tiled_page(100, 75, t254=(4, 1)))
        return tiffs.open(tiffs.PageSpec(page.tags, page.blocks, subs), *others, **layout)

    return make


def test_a_pyramid_with_pixel_size(open_ome: Any, layout: dict[str, Any]) -> None:
    container = open_ome(xml(pixels()), **layout)
    assert container.format == "ome-tiff"
    assert [level.downsample for level in container.levels] == [1, 2, 4]
    assert container.mpp == (0.25, 0.5)
    assert container.mpp.origin == "ome.PhysicalSizeX"
    assert container.magnification is None
    assert container.properties["ome.Name"] == "slide"
    assert container.properties["ome.PhysicalSizeX"] == "0.25"
    assert container.properties["tiff.ImageDescription"].startswith("<?xml")


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [("µm", "0.25", 0.25), ("nm", "250", 0.25), ("mm", "0.00025", 0.25), ("um", "0,25", 0.25)],
)
def test_units(open_ome: Any, unit: str, text: str, value: float) -> None:
    changes = dict.fromkeys(("PhysicalSizeX", "PhysicalSizeY"), text)
    changes |= dict.fromkeys(("PhysicalSizeXUnit", "PhysicalSizeYUnit"), unit)
    assert open_ome(xml(pixels(**changes))).mpp == pytest.approx((value, value))


@pytest.mark.parametrize("units", [("pixel", "pixel"), ("µm", "nm"), ("reference frame",) * 2])
def test_units_that_are_no_length(open_ome: Any, units: tuple[str, str]) -> None:
    text = xml(pixels(PhysicalSizeXUnit=units[0], PhysicalSizeYUnit=units[1]))
    container = open_ome(text)
    assert container.mpp is None
    assert "not one known unit of length" in container.notes[0]


def test_absurd_pixel_size(open_ome: Any) -> None:
    container = open_ome(xml(pixels(PhysicalSizeX="1000", PhysicalSizeY="1000")))
    assert container.mpp is None
    assert "ome.PhysicalSizeX = '1000' is not used" in container.notes[0]


def test_resolution_tags_stand_in(tiffs: Any, open_ome: Any) -> None:
    tags = {"t282": (5, (40000, 1)), "t283": (5, (40000, 1)), "t296": (3, 3)}
    text = xml(pixels(PhysicalSizeX=None, PhysicalSizeY=None))
    container = open_ome(text, first=tiffs.tiled_page(400, 300, **tags))
    assert container.mpp == (0.25, 0.25)
    assert container.mpp.origin == "tiff.XResolution"


def test_magnification_of_the_objective_in_use(open_ome: Any) -> None:
    instrument = (
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="10"/>'
        '<Objective ID="Objective:1" NominalMagnification="40.0"/></Instrument>'
    )
    text = xml(pixels(), before=instrument, inside='<ObjectiveSettings ID="Objective:1"/>')
    container = open_ome(text)
    assert container.magnification == 40
    assert container.magnification.origin == "ome.NominalMagnification"
    assert open_ome(xml(pixels(), before=instrument)).magnification is None


def test_associated_images_by_name(tiffs: Any, open_ome: Any) -> None:
    others = "".join(
        f'<Image ID="Image:{page}" Name="{name}"><Pixels {pixels(SizeX="20", SizeY="11")}>'
        f'<TiffData IFD="{page}"/></Pixels></Image>'
        for page, name in ((1, "label image"), (2, "macro image"), (3, "second label"))
    )
    small = tiffs.striped_page()
    container = open_ome(xml(pixels(), after=others), small, small.having(t278=(4, 4)), small)
    assert set(container.associated) == {"label", "macro"}
    assert container.associated["label"]().shape == (11, 20, 3)


def test_levels_behind_the_first_page(tiffs: Any) -> None:
    text = xml(pixels()).encode() + b"\0"
    container = tiffs.open(
        tiffs.tiled_page(400, 300, t270=(2, text)),
        tiffs.tiled_page(200, 150, t254=(4, 1)),
        tiffs.tiled_page(100, 75),  # another plane or image: nothing says it is reduced
    )
    assert [level.size for level in container.levels] == [(400, 300), (200, 150)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SizeZ": "5"}, "SizeZ 5"),
        ({"SizeT": "2"}, "SizeT 2"),
        ({"SizeC": "4"}, r"SizeC 4; read are .* \(3 samples per pixel here\)"),
        ({"Type": "uint16"}, "Type uint16"),
        ({"Type": None}, "Type None"),
    ],
)
def test_other_planes_are_unsupported(
    open_ome: Any, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(UnsupportedSlideError, match=message):
        open_ome(xml(pixels(**changes)))


def test_strips_are_unsupported(tiffs: Any) -> None:
    text = xml(pixels(SizeX="20", SizeY="11"))
    with pytest.raises(UnsupportedSlideError, match="OME-TIFF in strips"):
        tiffs.open(tiffs.striped_page(description=text))


def test_metadata_elsewhere_is_unsupported(open_ome: Any) -> None:
    text = f'<OME xmlns="{OME}"><BinaryOnly MetadataFile="other.ome" UUID="urn:uuid:1"/></OME>'
    with pytest.raises(UnsupportedSlideError, match="lies in another file"):
        open_ome(text)


@pytest.mark.parametrize(
    "declaration",
    ['<!DOCTYPE OME [<!ENTITY a "b">]>', '<!doctype OME SYSTEM "file:///etc/passwd">'],
)
def test_declarations_are_refused(open_ome: Any, declaration: str) -> None:
    with pytest.raises(UnsupportedSlideError, match="document type or entities"):
        open_ome(xml(pixels()).replace("<OME", declaration + "<OME", 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'<OME xmlns="{OME}"><Image>', "can't be parsed"),
        (f'<OME xmlns="{OME}"></OME>', "names no Image"),
        (f'<OME xmlns="{OME}"><Image/></OME>', "names no Image"),
        (xml(pixels(SizeX="401")), "but OME image 'slide' says SizeX 401"),
        (xml(pixels()).replace('IFD="0"', 'IFD="9"'), "lies in IFD 9, the file has 1"),
    ],
)
def test_broken_xml_is_refused(open_ome: Any, text: str, message: str) -> None:
    with pytest.raises(CorruptSlideError, match=message):
        open_ome(text)


def test_deeply_nested_xml_is_survived(open_ome: Any) -> None:
    deep = "<A>" * 20000 + "</A>" * 20000
    assert open_ome(xml(pixels(), after=deep)).format == "ome-tiff"
