"""The crash-safe making of a store of objects, where nothing can be renamed or locked.

While ``NAME`` is being made, its parts go straight to their final keys, and what belongs to
the making lies beside it::

    .NAME.partial/
    ├── settings.json   what the store is being made with and from; made create-only
    ├── replaces        there while an old store is being removed
    ├── head/...        documents that would make it a store, for the run itself
    └── done/...        a receipt for each part that is finished

The document that makes it a store (``zarr.json``) is written last and create-only, so a
reader never meets half of one. Runs with equal settings write equal parts, so they do no
harm to each other; runs with others are refused by ``settings.json``. So there is no lock,
and none that a killed run could leave behind.

An old store that is replaced is gone from the moment its root document is deleted: there is
no way to replace many objects at once.
"""

from __future__ import annotations

import json
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from wsistore.durable.model import Objects, Work
from wsistore.durable.settings import canonical, check_settings
from wsistore.durable.unfinished import SETTINGS, partial_name
from wsistore.errors import (
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    StoreWriteError,
    UsageError,
)

_AT_ONCE = 8
"""Receipts under way."""
_CLAIMS = 10
"""Times that settings may come and go under a run that wants to make them."""
_WATCH_S = 10.0
"""Seconds after which a run looks anew whether the name is still its own."""
_RECEIPT = re.compile(rb'\{"crc32":"([0-9a-f]{8})","entry":(\{.*\})\}')


def plain_etag(etag: str | None) -> str:
    """Return an ETag without the quotes that some answers carry and others don't."""
    return (etag or "").removeprefix("W/").strip('"')


