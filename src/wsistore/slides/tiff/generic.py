"""Any tiled TIFF: the first image, and the smaller copies of it, are the levels."""

from __future__ import annotations

from collections.abc import Sequence

from wsistore.slides.metadata import MppFound, mpp_of_resolution
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.container import Description, TiffContainer
from wsistore.slides.tiff.describing import tiff_properties
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import Page
from wsistore.slides.tiff.pyramid import choose_levels


def open_generic(index: TiffIndex, pages: Sequence[Page]) -> TiffContainer:
    """Return the container of a tiled TIFF that no vendor claims.

    Parameters
    ----------
    index : TiffIndex
        Its IFDs.
    pages : sequence of Page
        The pages of the main chain; the first is tiled.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If a level is encoded in a way that is not read.
    wsistore.errors.CorruptSlideError
        If its structure is broken.
    """
    first = pages[0]
    levels, notes = choose_levels(first, level_candidates(index, first, pages[1:]))
    mpp, said = resolution_of(first)
    description = Description(tiff_properties(first), mpp, None, (*notes, *said))
    return TiffContainer("generic-tiff", index, levels, describe=lambda: description, associated={})


def level_candidates(index: TiffIndex, first: Page, others: Sequence[Page]) -> list[Page]:
    """Return the pages that may be levels: SubIFDs of the first, else the pages behind it.

    Masks never are. Pages in strips count only where they call themselves reduced, so
    that a note can say why such a level is missing.
    """
    found = [Page(ifd) for ifd in index.sub_ifds(first.ifd)] or others
    return [page for page in found if not page.is_mask and (page.is_tiled or page.is_reduced)]


def resolution_of(page: Page) -> MppFound:
    """Return the pixel size that the resolution tags of a page state."""
    ifd = page.ifd
    return mpp_of_resolution(
        ifd.rational(tags.X_RESOLUTION),
        ifd.rational(tags.Y_RESOLUTION),
        ifd.number(tags.RESOLUTION_UNIT, 2),
    )
