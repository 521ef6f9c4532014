"""Ranged reads from objects: S3, GCS, Azure and HTTP, through obstore.

obstore is imported with the first remote source. Its engine does not survive a fork (a
read in the child would wait forever), so a process that was forked after the first remote
read is refused; start workers by spawning where slides are remote.
"""

from __future__ import annotations

import base64
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
    StoreWriteError,
    UsageError,
)
from wsistore.sources import mapping
from wsistore.sources.keys import check_key, check_prefix
from wsistore.sources.model import ObjectInfo, ObjectPlace, Source
from wsistore.sources.names import redact
from wsistore.sources.object_errors import from_object_error, secrets_of
from wsistore.sources.ranges import EMPTY, Limits, Plan, Request, plan, share

LIMITS = Limits(gap=256 << 10, request=32 << 20)
_REQUESTS_AT_ONCE = 8
_DELETED_AT_ONCE = 1000

_Result = TypeVar("_Result")
_engine_pid: int | None = None


class Bucket:
    """One obstore store, whose calls raise the project's errors; it pickles.

    Parameters
    ----------
    store : obstore store
        Where the objects are; keys are relative to its prefix.
    name : str
        URL of its root for messages, without credentials.
    secrets : tuple of str
        What must not appear in messages.
    """

    def __init__(self, store: Any, name: str, secrets: tuple[str, ...] = ()) -> None:
        self.store = store
        self.name = name.rstrip("/")
        self._secrets = secrets

    @classmethod
    def at(cls, url: str, options: Mapping[str, Any]) -> Bucket:
        """Return the store at a URL.

        Raises
        ------
        UsageError
            If there is no such scheme, or an option is unknown.
        """
        from obstore.store import from_url

        options = dict(options)
        if "store" in options:
            bucket = cls(options.pop("store"), redact(url))
            if options:
                raise UsageError(f"with store=... there are no other options, got {[*options]}")
            return bucket
        secrets = secrets_of(url, options)
        name = redact(url)
        url, options = _for_http(url, options)
        try:
            return cls(from_url(url, **options), name, secrets)
        except _library_errors() as error:
            told = from_object_error(error, name, secrets)
        raise UsageError(told.message, hint="Check the address and the options.")

    def call(self, name: str, function: Callable[..., _Result], *args: Any, **more: Any) -> _Result:
        """Call a function of obstore on the store.

        Raises
        ------
        SourceError
            The one that the error of obstore means.
        """
        global _engine_pid  # noqa: PLW0603 (the engine is one per process, too)
        pid = os.getpid()
        if _engine_pid is None:
            _engine_pid = pid
        elif _engine_pid != pid:
            raise SourceError(
                f"{name} can't be read in a process that was forked after remote reading began",
                hint="Start workers with the method 'spawn' or 'forkserver'.",
            )
        try:
            return function(self.store, *args, **more)
        except _library_errors() as error:
            told = from_object_error(error, name, self._secrets)
        raise told  # outside of the handler: the original holds secrets

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"


