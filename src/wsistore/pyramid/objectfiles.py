"""The files of a store as objects: written in few requests, known again by their ETags."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from urllib.parse import unquote, urlsplit, urlunsplit

from wsistore.durable import plain_etag
from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.pyramid.shardfile import Chunk, Piece, ShardSum, Write, check_shard_source
from wsistore.sources import ObjectPlace, open_place, redact

SINGLE_BYTES = 16 << 20
"""Objects up to this size are held, and written with one request; larger ones in parts, which
takes two requests more, one after the other."""

BLOCK_BYTES = 5 << 20
"""Pieces of larger objects are handed on in blocks of so many bytes."""

IN_PARTS_AT_ONCE = 4
"""Objects that are written in parts at the same time, of which each holds some 50 MB."""

_IN_PARTS = threading.BoundedSemaphore(IN_PARTS_AT_ONCE)

CHUNKS_AT_ONCE = 8
"""Small objects of one part that are written side by side."""

WriteChunks = Callable[[Iterable[Chunk], Write], ShardSum]

Listing = Mapping[str, tuple[int, str]]
"""Size in bytes and ETag (without quotes) of objects, by their keys."""


@lru_cache(maxsize=4)
def place_of(url: str, epoch: int) -> ObjectPlace:
    """Return the objects below a URL; the last few are kept, and with them connections.

    Parameters
    ----------
    url : str
        The root.
    epoch : int
        Differs where it has to be opened anew: options may have changed.
    """
    del epoch
    return open_place(url)


def split_store(url: str) -> tuple[str, str]:
    """Return the URL that a store lies below, and its name there.

    Raises
    ------
    UsageError
        If the URL names a whole bucket, or has a query.
    """
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise UsageError(
            f"{redact(url)} was given with a query (?...) or a fragment (#...)",
            hint="Name the place to write to by its plain URL, with special characters quoted.",
        )
    folder, _, name = parts.path.rstrip("/").rpartition("/")
    if not name:
        raise UsageError(
            f"{redact(url)} is a bucket, it can't be a store",
            hint="Name a store within it, such as s3://bucket/slide.ome.zarr.",
        )
    return urlunsplit((parts.scheme, parts.netloc, folder, "", "")), unquote(name)


class PartWriter:
    """Writes the objects of one part of a store.

    Parameters
    ----------
    place : ObjectPlace
        The store.
    """

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place
        self._written: dict[str, tuple[int, str]] = {}

    def write(self, key: str, pieces: Iterable[Piece]) -> None:
        """Write an object from its pieces; no more than `SINGLE_BYTES` and a few parts are held.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If it could not be written.
        """
        waiting = iter(pieces)
        head = _take_head(waiting)
        rest = _Blocks(waiting)
        second = next(rest, None)
        size = sum(map(len, head))
        if second is None:
            etag = self._place.put(key, head)
        else:
            with _IN_PARTS:
                etag = self._place.put(key, _all(head, second, rest))
        self._written[key] = (size + rest.size, plain_etag(etag))

    def write_all(self, chunks: Iterable[Chunk], write: WriteChunks) -> ShardSum:
        """Write chunks as objects of their own, several of them side by side.

        Parameters
        ----------
        chunks : iterable of Chunk
            What it raises goes through, once what is under way has been written.
        write : callable
            ``write(chunks, writing)`` names them and sums them up; it hands each to
            ``writing(key, pieces)``.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If one could not be written.
        """
        under_way: deque[Future[None]] = deque()
        with ThreadPoolExecutor(CHUNKS_AT_ONCE, "wsistore-chunk") as threads:

            def writing(key: str, pieces: Iterable[Piece]) -> None:
                under_way.append(threads.submit(self.write, key, pieces))
                if len(under_way) > CHUNKS_AT_ONCE:
                    under_way.popleft().result()

            found = write(chunks, writing)
            for future in under_way:
                future.result()
        return found

    @property
    def mark(self) -> str:
        """What tells the objects written from any others; see `mark_of`."""
        return mark_of(self._written)


class _Blocks(Iterator[bytes]):
    """Joins pieces to blocks of `BLOCK_BYTES`, and counts the bytes."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self.size = 0

    def __next__(self) -> bytes:
        waiting: list[Piece] = []
        size = 0
        for piece in self._pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= BLOCK_BYTES:
                break
        if not waiting:
            raise StopIteration
        self.size += size
        return b"".join(waiting)


def _all(head: list[Piece], second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Yield blocks of all three; of the head no more is held than is still to come."""
    head.reverse()
    yield from _Blocks(head.pop() for _ in range(len(head)))
    yield second
    yield from rest


def _take_head(pieces: Iterator[Piece]) -> list[Piece]:
    """Take pieces until `SINGLE_BYTES` are passed; nothing is copied."""
    head: list[Piece] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > SINGLE_BYTES:
            break
    return head


def mark_of(objects: Listing) -> str:
    """Return what tells some objects from any others: the ETag of one, a hash for several.

    Empty where there is none, or where the server says no ETags.
    """
    if not objects or not all(etag for _, etag in objects.values()):
        return ""
    if len(objects) == 1:
        return next(iter(objects.values()))[1]
    lines = "".join(f"{key} {size} {etag}\n" for key, (size, etag) in sorted(objects.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_shard_object(place: ObjectPlace, key: str, slots: int) -> ShardSum:
    """Read a whole shard, a few megabytes at a time, and check it; see `check_shard`.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If it is missing, or not what was written.
    wsistore.errors.SourceError
        If its bytes can't be had.
    """
    try:
        source = place.source(key)
    except SourceNotFoundError as error:
        raise StoreCorruptError(f"shard {place.name}/{key} is missing") from error
    try:
        return check_shard_source(source, slots)
    finally:
        source.close()
