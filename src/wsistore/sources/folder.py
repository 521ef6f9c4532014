"""Read access to a local tree of files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from wsistore.errors import SourceError
from wsistore.sources import mapping
from wsistore.sources.keys import check_key, check_prefix
from wsistore.sources.local import LocalSource
from wsistore.sources.model import Folder
from wsistore.sources.names import local_path

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})


class LocalFolder(Folder):
    """Read access to the files below a local folder.

    Keys can't leave the root; symbolic links below it are followed.

    Parameters
    ----------
    path : str or os.PathLike
        The folder, or its ``file://`` URL.

    Raises
    ------
    wsistore.errors.SourceError
        If it is no folder, or can't be looked into.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = local_path(path).rstrip("/") or "/"
        # Workers may have another working directory.
        self._root = os.path.abspath(self.name)  # noqa: PTH100 (must not resolve links)
        try:
            found = os.stat(self._root)  # noqa: PTH116 (no Path for a NUL byte)
        except (OSError, ValueError) as error:
            raise mapping.from_os_error(error, self.name) from error
        if not os.path.isdir(self._root):  # noqa: PTH112
            raise SourceError(f"{self.name} is a file of {found.st_size} bytes, not a folder")

    def get(self, key: str) -> bytes | None:
        """Return all bytes of a file, None where there is none."""
        path = Path(self._root, check_key(key))
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise mapping.from_os_error(error, str(path)) from error

    def source(self, key: str) -> LocalSource:
        """Return ranged access to a file; see `Folder.source`."""
        return LocalSource(Path(self._root, check_key(key)))

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
        folder = Path(self._root, check_prefix(prefix))
        try:
            with os.scandir(folder) as entries:
                return sorted(e.name + "/" if e.is_dir() else e.name for e in entries)
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise mapping.from_os_error(error, str(folder)) from error

    def __repr__(self) -> str:
        return f"LocalFolder({self.name!r})"
