"""Keeping a cache on disk within a bound: what was used longest ago goes first.

A cache is a folder of folders, one for each state of an object. The time of change of such a
folder is when it was last used: whoever reads from it says so. It is removed as a whole,
since half of a header saves nothing.

Several processes may write to one cache, trim it and read from it at the same time: a file
that is gone is one that was not kept, and one that is half gone does not have its checksum.
There is no lock, which a killed process could leave behind: two that trim at once choose the
same folders.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from typing import NamedTuple

MOST_BYTES = 1 << 30
"""Bytes of a cache where not said otherwise: headers and tables of some thousand slides."""

_OURS = re.compile(r"\d+(-[0-9a-f]{32}){2}")
"""Names of the folders of states; whatever else lies in the cache is not touched."""
_KEPT = 0.75
"""Share of the bound that stays when it was passed, so that trimming is rare."""
_UNSEEN = 1 / 16
"""Share of the bound that a process writes between two looks at the whole cache."""
_BLOCK = 4096
"""Bytes in which disks count."""


class _State(NamedTuple):
    used_ns: int
    path: str
    size: int


class Trimmer:
    """What one process has written to a cache since it looked at all of it.

    Parameters
    ----------
    folder : str
        The cache.
    most_bytes : int
        Bytes that may be in it; each process that writes may be 1/16 beyond.
    """

    def __init__(self, folder: str, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._left = 0.0  # what earlier processes have left is not known yet
        self._lock = threading.Lock()

    def note(self, size: int) -> None:
        """Tell of bytes that were written; trim the cache where it is time to."""
        with self._lock:
            self._left -= size
            if self._left > 0:
                return
            self._left = self._most_bytes * _UNSEEN
        trim(self._folder, self._most_bytes)


def trim(folder: str, most_bytes: int) -> None:
    """Remove what was used longest ago where a cache holds more bytes than it may.

    Parameters
    ----------
    folder : str
        The cache.
    most_bytes : int
        Bytes that may be in it, as disks count them.
    """
    states = _states(folder)
    total = sum(state.size for state in states)
    if total <= most_bytes:
        return
    for state in sorted(states):
        shutil.rmtree(state.path, ignore_errors=True)
        total -= state.size
        if total <= most_bytes * _KEPT:
            return


def touch(folder: str) -> None:
    """Say that a state is used now; one that may not be changed goes earlier."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def _states(folder: str) -> list[_State]:
    found = []
    for entry in _entries(folder):
        with contextlib.suppress(OSError):  # another process has removed it
            if _OURS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                used_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                found.append(_State(used_ns, entry.path, _size(entry.path)))
    return found


def _size(folder: str) -> int:
    size = _BLOCK
    for entry in _entries(folder):
        with contextlib.suppress(OSError):
            size += -(-entry.stat(follow_symlinks=False).st_size // _BLOCK) * _BLOCK
    return size


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


_trimmers: dict[tuple[str, int], Trimmer] = {}
_lock = threading.Lock()


def trimmer_of(folder: str, most_bytes: int) -> Trimmer:
    """Return the one trimmer of a cache in this process."""
    with _lock:
        return _trimmers.setdefault((folder, most_bytes), Trimmer(folder, most_bytes))


def _renew() -> None:
    global _lock  # noqa: PLW0603 (another thread of the parent may hold the other one)
    _lock = threading.Lock()
    _trimmers.clear()


os.register_at_fork(after_in_child=_renew)
