"""A block of Zarr v2 chunks, written as one unit of work: a file for each chunk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from wsistore.codecs import crc32c
from wsistore.errors import StoreCorruptError
from wsistore.geometry import Box
from wsistore.pyramid.layout import CRC_BYTES
from wsistore.pyramid.shardfile import (
    Chunk,
    ShardSum,
    Write,
    read_regular,
    write_in_folders,
)

ReadChunk = Callable[[str], bytes | None]
"""``read(name)`` returns a chunk, None where there is none."""


def write_chunk_files(
    folder: str,
    block: Box,
    columns: int,
    chunks: Iterable[Chunk],
    write: Write = write_in_folders,
) -> ShardSum:
    """Write each chunk of a block as ``folder/row/column``, whole or not at all.

    Parameters
    ----------
    folder : str
        Folder of the plane: ``STORE/0/0`` for level 0.
    block : Box
        Columns and rows of chunks of the level.
    columns : int
        Columns that slots count by: those of a whole block.
    chunks : iterable of Chunk
        In ascending order of their slots.
    write : callable
        What writes them; by default to a disk.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    total = _Total()
    for slot, pieces, crc in chunks:
        row, column = divmod(slot, columns)
        name = f"{block.y + row}/{block.x + column}"
        write(f"{folder}/{name}", pieces)
        total.add(name, sum(map(len, pieces)), crc)
    return total.sum()


def chunk_names(folder: str, block: Box) -> Iterator[str]:
    """Yield the names that the chunks of a block may have, ``folder/row/column``."""
    return (f"{folder}/{name}" for name in _names(block))


def read_chunk_file(path: str) -> bytes | None:
    """Return a chunk, None where there is none.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If it can't be read.
    """
    try:
        return read_regular(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else str(error)
        raise StoreCorruptError(f"chunk {path} can't be read: {said}") from error


def check_chunk_files(folder: str, block: Box, read: ReadChunk = read_chunk_file) -> ShardSum:
    """Read all chunk files of a block, and sum them up as `write_chunk_files` did.

    Zarr v2 chunks carry no checksum, so only the sum of the block can tell that a chunk
    is damaged, not which.

    Parameters
    ----------
    folder : str
        Folder of the plane.
    block : Box
        Columns and rows of chunks of the level.
    read : callable
        What reads them; by default from a disk.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If a file can't be read.
    """
    total = _Total()
    for name in _names(block):
        data = read(f"{folder}/{name}")
        if data is not None:
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