class ObjectSource(Source):
    """Random access to one object; safe in threads, not across a fork (see the module).

    Parameters
    ----------
    bucket : Bucket
        Where it is.
    key : str
        Which one.

    Raises
    ------
    wsistore.errors.SourceError
        If it can't be had; not found and not permitted have their own classes.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        import obstore

        self.name = f"{bucket.name}/{key}"
        self._bucket = bucket
        self._key = key
        self._closed = False
        found = bucket.call(self.name, obstore.head, key)
        self.size: int = found["size"]
        self._etag: str | None = found.get("e_tag")

    def read(self, offset: int, count: int) -> bytes:
        """Read exactly `count` bytes from `offset`; see `Source.read`."""
        return bytes(self.read_many([offset], [count])[0])

    def read_many(
        self,
        offsets: Sequence[int] | NDArray[np.integer],
        counts: Sequence[int] | NDArray[np.integer],
    ) -> list[memoryview]:
        """Read several ranges in few large requests; see `Source.read_many`.

        Neighbours at most 256 KiB apart are fetched together, for a request costs more
        than bytes do; requests run side by side. The views of one request share a buffer.
        """
        if self._closed:
            raise mapping.closed(self.name)
        planned = plan(offsets, counts, name=self.name, size=self.size, limits=LIMITS)
        views = [EMPTY] * len(planned.offsets)
        if len(planned.requests) < 2:
            for request in planned.requests:
                self._serve(planned, request, views)
            return views
        workers = min(_REQUESTS_AT_ONCE, len(planned.requests))
        with ThreadPoolExecutor(workers, "wsistore-read") as threads:
            for future in [
                threads.submit(self._serve, planned, request, views) for request in planned.requests
            ]:
                future.result()
        return views

    def check(self) -> None:
        """Raise if the object is no longer the one that was opened.

        Raises
        ------
        wsistore.errors.SourceChangedError
            If its size or ETag is another.
        """
        import obstore

        self._compare(self._bucket.call(self.name, obstore.head, self._key))

    def close(self) -> None:
        """End reading; reading afterwards is an error."""
        self._closed = True

    def _serve(self, planned: Plan, request: Request, views: list[memoryview]) -> None:
        share(planned, request, self._fetch(request.start, request.stop), views)

    def _fetch(self, start: int, stop: int) -> memoryview:
        data, found = self._bucket.call(self.name, _get_range, self._key, start, stop)
        self._compare(found)
        if len(data) != stop - start:
            raise mapping.too_short(self.name, start, stop - start, len(data))
        return data

    def _compare(self, found: Mapping[str, Any]) -> None:
        etag = found.get("e_tag")
        # Not every server sends an ETag, nor with every answer.
        changed = self._etag is not None and etag is not None and etag != self._etag
        if changed or found["size"] != self.size:
            raise SourceChangedError(
                f"{self.name} is not the object that was opened (size {self.size} -> "
                f"{found['size']}, ETag {self._etag} -> {etag})",
                hint="Leave it alone while it is in use, and start again.",
            )

    def __repr__(self) -> str:
        return f"ObjectSource({self.name!r}, {self.size} bytes)"


class ObjectFolder(ObjectPlace):
    """The objects below a URL, read and written.

    Parameters
    ----------
    bucket : Bucket
        Where they are.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.name = bucket.name
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none."""
        name = f"{self.name}/{check_key(key)}"
        try:
            data = self._bucket.call(name, _get_all, key)
        except SourceNotFoundError:
            return None
        return data

    def source(self, key: str) -> ObjectSource:
        """Return ranged access to an object; see `Folder.source`."""
        return ObjectSource(self._bucket, check_key(key))

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
        import obstore

        prefix = check_prefix(prefix)
        found = self._bucket.call(
            f"{self.name}/{prefix}", obstore.list_with_delimiter, prefix or None
        )
        names = {path.rpartition("/")[2] + "/" for path in found["common_prefixes"]}
        names.update(entry["path"].rpartition("/")[2] for entry in found["objects"])
        return sorted(names)

    def put(self, key: str, data: bytes | Iterable[bytes | memoryview]) -> str | None:
        """Write an object in place of one that has its key; see `ObjectPlace.put`."""
        import obstore

        if not isinstance(data, bytes | bytearray | memoryview):
            data = map(bytes, data)
        written = self._write(key, obstore.put, check_key(key), data)
        etag: str | None = written.get("e_tag")
        return etag

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one of its key; see `ObjectPlace.create`."""
        return self._write(key, _create, check_key(key), data)

    def get_tagged(self, key: str) -> tuple[bytes, str | None] | None:
        """Return all bytes of an object and their ETag; see `ObjectPlace.get_tagged`."""
        try:
            return self._bucket.call(f"{self.name}/{check_key(key)}", _get_tagged, key)
        except SourceNotFoundError:
            return None

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Write an object in place of one that has this ETag; see `ObjectPlace.replace`."""
        return self._write(key, _replace, check_key(key), data, etag)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; see `ObjectPlace.delete`."""
        import obstore

        for start in range(0, len(keys), _DELETED_AT_ONCE):
            some = [check_key(key) for key in keys[start : start + _DELETED_AT_ONCE]]
            self._write(some[0], obstore.delete, some)

    def list_tree(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects below a prefix; see `ObjectPlace.list_tree`."""
        prefix = check_prefix(prefix)
        name = f"{self.name}/{prefix}"
        found = self._bucket.call(name, _list_all, prefix or None)
        for entry in sorted(found, key=operator.itemgetter("path")):
            yield ObjectInfo(entry["path"], entry["size"], entry.get("e_tag"))

    def _write(self, key: str, function: Callable[..., _Result], *args: Any) -> _Result:
        try:
            return self._bucket.call(f"{self.name}/{key}", function, *args)
        except SourceError as error:
            raise StoreWriteError(f"writing failed: {error.message}", hint=error.hint) from None

    def __repr__(self) -> str:
        return f"ObjectFolder({self.name!r})"


def open_object(url: str, options: Mapping[str, Any]) -> ObjectSource:
    """Return ranged access to the object at a URL; `options` are those of obstore."""
    parts = urlsplit(url)
    folder, _, last = parts.path.rpartition("/")
    if not last:
        raise UsageError(f"{redact(url)} names a folder, not an object")
    root = urlunsplit((parts.scheme, parts.netloc, folder, parts.query, ""))
    return ObjectSource(Bucket.at(root, options), check_key(unquote(last)))


def open_objects(url: str, options: Mapping[str, Any]) -> ObjectFolder:
    """Return read access to the objects below a URL; `options` are those of obstore."""
    return ObjectFolder(Bucket.at(url, options))


def _for_http(url: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what obstore needs to be told of an HTTP URL, or one with a password.

    Plain HTTP must be allowed, and a user and password are sent only as a header.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https"):
        return url, options
    client = dict(options.pop("client_options", None) or {})
    if parts.scheme.lower() == "http":
        client.setdefault("allow_http", True)
    if parts.username is not None:
        headers = dict(client.get("default_headers", {}))
        headers.setdefault("Authorization", _basic(parts))
        client["default_headers"] = headers
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if client:
        options["client_options"] = client
    return url, options


def _basic(parts: SplitResult) -> str:
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _library_errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return BaseError, OSError, ValueError


def _get_range(store: Any, key: str, start: int, stop: int) -> tuple[memoryview, Mapping[str, Any]]:
    import obstore

    answer = obstore.get(store, key, options={"range": (start, stop)})
    return memoryview(answer.bytes()), answer.meta


def _get_all(store: Any, key: str) -> bytes:
    import obstore

    return bytes(obstore.get(store, key).bytes())


def _get_tagged(store: Any, key: str) -> tuple[bytes, str | None]:
    import obstore

    answer = obstore.get(store, key)
    return bytes(answer.bytes()), answer.meta.get("e_tag")


def _create(store: Any, key: str, data: bytes) -> bool:
    import obstore
    from obstore.exceptions import AlreadyExistsError

    try:
        obstore.put(store, key, data, mode="create")
    except AlreadyExistsError:
        return False
    return True


def _replace(store: Any, key: str, data: bytes, etag: str) -> bool:
    import obstore
    from obstore.exceptions import NotFoundError, PreconditionError

    try:
        obstore.put(store, key, data, mode={"e_tag": etag})
    except (PreconditionError, NotFoundError):  # another one, or none, by now
        return False
    return True


def _list_all(store: Any, prefix: str | None) -> list[Mapping[str, Any]]:
    import obstore

    return [entry for batch in obstore.list(store, prefix) for entry in batch]
