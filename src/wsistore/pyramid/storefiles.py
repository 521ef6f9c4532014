"""The files of a finished store as a verification looks at them, on a disk or in a bucket."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from wsistore.errors import StoreCorruptError
from wsistore.geometry import Box
from wsistore.pyramid.chunkfiles import check_chunk_files, chunk_names
from wsistore.pyramid.objectfiles import check_shard_object
from wsistore.pyramid.readahead import read_ahead
from wsistore.pyramid.shardfile import ShardSum, check_shard
from wsistore.sources import is_url, open_place

_CHUNKS_AT_ONCE = 8
"""Chunks of a block that are fetched side by side."""


class StoreFiles(ABC):
    """The files of a store.

    Attributes
    ----------
    ahead : int
        Shards that are worth being checked side by side; 0 where waiting is no part of it.
    """

    ahead = 0

    @abstractmethod
    def read(self, name: str, size: int) -> bytes:
        """Return a file that has this many bytes.

        Raises
        ------
        StoreCorruptError
            If it has not, or can't be read; the message does not name the file.
        """

    @abstractmethod
    def check_shard(self, key: str, slots: int, expected: ShardSum) -> ShardSum:
        """Read a shard, and sum it up; see `wsistore.pyramid.shardfile.check_shard`."""

    @abstractmethod
    def check_block(self, plane: str, block: Box) -> ShardSum:
        """Read a block of chunk files, and sum it up; see `check_chunk_files`."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Yield the names of all files but those of labels, which are other work."""


def files_of(root: str) -> StoreFiles:
    """Return the files of the store at a path or URL."""
    return ObjectFiles(root) if is_url(root) else LocalFiles(root)


class LocalFiles(StoreFiles):
    """The files of a folder.

    Parameters
    ----------
    root : str
        The folder.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, name: str, size: int) -> bytes:
        """Return a file that has this many bytes; see `StoreFiles.read`."""
        try:
            found = os.stat(f"{self._root}/{name}")  # noqa: PTH116
            if not stat.S_ISREG(found.st_mode):
                raise StoreCorruptError("is not a regular file")
            _check_size(found.st_size, size)
            return Path(self._root, name).read_bytes()
        except OSError as error:
            raise StoreCorruptError(f"can't be read: {os.strerror(error.errno or 0)}") from error

    def check_shard(self, key: str, slots: int, expected: ShardSum) -> ShardSum:
        """Read a shard whole; see `StoreFiles.check_shard`."""
        del expected
        return check_shard(f"{self._root}/{key}", slots)

    def check_block(self, plane: str, block: Box) -> ShardSum:
        """Read a block of chunk files; see `StoreFiles.check_block`."""
        return check_chunk_files(f"{self._root}/{plane}", block)

    def names(self) -> Iterator[str]:
        """Yield the names of all files; see `StoreFiles.names`."""
        for folder, folders, names in os.walk(self._root):
            if folder == self._root and "labels" in folders:
                folders.remove("labels")
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), self._root)  # noqa: PTH118


class ObjectFiles(StoreFiles):
    """The objects below a URL, by one listing; shards are read a few megabytes at a time.

    Parameters
    ----------
    root : str
        The URL.

    Raises
    ------
    wsistore.errors.SourceError
        If they can't be listed. So do the methods if objects can't be had, which says
        nothing of the store.
    """

    ahead = 8

    def __init__(self, root: str) -> None:
        self._place = open_place(root)
        self._sizes = {info.key: info.size for info in self._place.list_tree()}

    def read(self, name: str, size: int) -> bytes:
        """Return an object that has this many bytes; see `StoreFiles.read`."""
        self._check(name, size)
        data = self._place.get(name)
        if data is None:
            raise StoreCorruptError("is missing")
        _check_size(len(data), size)
        return data

    def check_shard(self, key: str, slots: int, expected: ShardSum) -> ShardSum:
        """Read a shard window by window; see `StoreFiles.check_shard`."""
        self._check(key, expected.size)
        return check_shard_object(self._place, key, slots)

    def check_block(self, plane: str, block: Box) -> ShardSum:
        """Read a block of chunks; see `StoreFiles.check_block`."""
        present = (name for name in chunk_names(plane, block) if name in self._sizes)
        fetched = read_ahead(self._place.get, present, _CHUNKS_AT_ONCE)

        def read(name: str) -> bytes | None:
            return next(fetched)[1] if name in self._sizes else None

        return check_chunk_files(plane, block, read)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects; see `StoreFiles.names`."""
        return (name for name in self._sizes if not name.startswith("labels/"))

    def _check(self, name: str, size: int) -> None:
        if name not in self._sizes:
            raise StoreCorruptError("is missing")
        _check_size(self._sizes[name], size)


def _check_size(found: int, expected: int) -> None:
    if found != expected:
        raise StoreCorruptError(f"has {found} bytes, expected {expected}")
