"""Which pages of a TIFF are the levels of one pyramid."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from wsistore.geometry import Size
from wsistore.slides.tiff.page import Page

ROUNDING_PX = 1.5
"""How far the side of a level may be off by rounding, in px of the level."""
ASPECT_SLACK = 0.005
"""How far the aspect of a level may be off besides, as a share of its side."""


def is_reduced_copy(full: Size, reduced: Size) -> bool:
    """Whether the second size is that of a reduced copy of the first.

    It is smaller, and one downsample explains both of its sides but for rounding: the
    ranges of downsamples that explain its width and its height meet.

    Parameters
    ----------
    full, reduced : Size
        In px of their own.
    """
    if reduced.width > full.width or reduced.height > full.height or reduced == full:
        return False
    low, high = _downsamples(full.width, reduced.width)
    low_too, high_too = _downsamples(full.height, reduced.height)
    return max(low, low_too) <= min(high, high_too)


def _downsamples(whole: int, part: int) -> tuple[float, float]:
    """Return the least and the greatest downsample that explain a side."""
    slack = ROUNDING_PX + ASPECT_SLACK * part
    return whole / (part + slack), whole / (part - slack) if part > slack else float("inf")


def choose_levels(first: Page, candidates: Iterable[Page]) -> tuple[list[Page], list[str]]:
    """Return the pages that form a pyramid with the first one, and why others do not.

    Parameters
    ----------
    first : Page
        Level 0.
    candidates : iterable of Page
        Pages that may be levels, in any order.

    Returns
    -------
    levels : list of Page
        Finest first; each is a strictly smaller copy of the one before.
    notes : list of str
        One line for each candidate that was left out.
    """
    levels, notes = [first], []
    for page in sorted(candidates, key=attrgetter("size"), reverse=True):
        before = levels[-1]
        if not page.is_tiled:
            notes.append(f"{page.label} is left out: a reduced image in strips, not tiles")
        elif is_reduced_copy(first.size, page.size) and (
            before is first or is_reduced_copy(before.size, page.size)
        ):
            levels.append(page)
        else:
            notes.append(
                f"{page.label} is left out: {page.size.width}x{page.size.height} px is no reduced "
                f"copy of {before.size.width}x{before.size.height} px"
            )
    return levels, notes
