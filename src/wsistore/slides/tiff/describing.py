"""Properties of a TIFF under the names that OpenSlide gives them."""

from __future__ import annotations

from wsistore.slides.tiff import tags
from wsistore.slides.tiff.page import Page

IMAGE_DESCRIPTION = "tiff.ImageDescription"

_TEXTS = {
    IMAGE_DESCRIPTION: tags.IMAGE_DESCRIPTION,
    "tiff.Make": tags.MAKE,
    "tiff.Model": tags.MODEL,
    "tiff.Software": tags.SOFTWARE,
    "tiff.DateTime": tags.DATE_TIME,
    "tiff.Artist": tags.ARTIST,
    "tiff.HostComputer": tags.HOST_COMPUTER,
    "tiff.Copyright": tags.COPYRIGHT,
    "tiff.DocumentName": tags.DOCUMENT_NAME,
}
_RATIONALS = {
    "tiff.XResolution": tags.X_RESOLUTION,
    "tiff.YResolution": tags.Y_RESOLUTION,
    "tiff.XPosition": tags.X_POSITION,
    "tiff.YPosition": tags.Y_POSITION,
}
_UNITS = {1: "none", 2: "inch", 3: "centimeter"}


def tiff_properties(page: Page) -> dict[str, str]:
    """Return what the standard tags of a page say, as text.

    Rationals are written with 17 significant digits, and the unit of resolution is inch
    where none is stated, as the TIFF specification and OpenSlide have it.
    """
    ifd = page.ifd
    found: dict[str, str] = {}
    for key, tag in _TEXTS.items():
        text = ifd.text(tag) if tag in ifd else None
        if text is not None:
            found[key] = text
    for key, tag in _RATIONALS.items():
        value = ifd.rational(tag) if tag in ifd else None
        if value is not None and value[1]:
            found[key] = format(value[0] / value[1], ".17g")
    unit = ifd.number(tags.RESOLUTION_UNIT, 2)
    found["tiff.ResolutionUnit"] = _UNITS.get(unit, str(unit))
    return found
