"""Errors of the operating system while writing, told with what helps to mend them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from wsistore.errors import StoreWriteError

_HINTS = {
    errno.ENOSPC: "Free some space or choose another disk; a run that was cut short resumes.",
    errno.EDQUOT: "Your quota is used up: free some of it; a run that was cut short resumes.",
    errno.EACCES: "Check the owner and mode of the folder.",
    errno.EPERM: "Check the owner and mode of the folder.",
    errno.EROFS: "The file system is mounted read-only: choose another place.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def write_error(error: OSError, path: str | os.PathLike[str]) -> StoreWriteError:
    """Return the error of the store that an error while writing means.

    Parameters
    ----------
    error : OSError
        What a call of the operating system raised.
    path : path
        What was being written.

    Returns
    -------
    StoreWriteError
        Its message tells the free space of the disk where that can be known.
    """
    said = os.strerror(error.errno) if error.errno else str(error)
    free = free_bytes(path)
    space = "" if free is None else f" ({free / 1e9:.3g} GB free there)"
    return StoreWriteError(
        f"can't write {os.fspath(path)}: {said}{space}", hint=_HINTS.get(error.errno or 0, "")
    )


def free_bytes(path: str | os.PathLike[str]) -> int | None:
    """Return the bytes that a user may still write at a path, None where that is unknown.

    The path need not exist: the closest folder above it that does is asked.
    """
    folder = Path(os.path.abspath(path))  # noqa: PTH100 (must not resolve links)
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        # Pseudo file systems such as /proc have no blocks at all.
        return found.f_bavail * found.f_frsize if found.f_blocks else None
    return None
