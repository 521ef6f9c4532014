"""Ranged reads from objects: S3, GCS, Azure and HTTP."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    SourceChangedError,
    SourceError,
    UsageError,
)
from wsistore.sources import io_threads, mapping
from wsistore.sources.block_cache import BLOCK_BYTES, CACHE
from wsistore.sources.bucket import COUNTER, Bucket
from wsistore.sources.configuring import CACHE_OPTIONS, options_for
from wsistore.sources.disk_blocks import DiskBlocks
from wsistore.sources.disk_trimming import MOST_BYTES
from wsistore.sources.keys import check_key
from wsistore.sources.model import Source
from wsistore.sources.names import redact
from wsistore.sources.ranges import EMPTY, Limits, Plan, Request, plan, share

LIMITS = Limits(gap=256 << 10, request=32 << 20)

MOST_KEPT = 16 << 20
"""Bytes of a single read that goes through blocks on disk: the largest tile table there is."""

_NO_RANGE = re.compile(r"\b416\b|\bonly 0 bytes\b")
"""What servers, and obstore's own stores, say of a range of an empty object."""

_numbers = itertools.count()


class ObjectSource(Source):
    """Random access to one object; safe in threads, not across a fork (see `bucket`).

    Opening it costs one request, which brings its first 64 KiB along. Single reads of up
    to that many bytes go through a cache of blocks that all sources share, so that reading
    a header piece by piece costs few requests; `read_many` goes past it.

    Parameters
    ----------
    bucket : Bucket
        Where it is.
    key : str
        Which one.
    index_cache : path, optional
        Folder in which blocks are kept for later processes; then single reads of any size
        go through blocks.
    index_cache_bytes : int
        Bytes that may be in that folder.
    tail_bytes : int
        Where above 0, its last bytes are brought along instead of its first.

    Raises
    ------
    wsistore.errors.SourceError
        If it can't be had; not found and not permitted have their own classes.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        *,
        index_cache: str | os.PathLike[str] | None = None,
        index_cache_bytes: int = MOST_BYTES,
        tail_bytes: int = 0,
    ) -> None:
        self.name = f"{bucket.name}/{key}"
        self._bucket = bucket
        self._key = key
        self._closed = False
        self._number = next(_numbers)
        found, part = self._look(tail_bytes)
        self.size: int = found["size"]
        self._etag: str | None = found.get("e_tag")
        self._version: str | None = found.get("version")
        self._stamp = str(found.get("last_modified", ""))
        self._tail = part if tail_bytes else b""
        if not tail_bytes:
            CACHE.put(self._number, 0, part)
        self._disk = None
        if index_cache:
            self._disk = DiskBlocks(index_cache, self.name, self.identity, index_cache_bytes)

    @property
    def identity(self) -> str:
        """What tells this state of the object from others; see `Source.identity`."""
        return f"{self.size} {self._etag or self._version or self._stamp}"

    def read(self, offset: int, count: int) -> bytes:
        """Read exactly `count` bytes from `offset`; see `Source.read`."""
        behind = offset - self.size + len(self._tail)
        if count > 0 and behind >= 0 and behind + count <= len(self._tail) and not self._closed:
            return self._tail[behind : behind + count]
        largest = BLOCK_BYTES if self._disk is None else MOST_KEPT
        if self._closed or not 0 < count <= largest or not 0 <= offset <= self.size - count:
            return bytes(self.read_many([offset], [count])[0])
        first, last = offset // BLOCK_BYTES, (offset + count - 1) // BLOCK_BYTES
        data = b"".join(self._blocks(first, last))
        begin = offset - first * BLOCK_BYTES
        return data[begin : begin + count]

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
        io_threads.run_all([partial(self._serve, planned, r, views) for r in planned.requests])
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
        CACHE.forget(self._number)

    def _look(self, tail_bytes: int) -> tuple[Mapping[str, Any], bytes]:
        """Return what the server says of the object, and its first block or its tail."""
        import obstore

        wanted: Any = {"suffix": tail_bytes} if tail_bytes else (0, BLOCK_BYTES)
        try:
            data, found = self._bucket.call(self.name, _get_range, self._key, wanted, None)
        except SourceError as error:
            if not _NO_RANGE.search(error.message):
                raise
            # An empty object has no range at all.
            found, data = self._bucket.call(self.name, obstore.head, self._key), EMPTY
        count = min(found["size"], tail_bytes or BLOCK_BYTES)
        if len(data) != count:
            raise mapping.too_short(self.name, 0, count, len(data))
        COUNTER.add(0, len(data))
        return found, bytes(data)

    def _blocks(self, first: int, last: int) -> list[bytes]:
        """Return blocks; all in one request where one is neither in memory nor on disk."""
        numbers = range(first, last + 1)
        known = [self._known(number) for number in numbers]
        found = [block for block in known if block is not None]
        if len(found) == len(known):
            return found
        data = self._fetch(first * BLOCK_BYTES, min(self.size, (last + 1) * BLOCK_BYTES))
        found = [bytes(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]
        for number, block in zip(numbers, found, strict=True):
            CACHE.put(self._number, number, block)
            if self._disk is not None:
                self._disk.put(number, block)
        return found

    def _known(self, number: int) -> bytes | None:
        block = CACHE.get(self._number, number)
        if block is None and self._disk is not None:
            count = min(BLOCK_BYTES, self.size - number * BLOCK_BYTES)
            block = self._disk.get(number, count)
            if block is not None:
                CACHE.put(self._number, number, block)
        return block

    def _serve(self, planned: Plan, request: Request, views: list[memoryview]) -> None:
        """Make one request of a plan and put its ranges into `views`."""
        share(planned, request, self._fetch(request.start, request.stop), views)

    def _fetch(self, start: int, stop: int) -> memoryview:
        data, found = self._bucket.call(self.name, _get_range, self._key, (start, stop), self._etag)
        self._compare(found)
        if len(data) != stop - start:
            raise mapping.too_short(self.name, start, stop - start, len(data))
        COUNTER.add(0, len(data))
        return data

    def _compare(self, found: Mapping[str, Any]) -> None:
        etag = found.get("e_tag")
        # Not every server sends an ETag, nor with every answer.
        if self._etag is not None and etag is not None:
            changed = etag != self._etag
        else:
            changed = self._etag is None and str(found.get("last_modified", "")) != self._stamp
        if changed or found["size"] != self.size:
            raise SourceChangedError(
                f"{self.name} is not the object that was opened (size {self.size} -> "
                f"{found['size']}, ETag {self._etag} -> {etag})",
                hint="Leave it alone while it is in use, and start again.",
            )

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._number = next(_numbers)  # blocks of this process are not known in another

    def __repr__(self) -> str:
        return f"ObjectSource({self.name!r}, {self.size} bytes)"


def open_object(url: str, options: Mapping[str, Any]) -> ObjectSource:
    """Return ranged access to the object at a URL; see `open_source` for the options."""
    parts = urlsplit(url)
    folder, _, last = parts.path.rpartition("/")
    if not last:
        raise UsageError(f"{redact(url)} names a folder, not an object")
    root = urlunsplit((parts.scheme, parts.netloc, folder, parts.query, ""))
    options = options_for(url, options)
    cache = {key: options[key] for key in CACHE_OPTIONS if key in options}
    return ObjectSource(Bucket.at(root, options), check_key(unquote(last)), **cache)


def _get_range(
    store: Any, key: str, wanted: Any, etag: str | None
) -> tuple[memoryview, Mapping[str, Any]]:
    import obstore

    options: Any = {"range": wanted}
    if etag is not None and not etag.startswith("W/"):  # weak ones match nothing
        options["if_match"] = etag
    answer = obstore.get(store, key, options=options)
    return memoryview(answer.bytes()), answer.meta
