"""Trees of objects, read and written: a prefix of a bucket."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from wsistore.errors import SourceError
from wsistore.sources import io_threads
from wsistore.sources.bucket import COUNTER, Bucket, Result, library_errors
from wsistore.sources.configuring import options_for
from wsistore.sources.keys import check_key, check_prefix
from wsistore.sources.model import ObjectInfo, ObjectPlace
from wsistore.sources.object_errors import is_without_answer, means_not_found, names_no_bucket
from wsistore.sources.objects import ObjectSource

_DELETED_AT_ONCE = 1000
_SINGLE_BYTES = 32 << 20
"""Bytes at hand up to so many go in one request, uncopied: parts take two requests more, one
after the other."""
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 3
"""Of one upload: it holds so many parts, and the one that is being filled."""
_WRITES = 3
"""Times that a write on a condition is tried whose answer is lost."""


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
        data = self._bucket.call(f"{self.name}/{check_key(key)}", _get_all, key)
        COUNTER.add(0, len(data or b""))
        return data

    def source(self, key: str) -> ObjectSource:
        """Return ranged access to an object; see `Folder.source`."""
        return ObjectSource(self._bucket, check_key(key))

    def source_with_tail(self, key: str, tail_bytes: int) -> ObjectSource:
        """Return access to an object, its last bytes at hand; see `Folder.source_with_tail`."""
        try:
            return ObjectSource(self._bucket, check_key(key), tail_bytes=tail_bytes)
        except SourceError as error:
            if type(error) is not SourceError:
                raise
            return self.source(key)  # Azure gives no range from the end

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return all bytes of several objects; see `Folder.get_many`."""
        return io_threads.run_all([partial(self.get, key) for key in keys])

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
        import obstore

        prefix = check_prefix(prefix)
        self._check_listing(prefix)
        found = self._bucket.call(
            f"{self.name}/{prefix}", obstore.list_with_delimiter, prefix or None
        )
        names = {path.rpartition("/")[2] + "/" for path in found["common_prefixes"]}
        names.update(entry["path"].rpartition("/")[2] for entry in found["objects"])
        return sorted(names)

    def put(self, key: str, data: bytes | Iterable[bytes | memoryview]) -> str | None:
        """Write an object in place of one that has its key; see `ObjectPlace.put`."""
        if isinstance(data, bytes | bytearray | memoryview):
            data = [data]
        if isinstance(data, list) and sum(map(len, data)) <= _SINGLE_BYTES:
            written = self._write(key, _put_at_once, check_key(key), data)
        else:
            written = self._write(key, _put_in_parts, check_key(key), _made_elsewhere(data))
        etag: str | None = written.get("e_tag")
        if not etag:  # Ceph tells none where an object was written in parts
            etag = self._write(key, _head, key).get("e_tag")
        return etag

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one of its key; see `ObjectPlace.create`."""
        return self._write(key, _create, check_key(key), data)

    def get_tagged(self, key: str) -> tuple[bytes, str | None] | None:
        """Return all bytes of an object and their ETag; see `ObjectPlace.get_tagged`."""
        return self._bucket.call(f"{self.name}/{check_key(key)}", _get_tagged, key)

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
        self._check_listing(prefix)
        name = f"{self.name}/{prefix}"
        found = self._bucket.call(name, _list_all, prefix or None)
        for entry in sorted(found, key=operator.itemgetter("path")):
            yield ObjectInfo(entry["path"], entry["size"], entry.get("e_tag"))

    def _check_listing(self, prefix: str) -> None:
        """Refuse what plain HTTP has no request for; obstore takes a 404 for an empty folder."""
        if type(self._bucket.store).__name__ == "HTTPStore":
            raise SourceError(
                f"{self.name}/{prefix} can't be listed: HTTP has no listings",
                hint="Name the objects one by one, or use the URL of its bucket (s3://...).",
            )

    def _write(self, key: str, function: Callable[..., Result], *args: Any) -> Result:
        return self._bucket.write(f"{self.name}/{key}", function, *args)

    def __repr__(self) -> str:
        return f"ObjectFolder({self.name!r})"


def open_objects(url: str, options: Mapping[str, Any]) -> ObjectFolder:
    """Return the objects below a URL; see `open_source` for the options."""
    return ObjectFolder(Bucket.at(url, options_for(url, options)))


def _put_at_once(store: Any, key: str, pieces: list[Any]) -> Mapping[str, Any]:
    import obstore

    return obstore.put(store, key, pieces, use_multipart=False)


def _put_in_parts(store: Any, key: str, pieces: Iterator[bytes]) -> Mapping[str, Any]:
    import obstore

    return obstore.put(store, key, pieces, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)


def _made_elsewhere(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield pieces that a thread of their own makes.

    obstore asks for them on a thread that drives its runtime, where another of its
    blocking calls would panic: pieces are often made of what is read remotely.
    """
    waiting = iter(pieces)
    with ThreadPoolExecutor(1, "wsistore-pieces") as thread:
        while (piece := thread.submit(next, waiting, None).result()) is not None:
            yield bytes(piece)


