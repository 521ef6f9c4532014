"""Levels of a slide as chunks: its own tiles as they are, or pixels encoded on request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import check_crc32c
from wsistore.errors import CorruptSlideError, MissingTileError, TileError
from wsistore.geometry import Box, Size, ceil_div
from wsistore.pyramid.coding import inner_codecs
from wsistore.pyramid.layout import FILL, array_document
from wsistore.pyramid.tilecodec import completer
from wsistore.pyramid.transcoding import chunk_encoder
from wsistore.slides import Level, Slide
from wsistore.slides.model import TileTable

ENCODED = "zstd"
"""Codec of chunks that are encoded on request: read by every program that reads Zarr v3."""
NO_TILES_CHUNK = 512
"""Side of the chunks, px, where the slide's own tiles make no good ones."""
_CHUNK_RANGE = (64, 2048)

Codec = Mapping[str, Any]


class LevelView(ABC):
    """One level as the chunks of a Zarr v3 array of shape (3, height, width).

    Parameters
    ----------
    slide : Slide
        Opened.
    level : Level
        One of its levels.
    chunk : Size
        Width and height of a chunk, px of the level.
    codec : str
        Stored codec; see `wsistore.pyramid.coding.inner_codecs`.

    Attributes
    ----------
    grid : Size
        Number of chunk columns and rows.
    """

    def __init__(self, slide: Slide, level: Level, chunk: Size, codec: str) -> None:
        self.slide = slide
        self.level = level
        self.chunk = chunk
        self.codec = codec
        self.grid = Size(
            ceil_div(level.size.width, chunk.width), ceil_div(level.size.height, chunk.height)
        )

    @property
    def codecs(self) -> Sequence[Codec]:
        """Zarr codecs of a chunk, without the checksum that stores have."""
        return inner_codecs(self.codec)[:-1]

    def document(self) -> dict[str, Any]:
        """Return the ``zarr.json`` of the array; absent chunks have the slide's fill colour."""
        document = array_document(self.level.size, self.chunk, self.codecs)
        document["fill_value"] = fill_of(self.slide)
        return document

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which chunks there are, shape (rows, columns)."""
        return np.ones((self.grid.height, self.grid.width), np.bool_)

    def contains(self, row: int, column: int) -> bool:
        """Return whether there is a chunk; outside of the grid there is none."""
        inside = 0 <= row < self.grid.height and 0 <= column < self.grid.width
        return inside and bool(self.present[row, column])

    @abstractmethod
    def read(self, row: int, column: int) -> bytes | None:
        """Return a chunk's bytes, None where there is none; within the grid."""


class MovedTiles(LevelView):
    """A level whose chunks are the slide's tiles, not decoded.

    JPEG tiles gain their tables and a mark of their colours, so that each is a JPEG file.

    Parameters
    ----------
    slide, level
        As of `LevelView`.
    table : TileTable
        Of the level.
    codec : str
        Of `wsistore.pyramid.tilecodec.stored_codec`.
    """

    def __init__(self, slide: Slide, level: Level, table: TileTable, codec: str) -> None:
        super().__init__(slide, level, table.tile_size, codec)
        self._table = table
        self._completer = completer(table, codec)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which tiles have bytes; reads the whole table."""
        return self._table.counts > 0

    def contains(self, row: int, column: int) -> bool:
        """Return whether the tile has bytes; reads its entry of the table alone."""
        if not (0 <= row < self.grid.height and 0 <= column < self.grid.width):
            return False
        return self._locate(row, column)[2] > 0

    def read(self, row: int, column: int) -> bytes | None:
        """Return a tile as a chunk; see `LevelView.read`.

        Raises
        ------
        wsistore.errors.MissingTileError
            If the slide has no bytes for it, and its policy is to raise.
        wsistore.errors.DamagedTileError
            If its header is not that of a tile of this level, unless the policy is to
            fill. Damage of the entropy-coded data shows when the chunk is decoded.
        wsistore.errors.CorruptSlideError
            If its entry in the table makes no sense.
        wsistore.errors.SourceError
            If its bytes can't be had.
        """
        policy = self.slide.policy
        try:
            return self._read(row, column)
        except CorruptSlideError:
            if policy.on_bad_tile != "fill":
                raise
        except TileError as error:
            if not policy.forgives(error):
                raise self._named(error, row, column) from error
        return None

    def _locate(self, row: int, column: int) -> tuple[int, int, int]:
        refs = self._table.locate(np.array([column], np.int64), np.array([row], np.int64))
        return int(refs.parts[0]), int(refs.offsets[0]), int(refs.counts[0])

    def _read(self, row: int, column: int) -> bytes:
        part, offset, count = self._locate(row, column)
        if not count:
            raise MissingTileError("the file holds no bytes for it")
        most = self._table.block_format.max_block_bytes
        if count > most:
            raise CorruptSlideError(
                f"{self._where(row, column)}: it claims {count} bytes, at most {most} are believed"
            )
        block = self._table.source(part).read_many([offset], [count])[0]
        if self._table.checksum == "crc32c":
            block = check_crc32c(block, "the tile")
        pieces, _ = self._completer.complete(block)
        return b"".join(pieces)

    def _where(self, row: int, column: int) -> str:
        return f"{self.slide.name}: level {self.level.index}, tile column {column}, row {row}"

    def _named(self, error: TileError, row: int, column: int) -> TileError:
        return type(error)(
            f"{self._where(row, column)}: {error.message}",
            hint=error.hint or "Open the slide with on_bad_tile='fill' to leave such tiles out.",
        )


class EncodedPixels(LevelView):
    """A level whose chunks are decoded from the slide, and encoded without loss.

    Parameters
    ----------
    slide, level
        As of `LevelView`.
    table : TileTable or None
        Of the level; chunks lie as its tiles do, unless those are too small or too large.
    """

    def __init__(self, slide: Slide, level: Level, table: TileTable | None) -> None:
        super().__init__(slide, level, _chunk_size(table), ENCODED)
        self._encode = chunk_encoder(ENCODED, None)
        # A missing tile is an absent chunk where the two are the same box.
        self._table = table if table is not None and table.tile_size == self.chunk else None

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which chunks there are; all but those of tiles that the slide lacks."""
        if self._table is None or not _has_plain_fill(self.slide):
            return np.ones((self.grid.height, self.grid.width), np.bool_)
        return self._table.counts > 0

    def read(self, row: int, column: int) -> bytes | None:
        """Return a chunk; see `LevelView.read`.

        Raises
        ------
        wsistore.errors.WsistoreError
            As `Slide.read_level`.
        """
        raises = self.slide.policy.on_bad_tile == "raise"
        if not raises and not self.contains(row, column):
            return None
        width, height = self.chunk
        whole = Box(column * width, row * height, width, height)
        # A box that reaches over the edge is white there, as chunks of stores are.
        pixels = self.slide.read_level(self.level.index, whole, threads=1)
        return self._encode(pixels)


def fill_of(slide: Slide) -> int:
    """Return the value of absent chunks: the slide's fill where it is a grey, else white."""
    return int(slide.policy.fill[0]) if _has_plain_fill(slide) else FILL


def _has_plain_fill(slide: Slide) -> bool:
    return len(set(slide.policy.fill.tolist())) == 1


def _chunk_size(table: TileTable | None) -> Size:
    low, high = _CHUNK_RANGE
    if table is not None and all(low <= side <= high for side in table.tile_size):
        return table.tile_size
    return Size(NO_TILES_CHUNK, NO_TILES_CHUNK)
