"""The slides that a server shows, and the names that it shows them by."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from wsistore._version import __version__
from wsistore.geometry import Mpp, Size
from wsistore.pyramid.views import SlideFolder
from wsistore.serving.cache import ChunkCache
from wsistore.serving.contents import Contents, FolderContents, file_contents
from wsistore.serving.portable import is_plain_store, is_portable
from wsistore.slides import Slide, open_slide
from wsistore.sources import open_folder, redact

Codec = Literal["portable", "unchanged"]
CODECS = ("portable", "unchanged")

_SUFFIX = ".ome.zarr"
_UNSAFE = re.compile(r"[^A-Za-z0-9._\-]+")
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class ServedSlide:
    """A slide as a server shows it.

    Parameters
    ----------
    name : str
        First part of its paths, such as ``CMU-1.ome.zarr``.
    url : str
        Of its OME-Zarr, with a ``/`` at the end.
    source : str
        Path or URL that it was opened by, without credentials; not told to clients.
    size : Size
        Width and height of level 0 in px.
    mpp : Mpp or None
        Pixel size at level 0 in µm/px.
    levels : int
        Number of levels.
    """

    name: str
    url: str
    source: str
    size: Size
    mpp: Mpp | None
    levels: int


class Exhibit:
    """An opened slide and its contents.

    Parameters
    ----------
    slide : Slide
        What is shown.
    codec : {"portable", "unchanged"}
        See `wsistore.serving.SlideServer`.
    cache : ChunkCache
        For chunks that are encoded here.
    owned : bool
        Whether `close` closes the slide.
    """

    def __init__(self, slide: Slide, codec: Codec, cache: ChunkCache, *, owned: bool) -> None:
        self.slide = slide
        self.contents = _contents(slide, codec, cache)
        self._owned = owned

    def describe(self, name: str, url: str) -> ServedSlide:
        """Return what is told of it."""
        slide = self.slide
        source = redact(slide.path)
        return ServedSlide(name, url, source, slide.size, slide.mpp, slide.level_count)

    def close(self) -> None:
        """Give back what was opened for it."""
        self.contents.close()
        if self._owned:
            self.slide.close()


def open_exhibit(slide: Slide | str | os.PathLike[str], codec: Codec, cache: ChunkCache) -> Exhibit:
    """Return a slide, opened unless it is; parameters as of `Exhibit`.

    Raises
    ------
    wsistore.errors.WsistoreError
        If it can't be opened.
    """
    if isinstance(slide, Slide):
        return Exhibit(slide, codec, cache, owned=False)
    opened = open_slide(slide)
    try:
        return Exhibit(opened, codec, cache, owned=True)
    except BaseException:
        opened.close()
        raise


def _contents(slide: Slide, codec: Codec, cache: ChunkCache) -> Contents:
    """Return the store's files where they can be sent as they are, else a view of the slide."""
    state = f"{slide.fingerprint} {codec} {__version__}"
    if slide.format == "ome-zarr":
        folder = open_folder(slide.path)
        if is_plain_store(folder) and (codec == "unchanged" or is_portable(folder)):
            return file_contents(folder, state)
    return FolderContents(SlideFolder(slide, codec=codec), state, cache)


def name_slides(exhibits: Iterable[Exhibit]) -> dict[str, Exhibit]:
    """Return exhibits by unique names: their stems, numbered from the second of a name on."""
    named: dict[str, Exhibit] = {}
    for exhibit in exhibits:
        stem = _UNSAFE.sub("-", exhibit.slide.name).strip("-.")[:_LONGEST_NAME] or "slide"
        name, number = stem + _SUFFIX, 1
        while name in named:
            number += 1
            name = f"{stem}-{number}{_SUFFIX}"
        named[name] = exhibit
    return named
