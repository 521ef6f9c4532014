"""Looking for slides in folders, whatever links and rights are met there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from wsistore.errors import SourceAccessError, SourceError
from wsistore.sources import is_url

_STORE_MARKS = ("zarr.json", ".zgroup", ".zattrs")


def slides_below(
    folder: Path, *, recursive: bool, suffixes: Collection[str], leave_out: Path | None = None
) -> Iterator[Path]:
    """Yield the slides and stores of a folder, in the order of their names.

    Hidden entries are left out. A folder is looked into once, however many links lead to
    it, so links that go round in circles do no harm. A folder below the first one that
    can't be listed is yielded itself: opening it tells what is wrong with it.

    Parameters
    ----------
    folder : Path
        Where to look.
    recursive : bool
        Whether folders within it are searched.
    suffixes : collection of str
        Extensions of slides, in lower case.
    leave_out : Path, optional
        A folder that is not searched: that of the results.

    Raises
    ------
    SourceAccessError, SourceError
        If the folder can't be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except PermissionError as error:
        raise SourceAccessError(
            f"folder {folder} may not be listed: {error.strerror}",
            hint="Check its owner and mode, and those of its folders.",
        ) from error
    except OSError as error:
        raise SourceError(f"folder {folder} can't be listed: {error.strerror}") from error
    seen = {_identity(place) for place in (folder, leave_out) if place is not None}
    yield from _among(entries, recursive, suffixes, seen)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder that holds a Zarr group or array."""
    return any(os.path.isfile(os.path.join(path, mark)) for mark in _STORE_MARKS)  # noqa: PTH113, PTH118


def is_plain_folder(path: str) -> bool:
    """Return whether a path is a local folder, and no store."""
    # Not by pathlib, which raises where a folder above may not be searched.
    return not is_url(path) and os.path.isdir(path) and not is_store(path)  # noqa: PTH112


def _among(
    entries: list[Path], recursive: bool, suffixes: Collection[str], seen: set[object]
) -> Iterator[Path]:
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if is_store(entry):
            yield entry
        elif is_plain_folder(os.fspath(entry)):
            if recursive and _identity(entry) not in seen:
                seen.add(_identity(entry))
                yield from _within(entry, suffixes, seen)
        elif entry.suffix.lower() in suffixes:
            yield entry


def _within(folder: Path, suffixes: Collection[str], seen: set[object]) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        yield folder  # it is a failure of its own, which must not end the others
        return
    yield from _among(entries, True, suffixes, seen)


def _identity(folder: Path) -> object:
    """Return what two names of one folder have in common; the name where it isn't there."""
    try:
        found = folder.stat()
    except OSError:
        return folder
    return (found.st_dev, found.st_ino)
