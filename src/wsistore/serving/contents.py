"""Where the bytes behind a name come from: the files of a store, or a slide's tiles."""

from __future__ import annotations

import errno
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path

from wsistore.errors import SourceNotFoundError
from wsistore.serving.cache import ChunkCache
from wsistore.serving.tags import make_tag
from wsistore.sources import Folder, LocalSource, Source, is_url

_REMOTE_SOURCES = 256
"""Objects of a remote store that stay opened, each a few hundred bytes."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})


class Resource:
    """Bytes that can be sent, whole or in part.

    Parameters
    ----------
    data : bytes or Source
        Themselves, or the file or object that holds them.
    tag : str
        Their entity tag.
    """

    def __init__(self, data: bytes | Source, tag: str) -> None:
        self._data = data
        self.tag = tag
        self.size = data.size if isinstance(data, Source) else len(data)

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return the bytes from `start` up to `stop`.

        Raises
        ------
        wsistore.errors.SourceError
            If they can't be had any more.
        """
        if isinstance(self._data, Source):
            return self._data.read(start, stop - start)
        return memoryview(self._data)[start:stop]


class Contents(ABC):
    """What lies below one name of the server."""

    @abstractmethod
    def known_tag(self, key: str) -> str | None:
        """Return the tag of a key where that needs no reading, else None.

        Who holds this tag has got the bytes from here, so they exist.
        """

    @abstractmethod
    def find(self, key: str) -> Resource | None:
        """Return what is at a key, None where there is nothing.

        Raises
        ------
        wsistore.errors.WsistoreError
            If it can't be had.
        """

    @abstractmethod
    def list_names(self, prefix: str) -> list[str]:
        """Return the names directly under a prefix; folders end with ``/``."""

    @abstractmethod
    def close(self) -> None:
        """Give back files."""


class FolderContents(Contents):
    """A folder whose objects are made on request, such as a slide's view.

    Parameters
    ----------
    folder : Folder
        Its objects must not change.
    state : str
        What tells its content from all others: fingerprint, codec and version.
    cache : ChunkCache
        Where objects are held.
    """

    def __init__(self, folder: Folder, state: str, cache: ChunkCache) -> None:
        self._folder = folder
        self._state = state
        self._cache = cache

    def known_tag(self, key: str) -> str:
        """Return the tag, from the state of the folder."""
        return make_tag(self._state, key)

    def find(self, key: str) -> Resource | None:
        """Return an object, held or made now."""
        data = self._cache.get(self, key)
        if data is None:
            data = self._folder.get(key)
            if data is None:
                return None
            self._cache.put(self, key, data)
        return Resource(data, self.known_tag(key))

    def list_names(self, prefix: str) -> list[str]:
        """Return the names under a prefix."""
        return self._folder.list_names(prefix)

    def close(self) -> None:
        """Do nothing: the slide is its owner's."""


def file_contents(folder: Folder, state: str) -> Contents:
    """Return the files of a store, local or remote; `state` as for `FolderContents`."""
    if is_url(folder.name):
        return RemoteFiles(folder, state)
    return LocalFiles(folder)


class LocalFiles(Contents):
    """The files of a local folder; symbolic links that lead out of it are not followed.

    Parameters
    ----------
    folder : Folder
        A local one.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._root = Path(folder.name).resolve()

    def known_tag(self, key: str) -> None:
        """Return None: a file may have been replaced."""
        del key

    def find(self, key: str) -> Resource | None:
        """Return a file of the folder."""
        path = self._inside(key)
        if path is None:
            return None
        try:
            found = path.stat()
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            found = None  # opening it will say what is wrong
        if found is not None and not stat.S_ISREG(found.st_mode):
            return None
        try:
            source = LocalSource(path)
            found = path.stat()
        except FileNotFoundError:  # removed since; `SourceNotFoundError` is one, too
            return None
        facts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return Resource(source, make_tag(*map(str, facts)))

    def list_names(self, prefix: str) -> list[str]:
        """Return the names in a folder of it."""
        inside = not prefix or self._inside(prefix.removesuffix("/")) is not None
        return self._folder.list_names(prefix) if inside else []

    def close(self) -> None:
        """Do nothing: files are opened by request."""

    def _inside(self, key: str) -> Path | None:
        path = Path(os.path.realpath(self._root / key))
        return path if path.is_relative_to(self._root) else None


class RemoteFiles(Contents):
    """The objects of a remote store, each asked for its size once.

    An object that is replaced while it is served is an error of its reads, not a mixture.

    Parameters
    ----------
    folder : Folder
        A remote one.
    state : str
        As for `FolderContents`.
    """

    def __init__(self, folder: Folder, state: str) -> None:
        self._folder = folder
        self._state = state
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._lock = threading.Lock()

    def known_tag(self, key: str) -> str:
        """Return the tag, from the state of the store."""
        return make_tag(self._state, key)

    def find(self, key: str) -> Resource | None:
        """Return an object of the store."""
        with self._lock:
            source = self._sources.get(key)
        if source is None:
            try:
                source = self._folder.source(key)
            except SourceNotFoundError:
                return None
            self._keep(key, source)
        return Resource(source, self.known_tag(key))

    def list_names(self, prefix: str) -> list[str]:
        """Return the names under a prefix."""
        return self._folder.list_names(prefix)

    def close(self) -> None:
        """Give back all objects."""
        with self._lock:
            for source in self._sources.values():
                source.close()
            self._sources.clear()

    def _keep(self, key: str, source: Source) -> None:
        with self._lock:
            self._sources[key] = source
            self._sources.move_to_end(key)
            while len(self._sources) > _REMOTE_SOURCES:
                # Not closed: another thread may be reading it.
                self._sources.popitem(last=False)
