"""What a reader of bytes must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Source(ABC):
    """Random access to the bytes of one file or object; safe in threads and forks.

    Attributes
    ----------
    name : str
        Path or URL for messages; never holds credentials.
    size : int
        Length in bytes.
    """

    name: str
    size: int

    @property
    def identity(self) -> str:
        """What tells this state of the file or object from others; the same in all processes.

        Empty where that is not known.
        """
        return ""

    @abstractmethod
    def read(self, offset: int, count: int) -> bytes:
        """Read exactly `count` bytes from `offset`.

        Raises
        ------
        wsistore.errors.SourceRangeError
            If the range is not wholly inside, or fewer bytes came.
        wsistore.errors.SourceChangedError
            If the file is no longer the one that was opened.
        """

    @abstractmethod
    def read_many(self, offsets: Sequence[int], counts: Sequence[int]) -> list[memoryview]:
        """Read several ranges in few large requests, in the order given.

        Neighbouring ranges are fetched together. A count of 0 gives an empty view.

        Raises
        ------
        wsistore.errors.SourceError
            As for `read`.
        """

    def check(self) -> None:
        """Raise if the name no longer stands for the bytes that were opened.

        Reads notice a file that was replaced or cut; only this notices one that was
        rewritten in place. A long run calls it at its end.

        Raises
        ------
        wsistore.errors.SourceChangedError
            If the file or object was replaced or rewritten.
        """
        raise NotImplementedError(f"{type(self).__name__} can't tell whether it changed")

    @abstractmethod
    def close(self) -> None:
        """Give back the file; reading afterwards is an error."""


class ObjectInfo(NamedTuple):
    """An object of a bucket, as a listing tells of it.

    Parameters
    ----------
    key : str
        Relative to the root of the folder.
    size : int
        Bytes.
    etag : str or None
        What the server calls this state of its content.
    """

    key: str
    size: int
    etag: str | None


class Folder(ABC):
    """Read access to a tree of files or objects under one root (a Zarr store).

    Attributes
    ----------
    name : str
        Path or URL for messages; never holds credentials.
    """

    name: str

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none.

        Parameters
        ----------
        key : str
            Relative path with ``/``; must not leave the root.
        """

    @abstractmethod
    def source(self, key: str) -> Source:
        """Return ranged access to an object.

        Raises
        ------
        wsistore.errors.SourceNotFoundError
            If there is no such object.
        """

    def source_with_tail(self, key: str, tail_bytes: int) -> Source:
        """Return ranged access to an object whose last bytes will be read first.

        They come with the request that opens it, where that saves one; else as `source`.
        """
        del tail_bytes
        return self.source(key)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return all bytes of several objects, as `get` does; side by side where that helps."""
        return [self.get(key) for key in keys]

    @abstractmethod
    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""


class ObjectPlace(Folder):
    """A tree of objects that is read and written: a prefix of a bucket.

    Objects appear whole or not at all, whatever happens to the writer. There is no rename,
    so what stands for the whole of several objects has to be written last.
    """

    @abstractmethod
    def put(self, key: str, data: bytes | Iterable[bytes | memoryview]) -> str | None:
        """Write an object, in place of one that has its key; return its ETag.

        Parameters
        ----------
        key : str
            Relative path with ``/``; must not leave the root.
        data : bytes-like, or iterable of bytes-like
            What to write. Pieces are uploaded in parts as they come, so that no more than a
            few of them are held; an error that the iterable raises goes through, and no
            object is made. A list of pieces is at hand: unless it is large, it goes in one
            request.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If it could not be written.
        """

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one of its key; return whether it was written.

        Of several that do so at once, one writes. Where the answer to that one is lost (the
        connection breaks), the object is looked at: True if it holds these very bytes. So of
        several that write equal bytes, two may be told True; of others never. And where a
        server says that it failed, though it has written, False may be told to the one who
        wrote, for it is asked again and finds the object: look at the bytes if that matters.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If it could not be written, or the server has no conditional writing.
        """

    def get_tagged(self, key: str) -> tuple[bytes, str | None] | None:
        """Return all bytes of an object and their ETag, None where there is none.

        Raises
        ------
        wsistore.errors.SourceError
            If it can't be read.
        """
        raise NotImplementedError(f"{type(self).__name__} knows no ETags")

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Write an object in place of one that has this ETag; return whether it was written.

        Of several that read the same state of an object and change it, one writes; lost
        answers are as with `create`.

        Parameters
        ----------
        key : str
            Relative path with ``/``; must not leave the root.
        data : bytes
            What to write.
        etag : str
            Of the object that is replaced; nothing is written in place of another one.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If it could not be written, or the server has no conditional writing.
        """
        raise NotImplementedError(f"{type(self).__name__} can't write on conditions")

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If one could not be removed.
        """

    @abstractmethod
    def list_tree(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield all objects whose keys begin with a prefix, at any depth, by their keys."""
