"""Errors of the operating system, told as errors of the source."""

from __future__ import annotations

import errno
import os

from wsistore.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
    SourceRangeError,
)

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_NO_ACCESS = frozenset({errno.EACCES, errno.EPERM})
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})


def out_of_files(error: OSError) -> bool:
    """Return whether the process or the machine has no file descriptor left."""
    return error.errno in _OUT_OF_FILES


def from_os_error(error: OSError | ValueError, name: str) -> SourceError:
    """Return the error of the source that an error of the operating system means.

    Parameters
    ----------
    error : OSError or ValueError
        What ``os.open``, ``os.stat`` or ``os.pread`` raised; ValueError is what they
        raise for a path that no file can have (a NUL byte in it).
    name : str
        The file, for the message.
    """
    if isinstance(error, ValueError):
        return SourceNotFoundError(f"no file can be named {name!r}: {error}")
    number = error.errno or 0
    said = os.strerror(number) if number else str(error)
    if number in _NOT_THERE:
        return SourceNotFoundError(f"there is no file {name}: {said}")
    if number in _NO_ACCESS:
        return SourceAccessError(
            f"{name} may not be read: {said}",
            hint="Check its owner and mode, and those of its folders.",
        )
    if number == errno.ESTALE:
        return SourceChangedError(f"{name} was replaced on the file server: {said}")
    if number == errno.EISDIR:
        return is_folder(name)
    if number == errno.ELOOP:
        return SourceError(f"{name} is a symbolic link that leads back to itself: {said}")
    if number in _OUT_OF_FILES:
        return SourceError(
            f"{name} can't be opened: {said}",
            hint="Raise the limit of open files (ulimit -n), or use fewer workers.",
        )
    if number == errno.EIO:
        return SourceError(
            f"{name} can't be read: {said}", hint="Check the disk or the network mount."
        )
    return SourceError(f"{name} can't be read: {said}")


def is_folder(name: str) -> SourceError:
    """Return the error for a folder where a file is needed."""
    return SourceError(f"{name} is a folder, not a file")


def outside(name: str, offset: int, count: int, size: int) -> SourceRangeError:
    """Return the error for a range that is not wholly inside the file."""
    return SourceRangeError(
        f"{name} has {size} bytes; {count} bytes from offset {offset} are not inside it",
        hint="The file is cut short, or its table of contents is wrong.",
    )


def too_short(name: str, offset: int, count: int, got: int) -> SourceRangeError:
    """Return the error for an answer that is not as long as was asked."""
    return SourceRangeError(
        f"{name} gave {got} bytes where {count} bytes from offset {offset} were asked for"
    )


def closed(name: str) -> SourceError:
    """Return the error for reading after closing."""
    return SourceError(f"{name} was closed and can't be read any more")
