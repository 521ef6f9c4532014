"""A synthetic slide that was written, and the truth about it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Size, ceil_div
from wsistore.testing.reference import decode
from wsistore.testing.variants import Variant

Kind = Literal["aperio", "generic", "ome-tiff"]


@dataclass(frozen=True, eq=False)
class WrittenLevel:
    """Where the tiles of a level went.

    Parameters
    ----------
    offsets, counts, checksums : (rows, columns) uint64, uint32, uint32
        Byte offset, byte count and CRC-32 of each encoded tile; all 0 where missing.
    tables : bytes
        JPEGTables of the level.
    """

    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint32]
    checksums: NDArray[np.uint32]
    tables: bytes


@dataclass(frozen=True, eq=False)
class SyntheticSlide:
    """A slide written by `write_slide`.

    Parameters
    ----------
    path : Path
        The file.
    variant_name : str
        Key in `VARIANTS`.
    variant : Variant
        How its tiles are encoded.
    size : Size
        Level-0 px.
    tile : int
        Side of the tiles, px.
    levels : tuple of int
        Downsamples, finest first.
    kind : {"aperio", "generic", "ome-tiff"}
        Container.
    magnification, mpp : str or None
        As written into the file, verbatim.
    missing : frozenset of (level, column, row)
        Tiles without bytes.
    written : tuple of WrittenLevel
        Byte ranges of the tiles, one per level.
    associated : mapping of str to (h, w, 3) uint8
        True pixels of thumbnail, label and macro, as far as they were written.
    description : str
        ImageDescription of the first page.
    icc_profile : bytes or None
        As written.
    bigtiff : bool
        Whether the container is a BigTIFF.
    """

    path: Path
    variant_name: str
    variant: Variant
    size: Size
    tile: int
    levels: tuple[int, ...]
    kind: Kind
    magnification: str | None
    mpp: str | None
    missing: frozenset[tuple[int, int, int]]
    written: tuple[WrittenLevel, ...] = field(repr=False)
    associated: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    description: str = field(repr=False)
    icc_profile: bytes | None = field(repr=False)
    bigtiff: bool

    @property
    def level_sizes(self) -> tuple[Size, ...]:
        """Size of each level, in px of that level: floor(size / downsample)."""
        return tuple(Size(self.size.width // d, self.size.height // d) for d in self.levels)

    def grid(self, level: int) -> tuple[int, int]:
        """Return the (columns, rows) of tiles of a level."""
        width, height = self.level_sizes[level]
        return ceil_div(width, self.tile), ceil_div(height, self.tile)

    def jpeg_tables(self, level: int) -> bytes:
        """Return the JPEGTables of a level, empty where the file has none."""
        return self.written[level].tables

    def tile_bytes(self, level: int, column: int, row: int) -> bytes:
        """Return an encoded tile as it lies in the file; empty where it is missing.

        Raises
        ------
        ValueError
            If the file holds other bytes there than were written: the truth about a
            damaged slide must be asked for before the damage, or of a copy.
        """
        where = self.written[level]
        count = int(where.counts[row, column])
        if count == 0:
            return b""
        with self.path.open("rb") as file:
            file.seek(int(where.offsets[row, column]))
            block = file.read(count)
        if zlib.crc32(block) != where.checksums[row, column]:
            raise ValueError(
                f"tile ({column}, {row}) of level {level} of {self.path} was changed "
                "after it was written"
            )
        return block

    def tile_pixels(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return the true pixels of a whole tile, (tile, tile, 3) uint8, padding included."""
        block = self.tile_bytes(level, column, row)
        if not block:
            return np.full((self.tile, self.tile, 3), 255, np.uint8)
        shape = (self.tile, self.tile)
        return decode(block, self.variant, shape, self.jpeg_tables(level))

    def level_pixels(self, level: int) -> NDArray[np.uint8]:
        """Return the true pixels of a level; missing tiles are white.

        Decoded by other means than wsistore's own codecs.

        Returns
        -------
        (h, w, 3) uint8
        """
        width, height = self.level_sizes[level]
        columns, rows = self.grid(level)
        pixels = np.empty((rows * self.tile, columns * self.tile, 3), np.uint8)
        for row in range(rows):
            for column in range(columns):
                top, left = row * self.tile, column * self.tile
                tile = self.tile_pixels(level, column, row)
                pixels[top : top + self.tile, left : left + self.tile] = tile
        return np.ascontiguousarray(pixels[:height, :width])
