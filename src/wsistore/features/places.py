"""Where a feature store lies. The only module that makes Zarr stores from names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.features.schema import MARK, SCHEMA, node_name

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

DOCUMENT = "zarr.json"
SUFFIX = ".zarr"
"""Of the stores of single slides in a folder."""

_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""What zarr's local store calls a file until it is whole."""

READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, NotImplementedError)
"""What zarr and its codecs raise on documents and chunks that are broken."""


@dataclass(frozen=True, slots=True)
class SlidePlace:
    """Where the features of one slide are: a store, and a group in it.

    Parameters
    ----------
    store : str
        Absolute path of a Zarr store.
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
        return cls(str(Path(absolute(folder)) / f"{node_name(slide)}{SUFFIX}"), "")

    @property
    def path(self) -> Path:
        """Folder of the slide's group."""
        return Path(self.store) / self.group

    @property
    def work(self) -> Path:
        """Folder of what only unfinished work needs: lock and ledger. Beside the store."""
        store = Path(self.store)
        return store.with_name(f".{store.name}.work") / (self.group or "slide")

    def __str__(self) -> str:
        return f"{self.store}/{self.group}" if self.group else self.store


def absolute(store: str | os.PathLike[str]) -> str:
    """Return the absolute path of a store.

    Raises
    ------
    wsistore.errors.UsageError
        If it is none that can be a store of features.
    """
    text = os.fspath(store)
    if not text or "://" in text:
        raise UsageError(
            f"feature store {text!r} is no local path",
            hint="Write to a local disk, then copy the store to where it belongs.",
        )
    return os.path.abspath(text)  # noqa: PTH100 (must not resolve links)


def open_store(store: str, *, read_only: bool) -> Store:
    """Return the Zarr store of this name."""
    from zarr.storage import LocalStore

    return LocalStore(store, read_only=read_only)


def open_group(place: SlidePlace, *, read_only: bool = True) -> zarr.Group:
    """Return the group of a slide, or of a whole store with an empty group.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is none.
    wsistore.errors.StoreCorruptError
        If its document can't be read.
    """
    import zarr

    mode: Any = "r" if read_only else "r+"
    try:
        return zarr.open_group(
            open_store(place.store, read_only=read_only),
            path=place.group,
            mode=mode,
            zarr_format=3,
            use_consolidated=False,
        )
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there are no features at {place}") from error
    except READ_ERRORS as error:
        raise StoreCorruptError(f"the group {place} can't be read: {error}") from error


def sweep(place: SlidePlace) -> int:
    """Remove what killed writers left half-written in a slide's group; return how many files.

    Only to be called where nobody writes.

    Raises
    ------
    OSError
        If a file can't be removed.
    """
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
    attributes = dict(group.attrs)
    version = attributes.get(MARK)
    if version is None:
        raise UsageError(f"{place} is no feature store: it lacks the attribute {MARK}")
    if version != SCHEMA:
        raise UsageError(
            f"{place} has schema {version!r}, this wsistore reads {SCHEMA}",
            hint="Use the version of wsistore that wrote it.",
        )
    return attributes
