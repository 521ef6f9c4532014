"""Where a run's files go: a folder, or objects that are built in a temporary folder.

Formats such as HDF5 are written by libraries that need a file. For a run whose results go to
a bucket, the files of the slides at hand are built in a temporary folder (``TMPDIR`` says
where), uploaded when the slide is finished, and removed: what is on the disk is bounded by the
slides that are worked on at a time. Objects appear whole, so nothing has to be renamed.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath

from wsistore.durable import FileLock, atomic_write
from wsistore.durable.atomic import Leftovers
from wsistore.sources import is_url, open_place, redact
from wsistore.sources.copies import save, told_of, upload

PathLike = str | Path
_WRITES_AT_ONCE = 8


class Outlet:
    """A folder that results are written to.

    Parameters
    ----------
    folder : Path
        Where files are built.
    """

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._leftovers = Leftovers([])

    @property
    def place(self) -> PathLike:
        """Where results are for whoever looks for them: a path or a URL."""
        return self.folder

    def shown(self, path: Path) -> PathLike:
        """Return where a file is for whoever looks for it."""
        return path

    def has(self, path: Path) -> bool:
        """Return whether there is such a file."""
        return path.exists()

    def fetch(self, path: Path) -> bool:
        """Have a file at hand, to be read; return whether there is one."""
        return path.exists()

    def read(self, path: Path) -> bytes | None:
        """Return the bytes of a file; None where it can't be had."""
        try:
            return path.read_bytes()
        except OSError:
            return None

    def names(self, folder: Path) -> set[str]:
        """Return the names of what is in a folder; none where there is no folder."""
        return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()

    def files_below(self, folder: Path) -> Iterator[PurePosixPath]:
        """Yield the files below a folder, relative to it."""
        for path in folder.rglob("*"):
            if path.is_file():
                yield PurePosixPath(path.relative_to(folder).as_posix())

    def write(self, files: Iterable[tuple[Path, bytes]]) -> None:
        """Write some files, each whole or not at all."""
        for path, data in files:
            atomic_write(path, data)

    def ship(self, paths: Iterable[Path]) -> tuple[PathLike, ...]:
        """Bring files, or folders of files, to where they belong, in this order."""
        return tuple(paths)

    def drop(self, path: Path) -> None:
        """Say that a file which was fetched is no longer needed."""

    def naming(self) -> AbstractContextManager[object]:
        """Have errors within name files as `shown` does."""
        return nullcontext()

    def find_leftovers(self, folders: Iterable[Path]) -> None:
        """Remember which temporary files there are, now that nothing is written yet."""
        self._leftovers = Leftovers(folders)

    def sweep(self, paths: Iterable[Path]) -> None:
        """Remove what killed runs left of files that are locked now."""
        for path in paths:
            self._leftovers.sweep(path)

    def locked(self, path: Path, subject: str) -> AbstractContextManager[object]:
        """Hold what keeps other runs away from the results of a slide."""
        return _Locked(path, subject)


class _Locked(AbstractContextManager[object]):
    def __init__(self, path: Path, subject: str) -> None:
        self._lock = FileLock(path.with_suffix(".lock"), subject)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class ObjectOutlet(Outlet):
    """Objects below a URL, whose files are built in a temporary folder.

    What other runs write after a folder was first looked at is not seen. There are no locks:
    runs of equal settings write the same, each object whole.

    Parameters
    ----------
    url : str
        Of the folder.
    staging : Path
        The temporary folder.
    """

    is_remote = True

    def __init__(self, url: str, staging: Path) -> None:
        super().__init__(staging)
        self.url = url.rstrip("/")
        self._objects = open_place(self.url)
        self._names: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """URL of the results."""
        return redact(self.url)

    def shown(self, path: Path) -> str:
        """Return the URL of a file."""
        return f"{self.place}/{self._key(path)}"

    def has(self, path: Path) -> bool:
        """Return whether there is such an object, by one listing of each folder."""
        return path.name in self._listed(path.parent)

    def fetch(self, path: Path) -> bool:
        """Download an object; return whether there is one."""
        data = self._objects.get(self._key(path)) if self.has(path) else None
        if data is None:
            return False
        save(path, data)
        return True

    def read(self, path: Path) -> bytes | None:
        """Return the bytes of an object; None where there is none."""
        return self._objects.get(self._key(path))

    def names(self, folder: Path) -> set[str]:
        """Return the names of what is in a folder."""
        return set(self._listed(folder))

    def files_below(self, folder: Path) -> Iterator[PurePosixPath]:
        """Yield the objects below a folder, relative to it."""
        prefix = self._key(folder)
        for found in self._objects.list_tree(prefix):
            yield PurePosixPath(found.key).relative_to(prefix)

    def write(self, files: Iterable[tuple[Path, bytes]]) -> None:
        """Write some objects side by side."""
        told = list(files)
        with ThreadPoolExecutor(_WRITES_AT_ONCE, "wsistore-put") as pool:
            list(pool.map(lambda file: self._objects.put(self._key(file[0]), file[1]), told))
        for path, _ in told:
            self._note(path)

    def ship(self, paths: Iterable[Path]) -> tuple[str, ...]:
        """Upload files, or folders of files, in this order, and remove them here."""
        shown = []
        for path in paths:
            upload(path, self._objects, self._key(path))
            self._note(path)
            self.drop(path)
            shown.append(self.shown(path))
        return tuple(shown)

    def drop(self, path: Path) -> None:
        """Remove a local copy."""
        if path.is_dir():
            for inner in sorted(path.rglob("*"), reverse=True):
                inner.rmdir() if inner.is_dir() else inner.unlink()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def naming(self) -> AbstractContextManager[object]:
        """Have errors within name objects, not the temporary files that stand for them."""
        return told_of(str(self.folder), self.place)

    def locked(self, path: Path, subject: str) -> AbstractContextManager[object]:
        """Hold nothing; see the class."""
        del path, subject
        return nullcontext()

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _listed(self, folder: Path) -> set[str]:
        key = "" if folder == self.folder else self._key(folder)
        with self._lock:
            if key not in self._names:
                listed = self._objects.list_names(key)
                self._names[key] = {name.removesuffix("/") for name in listed}
            return self._names[key]

    def _note(self, path: Path) -> None:
        self._listed(path.parent).add(path.name)


@contextmanager
def open_outlet(place: str | Path) -> Iterator[Outlet]:
    """Give where results go; a temporary folder ends with the block.

    Errors that name a temporary file are told of the object that it stands for.
    """
    if not is_url(place):
        yield Outlet(Path(place))
        return
    url = str(place).rstrip("/")
    with tempfile.TemporaryDirectory(prefix="wsistore-") as folder:
        outlet = ObjectOutlet(url, Path(folder))
        with outlet.naming():
            yield outlet


def below(place: PathLike, *names: str) -> PathLike:
    """Return what has this name in a folder, be it a path or a URL."""
    if is_url(place):
        return "/".join([str(place).rstrip("/"), *names])
    return Path(place, *names)
