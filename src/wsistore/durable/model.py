"""What the crash-safe making of a store offers, wherever the store is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

Piece = bytes | memoryview


class Work(ABC):
    """A store that is being made, and isn't one before it is whole.

    Use it in a ``with`` statement: write parts below `root`, note each in the ledger when it
    is there, and end with `finish`. Leaving without `finish`, by an exception or not, keeps
    what is there so that the next run with equal settings resumes.

    Attributes
    ----------
    resumed : bool
        Whether the work of an earlier run was found.
    """

    resumed: bool

    @property
    @abstractmethod
    def root(self) -> str:
        """Path or URL that parts are written below."""

    @property
    @abstractmethod
    def head(self) -> str:
        """Path or URL at which the documents given to `sketch` are found."""

    @abstractmethod
    def __enter__(self) -> Self:
        """Find or begin the work; raises where something else has the name."""

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep what is there for the next run, unless nothing was noted."""

    @abstractmethod
    def entries(self) -> list[dict[str, Any]]:
        """Return what the ledger holds, also of earlier runs."""

    @abstractmethod
    def append(self, key: str, entry: Mapping[str, Any]) -> None:
        """Note in the ledger that a part is finished.

        Parameters
        ----------
        key : str
            Name of the part; a later entry of the same name takes its place.
        entry : mapping
            JSON-able.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Write a small file or object, whole or not at all.

        Parameters
        ----------
        key : str
            Name below the root, with ``/``.
        data : bytes
            Its content.
        """

    def write_all(self, files: Mapping[str, bytes]) -> None:
        """Write several files of the store, in any order."""
        for key, data in files.items():
            self.write(key, data)

    @abstractmethod
    def sketch(self, key: str, data: bytes) -> None:
        """Write a document that would make it a store, where only `head` shows it."""

    @abstractmethod
    def listing(self) -> dict[str, tuple[int, str]] | None:
        """Return size in bytes and ETag of each object of the store by its key.

        None where looking at the files themselves is cheaper and tells more.
        """

    @abstractmethod
    def finish(self, last: Mapping[str, bytes]) -> bool:
        """Make it a store.

        Parameters
        ----------
        last : mapping of str to bytes
            The documents that do so, in the order in which they are written.

        Returns
        -------
        bool
            False where another run with equal settings has done so first. In a bucket, where
            the answer to the last write was lost, that may be this very run, or both may be
            told True: the store is whole, and the same, in any case.
        """

    @abstractmethod
    def discard(self) -> None:
        """Throw away all that was written."""


class ObjectLike(Protocol):
    """An object of a bucket, as a listing tells of it."""

    @property
    def key(self) -> str:
        """Its name."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def etag(self) -> str | None:
        """What the server calls this state of its content."""


class Objects(Protocol):
    """A tree of objects that is read and written; `wsistore.sources.ObjectPlace` is one."""

    name: str

    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none."""

    def put(self, key: str, data: bytes) -> str | None:
        """Write an object, in place of one that has its key; return its ETag."""

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one of its key; return whether it was written.

        Where the server's answer is lost, two that write equal bytes may both be told True,
        or both False.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""

    def list_tree(self, prefix: str = "") -> Iterable[ObjectLike]:
        """Yield all objects whose keys begin with a prefix, at any depth."""
