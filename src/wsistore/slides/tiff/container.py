"""What all containers in TIFF share."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Magnification, Mpp, snap_downsample
from wsistore.slides.model import Container, LevelShape
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.associated import read_whole
from wsistore.slides.tiff.fingerprint import fingerprint
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import Page
from wsistore.slides.tiff.table import TiffTileTable
from wsistore.sources import Source


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
    properties : mapping of str to str
        What it says of itself.
    mpp : Mpp or None
        Pixel size at level 0 with its origin.
    magnification : Magnification or None
        Objective power with its origin.
    associated : mapping of str to Page
        Pages of the associated images by name.
    notes : sequence of str
        What was stated or found and not used, and why.

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
        properties: Mapping[str, str],
        mpp: Mpp | None,
        magnification: Magnification | None,
        associated: Mapping[str, Page],
        notes: Sequence[str],
    ) -> None:
        self.format = format
        self.properties = MappingProxyType({"wsistore.format": format, **properties})
        self.mpp = mpp
        self.magnification = magnification
        self.notes = tuple(notes)
        self._index = index
        self._pages = tuple(pages)
        self._segments = [page.segments() for page in pages]
        self._formats = [page.block_format(with_tables=False) for page in pages]
        self.levels = tuple(
            LevelShape(page.size, snap_downsample(pages[0].size, page.size), page.segment_size)
            for page in pages
        )
        self.associated = MappingProxyType(
            {name: self._reader(name, page) for name, page in associated.items()}
        )
        self._tables: dict[int, TiffTileTable] = {}
        self._fingerprint = ""
        self._lock = threading.Lock()

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
