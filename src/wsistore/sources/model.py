"""What a reader of bytes must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


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

    @abstractmethod
    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
