"""One open LMDB environment a path: LMDB refuses one that a process has open already.

Children of a fork go on with that of their parent. It has no locks and no list of
readers (``lock=False``), so there is nothing in it that a fork would break.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsistore.errors import NotReadyError, StoreCorruptError, StoreLockedError
from wsistore.export.foreign import need


@dataclass(slots=True)
class _Open:
    environment: Any
    users: int = 0


_LOCK = threading.Lock()
_OPEN: dict[str, _Open] = {}
os.register_at_fork(after_in_child=_LOCK._at_fork_reinit)  # type: ignore[attr-defined]


class SharedEnvironment:
    """Reads values by key; readers of one path share an environment.

    Parameters
    ----------
    path : Path
        Folder of the environment.

    Raises
    ------
    StoreCorruptError
        If it is no LMDB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = os.path.realpath(path)
        self._closed = False
        with _LOCK:
            if self._real not in _OPEN:
                _OPEN[self._real] = _Open(_opened(self.path))
            _OPEN[self._real].users += 1
            self._shared = _OPEN[self._real].environment

    def get(self, key: bytes) -> bytes | None:
        """Return a copy of a value, None where there is none."""
        lmdb = need("lmdb", "reading LMDB")
        try:
            with self._environment().begin(buffers=False) as transaction:
                value: bytes | None = transaction.get(key)
        except lmdb.Error as error:
            raise StoreCorruptError(f"LMDB {self.path} can't be read: {error}") from error
        return value

    def keys(self) -> Iterator[bytes]:
        """Yield all keys in order."""
        lmdb = need("lmdb", "reading LMDB")
        try:
            with self._environment().begin(buffers=False) as transaction:
                yield from transaction.cursor().iternext(values=False)
        except lmdb.Error as error:
            raise StoreCorruptError(f"LMDB {self.path} can't be read: {error}") from error

    def close(self) -> None:
        """Give the environment back; the last user closes it."""
        if self._closed:
            return
        self._closed = True
        with _LOCK:
            entry = _OPEN[self._real]
            entry.users -= 1
            if entry.users == 0:
                entry.environment.close()
                del _OPEN[self._real]

    def _environment(self) -> Any:
        if self._closed:
            raise NotReadyError(f"{self.path} was closed", hint="Open it again.")
        return self._shared


def _opened(path: Path) -> Any:
    lmdb = need("lmdb", "reading LMDB")
    try:
        # Finished stores don't change: no lock file is needed, which a read-only disk lacks.
        return lmdb.open(
            str(path), readonly=True, lock=False, readahead=False, create=False, max_readers=1
        )
    except lmdb.Error as error:
        if "already open" in str(error):
            raise StoreLockedError(f"{path} is being written by this process") from error
        raise StoreCorruptError(f"{path} can't be opened as LMDB: {error}") from error
