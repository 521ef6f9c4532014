"""A block of Zarr v2 chunks, written as one unit of work: a file for each chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from wsistore.codecs import crc32c
from wsistore.errors import StoreCorruptError
from wsistore.geometry import Box
from wsistore.pyramid.layout import CRC_BYTES
from wsistore.pyramid.shardfile import Piece, ShardSum, write_in_folders


class ChunkFiles:
    """Collects the chunks of a block, and writes each as ``folder/row/column``.

    Parameters
    ----------
    folder : str
        Folder of the plane: ``STORE/0/0`` for level 0.
    row, column : int
        First chunk of the block, in chunks of the level.
    columns : int
        Columns of a whole block.
    """

    def __init__(self, folder: str, row: int, column: int, columns: int) -> None:
        self._folder = folder
        self._row, self._column, self._columns = row, column, columns
        self._chunks: list[tuple[int, tuple[Piece, ...], int]] = []

    @property
    def chunk_count(self) -> int:
        """Number of chunks so far."""
        return len(self._chunks)

    def add(self, slot: int, pieces: tuple[Piece, ...], crc: int) -> None:
        """Append a chunk; see `ShardBuilder.add`."""
        self._chunks.append((slot, pieces, crc))

    def write(self) -> ShardSum:
        """Write each chunk under its name, whole or not at all; folders are made.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        total = _Total()
        for slot, pieces, crc in self._chunks:
            row, column = divmod(slot, self._columns)
            name = f"{self._row + row}/{self._column + column}"
            write_in_folders(f"{self._folder}/{name}", list(pieces))
            total.add(name, sum(map(len, pieces)), crc)
        return total.sum()


def check_chunk_files(folder: str, block: Box) -> ShardSum:
    """Read all chunk files of a block, and sum them up as `ChunkFiles.write` did.

    Zarr v2 chunks carry no checksum, so only the sum of the block can tell that a chunk
    is damaged, not which.

    Parameters
    ----------
    folder : str
        Folder of the plane.
    block : Box
        Columns and rows of chunks of the level.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If a file can't be read.
    """
    total = _Total()
    for name in _names(block):
        try:
            data = Path(folder, name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            said = os.strerror(error.errno) if error.errno else str(error)
            raise StoreCorruptError(f"chunk {folder}/{name} can't be read: {said}") from error
        total.add(name, len(data), crc32c(data))
    return total.sum()


def _names(block: Box) -> Iterator[str]:
    for row in range(block.y, block.bottom):
        for column in range(block.x, block.right):
            yield f"{row}/{column}"


class _Total:
    """Sums up chunks: bytes, and a checksum over names, sizes and checksums."""

    def __init__(self) -> None:
        self._size = self._count = self._crc = 0

    def add(self, name: str, size: int, crc: int) -> None:
        self._size += size
        self._count += 1
        line = f"{name} {size} ".encode() + crc.to_bytes(CRC_BYTES, "little")
        self._crc = crc32c(line, self._crc)

    def sum(self) -> ShardSum:
        return ShardSum(self._size, self._crc, self._count)
