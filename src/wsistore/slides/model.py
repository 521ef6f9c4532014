"""The nouns of a slide: levels, tile tables, and what a container must give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import BlockFormat
from wsistore.geometry import Box, Magnification, Mpp, Size, ceil_div
from wsistore.sources import Source


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a slide's pyramid.

    Parameters
    ----------
    index : int
        0 is the finest.
    size : Size
        Width and height in px of this level.
    downsample : float
        Level-0 px per px of this level; a whole number where the sizes allow it.
    mpp : Mpp or None
        µm/px of this level, None where the slide has no pixel size.
    tile_size : Size or None
        Size of an encoded tile in px of this level; None where the format has no tiles
        that can be had.
    """

    index: int
    size: Size
    downsample: float
    mpp: Mpp | None
    tile_size: Size | None


class LevelShape(NamedTuple):
    """What a container says of a level, before units are put to it.

    Parameters
    ----------
    size : Size
        Width and height in px of this level.
    downsample : float
        Level-0 px per px of this level.
    tile_size : Size or None
        Size of an encoded tile in px of this level.
    """

    size: Size
    downsample: float
    tile_size: Size | None


@dataclass(frozen=True, slots=True)
class TileRefs:
    """Where the bytes of some encoded tiles lie; arrays of one shape.

    Parameters
    ----------
    parts : (...) int32
        Number of the file or object that holds the tile; see `TileTable.source`.
    offsets : (...) int64
        First byte of the tile within it.
    counts : (...) int64
        Bytes of the tile (with its checksum, where the table has one); 0 where the tile
        is missing.
    """

    parts: NDArray[np.int32]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]


class TileTable(ABC):
    """The grid of encoded tiles of one level: what conversion and sampling stand on.

    Parameters
    ----------
    size : Size
        Size of the level in px of the level.
    block_format : BlockFormat
        How each tile is encoded; its width and height are the tile size.
    checksum : {"", "crc32c"}
        ``"crc32c"``: each tile's bytes are followed by their crc32c (4 bytes, little
        endian), which `TileRefs.counts` includes.
    """

    def __init__(self, size: Size, block_format: BlockFormat, checksum: str = "") -> None:
        self.size = size
        self.block_format = block_format
        self.checksum = checksum

    @property
    def tile_size(self) -> Size:
        """Size of a whole tile in px of the level, padding included."""
        return Size(self.block_format.width, self.block_format.height)

    @property
    def grid(self) -> Size:
        """Number of tile columns and rows."""
        return Size(
            ceil_div(self.size.width, self.block_format.width),
            ceil_div(self.size.height, self.block_format.height),
        )

    @abstractmethod
    def locate(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> TileRefs:
        """Return where these tiles lie; reads no more of the table than it needs.

        Parameters
        ----------
        columns, rows : (n,) int64
            Tile coordinates within `grid`.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If an entry points outside of its file.
        """

    @abstractmethod
    def source(self, part: int) -> Source:
        """Return the file or object with this number."""

    def locate_all(self) -> TileRefs:
        """Return where all tiles lie, as arrays of shape (rows, columns)."""
        columns, rows = self.grid
        y, x = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
        refs = self.locate(x, y)
        shape = (rows, columns)
        return TileRefs(
            refs.parts.reshape(shape), refs.offsets.reshape(shape), refs.counts.reshape(shape)
        )

    @property
    def offsets(self) -> NDArray[np.int64]:
        """First byte of each tile within its file, shape (rows, columns)."""
        return self.locate_all().offsets

    @property
    def counts(self) -> NDArray[np.int64]:
        """Bytes of each tile, shape (rows, columns); 0 where a tile is missing."""
        return self.locate_all().counts


@dataclass(frozen=True, slots=True)
class BadTile:
    """A tile that was painted with the fill colour instead of its pixels.

    Parameters
    ----------
    level, column, row : int
        Where it is: level index and tile coordinates in the grid of that level.
    reason : str
        ``"missing"``, or what the decoder said.
    """

    level: int
    column: int
    row: int
    reason: str


class Container(ABC):
    """One opened file or store, as a format reader gives it; `Slide` is built on it.

    Attributes
    ----------
    format : str
        Stable name of the format: ``"aperio"``, ``"generic-tiff"``, ``"ome-tiff"``,
        ``"ome-zarr"``, ``"image"``, or ``"openslide:<vendor>"``.
    levels : tuple of LevelShape
        Finest first.
    properties : mapping of str to str
        All that the container says of itself, vendor keys as OpenSlide names them
        (``"aperio.AppMag"``).
    mpp : Mpp or None
        Pixel size at level 0 with its origin.
    magnification : Magnification or None
        Objective power with its origin.
    associated : mapping of str to callable
        Readers of the associated images by name (``"thumbnail"``, ``"label"``,
        ``"macro"``), each returning (h, w, 3) uint8.
    notes : tuple of str
        What was ignored or repaired in reading the container; empty by default.
    """

    format: str
    levels: tuple[LevelShape, ...]
    properties: Mapping[str, str]
    mpp: Mpp | None
    magnification: Magnification | None
    associated: Mapping[str, Callable[[], NDArray[np.uint8]]]
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What tells this state of the file or object from others; empty where unknown."""
        return ""

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile of the image, None where there is none."""
        return None

    def tile_table(self, level: int) -> TileTable | None:
        """Return the table of encoded tiles of a level, None where there is none."""
        del level
        return None

    def read_pixels(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Read pixels of a level that has no tile table.

        Parameters
        ----------
        level : int
            Level index.
        box : Box
            Wholly inside the level, in level px.

        Returns
        -------
        (h, w, 3) uint8
        """
        raise NotImplementedError(f"{self.format} has tile tables")

    def keeps(self, source: Source) -> bool:
        """Return whether the container reads from this source, and will close it."""
        del source
        return False

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the content, whatever its name, place and time."""

    @abstractmethod
    def close(self) -> None:
        """Give back files; reading afterwards is an error."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format that `open_slide` can open.

    Parameters
    ----------
    name : str
        Name for messages and for `wsistore info`.
    probe : callable
        ``probe(path_or_url, head, is_folder) -> bool``: whether the content is of this
        format; `head` is the first 64 bytes of a file, empty for a folder.
    open : callable
        ``open(path_or_url, **source_options) -> Container``; the options go to
        `wsistore.sources.open_source` or `open_folder` as they are. Raises
        `UnsupportedSlideError` where the content is of this kind but not of a variant that
        is read here, so that another format may try.
    extensions : frozenset of str
        Extensions of its files, in lower case.
    open_source : callable, optional
        ``open_source(source) -> Container``, for a file that is open already: saves opening
        it again. The container closes the source; where it raises, the caller does.
    """

    name: str
    probe: Callable[[str, bytes, bool], bool]
    open: Callable[..., Container]
    extensions: frozenset[str] = field(default_factory=frozenset)
    open_source: Callable[[Source], Container] | None = None