def _head(store: Any, key: str) -> Mapping[str, Any]:
    import obstore

    return obstore.head(store, key)


def _get_all(store: Any, key: str) -> bytes | None:
    found = _get_tagged(store, key)
    return None if found is None else found[0]


def _get_tagged(store: Any, key: str) -> tuple[bytes, str | None] | None:
    """Return bytes and ETag, None where a bucket that is there has no such object."""
    import obstore

    try:
        answer = obstore.get(store, key)
    except library_errors() as error:
        if names_no_bucket(error) or not means_not_found(error):
            raise
        return None
    return bytes(answer.bytes()), answer.meta.get("e_tag")


def _create(store: Any, key: str, data: bytes) -> bool:
    import obstore
    from obstore.exceptions import AlreadyExistsError

    def write() -> bool:
        try:
            obstore.put(store, key, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    return _despite_lost_answers(write, store, key, data)


def _despite_lost_answers(
    write: Callable[[], bool], store: Any, key: str, data: bytes, tries: int = _WRITES
) -> bool:
    """Write on a condition, also where the connection breaks after the server has done so.

    obstore asks once only then, as a write on a condition is not the same the second time.
    """
    try:
        return write()
    except library_errors() as error:
        if tries < 2 or not is_without_answer(error):
            raise
    return (
        _holds(store, key, data)
        or _despite_lost_answers(write, store, key, data, tries - 1)
        or _holds(store, key, data)  # the first one has come late
    )


def _holds(store: Any, key: str, data: bytes) -> bool:
    return _get_all(store, key) == bytes(data)


def _replace(store: Any, key: str, data: bytes, etag: str) -> bool:
    return _despite_lost_answers(lambda: _replace_once(store, key, data, etag), store, key, data)


def _replace_once(store: Any, key: str, data: bytes, etag: str) -> bool:
    from obstore.exceptions import NotFoundError

    try:
        if _put_if(store, key, data, etag):
            return True
        # Ceph's gateway (seen with 16) compares with ETags that it has unquoted: it
        # refuses the very ETag that it tells.
        plain = etag.strip('"')
        unchanged = plain != etag and _head(store, key).get("e_tag") == etag
        return unchanged and _put_if(store, key, data, plain)
    except (NotFoundError, FileNotFoundError):  # none by now
        return False


def _put_if(store: Any, key: str, data: bytes, etag: str) -> bool:
    import obstore
    from obstore.exceptions import PreconditionError

    try:
        obstore.put(store, key, data, mode={"e_tag": etag})
    except PreconditionError:  # another one by now
        return False
    return True


def _list_all(store: Any, prefix: str | None) -> list[Mapping[str, Any]]:
    import obstore

    return [entry for batch in obstore.list(store, prefix) for entry in batch]
