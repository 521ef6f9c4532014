"""A lock that dies with its holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from wsistore.durable.failures import write_error
from wsistore.errors import StoreLockedError, StoreWriteError

_TRIES = 100
"""Each further try needs another run to end in the same instant."""


class FileLock:
    """An exclusive kernel lock (``flock``) on a file that is made for it.

    The kernel frees it when its holder dies, however it dies, so it can't go stale. A
    forked child holds it too: the lock of a killed parent lasts until its children,
    which may still be writing, have ended.

    Parameters
    ----------
    path : Path
        The lock file; made where there is none, removed on release.
    subject : str
        What the lock is for, for messages.
    """

    def __init__(self, path: Path, subject: str) -> None:
        self.path = path
        self._subject = subject
        self._fd: int | None = None
        self._pid = 0

    def acquire(self) -> None:
        """Take the lock at once, or raise.

        Raises
        ------
        StoreLockedError
            If another run holds it.
        StoreWriteError
            If the lock file can't be made, or the file system has no locks.
        """
        for number in range(_TRIES):
            try:
                if self._try():
                    return
            except FileNotFoundError:  # none yet, or the run that ended has removed it
                self._make_folder(last=number + 1 == _TRIES)
            except StoreWriteError:
                raise
            except OSError as error:
                raise write_error(error, self.path) from error
        raise StoreLockedError(f"other runs keep taking and leaving {self._subject}")

    def release(self) -> None:
        """Remove the lock file and free the lock; does nothing in a forked child."""
        if self._fd is None or self._pid != os.getpid():
            return
        # Removed while it is held: who opened it before sees that it has lost its name.
        with contextlib.suppress(OSError):
            self.path.unlink()
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # also for children that inherited it
        os.close(self._fd)
        self._fd = None

    def _make_folder(self, *, last: bool) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            # A run that ends meanwhile removes empty folders: the next try makes them anew.
            passes = isinstance(error, FileNotFoundError | FileExistsError)
            if last or not passes:
                raise write_error(error, folder) from error

    def _try(self) -> bool:
        """Return whether the lock was had; False if its file lost its name meanwhile."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            self._flock(fd)
            if not self._is_named(fd):
                os.close(fd)
                return False
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._pid = fd, os.getpid()
        return True

    def _flock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode(errors="replace")
            raise StoreLockedError(
                f"another run is writing {self._subject}{f' ({holder})' if holder else ''}",
                hint="Wait for it, or stop it; its work can be resumed.",
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise StoreWriteError(
                    f"the file system of {self.path} has no locks: {error.strerror}",
                    hint="Write to another one (a local disk), and copy the result.",
                ) from error
            raise

    def _is_named(self, fd: int) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116
        except FileNotFoundError:
            return False
        held = os.fstat(fd)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
