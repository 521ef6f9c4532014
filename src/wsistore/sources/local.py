"""Ranged reads from local files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from operator import index
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import SourceChangedError, SourceError
from wsistore.sources import mapping
from wsistore.sources.model import Source
from wsistore.sources.names import local_path
from wsistore.sources.pool import POOL, FilePool, Handle
from wsistore.sources.ranges import Limits, cut, plan

LIMITS = Limits(gap=4 << 10, request=32 << 20)


class Identity(NamedTuple):
    """What tells a file from another that has taken its name.

    Parameters
    ----------
    device : int or None
        Number of the file system; None where it is not known yet. It is a machine's own
        number (a network mount has another on each), so it does not travel.
    inode : int
        Number of the file within the file system.
    size : int
        Bytes.
    mtime_ns : int
        Time of the last change of its content, ns since 1970.
    """

    device: int | None
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """Return the identity that ``stat`` shows."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class LocalSource(Source):
    """Random access to a local file, through the process-wide pool of open files.

    Safe in threads and forks. Pickles as path and identity, and opens lazily.

    Parameters
    ----------
    path : str or os.PathLike
        The file, or its ``file://`` URL.
    pool : FilePool, optional
        Where the open file lives; by default the pool of the process.

    Raises
    ------
    wsistore.errors.SourceError
        If it is no regular file, or can't be opened; not found and not permitted have
        their own classes.
    """

    def __init__(self, path: str | os.PathLike[str], *, pool: FilePool = POOL) -> None:
        self.name = local_path(path)
        # Workers may have another working directory.
        self._path = os.path.abspath(self.name)  # noqa: PTH100 (must not resolve links)
        self._identity: Identity | None = None
        self._settle(pool)
        self._open()

    def _settle(self, pool: FilePool) -> None:
        self._pool = pool
        self._closed = False
        self.handle: Handle | None = None
        self.rested = False

    @property
    def identity(self) -> str:
        """Size and time of change; see `Source.identity`."""
        seen = self._identity
        return "" if seen is None else f"{seen.size} {seen.inode} {seen.mtime_ns}"

    @property
    def stamp(self) -> tuple[int, int]:
        """Bytes, and time of the last change in ns since 1970, as they were on opening."""
        seen = self._identity
        return (self.size, 0 if seen is None else seen.mtime_ns)

    def read(self, offset: int, count: int) -> bytes:
        """Read exactly `count` bytes from `offset`; see `Source.read`."""
        offset, count = index(offset), index(count)
        if offset < 0 or count < 0 or offset + count > self.size:
            if count == 0:
                return b""
            raise mapping.outside(self.name, offset, count, self.size)
        handle = self.handle or self._open()
        self.rested = False
        try:
            data = os.pread(handle.fd, count, offset)
        except OSError as error:
            raise mapping.from_os_error(error, self.name) from error
        if len(data) == count:
            return data
        return self._read_on(handle, offset, count, data)

    def read_many(
        self,
        offsets: Sequence[int] | NDArray[np.integer],
        counts: Sequence[int] | NDArray[np.integer],
    ) -> list[memoryview]:
        """Read several ranges in few large requests; see `Source.read_many`.

        The views of neighbours share one buffer: keep copies, not views, of a few small
        ranges that are to live long.
        """
        return cut(plan(offsets, counts, name=self.name, size=self.size, limits=LIMITS), self.read)

    def check(self) -> None:
        """Raise if the path no longer names the file that was opened, unchanged.

        Raises
        ------
        wsistore.errors.SourceChangedError
            If its device, inode, size or time of change are others.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 (the error names the path)
        except (OSError, ValueError) as error:
            raise mapping.from_os_error(error, self.name) from error
        self._compare(Identity.of(found))

    def close(self) -> None:
        """Give back the file; reading afterwards is an error."""
        self._closed = True
        self.handle = None

    def _open(self) -> Handle:
        if self._closed:
            raise mapping.closed(self.name)
        try:
            handle = self._pool.open(self._path)
            found = os.fstat(handle.fd)
        except (OSError, ValueError) as error:
            raise mapping.from_os_error(error, self.name) from error
        if stat.S_ISDIR(found.st_mode):
            raise mapping.is_folder(self.name)
        if not stat.S_ISREG(found.st_mode):
            raise SourceError(f"{self.name} is not a regular file (a pipe, socket or device)")
        self._compare(Identity.of(found))
        self.handle = handle
        self._pool.enter(self)
        return handle

    def _compare(self, now: Identity) -> None:
        """Remember the identity at first, and compare with it from then on."""
        seen = self._identity
        if seen is not None and seen.device is None:
            seen = seen._replace(device=now.device)
        if seen is None or seen == now:
            self._identity = now
            self.size = now.size
            return
        told = [
            f"{key} {old} -> {new}"
            for key, old, new in zip(Identity._fields, seen, now, strict=True)
            if old != new
        ]
        raise SourceChangedError(
            f"{self.name} is not the file that was opened ({', '.join(told)})",
            hint="Leave the file alone while it is in use, and start again.",
        )

    def _read_on(self, handle: Handle, offset: int, count: int, data: bytes) -> bytes:
        """Read what one call left out: the kernel gives 2 GiB - 4 KiB at a time at most."""
        parts, got = [data], len(data)
        try:
            while got < count and parts[-1]:
                parts.append(os.pread(handle.fd, count - got, offset + got))
                got += len(parts[-1])
            found = os.fstat(handle.fd)
        except OSError as error:
            raise mapping.from_os_error(error, self.name) from error
        if got < count:
            self._compare(Identity.of(found))
            raise mapping.too_short(self.name, offset, count, got)
        return b"".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        identity = self._identity
        travels = None if identity is None else identity._replace(device=None)
        return (_unpickle, (self.name, self._path, travels, self._closed))

    def __repr__(self) -> str:
        return f"LocalSource({self.name!r}, {self.size} bytes)"


def _unpickle(name: str, path: str, identity: Identity, closed: bool) -> LocalSource:
    source = LocalSource.__new__(LocalSource)
    source.name, source._path, source._identity = name, path, identity
    source.size = identity.size
    source._settle(POOL)
    source._closed = closed
    return source
