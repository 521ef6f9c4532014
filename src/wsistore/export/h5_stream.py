"""Large HDF5 files, written a part at a time, and still whole or not at all.

HDF5 must not see a full disk: it would leave a broken file, and may crash the process. So
it writes through a Python object that never fails. The first error is kept, later bytes
are dropped, and the caller is told as soon as control is back with Python. The file has
another name until it is whole.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wsistore.durable import write_error
from wsistore.durable.atomic import temporary_name
from wsistore.errors import (
    SourceAccessError,
    SourceNotFoundError,
    StoreCorruptError,
    UsageError,
    WsistoreError,
)
from wsistore.export.foreign import need
from wsistore.export.slide_features import Rows, chunks

FEATURES = "features"
UNFINISHED = "__tmp_"
"""Begins the name of features that SlideProcessor had not finished."""


Fill = Callable[[Any, Callable[[], None]], None]


class Sink(io.RawIOBase):
    """A file that HDF5 writes to, and that keeps its first error for later.

    Parameters
    ----------
    path : Path
        Made anew.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._at = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def check(self) -> None:
        """Raise the kept error."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:  # noqa: D102
        return True

    def writable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:  # noqa: D102
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._fd).st_size}
        self._at = base[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        view = memoryview(buffer).cast("B")
        data = os.pread(self._fd, len(view), self._at)
        view[: len(data)] = data
        # What was dropped after an error reads as zeros: HDF5 must come to its end.
        view[len(data) :] = bytes(len(view) - len(data))
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:  # noqa: D102
        view = memoryview(data).cast("B")
        count = len(view)
        while view and self.error is None:
            try:
                written = os.pwrite(self._fd, view, self._at + count - len(view))
            except OSError as error:
                self.error = error
            else:
                view = view[written:]
        self._at += count
        return count

    def truncate(self, size: int | None = None) -> int:  # noqa: D102
        wanted = self._at if size is None else size
        try:
            os.ftruncate(self._fd, wanted)
        except OSError as error:
            self.error = self.error or error
        return wanted

    def close(self) -> None:
        """Give back the file; a delayed error is kept, too."""
        if not self.closed:
            try:
                os.close(self._fd)
            except OSError as error:
                self.error = self.error or error
        super().close()


def stream_h5(path: Path, fill: Fill) -> None:
    """Write an HDF5 file of any size in little memory, whole or not at all.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    fill : callable
        ``fill(file, check)`` puts into the open ``h5py.File`` what is wanted, and calls
        ``check()`` after each large part: it raises where the disk is full.

    Raises
    ------
    DependencyError
        If h5py is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted; no file is left.
    UsageError
        If a text can't be held by HDF5.
    """
    h5py = need("h5py", "writing HDF5")
    temporary = path.with_name(temporary_name(path.name))
    try:
        sink = Sink(temporary)
    except OSError as error:
        raise write_error(error, path) from error
    try:
        with contextlib.closing(sink):
            _fill(h5py, sink, fill, path.name)
        sink.check()
        temporary.rename(path)
    except OSError as error:
        if sink.error is None and isinstance(error, WsistoreError):  # of the rows' source, say
            raise
        raise write_error(sink.error or error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _fill(
    h5py: Any, sink: Sink, fill: Callable[[Any, Callable[[], None]], None], name: str
) -> None:
    try:
        with h5py.File(sink, "w", track_order=False) as file:
            fill(file, sink.check)
    except (UnicodeEncodeError, ValueError, RuntimeError) as error:
        sink.check()  # what HDF5 says of a file whose bytes were dropped is of no interest
        if isinstance(error, WsistoreError):
            raise
        raise UsageError(f"{name} can't be written as HDF5: {error}") from error
    sink.check()


def open_h5_file(path: Path) -> Any:
    """Return an ``h5py.File`` for reading, not copied into memory.

    Raises
    ------
    DependencyError
        If h5py is not installed.
    SourceNotFoundError, SourceAccessError
        If there is no such file, or it may not be read.
    StoreCorruptError
        If it is no whole HDF5 file.
    """
    h5py = need("h5py", "reading HDF5")
    try:
        # Files appear whole and never change: a lock would only fail on network disks.
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {path}") from error
    except PermissionError as error:
        raise SourceAccessError(f"{path} may not be read") from error
    except OSError as error:
        raise StoreCorruptError(f"{path} is no whole HDF5 file: {error}") from error


def put_table(parent: Any, name: str, rows: Rows, check: Callable[[], None], *, chunk: int) -> Any:
    """Write a table of features as float32, a run of rows at a time.

    Parameters
    ----------
    parent : h5py.Group
        Where.
    name : str
        Of the dataset.
    rows : Rows
        (n, d).
    check : callable
        Called after each run.
    chunk : int
        Rows of a chunk.
    """
    count, width = rows.shape
    dataset = parent.create_dataset(
        name,
        shape=(count, width),
        maxshape=(None, width),
        chunks=(max(1, min(chunk, count)), max(1, width)),
        dtype=np.float32,
    )
    for part, values in chunks(rows):
        dataset[part] = values
        check()
    return dataset


def copy_all(
    source: Any, target: Any, check: Callable[[], None], *, leave: frozenset[str] = frozenset()
) -> None:
    """Copy attributes and objects of an open file into another.

    Parameters
    ----------
    source, target : h5py.File
        Open.
    check : callable
        Called after each object.
    leave : set of str
        Names of features that are left out, as are those that were never finished.
    """
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name in source:
        if name == FEATURES and hasattr(source[name], "keys"):
            group = target.create_group(name)
            for own in source[name]:
                if own not in leave and not own.startswith(UNFINISHED):
                    source.copy(source[name][own], group, own)
                    check()
        else:
            source.copy(source[name], target, name)
            check()