class ObjectWork(Work):
    """A store of objects that is being made; see `Work` and the module.

    Parameters
    ----------
    place : Objects
        Where the store will lie.
    name : str
        Its name there.
    settings : mapping
        JSON-able; whatever would make another result of the same name.
    overwrite : bool
        Whether what has the name is replaced. It is no store any more from the beginning.
    restart : bool
        Whether to throw away what an earlier run left unfinished.
    roots : collection of str
        Names of the documents any of which makes it a store.

    Raises
    ------
    UsageError
        If the name is none.
    """

    def __init__(
        self,
        place: Objects,
        name: str,
        settings: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        restart: bool = False,
        roots: Collection[str] = ("zarr.json", ".zattrs", ".zgroup"),
    ) -> None:
        if not name or "/" in name or name in (".", ".."):
            raise UsageError(f"{name!r} can't be the name of a store of objects")
        self._place = place
        self._name = name
        self._partial = partial_name(name)
        self._settings = dict(settings or {})
        self._settings_bytes = canonical(self._settings)
        self._overwrite = overwrite
        self._restart = restart
        self._roots = tuple(roots)
        self._active = False
        self._seen_at = 0.0
        self._watching = threading.Lock()
        self._under_way: deque[Future[None]] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self.resumed = False

    @property
    def root(self) -> str:
        """URL that parts are written below."""
        return f"{self._place.name}/{self._name}"

    @property
    def head(self) -> str:
        """URL at which the documents given to `sketch` are found."""
        return f"{self._place.name}/{self._partial}/head"

    def __enter__(self) -> Self:
        """Find or begin the work.

        Raises
        ------
        StoreExistsError
            If something has the name, and is not to be overwritten.
        StoreMismatchError
            If a run with other settings has begun it.
        StoreCorruptError
            If what such a run left can't be read.
        StoreWriteError
            If objects can't be written, or not on condition.
        """
        found = self.listing()
        if self._restart and self._place.get(f"{self._partial}/{SETTINGS}") is not None:
            # Without its root document, what has the name is that unfinished work.
            if found.keys().isdisjoint(self._roots):
                self._sweep()
                found = {}
            self._clear()
        self.resumed = self._begin(taken=bool(found))
        roots = not found.keys().isdisjoint(self._roots)
        if roots and not self._overwrite:
            raise self._taken()
        self._replace(anew=roots or bool(found and not self.resumed))
        self._threads = ThreadPoolExecutor(_AT_ONCE, "wsistore-receipt")
        self._active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for receipts that are under way; all stays, unless no part was finished."""
        if not self._active:
            return
        self._active = False
        try:
            self._close(raising=error is None)
        finally:
            if not self.resumed and not any(True for _ in self._tree(f"{self._partial}/done")):
                self._sweep()

    def entries(self) -> list[dict[str, Any]]:
        """Return all receipts that are whole."""
        keys = [info.key for info in self._tree(f"{self._partial}/done")]
        with ThreadPoolExecutor(_AT_ONCE, "wsistore-receipt") as threads:
            found = list(threads.map(self._place.get, keys))
        return [entry for data in found if (entry := _entry(data)) is not None]

    def append(self, key: str, entry: Mapping[str, Any]) -> None:
        """Write the receipt of a part; it is there when the work is left.

        Raises
        ------
        StoreWriteError
            If this one, or one before, could not be written.
        StoreMismatchError
            If a run with other settings has taken the name meanwhile.
        """
        threads = self._need_active()
        body = canonical(entry)
        line = b'{"crc32":"%08x","entry":%s}' % (zlib.crc32(body), body)
        name = f"{self._partial}/done/{key}"
        self._under_way.append(threads.submit(self._note, name, line))
        while len(self._under_way) > _AT_ONCE or (self._under_way and self._under_way[0].done()):
            self._under_way.popleft().result()

    def write(self, key: str, data: bytes) -> None:
        """Write an object of the store."""
        self._need_active()
        self._place.put(f"{self._name}/{key}", data)

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write several objects of the store, side by side."""
        threads = self._need_active()
        for written in [threads.submit(self.write, key, data) for key, data in files.items()]:
            written.result()

    def sketch(self, key: str, data: bytes) -> None:
        """Write a document that would make it a store, where only `head` shows it."""
        self._need_active()
        self._place.put(f"{self._partial}/head/{key}", data)

    def listing(self) -> dict[str, tuple[int, str]]:
        """Return size in bytes and ETag (without quotes) of each object of the store."""
        start = len(self._name) + 1
        return {
            info.key[start:]: (info.size, plain_etag(info.etag)) for info in self._tree(self._name)
        }

    def finish(self, last: Mapping[str, bytes]) -> bool:
        """Make it a store: write the last documents, and remove what belongs to the making.

        Of two or more documents the last one is that which is waited for: it is made
        create-only. The result only tells who is to report it as done: with equal settings
        the documents are equal, so it does no harm where a lost answer makes two runs
        believe to be the first, or none.

        Raises
        ------
        StoreMismatchError, StoreExistsError
            If another store has taken the name meanwhile.
        StoreWriteError
            If objects can't be written, or not on condition.
        UsageError
            If it is called outside of the ``with`` statement, or twice, or without a
            document.
        """
        self._need_active()
        if not last:
            raise UsageError(f"nothing makes {self.root} a store")
        self._close(raising=True)
        self._claim()
        names = list(last)
        for key in names[:-1]:
            self._place.put(f"{self._name}/{key}", last[key])
        first = self._place.create(f"{self._name}/{names[-1]}", last[names[-1]])
        if not first and self._place.get(f"{self._name}/{names[-1]}") != last[names[-1]]:
            raise StoreExistsError(
                f"{self.root} has been made by another run meanwhile, and is another store",
                hint="Choose another name, or have it overwritten.",
            )
        self._active = False
        self._clear()
        return first

    def discard(self) -> None:
        """Remove all objects that were written, and end the work."""
        self._need_active()
        self._active = False
        self._close(raising=False)
        self._sweep()

    def _sweep(self) -> None:
        self._place.delete([info.key for info in self._tree(self._name)])
        self._clear()

    def _begin(self, *, taken: bool) -> bool:
        """Make the settings, or compare with those of the run that has begun."""
        data = self._place.get(f"{self._partial}/{SETTINGS}")
        if data is None:
            if taken and not self._overwrite:
                raise self._taken()
            self._claim()
            return False
        self._compare(data)
        return True

    def _replace(self, *, anew: bool) -> None:
        """Remove what had the name, or what is left of it where a kill came between.

        Where a run with equal settings does so at the same time, parts of the other may
        go: whoever finishes has to look whether all of its own are there.
        """
        mark = f"{self._partial}/replaces"
        if anew:
            self._place.put(mark, b"")
        elif not self.resumed or self._place.get(mark) is None:
            return
        self._place.delete([f"{self._name}/{root}" for root in self._roots])
        self._place.delete([info.key for info in self._tree(self._name)])
        self._place.delete([mark])

    def _claim(self) -> None:
        """Make the settings unless they are there; raise if they are another's.

        Who was first does not matter: runs with equal settings work side by side.
        """
        key = f"{self._partial}/{SETTINGS}"
        for _ in range(_CLAIMS):
            if self._place.create(key, self._settings_bytes):
                return
            data = self._place.get(key)
            if data is not None:
                self._compare(data)
                return
            # Between the two calls another run came to its end: the name is free again.
        raise StoreWriteError(
            f"{self._place.name}/{key} came and went {_CLAIMS} times while {self.root} was made",
            hint="Other runs write the same store, again and again: let one end, and run it again.",
        )

    def _compare(self, data: bytes) -> None:
        hint = (
            f"Use those again; or, when no run is writing it any more, have it overwritten or "
            f"remove {self._place.name}/{self._partial}/ to begin anew."
        )
        try:
            found = json.loads(data)
        except ValueError as error:
            raise StoreCorruptError(
                f"{self._place.name}/{self._partial}/{SETTINGS} is damaged: {error}", hint=hint
            ) from error
        try:
            check_settings(found, self._settings, name=f"the unfinished {self.root}")
        except StoreMismatchError as error:
            raise StoreMismatchError(error.message, hint=hint) from None

    def _note(self, name: str, line: bytes) -> None:
        self._watch()
        self._place.put(name, line)

    def _watch(self) -> None:
        """Look now and then whether a run that overwrites has taken the name."""
        with self._watching:
            if time.monotonic() - self._seen_at < _WATCH_S:
                return
            self._seen_at = time.monotonic()
        data = self._place.get(f"{self._partial}/{SETTINGS}")
        # Where it is gone, an equal run has come to its end first: `finish` will tell.
        if data is not None:
            self._compare(data)

    def _close(self, *, raising: bool) -> None:
        """End the threads; raise the first failure of a receipt where that is wanted."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            self._threads = None
        left = [*self._under_way]
        self._under_way.clear()
        for future in left if raising else ():
            future.result()

    def _clear(self) -> None:
        """Remove what belongs to the making; the settings last, since they keep others out."""
        settings = f"{self._partial}/{SETTINGS}"
        self._place.delete([info.key for info in self._tree(self._partial) if info.key != settings])
        self._place.delete([settings])

    def _tree(self, folder: str) -> Iterable[Any]:
        # With the slash, or NAME2 would be taken for a part of NAME.
        return self._place.list_tree(f"{folder}/")

    def _taken(self) -> StoreExistsError:
        return StoreExistsError(
            f"{self.root} exists", hint="Choose another name, or have it overwritten."
        )

    def _need_active(self) -> ThreadPoolExecutor:
        if not self._active or self._threads is None:
            raise UsageError(f"{self.root} is not being made (any more)")
        return self._threads


def clear_leftovers(place: Objects, name: str, settings: Mapping[str, Any]) -> None:
    """Remove what a run that was killed right after finishing a store left beside it.

    Only what was made with the settings given: other runs may be at work.
    """
    partial = partial_name(name)
    data = place.get(f"{partial}/{SETTINGS}")
    if data is None or data != canonical(settings):
        return
    keys = [info.key for info in place.list_tree(f"{partial}/")]
    place.delete(sorted(keys, key=lambda key: key.endswith(f"/{SETTINGS}")))


def _entry(data: bytes | None) -> dict[str, Any] | None:
    """Return what a receipt holds, None where it is damaged or gone."""
    found = _RECEIPT.fullmatch(data or b"")
    if found is None or zlib.crc32(found[2]) != int(found[1], 16):
        return None
    entry: dict[str, Any] = json.loads(found[2])
    return entry
