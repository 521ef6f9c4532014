"""TIFF dialects of other vendors, which need rules of their own to be read right."""

from __future__ import annotations

from wsistore.slides.tiff import tags
from wsistore.slides.tiff.ifd import Ifd
from wsistore.slides.tiff.page import Page

MAX_XMP_BYTES = 16 << 20
HINT = "OpenSlide reads it: pip install 'wsistore[openslide]'."


def refuse_ndpi(first: Ifd) -> None:
    """Raise if the file is a Hamamatsu NDPI, whose offsets are not those of a TIFF.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If tag 65420 is there, by which OpenSlide knows it, too.
    """
    if tags.NDPI_FORMAT in first:
        raise first.unsupported("a Hamamatsu NDPI, not read by wsistore itself", hint=HINT)


def refuse_foreign(page: Page, description: str) -> None:
    """Raise if reading the pages as a plain pyramid would give wrong pixels or places.

    Leica SCN holds several scans, Ventana BIF overlapping tiles, Philips TIFF padded
    levels, Trestle overlapping tiles.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If it is one of these.
    """
    vendor = _vendor_of(page, description)
    if vendor:
        raise page.ifd.unsupported(f"a {vendor}, not read by wsistore itself", hint=HINT)


def _vendor_of(page: Page, description: str) -> str:
    software = page.ifd.text(tags.SOFTWARE) or ""
    if "http://www.leica-microsystems.com/scn/" in description:
        return "Leica SCN"
    if software.startswith("Philips"):
        return "Philips TIFF"
    if software.startswith("MedScan"):
        return "Trestle TIFF"
    if tags.XMP in page.ifd and b"<iScan" in (page.ifd.data(tags.XMP, most=MAX_XMP_BYTES) or b""):
        return "Ventana BIF"
    return ""
