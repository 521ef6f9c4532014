"""A bounded, process-wide pool of open files.

Thousands of slides may be open at once while a process may have a few hundred files.
So a source gives its file up when others need the place, and opens it again on its next
read. No lock is taken, neither to read nor to evict: a reader holds a reference to the
`Handle`, the pool drops that of the source, and the file is closed when the last
reference goes. So a file is never closed under a read. Which files have rested is told by
the second-chance (clock) rule: a read clears a flag, the clock sets it, and takes a file
whose flag is still set when it comes by again.

After a fork the child shares the open files with its parent. That is safe, for ``pread``
has no position to share, and each process closes its own descriptors.
"""

from __future__ import annotations

import os
import resource
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from wsistore.sources.mapping import out_of_files

MOST_FILES = 256
"""More open files than this gain nothing."""


class Handle:
    """One open file descriptor, closed when nothing refers to it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        try:
            close(self.fd)
        except OSError:  # nothing was written, so nothing is lost
            return


class Tenant(Protocol):
    """What has a place in the pool.

    Attributes
    ----------
    handle : Handle or None
        The open file; None while the tenant has none.
    rested : bool
        False since the last read, True once the clock has come by.
    """

    handle: Handle | None
    rested: bool


class FilePool:
    """Tenants that hold an open file, at most `capacity` of them.

    Parameters
    ----------
    capacity : int, optional
        Files held open at most; by default a quarter of the process's limit (the rest
        is for stores, sockets and libraries), and `MOST_FILES` at most. The limit is
        asked each time, for a process may change it.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self._capacity = capacity
        # Appending and popping a deque are atomic. Closed and collected tenants stay
        # until the clock meets them: they only make it come by earlier.
        self._clock: deque[weakref.ref[Tenant]] = deque()

    @property
    def capacity(self) -> int:
        """Files held open at most."""
        if self._capacity is not None:
            return self._capacity
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return MOST_FILES
        return max(1, min(MOST_FILES, soft // 4))

    def open(self, path: str) -> Handle:
        """Open a file for reading, closing rested ones where the process has no more.

        Raises
        ------
        OSError, ValueError
            As ``os.open`` does.
        """
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        while True:
            try:
                return Handle(os.open(path, flags))
            except OSError as error:
                if not out_of_files(error) or not self._clock:
                    raise
            self._evict(len(self._clock) // 2)

    def enter(self, tenant: Tenant) -> None:
        """Give a place to a tenant that has opened its file; others may lose theirs."""
        self._clock.append(weakref.ref(tenant))
        self._evict(self.capacity)

    def _evict(self, keep: int) -> None:
        """Take files away until no more than `keep` are held."""
        clock = self._clock
        for _ in range(2 * len(clock)):  # in the second turn every flag is set
            if len(clock) <= keep:
                return
            try:
                reference = clock.popleft()
            except IndexError:  # another thread took the last one
                return
            tenant = reference()
            if tenant is None or tenant.handle is None:
                continue
            if tenant.rested:
                tenant.handle = None
            else:
                tenant.rested = True
                clock.append(reference)


POOL = FilePool()
