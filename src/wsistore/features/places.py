"""Where a feature store lies. The only module that makes Zarr stores from names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError, WsistoreError
from wsistore.features.schema import MARK, SCHEMA, node_name
from wsistore.sources import ObjectPlace, is_url, open_place, redact

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

DOCUMENT = "zarr.json"
SUFFIX = ".zarr"
"""Of the stores of single slides in a folder."""

_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""What zarr's local store calls a file until it is whole."""

READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, NotImplementedError)
"""What zarr and its codecs raise on documents and chunks that are broken. Errors of
`wsistore` are among them, and are to be let through first."""


@dataclass(frozen=True, slots=True)
class SlidePlace:
    """Where the features of one slide are: a store, and a group in it.

    Parameters
    ----------
    store : str
        Absolute path, or URL, of a Zarr store.
    group : str
        Group in it; empty where the store holds this slide alone.
    """

    store: str
    group: str

    @classmethod
    def in_cohort(cls, store: str | os.PathLike[str], slide: str) -> SlidePlace:
        """Return the place of a slide in the store of a cohort."""
        return cls(absolute(store), node_name(slide))

    @classmethod
    def alone(cls, folder: str | os.PathLike[str], slide: str) -> SlidePlace:
        """Return the place of a slide in a store of its own within a folder."""
        return cls(below(absolute(folder), f"{node_name(slide)}{SUFFIX}"), "")

    @property
    def is_remote(self) -> bool:
        """Whether it is objects, and not files of this machine."""
        return is_url(self.store)

    @property
    def path(self) -> Path:
        """Folder of the slide's group; of local stores only."""
        return Path(self.store) / self.group

    @property
    def document(self) -> str:
        """Key of the group's document in the store."""
        return self.key(DOCUMENT)

    def key(self, name: str) -> str:
        """Return the key in the store of what has this name in the group."""
        return f"{self.group}/{name}" if self.group else name

    def __str__(self) -> str:
        store = redact(self.store)
        return f"{store}/{self.group}" if self.group else store


def absolute(store: str | os.PathLike[str]) -> str:
    """Return the absolute path of a store, or its URL without a slash at its end.

    Raises
    ------
    wsistore.errors.UsageError
        If it is none that can be a store of features.
    """
    text = os.fspath(store)
    if not text:
        raise UsageError("an empty path names no feature store")
    if is_url(text):
        parts = urlsplit(text)
        path = parts.path.rstrip("/")
        if not path and parts.scheme.lower() not in ("http", "https"):
            raise UsageError(
                f"{redact(text)} is a whole bucket, not a store in one",
                hint=f"Name a place in it, such as {redact(text).rstrip('/')}/features.zarr.",
            )
        return urlunsplit(parts._replace(path=path))
    if "://" in text:
        raise UsageError(f"feature store {text!r} is neither a path nor the URL of objects")
    return os.path.abspath(text)  # noqa: PTH100 (must not resolve links)


def below(store: str, name: str) -> str:
    """Return the path or URL of what has this name in a folder."""
    if not is_url(store):
        return str(Path(store) / name)
    parts = urlsplit(store)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def beside(store: str) -> tuple[str, str]:
    """Return the URL of the folder of a remote store, and the store's name in it."""
    parts = urlsplit(store)
    folder, _, name = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=folder)), unquote(name)


def objects_of(store: str) -> ObjectPlace:
    """Return the objects of a store at a URL."""
    return open_place(store)


def open_store(store: str, *, read_only: bool) -> Store:
    """Return the Zarr store of this name."""
    if is_url(store):
        from wsistore.features.object_store import ObjectStore

        return ObjectStore(store, read_only=read_only)
    from zarr.storage import LocalStore

    return LocalStore(store, read_only=read_only)


def open_group(
    place: SlidePlace, *, read_only: bool = True, store: Store | None = None
) -> zarr.Group:
    """Return the group of a slide, or of a whole store with an empty group.

    Parameters
    ----------
    place : SlidePlace
        Where it is.
    read_only : bool
        Whether it is only read.
    store : Store, optional
        What `open_store` returned for it before.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is none.
    wsistore.errors.StoreCorruptError
        If its document can't be read.
    wsistore.errors.SourceError
        If its objects can't be had.
    """
    import zarr

    mode: Any = "r" if read_only else "r+"
    try:
        return zarr.open_group(
            open_store(place.store, read_only=read_only) if store is None else store,
            path=place.group,
            mode=mode,
            zarr_format=3,
            use_consolidated=False,
        )
    except WsistoreError:
        raise
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there are no features at {place}") from error
    except READ_ERRORS as error:
        raise StoreCorruptError(f"the group {place} can't be read: {error}") from error


def has_document(place: SlidePlace) -> bool:
    """Return whether there is a group at a place, without reading what it says."""
    if place.is_remote:
        return objects_of(place.store).get(place.document) is not None
    return (place.path / DOCUMENT).is_file()


def sweep(place: SlidePlace) -> int:
    """Remove what killed writers left half-written in a slide's group; return how many files.

    Only to be called where nobody writes. Objects are never half-written.

    Raises
    ------
    OSError
        If a file can't be removed.
    """
    if place.is_remote:
        return 0
    left = [path for path in place.path.rglob("*.partial") if _HALF_WRITTEN.search(path.name)]
    for path in left:
        path.unlink()
    return len(left)


def checked_attributes(group: zarr.Group, place: SlidePlace) -> dict[str, Any]:
    """Return the attributes of a group of a feature store.

    Raises
    ------
    wsistore.errors.UsageError
        If it is no feature store, or one of a later version of wsistore.
    """
    return check_attributes(dict(group.attrs), place)


def check_attributes(attributes: dict[str, Any], place: SlidePlace) -> dict[str, Any]:
    """Return attributes if they are those of a feature store; see `checked_attributes`."""
    version = attributes.get(MARK)
    if version is None:
        raise UsageError(f"{place} is no feature store: it lacks the attribute {MARK}")
    if version != SCHEMA:
        raise UsageError(
            f"{place} has schema {version!r}, this wsistore reads {SCHEMA}",
            hint="Use the version of wsistore that wrote it.",
        )
    return attributes
