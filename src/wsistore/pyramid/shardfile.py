"""Putting encoded chunks together to shards, and vouching for shards that exist.

A shard as written here is that of Zarr v3's ``sharding_indexed`` codec with the index at
its end::

    chunk, crc32c of the chunk, chunk, crc32c, ..., index, crc32c of the index

Chunks lie row by row without gaps, so equal chunks make equal files. The index holds for
every chunk its offset and length, or 2^64-1 twice where it is missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write
from wsistore.errors import StoreCorruptError, StoreWriteError

MISSING = np.iinfo(np.uint64).max
CRC_BYTES = 4
INDEX_ENTRY_BYTES = 16

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class ShardSum:
    """What tells a shard from any other.

    Parameters
    ----------
    size : int
        Bytes of the file.
    crc : int
        crc32c over the checksums of its chunks, in the order of the file, and its index;
        so it vouches for every byte as long as each chunk matches its own checksum.
    chunks : int
        Number of chunks that it holds.
    """

    size: int
    crc: int
    chunks: int


class ShardBuilder:
    """Collects encoded chunks, and writes them as one shard without joining them.

    Parameters
    ----------
    slots : int
        Number of inner chunks of the shard, missing ones counted.
    """

    def __init__(self, slots: int) -> None:
        self._pieces: list[Piece] = []
        self._index = np.full((slots, 2), MISSING, "<u8")
        self._sums = bytearray()
        self._end = 0

    @property
    def chunk_count(self) -> int:
        """Number of chunks so far."""
        return len(self._sums) // CRC_BYTES

    def add(self, slot: int, pieces: tuple[Piece, ...], crc: int) -> None:
        """Append a chunk.

        Parameters
        ----------
        slot : int
            Its place in the shard, row by row; ascending.
        pieces : tuple of bytes-like
            Its bytes, to be written one after another.
        crc : int
            crc32c of all of them.
        """
        checksum = crc.to_bytes(CRC_BYTES, "little")
        length = sum(map(len, pieces)) + CRC_BYTES
        self._pieces += pieces
        self._pieces.append(checksum)
        self._sums += checksum
        self._index[slot] = self._end, length
        self._end += length

    def write(self, path: str) -> ShardSum:
        """Write the shard under its name, whole or not at all; folders are made.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        index = self._index.tobytes()
        self._pieces += [index, google_crc32c.value(index).to_bytes(CRC_BYTES, "little")]
        write_in_folders(path, self._pieces)
        return ShardSum(
            self._end + len(index) + CRC_BYTES,
            google_crc32c.value(bytes(self._sums) + index),
            self.chunk_count,
        )


def write_in_folders(path: str, pieces: list[Piece]) -> None:
    """Write a file atomically, and make its folders where they are missing.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreWriteError(f"can't make the folder of {path}: {error}") from error
    atomic_write(path, pieces)


def check_shard(path: str, slots: int) -> ShardSum:
    """Read a whole shard, and check every chunk and the index against their checksums.

    Parameters
    ----------
    path : str
        The file.
    slots : int
        Number of inner chunks of the shard, missing ones counted.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If the file is missing or not what was written; the message names the chunk.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StoreCorruptError(
            f"shard {path} can't be read: {os.strerror(error.errno or 0)}"
        ) from error
    raw, index = _split(data, slots, path)
    sums = bytearray()
    for slot in _in_file_order(index):
        start, length = (int(value) for value in index[slot])
        sums += _check_chunk(data, start, length, f"chunk {slot} of shard {path}")
    return ShardSum(len(data), google_crc32c.value(bytes(sums) + raw), len(sums) // CRC_BYTES)


def read_index(data: bytes, slots: int, path: str) -> NDArray[np.uint64]:
    """Return the index of a shard, shape (slots, 2), checked against its checksum.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If the data are too short for it, or it does not match.
    """
    return _split(data, slots, path)[1]


def _split(data: bytes, slots: int, path: str) -> tuple[bytes, NDArray[np.uint64]]:
    size = slots * INDEX_ENTRY_BYTES
    start = len(data) - size - CRC_BYTES
    if start < 0:
        raise StoreCorruptError(
            f"shard {path} has {len(data)} bytes, its index alone takes {size + CRC_BYTES}"
        )
    raw = data[start : start + size]
    if google_crc32c.value(raw) != int.from_bytes(data[start + size :], "little"):
        raise StoreCorruptError(f"index of shard {path} does not match its checksum")
    return raw, np.frombuffer(raw, "<u8").reshape(slots, 2)


def _in_file_order(index: NDArray[np.uint64]) -> list[int]:
    present = np.flatnonzero(index[:, 0] != MISSING)
    order: list[int] = present[np.argsort(index[present, 0], kind="stable")].tolist()
    return order


def _check_chunk(data: bytes, start: int, length: int, name: str) -> bytes:
    if length < CRC_BYTES or start + length > len(data):
        raise StoreCorruptError(f"{name} lies outside of the file")
    end = start + length - CRC_BYTES
    checksum = data[end : end + CRC_BYTES]
    if google_crc32c.value(data[start:end]) != int.from_bytes(checksum, "little"):
        raise StoreCorruptError(f"{name} does not match its checksum")
    return checksum
