"""OME-TIFF: OME-XML in the first description, the pyramid in SubIFDs.

Format: https://ome-model.readthedocs.io (OME-TIFF specification and sub-resolutions).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.slides.metadata import (
    MICROMETRES,
    MagnificationFound,
    MppFound,
    magnification_of_text,
    mpp_of_text,
)
from wsistore.slides.tiff.container import Description, TiffContainer
from wsistore.slides.tiff.describing import tiff_properties
from wsistore.slides.tiff.generic import level_candidates, resolution_of
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import TRY_OPENSLIDE, Page
from wsistore.slides.tiff.pyramid import choose_levels

_OME = re.compile(r"<(?:\w+:)?OME[\s>]")
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_NAME = re.compile(r"\b(label|macro|thumbnail)\b", re.IGNORECASE)
_PIXELS = ("SizeX", "SizeY", "SizeZ", "SizeC", "SizeT", "Type", "DimensionOrder")
_PHYSICAL = ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeXUnit", "PhysicalSizeYUnit")


class OmeImage(NamedTuple):
    """One Image of the OME-XML.

    Parameters
    ----------
    name : str
        Its Name, empty where there is none.
    pixels : dict of str to str
        Attributes of its Pixels.
    page : int
        Number of the page of the main chain that holds its first plane.
    objective : str
        ID of its objective, empty where there is none.
    """

    name: str
    pixels: dict[str, str]
    page: int
    objective: str

    @property
    def role(self) -> str | None:
        """``"label"``, ``"macro"`` or ``"thumbnail"`` where the name says so."""
        match = _NAME.search(self.name)
        return match[1].lower() if match else None


def is_ome(description: str) -> bool:
    """Whether the description of the first page is OME-XML."""
    return description.lstrip("\ufeff \r\n\t").startswith("<") and bool(
        _OME.search(description, 0, 4096)
    )


def open_ome(index: TiffIndex, pages: Sequence[Page], description: str) -> TiffContainer:
    """Return the container of an OME-TIFF.

    The slide is the first Image that is not named label, macro or thumbnail.

    Parameters
    ----------
    index : TiffIndex
        Its IFDs.
    pages : sequence of Page
        The pages of the main chain.
    description : str
        Its OME-XML.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If it holds no 8-bit gray or interleaved RGB image of one plane in tiles.
    wsistore.errors.CorruptSlideError
        If its XML or its structure is broken.
    """
    root = _parse(index, description)
    images = _images(index, root)
    image = next((found for found in images if found.role is None), images[0])
    page = _page_of(index, pages, image)
    _expect_one_plane(page, image)
    if not page.is_tiled:
        raise page.ifd.unsupported("an OME-TIFF in strips, only tiled ones are read")
    others = [other for other in pages if other is not page and other.is_reduced]
    levels, notes = choose_levels(page, level_candidates(index, page, others))
    mpp, said = _pixel_size(page, image)
    magnification, said_too = _magnification(root, image)
    said_of_itself = Description(
        {**tiff_properties(page), **_properties(image, description)},
        mpp,
        magnification,
        (*notes, *said, *said_too),
    )
    return TiffContainer(
        "ome-tiff",
        index,
        levels,
        describe=lambda: said_of_itself,
        associated={
            found.role: _page_of(index, pages, found)
            for found in reversed(images)  # the first of a name wins
            if found.role and found is not image
        },
    )


def _parse(index: TiffIndex, description: str) -> ET.Element:
    name = index.source.name
    if _DECLARATION.search(description):
        raise UnsupportedSlideError(
            f"{name}: its OME-XML declares a document type or entities, which are refused"
        )
    # The text is decoded already; what its declaration says of an encoding is void.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", description.lstrip("\ufeff"))
    try:
        return ET.fromstring(text)  # noqa: S314 (declarations are refused above)
    except (ET.ParseError, ValueError) as error:
        raise CorruptSlideError(f"{name}: its OME-XML can't be parsed: {error}") from error


def _images(index: TiffIndex, root: ET.Element) -> list[OmeImage]:
    name = index.source.name
    if root.find("{*}BinaryOnly") is not None:
        raise UnsupportedSlideError(
            f"{name}: its OME-XML lies in another file (BinaryOnly), which is not read"
        )
    images = [_image(element) for element in root.iterfind("{*}Image")]
    found = [image for image in images if image is not None]
    if not found:
        raise CorruptSlideError(f"{name}: its OME-XML names no Image with Pixels")
    return found


def _image(element: ET.Element) -> OmeImage | None:
    pixels = element.find("{*}Pixels")
    if pixels is None:
        return None
    numbers = [
        int(data.get("IFD", "0"))
        for data in pixels.iterfind("{*}TiffData")
        if data.get("IFD", "0").isdecimal()
    ]
    settings = element.find("{*}ObjectiveSettings")
    return OmeImage(
        element.get("Name", ""),
        dict(pixels.attrib),
        min(numbers, default=0),
        "" if settings is None else settings.get("ID", ""),
    )


def _page_of(index: TiffIndex, pages: Sequence[Page], image: OmeImage) -> Page:
    if image.page >= len(pages):
        raise CorruptSlideError(
            f"{index.source.name}: OME image {image.name!r} lies in IFD {image.page}, "
            f"the file has {len(pages)}"
        )
    page = pages[image.page]
    stated = (image.pixels.get("SizeX"), image.pixels.get("SizeY"))
    if stated != (str(page.size.width), str(page.size.height)):
        raise page.ifd.corrupt(
            f"{page.size.width}x{page.size.height} px, but OME image {image.name!r} says "
            f"SizeX {stated[0]}, SizeY {stated[1]}"
        )
    return page


def _expect_one_plane(page: Page, image: OmeImage) -> None:
    pixels = image.pixels
    samples = str(page.block_format(with_tables=False).channels)
    expected = {"Type": "uint8", "SizeZ": "1", "SizeT": "1", "SizeC": samples}
    wrong = [f"{key} {pixels.get(key)}" for key in expected if pixels.get(key) != expected[key]]
    if wrong:
        raise page.ifd.unsupported(
            f"an OME-TIFF with {', '.join(wrong)}; read are one 8-bit plane of gray or of "
            f"interleaved RGB ({samples} samples per pixel here)",
            hint=TRY_OPENSLIDE,
        )


def _pixel_size(page: Page, image: OmeImage) -> MppFound:
    """Return what PhysicalSizeX and -Y say; the resolution tags where they are absent."""
    x, y, x_unit, y_unit = (image.pixels.get(key) for key in _PHYSICAL)
    if x is None or y is None:
        return resolution_of(page)
    x_unit, y_unit = (x_unit or "µm").strip(), (y_unit or "µm").strip()
    origin = "ome.PhysicalSizeX"
    if x_unit != y_unit or x_unit not in MICROMETRES:
        stated = f"{x} {x_unit}, {y} {y_unit}"
        return MppFound(None, (f"{origin} = {stated} is not used: not one known unit of length",))
    return mpp_of_text(x, y, origin, unit=MICROMETRES[x_unit])


def _magnification(root: ET.Element, image: OmeImage) -> MagnificationFound:
    for objective in root.iterfind("{*}Instrument/{*}Objective"):
        text = objective.get("NominalMagnification")
        if text is not None and objective.get("ID") == image.objective:
            return magnification_of_text(text, "ome.NominalMagnification")
    return MagnificationFound(None)


def _properties(image: OmeImage, description: str) -> dict[str, str]:
    found = {"ome.Name": image.name} if image.name else {}
    found["tiff.ImageDescription"] = description
    keys = (*_PIXELS, *_PHYSICAL)
    found.update({f"ome.{key}": image.pixels[key] for key in keys if key in image.pixels})
    return found
