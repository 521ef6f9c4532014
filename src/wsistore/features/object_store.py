"""A Zarr store over the objects below a URL, read and written through `wsistore.sources`.

Addresses, options, credentials and retries stay with the room of sources; here are only
keys and bytes. Calls of zarr's event loop are served by threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from wsistore.errors import SourceNotFoundError
from wsistore.sources import ObjectPlace, open_place, redact

Written = tuple[int, str | None]
"""Size and ETag of an object."""


class ObjectStore(Store):
    """The objects below a URL, as zarr wants them; pickles as its URL.

    Parameters
    ----------
    url : str
        Of the store's root. Options are those that `wsistore.sources` knows for it.
    prefix : str
        Of keys: a folder below the URL that is the root in its place.
    read_only : bool
        Whether writing is refused.
    place : ObjectPlace, optional
        What was opened at the URL before.
    """

    supports_writes = True
    supports_deletes = True
    supports_partial_writes = False
    supports_listing = True

    def __init__(
        self,
        url: str,
        prefix: str = "",
        *,
        read_only: bool = False,
        place: ObjectPlace | None = None,
    ) -> None:
        super().__init__(read_only=read_only)
        self.url = url
        self.prefix = prefix
        self.place = open_place(url) if place is None else place
        self._written: dict[str, Written] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return _reopened, (self.url, self.prefix, self.read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStore) and (self.url, self.prefix, self.read_only) == (
            other.url,
            other.prefix,
            other.read_only,
        )

    __hash__ = None  # type: ignore[assignment]  # as zarr's stores

    def __repr__(self) -> str:
        return f"ObjectStore({str(self)!r})"

    def __str__(self) -> str:
        return redact(f"{self.url}/{self.prefix}" if self.prefix else self.url)

    def with_read_only(self, read_only: bool = False) -> ObjectStore:
        """Return the same store with another say about writing."""
        return ObjectStore(self.url, self.prefix, read_only=read_only, place=self.place)

    def taken(self, keys: Iterable[str]) -> dict[str, Written]:
        """Return size and ETag of what was written to these keys, and forget them."""
        with self._lock:
            return {key: self._written.pop(key) for key in keys if key in self._written}

    # Reading

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object, or a range of it; None where there is none."""
        data = await asyncio.to_thread(self._read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return ranges of objects."""
        calls = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return [*await asyncio.gather(*calls)]

    async def exists(self, key: str) -> bool:
        """Return whether there is an object of this key."""
        return await asyncio.to_thread(self._exists, key)

    def _exists(self, key: str) -> bool:
        try:
            self.place.source(self._key(key)).close()
        except SourceNotFoundError:
            return False
        return True

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        if byte_range is None:
            return self.place.get(self._key(key))
        try:
            source = self.place.source(self._key(key))
        except SourceNotFoundError:
            return None
        start, stop = _bounds(byte_range, source.size)
        return source.read(start, stop - start)

    # Writing

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        self._check_writable()
        data = value.to_bytes()
        etag = await asyncio.to_thread(self.place.put, self._key(key), data)
        with self._lock:
            self._written[key] = (len(data), etag)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless there is one of its key; of several writers one does."""
        self._check_writable()
        await asyncio.to_thread(self.place.create, self._key(key), value.to_bytes())

    async def set_partial_values(self, key_start_values: Any) -> None:
        """Refuse: objects are written whole."""
        raise NotImplementedError("objects are written whole")

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        self._check_writable()
        await asyncio.to_thread(self.place.delete, [self._key(key)])

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        self._check_writable()
        await asyncio.to_thread(self._delete_tree, prefix)

    def _delete_tree(self, prefix: str) -> None:
        self.place.delete([found.key for found in self.place.list_tree(self._key(prefix))])

    # Listing

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield all keys below a prefix."""
        for key in await asyncio.to_thread(self._tree, prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix."""
        for name in await asyncio.to_thread(self.place.list_names, self._key(prefix)):
            yield name.removesuffix("/")

    def _tree(self, prefix: str) -> Sequence[str]:
        cut = len(self.prefix) + 1 if self.prefix else 0
        return [found.key[cut:] for found in self.place.list_tree(self._key(prefix))]

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}".rstrip("/") if self.prefix else key


def _reopened(url: str, prefix: str, read_only: bool) -> ObjectStore:
    return ObjectStore(url, prefix, read_only=read_only)


def _bounds(request: ByteRequest, size: int) -> tuple[int, int]:
    """Return where a range begins and ends in an object of this size."""
    if isinstance(request, RangeByteRequest):
        return min(request.start, size), min(request.end, size)
    if isinstance(request, OffsetByteRequest):
        return min(request.offset, size), size
    if isinstance(request, SuffixByteRequest):
        return max(0, size - request.suffix), size
    raise TypeError(f"unknown range {request!r}")
