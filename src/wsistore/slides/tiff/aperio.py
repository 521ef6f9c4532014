"""Aperio SVS: page 0 the slide, page 1 a thumbnail in strips, then levels, label, macro."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from wsistore.slides.metadata import aperio_fields, magnification_of_text, mpp_of_text
from wsistore.slides.tiff.container import Description, TiffContainer
from wsistore.slides.tiff.describing import IMAGE_DESCRIPTION, tiff_properties
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import Page
from wsistore.slides.tiff.pyramid import choose_levels

LABEL, MACRO = 1, 9
"""NewSubfileType of Aperio's label and macro images."""

_NAME = re.compile(r"\s*(label|macro|thumbnail)\b", re.IGNORECASE)


def is_aperio(description: str) -> bool:
    """Whether the description of the first page is one of Aperio's."""
    return description.startswith("Aperio")


def open_aperio(index: TiffIndex, pages: Sequence[Page]) -> TiffContainer:
    """Return the container of an Aperio file.

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
    associated, candidates, notes = _sort_out(pages)
    levels, left_out = choose_levels(pages[0], candidates)
    # Read now, for a tag may be broken; what it means is found when somebody asks.
    properties = tiff_properties(pages[0])
    describe = functools.partial(_describe, properties, notes, left_out)
    return TiffContainer("aperio", index, levels, describe=describe, associated=associated)


def _describe(
    properties: Mapping[str, str], notes: Sequence[str], left_out: Sequence[str]
) -> Description:
    """Return what the file says of itself in the fields of its description."""
    fields = aperio_fields(properties[IMAGE_DESCRIPTION])
    mpp, magnification = None, None
    said: list[str] = []
    if "MPP" in fields:
        mpp, why = mpp_of_text(fields["MPP"], fields["MPP"], "aperio.MPP")
        said.extend(why)
    if "AppMag" in fields:
        magnification, why = magnification_of_text(fields["AppMag"], "aperio.AppMag")
        said.extend(why)
    own = {f"aperio.{key}": value for key, value in fields.items()}
    return Description({**properties, **own}, mpp, magnification, (*notes, *said, *left_out))


def _sort_out(pages: Sequence[Page]) -> tuple[dict[str, Page], list[Page], list[str]]:
    """Return associated images by name, pages that may be levels, and what was left out."""
    associated: dict[str, Page] = {}
    candidates: list[Page] = []
    notes: list[str] = []
    for number, page in enumerate(pages[1:], start=1):
        name = _name_of(page, number)
        if name is None and page.is_tiled:
            candidates.append(page)
        elif name is None:
            notes.append(f"{page.label} is left out: in strips, and nothing says what it shows")
        elif name in associated:
            notes.append(f"{page.label} is left out: a second {name}")
        else:
            associated[name] = page
    return associated, candidates, notes


def _name_of(page: Page, number: int) -> str | None:
    """Return what an associated image shows; None for a level or where nothing says so.

    The description says it in its first line or behind the scanner's name ("label
    387x463"); else the subfile type does; the page behind the first one is the thumbnail
    where it is in strips. A tiled page is a level unless its description says otherwise.
    """
    for line in page.description.splitlines()[:2]:
        match = _NAME.match(line)
        if match:
            return match[1].lower()
    if page.is_tiled:
        return None
    if page.subfile_type in (LABEL, MACRO):
        return "label" if page.subfile_type == LABEL else "macro"
    return "thumbnail" if number == 1 else None
