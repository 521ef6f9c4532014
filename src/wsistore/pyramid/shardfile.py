"""Putting encoded chunks together to shards, and vouching for shards that exist.

A shard as written here is that of Zarr v3's ``sharding_indexed`` codec with the index at
its end::

    chunk, crc32c of the chunk, chunk, crc32c, ..., index, crc32c of the index

Chunks lie row by row without gaps, so equal chunks make equal files. The index holds for
every chunk its offset and length, or 2^64-1 twice where it is missing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

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
from wsistore.sources import Source

Piece = bytes | memoryview

WINDOW_BYTES = 4 << 20
"""Bytes of a remote shard that are held at a time, where no chunk is larger."""


class Chunk(NamedTuple):
    """An encoded chunk on its way into a store.

    Parameters
    ----------
    slot : int
        Its place in the shard, row by row.
    pieces : tuple of bytes-like
        Its bytes, to be written one after another.
    crc : int
        crc32c of all of them.
    """

    slot: int
    pieces: tuple[Piece, ...]
    crc: int


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


Write = Callable[[str, Iterable[Piece]], None]
"""``write(name, pieces)`` writes a file or object, whole or not at all."""


def write_in_folders(path: str, pieces: Iterable[Piece]) -> None:
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


def write_shard_file(
    path: str, slots: int, chunks: Iterable[Chunk], write: Write = write_in_folders
) -> ShardSum:
    """Write a shard from its chunks as they come, whole or not at all; folders are made.

    Chunks are written while they are still in the processor's cache, so no more than a
    few are held at a time. A shard without a chunk is not written.

    Parameters
    ----------
    path : str
        The file to be.
    slots : int
        Number of inner chunks of the shard, missing ones counted.
    chunks : iterable of Chunk
        In ascending order of their slots. What it raises goes through, and no file is
        made.
    write : callable
        What writes it; by default to a disk.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    shard = _Shard(slots)
    pieces = shard.pieces(chunks)
    first = next(pieces, None)
    if first is None:
        return ShardSum(0, 0, 0)
    write(path, chain((first,), pieces))
    return shard.sum


class _Shard:
    """Lays chunks one behind another, and the index behind them."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._taken: list[int] = []
        self._lengths: list[int] = []
        self._sums: list[bytes] = []
        self.sum = ShardSum(0, 0, 0)

    def pieces(self, chunks: Iterable[Chunk]) -> Iterator[Piece]:
        """Yield all bytes of the shard; nothing where there is no chunk."""
        for slot, pieces, crc in chunks:
            checksum = crc.to_bytes(CRC_BYTES, "little")
            length = CRC_BYTES
            for piece in pieces:
                length += len(piece)
                yield piece
            yield checksum
            self._taken.append(slot)
            self._lengths.append(length)
            self._sums.append(checksum)
        if self._taken:
            index = self._index()
            size = sum(self._lengths) + len(index)
            crc = crc32c(b"".join([*self._sums, index]))
            self.sum = ShardSum(size, crc, len(self._taken))
            yield index

    def _index(self) -> bytes:
        offsets = np.zeros(self._slots, np.int64)
        counts = np.zeros(self._slots, np.int64)
        lengths = np.array(self._lengths, np.int64)
        offsets[self._taken] = np.cumsum(lengths) - lengths
        counts[self._taken] = lengths
        return encode_shard_index(offsets, counts)


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return all bytes of a file, which must have an end: no pipe, no device.

    Raises
    ------
    OSError
        If it can't be read.
    wsistore.errors.StoreCorruptError
        If it is not a regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        raise StoreCorruptError(f"{os.fspath(path)} is not a regular file")
    return Path(path).read_bytes()


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
        data = read_regular(path)
    except OSError as error:
        raise StoreCorruptError(
            f"shard {path} can't be read: {os.strerror(error.errno or 0)}"
        ) from error
    view = memoryview(data)
    return _summed(
        f"shard {path}", len(data), slots, lambda start, count: view[start : start + count]
    )


def check_shard_source(source: Source, slots: int) -> ShardSum:
    """Check a shard as `check_shard` does, a few megabytes at a time.

    Parameters
    ----------
    source : Source
        The shard.
    slots : int
        Number of inner chunks of the shard, missing ones counted.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If it is not what was written; the message names the chunk.
    wsistore.errors.SourceError
        If its bytes can't be had.
    """
    window = _Window(source)
    return _summed(f"shard {source.name}", source.size, slots, window.read)


class _Window:
    """Reads ranges that follow each other, in few large requests."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._data = memoryview(b"")

    def read(self, start: int, count: int) -> memoryview:
        """Return bytes that lie within the source."""
        first = start - self._start
        if first < 0 or first + count > len(self._data):
            length = max(count, min(WINDOW_BYTES, self._source.size - start))
            self._start, first = start, 0
            self._data = memoryview(self._source.read(start, length))
        return self._data[first : first + count]


def _summed(name: str, total: int, slots: int, read: Callable[[int, int], memoryview]) -> ShardSum:
    """Check every chunk of a shard and its index, and sum them up."""
    size = shard_index_bytes((slots, 1))
    if total < size:
        raise StoreCorruptError(f"{name} has {total} bytes, its index alone {size}")
    index = bytes(read(total - size, size))
    try:
        offsets, counts = decode_shard_index(index, (slots, 1), name=name)
    except CorruptSlideError as error:
        raise StoreCorruptError(error.message) from error
    present = np.flatnonzero(counts)
    order = present[np.argsort(offsets.flat[present], kind="stable")]
    sums = []
    for slot in order.tolist():
        start, count = int(offsets.flat[slot]), int(counts.flat[slot])
        if start < 0 or start + count > total - size:
            raise StoreCorruptError(f"chunk {slot} of {name} lies outside of its data")
        chunk = read(start, count)
        try:
            check_crc32c(chunk, f"chunk {slot} of {name}")
        except DamagedTileError as error:
            raise StoreCorruptError(error.message) from error
        sums.append(bytes(chunk[-CRC_BYTES:]))
    return ShardSum(total, crc32c(b"".join([*sums, index])), len(sums))
