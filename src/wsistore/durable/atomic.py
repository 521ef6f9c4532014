"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from wsistore.durable.failures import write_error
from wsistore.errors import WsistoreError

TEMP_SUFFIX = ".wsistore-tmp"
"""Ends the name of a file that is being written; a killed run may leave some behind."""

_PIECES = 1024
"""Buffers given to one ``writev``: as many as Linux takes."""

_BATCH_BYTES = 512 << 10
"""Bytes given to one ``writev``, as soon as there are so many: less than a core's cache."""

Data = bytes | bytearray | memoryview


def atomic_write(
    path: str | os.PathLike[str], data: Data | Iterable[Data], *, sync: bool = False
) -> None:
    """Write a file so that its name never stands for half of it.

    The bytes go to a temporary file in the same folder, which is then renamed; what had
    the name before is replaced. Threads and processes may do so at once: the last wins.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    data : bytes-like, or iterable of bytes-like
        What to write; pieces are written one after another without joining them, as
        they come. An error that the iterable raises goes through, and no file is made.
    sync : bool
        Whether to wait until the bytes are on the disk. Without, the file is whole after
        the death of the process, but maybe not after the machine's.

    Raises
    ------
    StoreWriteError
        If the disk is full, or writing is not permitted; no temporary file is left.
    """
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    temporary = os.path.join(folder, temporary_name(name))  # noqa: PTH118
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _fill(fd, data, sync=sync)
            os.rename(temporary, os.path.join(folder, name))  # noqa: PTH104, PTH118
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise
        if sync:
            sync_folder(folder)
    except OSError as error:
        if isinstance(error, WsistoreError):  # of the iterable that gives the pieces
            raise
        raise write_error(error, path) from error


def temporary_name(name: str) -> str:
    """Return a new name under which a file of this name is written until it is whole.

    It is of fixed length, for the name itself may be as long as the file system allows, and
    begins with the name's checksum: `leftovers` tells by it what a killed writer was at.
    """
    return f".{_mark(name)}{os.urandom(4).hex()}{TEMP_SUFFIX}"


def _mark(name: str) -> str:
    return f"{zlib.crc32(os.fsencode(name)):08x}"


class Leftovers:
    """The temporary files that were in some folders at a moment.

    Parameters
    ----------
    folders : iterable of path
        Where to look, but not below; those that are not there are left out.
    """

    def __init__(self, folders: Iterable[str | os.PathLike[str]]) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}
        for folder in [os.fspath(place) for place in folders]:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(TEMP_SUFFIX):
                        self._found.setdefault((folder, entry.name[1:9]), []).append(entry.path)

    def sweep(self, path: str | os.PathLike[str]) -> int:
        """Remove what was written for a file, and return how many there were.

        Only to be called where nobody else writes that file, as under its lock.

        Raises
        ------
        StoreWriteError
            If one can't be removed.
        """
        folder, name = os.path.split(path)
        left = self._found.pop((folder, _mark(name)), [])
        for temporary in left:
            try:
                Path(temporary).unlink(missing_ok=True)
            except OSError as error:
                raise write_error(error, temporary) from error
        return len(left)


def _fill(fd: int, data: Data | Iterable[Data], *, sync: bool) -> None:
    try:
        if isinstance(data, bytes | bytearray | memoryview):
            write_all(fd, data)
        else:
            _write_pieces(fd, data)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)  # may tell a delayed failure (NFS, quota)


def write_all(fd: int, data: Data) -> None:
    """Write all bytes; one call writes 2 GiB - 4 KiB at most.

    Raises
    ------
    OSError
        As ``os.write`` does.
    """
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def _write_pieces(fd: int, pieces: Iterable[Data]) -> None:
    """Write pieces as they come, many at a time but while they are still in the cache."""
    waiting: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        view = _as_bytes(piece)
        waiting.append(view)
        size += len(view)
        if size >= _BATCH_BYTES or len(waiting) == _PIECES:
            _write_views(fd, waiting)
            waiting.clear()
            size = 0
    if waiting:
        _write_views(fd, waiting)


def _as_bytes(piece: Data) -> bytes | memoryview:
    return piece if type(piece) is bytes else memoryview(piece).cast("B")


def _write_views(fd: int, views: list[bytes | memoryview]) -> None:
    written = os.writev(fd, views)
    if written == sum(map(len, views)):
        return
    for view in views:  # what a short write left out is written one by one
        if written < len(view):
            write_all(fd, memoryview(view)[written:])
        written = max(0, written - len(view))


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder are on the disk.

    Raises
    ------
    OSError
        As ``os.open`` and ``os.fsync`` do.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Wait until all files and names below a folder are on the disk.

    Raises
    ------
    OSError
        As ``os.open`` and ``os.fsync`` do.
    """
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            fd = os.open(Path(place, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(place)


def sweep(folder: Path) -> int:
    """Remove the temporary files that killed writers left below a folder; return how many.

    Only to be called where nobody writes.

    Raises
    ------
    OSError
        If a file can't be removed.
    """
    count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(TEMP_SUFFIX):
                Path(place, name).unlink()
                count += 1
    return count
