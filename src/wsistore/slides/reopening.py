"""Slides in other processes: pickled as how they were opened, and opened there again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wsistore.errors import SourceChangedError
from wsistore.sources import is_url, redact

if TYPE_CHECKING:
    from wsistore.slides.slide import Slide

ROOT_FILES = ("zarr.json", ".zattrs", ".zgroup")
"""Files at the root of a store, whose size and time of change stand for all of it."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a slide was opened, so that another process can open it again.

    Parameters
    ----------
    path : str
        Path or URL; absolute where local.
    arguments : mapping of str to object
        Keyword arguments of `open_slide`.
    identity : tuple of object
        What tells whether the file is still the same; see `identity_of`.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    identity: tuple[object, ...] = ()


def identity_of(path: str) -> tuple[object, ...]:
    """Return what tells cheaply whether a slide is still the one that was opened.

    Size and time of change of a local file, or of the root's metadata of a local store.
    Empty for URLs, which would cost a request: what is opened tells its own identity.
    """
    if is_url(path):
        return ()
    for name in ("", *ROOT_FILES):
        place = os.path.join(path, name) if name else path  # noqa: PTH118 (no Path: 5x slower)
        try:
            found = os.stat(place)  # noqa: PTH116
        except (OSError, ValueError):
            continue
        if name or not os.path.isdir(place):  # noqa: PTH112
            return (found.st_size, found.st_mtime_ns)
    return ()


def reopen(opening: Opening, closed: bool) -> Slide:
    """Open a slide again in another process.

    Raises
    ------
    SourceChangedError
        If the file is not the one that was opened, by size and time of change.
    WsistoreError
        As `open_slide`.
    """
    from wsistore.slides.opening import open_slide

    seen = identity_of(opening.path)
    if seen:
        _compare(opening, seen)
    slide = open_slide(opening.path, **opening.arguments)
    if slide.opening is not None:
        _compare(opening, slide.opening.identity)
    if closed:
        slide.close()
    return slide


def _compare(opening: Opening, seen: tuple[object, ...]) -> None:
    if seen != opening.identity:
        raise SourceChangedError(
            f"{redact(opening.path)} is not what was opened (size, and time of change or ETag, "
            f"were {opening.identity}, are {seen})",
            hint="Leave it alone while it is in use, and start again.",
        )
