"""Whether a store may have its name: beside the slide, not over it, not within another."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wsistore.durable import unfinished_objects
from wsistore.errors import SourceAccessError, StoreExistsError, UsageError
from wsistore.pyramid.groups import ROOT_DOCUMENTS
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.pyramid.objectfiles import split_store
from wsistore.sources import is_url, open_place, redact
from wsistore.sources.names import local_path


def check_names(source: str, store: str, *, overwrite: bool) -> None:
    """Refuse to write what would replace the slide, or lie within a finished store.

    Parameters
    ----------
    source, store : str
        Paths or URLs.
    overwrite : bool
        Whether a store of that name is to be replaced.

    Raises
    ------
    UsageError
        If the store has the slide's name, or lies within it, or it within the store.
    StoreExistsError
        If what is to be overwritten is no store, or the store would lie within another.
    wsistore.errors.SourceError
        If objects can't be looked at.
    """
    if is_url(store):
        split_store(store)  # raises where it can be none
    if is_url(source) == is_url(store):
        _check_apart(source, store)
    if is_url(store):
        _check_objects(store, overwrite=overwrite)
    else:
        _check_files(store, overwrite=overwrite)


def is_group(store: str) -> bool:
    """Return whether there is a Zarr group of that name."""
    if is_url(store):
        return any(data is not None for data in open_place(store).get_many(ROOT_DOCUMENTS))
    return any(os.path.lexists(f"{store}/{name}") for name in ROOT_DOCUMENTS)


def _check_apart(source: str, store: str) -> None:
    one, other = _location(source), _location(store)
    if _is_within(one, other) or _is_within(other, one):
        raise UsageError(
            f"{redact(source)} and its store {redact(store)} are in one place",
            hint="Give the store another name than the slide's.",
        )


def _location(name: str) -> str:
    """Return a name that is the same for all spellings of a place."""
    if not is_url(name):
        return os.path.realpath(local_path(name))
    parts = urlsplit(name)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme.lower()}://{host}{unquote(parts.path)}".rstrip("/")


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _check_files(store: str, *, overwrite: bool) -> None:
    real = os.path.realpath(store)
    if overwrite and os.path.lexists(store) and not is_group(real):
        raise _no_store(store)
    for folder in Path(real).parents:
        if os.path.lexists(folder / CHECKSUMS):
            raise _within_store(store, str(folder))


def _check_objects(store: str, *, overwrite: bool) -> None:
    parent, name = split_store(store)
    place = open_place(parent)
    if overwrite and not is_group(store):
        unfinished = unfinished_objects(place, name) is not None
        if not unfinished and any(True for _ in place.list_tree(f"{name}/")):
            raise _no_store(store)
    while True:
        if _is_finished(parent):
            raise _within_store(store, parent)
        if not urlsplit(parent).path.strip("/"):
            return
        parent = parent.rstrip("/").rpartition("/")[0]


def _is_finished(url: str) -> bool:
    try:
        return open_place(url).get(CHECKSUMS) is not None
    except SourceAccessError:
        return False  # who may only use what is below it can't know, and need not


def _no_store(store: str) -> StoreExistsError:
    return StoreExistsError(
        f"{redact(store)} exists, and is no store: it is not overwritten",
        hint="Move it away, or choose another name.",
    )


def _within_store(store: str, folder: str) -> StoreExistsError:
    return StoreExistsError(
        f"{redact(store)} lies within the finished store {redact(folder)}",
        hint="Write it beside that one: a finished store must stay as it is.",
    )
