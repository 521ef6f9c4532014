"""Files on this machine that are copies of objects, for formats whose readers need files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from wsistore.errors import SourceNotFoundError, StoreWriteError, UsageError, WsistoreError
from wsistore.sources.model import ObjectPlace
from wsistore.sources.names import is_url, redact
from wsistore.sources.opening import open_place

_PIECE = 8 << 20
"""Bytes of a file that are read, and uploaded, at a time."""


@contextmanager
def local_copy(url: str, *, beside: Iterable[str] = ()) -> Iterator[Path]:
    """Give the path of a temporary copy: of an object, or of all objects below a URL.

    The copy has the name of the object and ends with the block. Errors that name the copy
    are told of the URL.

    Parameters
    ----------
    url : str
        What is copied.
    beside : iterable of str
        Names of objects in the same folder that are copied too, where they are there;
        ``{name}`` and ``{stem}`` stand for those of the object.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is nothing.
    wsistore.errors.SourceError
        If it can't be had.
    wsistore.errors.StoreWriteError
        If there is no room for it.
    """
    place, name = split_place(url)
    with tempfile.TemporaryDirectory(prefix="wsistore-") as folder, told_of(folder, place.name):
        path = Path(folder) / name
        data = place.get(name)
        if data is not None:
            save(path, data)
        elif not download_tree(place, name, path):
            raise SourceNotFoundError(f"there is nothing at {redact(url)}")
        for pattern in beside:
            other = pattern.format(name=path.name, stem=path.stem)
            more = place.get(other)
            if more is not None:
                save(path.with_name(other), more)
        yield path


@contextmanager
def uploaded(path_or_url: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of a file to be written; at a URL, it is uploaded when the block ends.

    What is written may be a folder. Nothing is uploaded where the block fails.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If it can't be uploaded.
    """
    if not is_url(path_or_url):
        yield Path(path_or_url)
        return
    place, name = split_place(os.fspath(path_or_url))
    with tempfile.TemporaryDirectory(prefix="wsistore-") as folder, told_of(folder, place.name):
        yield Path(folder) / name
        # What a writer put beside the file (the record of a mask) belongs to it.
        for path in sorted(Path(folder).iterdir(), key=lambda found: found.name == name):
            upload(path, place, path.name)


def split_place(url: str) -> tuple[ObjectPlace, str]:
    """Return the folder of an object, and the object's name in it.

    Raises
    ------
    wsistore.errors.UsageError
        If the URL names a whole bucket.
    """
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    folder, _, name = parts.path.rstrip("/").rpartition("/")
    if not name:
        raise UsageError(f"{redact(url)} names a whole bucket", hint="Name a place in it.")
    return open_place(urlunsplit(parts._replace(path=folder))), unquote(name)


def download_tree(place: ObjectPlace, prefix: str, folder: Path) -> int:
    """Copy all objects below a prefix into a folder; return how many there were."""
    count = 0
    for found in place.list_tree(prefix):
        data = place.get(found.key)
        if data is not None:
            save(folder / PurePosixPath(found.key).relative_to(prefix), data)
            count += 1
    return count


def save(path: Path, data: bytes) -> None:
    """Write a temporary file, and the folders above it.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If there is no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise StoreWriteError(
            f"no temporary copy of {len(data)} bytes can be made: {error}",
            hint="TMPDIR says where they are made.",
        ) from error


def upload(path: Path, place: ObjectPlace, key: str) -> None:
    """Write a file, or all files below a folder, to objects.

    A file of more than 8 MiB is uploaded in parts as it is read.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If it can't be written.
    """
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file():
                upload(inner, place, f"{key}/{inner.relative_to(path).as_posix()}")
    elif path.stat().st_size <= _PIECE:
        place.put(key, path.read_bytes())
    else:
        place.put(key, _pieces(path))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


@contextmanager
def told_of(folder: str, name: str) -> Iterator[None]:
    """Tell errors of files in a temporary folder as those of the objects that they stand for."""
    try:
        yield
    except WsistoreError as error:
        if folder not in error.message:
            raise
        message = error.message.replace(folder, name)
        raise type(error)(message, hint=error.hint.replace(folder, name)) from error
