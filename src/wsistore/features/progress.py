"""What unfinished work on a slide keeps beside its store: which units are written.

Beside a local store there is a lock of the kernel, which dies with its holder, and a ledger
of one line for each unit. Objects have neither. There, below ``.NAME.work/<slide>/``, the
settings are an object that is made once, and each unit leaves a receipt with size and ETag of
what was written. Runs of equal settings write equal bytes, so they may work side by side, and
others are refused: there is no lock that could be left behind.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wsistore.durable import FileLock, Ledger, canonical
from wsistore.errors import StoreCorruptError, StoreWriteError
from wsistore.features.places import SlidePlace, beside, objects_of
from wsistore.features.schema import node_name
from wsistore.sources import ObjectPlace

LEDGER = "ledger.jsonl"
SETTINGS = "settings.json"
OBJECTS = "objects"
"""Member of receipts: ``[key, size, ETag]`` of each object that a unit has written."""

_READ_AT_ONCE = 16


class Progress(ABC):
    """What is known of the units of a slide that is being written."""

    @abstractmethod
    def entries(self) -> list[dict[str, Any]]:
        """Return what was noted of units."""

    @abstractmethod
    def note(self, entry: Mapping[str, Any]) -> None:
        """Note a unit that is written; the entry names ``encoder`` and ``unit``.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If that can't be written.
        """

    @abstractmethod
    def is_whole(self, entry: Mapping[str, Any]) -> bool | None:
        """Return whether what was noted is there; None where only reading it tells."""

    @abstractmethod
    def forget(self) -> None:
        """Throw away what was noted: the slide is finished, or is begun anew."""

    @abstractmethod
    def close(self) -> None:
        """End the work; what was noted stays for the next run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def begin_work(place: SlidePlace) -> Progress:
    """Return what is known of a slide's units; the lock of a local one is taken.

    Raises
    ------
    wsistore.errors.StoreLockedError
        If another run is writing a local one.
    wsistore.errors.StoreWriteError
        If the lock can't be made.
    """
    return RemoteProgress(place) if place.is_remote else LocalProgress(place)


class LocalProgress(Progress):
    """A lock and a ledger in a folder beside a local store."""

    def __init__(self, place: SlidePlace) -> None:
        self.folder = work_folder(place)
        self._lock = FileLock(self.folder / "lock", str(place))
        self._lock.acquire()
        self._ledger = Ledger(self.folder / LEDGER)

    def entries(self) -> list[dict[str, Any]]:
        """Return what was noted of units."""
        return self._ledger.entries()

    def note(self, entry: Mapping[str, Any]) -> None:
        """Note a unit that is written."""
        self._ledger.append(entry)

    def is_whole(self, entry: Mapping[str, Any]) -> None:
        """Return None: files are read to see whether they are whole."""
        del entry

    def forget(self) -> None:
        """Remove the ledger."""
        self._ledger.close()
        self._ledger.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Free the lock."""
        self._ledger.close()
        self._lock.release()
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):  # not empty, or another run's by now
                folder.rmdir()


def work_folder(place: SlidePlace) -> Path:
    """Return the folder beside a local store that holds lock and ledger of a slide."""
    store = Path(place.store)
    return store.with_name(f".{store.name}.work") / (place.group or "slide")


class RemoteProgress(Progress):
    """Settings and receipts that are objects beside a store of objects."""

    def __init__(self, place: SlidePlace) -> None:
        folder, name = beside(place.store)
        self._objects: ObjectPlace = objects_of(folder)
        self._root = f".{name}.work/{place.group or 'slide'}"
        self._place = place
        self._there: dict[str, tuple[int, str | None]] | None = None

    def settle(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Say what this slide is made with, or return what an unfinished run has said.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If that can't be written.
        wsistore.errors.StoreCorruptError
            If what was said can't be read.
        """
        key = f"{self._root}/{SETTINGS}"
        for _ in range(3):  # a run that ends meanwhile takes its settings with it
            if self._objects.create(key, canonical(settings)):
                return dict(settings)
            told = self._objects.get(key)
            if told is not None:
                return _object(told, f"{self._objects.name}/{key}")
        raise StoreWriteError(f"settings of {self._place} come and go; other runs are at it")

    def entries(self) -> list[dict[str, Any]]:
        """Return what receipts say; they are fetched side by side."""
        keys = [found.key for found in self._objects.list_tree(f"{self._root}/done")]
        if not keys:
            return []
        with ThreadPoolExecutor(_READ_AT_ONCE, "wsistore-receipts") as pool:
            found = zip(keys, pool.map(self._objects.get, keys), strict=True)
            return [_object(data, key) for key, data in found if data is not None]

    def note(self, entry: Mapping[str, Any]) -> None:
        """Write the receipt of a unit."""
        name = f"{node_name(entry['encoder'])}-{entry['unit']}.json"
        self._objects.put(f"{self._root}/done/{name}", canonical(entry))

    def is_whole(self, entry: Mapping[str, Any]) -> bool | None:
        """Return whether all objects of a receipt are those that were written."""
        if self._there is None:
            listed = objects_of(self._place.store).list_tree(self._place.group)
            self._there = {found.key: (found.size, found.etag) for found in listed}
        noted = entry.get(OBJECTS)
        if not isinstance(noted, list) or not noted:
            return False
        for key, size, etag in noted:
            if etag is None:
                return None
            if self._there.get(key) != (size, etag):
                return False
        return True

    def forget(self) -> None:
        """Remove settings and receipts, the settings last."""
        keys = [found.key for found in self._objects.list_tree(self._root)]
        settings = f"{self._root}/{SETTINGS}"
        self._objects.delete([key for key in keys if key != settings])
        self._objects.delete([key for key in keys if key == settings])

    def close(self) -> None:
        """Do nothing: there is nothing that is held."""


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except ValueError as error:
        raise StoreCorruptError(f"{name} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise StoreCorruptError(f"{name} is no JSON object")
    return told


def receipt_objects(
    written: Mapping[str, tuple[int, str | None]],
) -> tuple[tuple[str, int, str | None], ...]:
    """Return what a receipt says of objects that were written, ordered by their keys."""
    return tuple((key, size, etag) for key, (size, etag) in sorted(written.items()))


__all__ = [
    "LocalProgress",
    "Progress",
    "RemoteProgress",
    "begin_work",
    "receipt_objects",
    "work_folder",
]
