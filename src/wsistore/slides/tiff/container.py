"""What all containers in TIFF share."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Magnification, Mpp, snap_downsample
from wsistore.slides.lazily import lazy
from wsistore.slides.model import Container, LevelShape
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.associated import read_whole
from wsistore.slides.tiff.fingerprint import fingerprint
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import Page
from wsistore.slides.tiff.table import TiffTileTable
from wsistore.sources import Source


class Description(NamedTuple):
    """What a file says of itself, in words that slides of all formats share.

    Parameters
    ----------
    properties : mapping of str to str
        All of it.
    mpp : Mpp or None
        Pixel size at level 0 with its origin.
    magnification : Magnification or None
        Objective power with its origin.
    notes : tuple of str
        What was stated or found and not used, and why.
    """

    properties: Mapping[str, str]
    mpp: Mpp | None
    magnification: Magnification | None
    notes: tuple[str, ...]


class TiffContainer(Container):
    """A pyramid of tiled pages in one TIFF.

    Parameters
    ----------
    format : str
        ``"aperio"``, ``"ome-tiff"`` or ``"generic-tiff"``.
    index : TiffIndex
        Its IFDs.
    pages : sequence of Page
        The levels, finest first.
    describe : callable
        Returns what it says of itself; called when that is first asked for, and does not
        raise.
    associated : mapping of str to Page
        Pages of the associated images by name.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If the encoding of a level is not read.
    wsistore.errors.CorruptSlideError
        If the tags of a level contradict each other.
    """

    def __init__(
        self,
        format: str,  # noqa: A002 (the attribute's name in the contract)
        index: TiffIndex,
        pages: Sequence[Page],
        *,
        describe: Callable[[], Description],
        associated: Mapping[str, Page],
    ) -> None:
        self.format = format
        self._index = index
        self._pages = tuple(pages)
        self._describe = describe
        self._associated = associated
        self._segments = [page.segments() for page in pages]
        for page in pages:
            page.check_encoding()
        full = pages[0].size
        self.levels = tuple(
            LevelShape(page.size, snap_downsample(full, page.size), page.segment_size)
            for page in pages
        )
        self._tables: dict[int, TiffTileTable] = {}
        self._fingerprint = ""
        self._lock = threading.Lock()

    @lazy
    def _description(self) -> Description:
        return self._describe()

    # Attributes in the contract; mypy takes a lazy one for a property, which it is not.

    @lazy
    def properties(self) -> Mapping[str, str]:  # type: ignore[override]
        """All that the file says of itself; see `Container`."""
        found = {"wsistore.format": self.format, **self._description.properties}
        return MappingProxyType(found)

    @lazy
    def mpp(self) -> Mpp | None:  # type: ignore[override]
        """Pixel size at level 0 with its origin."""
        return self._description.mpp

    @lazy
    def magnification(self) -> Magnification | None:  # type: ignore[override]
        """Objective power with its origin."""
        return self._description.magnification

    @lazy
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Reasons why what was stated or found is not used."""
        return self._description.notes

    @lazy
    def associated(self) -> Mapping[str, Callable[[], NDArray[np.uint8]]]:  # type: ignore[override]
        """Readers of the associated images by name."""
        readers = {name: self._reader(name, page) for name, page in self._associated.items()}
        return MappingProxyType(readers)

    def _reader(self, name: str, page: Page) -> Callable[[], NDArray[np.uint8]]:
        return functools.partial(read_whole, self._index.source, page, name)

    @property
    def identity(self) -> str:
        """That of the file; see `Container.identity`."""
        return self._index.source.identity

    def keeps(self, source: Source) -> bool:
        """Return whether it was opened on this source; see `Container.keeps`."""
        return self._index.source is source

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile (tag 34675) of level 0, None where there is none."""
        return self._pages[0].ifd.data(tags.ICC_PROFILE)

    def tile_table(self, level: int) -> TiffTileTable:
        """Return the table of encoded tiles of a level; the JPEG tables are read here."""
        table = self._tables.get(level)
        if table is not None:
            return table
        with self._lock:
            table = self._tables.get(level)
            if table is None:
                table = self._tables[level] = self._make_table(level)
        return table

    def _make_table(self, level: int) -> TiffTileTable:
        page = self._pages[level]
        return TiffTileTable(
            self._index.source,
            self._index.layout,
            self._segments[level],
            page.size,
            page.block_format(),
            level,
        )

    def fingerprint(self) -> str:
        """Return a hash of structure and sampled tiles; see `wsistore.slides.tiff.fingerprint`."""
        if not self._fingerprint:
            tables = [self.tile_table(level) for level in range(len(self.levels))]
            ifds = [page.ifd for page in self._pages]
            self._fingerprint = fingerprint(self._index, ifds, tables)
        return self._fingerprint

    def close(self) -> None:
        """Give back the file; reading afterwards is an error."""
        self._index.source.close()
