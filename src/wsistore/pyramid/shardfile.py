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
from typing import Protocol

import numpy as np

from wsistore.codecs import check_crc32c, crc32c
from wsistore.durable import atomic_write, write_error
from wsistore.errors import CorruptSlideError, DamagedTileError, StoreCorruptError
from wsistore.pyramid.layout import (
    CRC_BYTES,
    decode_shard_index,
    encode_shard_index,
    shard_index_bytes,
)

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


class ChunkSink(Protocol):
    """What takes the encoded chunks of a shard: one file, or (Zarr v2) a file for each."""

    @property
    def chunk_count(self) -> int:
        """Number of chunks so far."""
        ...

    def add(self, slot: int, pieces: tuple[Piece, ...], crc: int) -> None:
        """Append a chunk; see `ShardBuilder.add`."""
        ...

    def write(self) -> ShardSum:
        """Write what was collected; see `ShardBuilder.write`."""
        ...


class ShardBuilder:
    """Collects encoded chunks, and writes them as one shard without joining them.

    Parameters
    ----------
    path : str
        The file to be.
    slots : int
        Number of inner chunks of the shard, missing ones counted.
    """

    def __init__(self, path: str, slots: int) -> None:
        self._path = path
        self._slots = slots
        self._pieces: list[Piece] = []
        self._taken: list[int] = []
        self._lengths: list[int] = []
        self._sums: list[bytes] = []

    @property
    def chunk_count(self) -> int:
        """Number of chunks so far."""
        return len(self._taken)

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
        self._pieces += pieces
        self._pieces.append(checksum)
        self._taken.append(slot)
        self._lengths.append(sum(map(len, pieces)) + CRC_BYTES)
        self._sums.append(checksum)

    def write(self) -> ShardSum:
        """Write the shard under its name, whole or not at all; folders are made.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        index = self._index()
        write_in_folders(self._path, [*self._pieces, index])
        return ShardSum(
            sum(self._lengths) + len(index),
            crc32c(b"".join([*self._sums, index])),
            self.chunk_count,
        )

    def _index(self) -> bytes:
        offsets = np.zeros(self._slots, np.int64)
        counts = np.zeros(self._slots, np.int64)
        lengths = np.array(self._lengths, np.int64)
        offsets[self._taken] = np.cumsum(lengths) - lengths
        counts[self._taken] = lengths
        return encode_shard_index(offsets, counts)


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
        raise write_error(error, path) from error
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
    size = shard_index_bytes((slots, 1))
    if len(data) < size:
        raise StoreCorruptError(f"shard {path} has {len(data)} bytes, its index alone {size}")
    index = data[-size:]
    try:
        offsets, counts = decode_shard_index(index, (slots, 1), name=f"shard {path}")
    except CorruptSlideError as error:
        raise StoreCorruptError(error.message) from error
    present = np.flatnonzero(counts)
    order = present[np.argsort(offsets.flat[present], kind="stable")]
    view, sums = memoryview(data), []
    for slot in order.tolist():
        start, stop = int(offsets.flat[slot]), int(offsets.flat[slot] + counts.flat[slot])
        if stop > len(data) - size:
            raise StoreCorruptError(f"chunk {slot} of shard {path} lies outside of its data")
        try:
            check_crc32c(view[start:stop], f"chunk {slot} of shard {path}")
        except DamagedTileError as error:
            raise StoreCorruptError(error.message) from error
        sums.append(data[stop - CRC_BYTES : stop])
    return ShardSum(len(data), crc32c(b"".join([*sums, index])), len(sums))
