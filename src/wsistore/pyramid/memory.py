"""Bytes that are at hand, as sources."""

from __future__ import annotations

from collections.abc import Sequence

from wsistore.errors import SourceRangeError
from wsistore.sources import Source


class MemorySource(Source):
    """Bytes in memory as a source.

    Parameters
    ----------
    data : bytes
        What it holds.
    name : str
        For messages.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, offset: int, count: int) -> bytes:
        """Read a range; see `Source.read`."""
        return bytes(self._view(offset, count))

    def read_many(self, offsets: Sequence[int], counts: Sequence[int]) -> list[memoryview]:
        """Read several ranges, without copying; see `Source.read_many`."""
        return [self._view(*span) for span in zip(offsets, counts, strict=True)]

    def check(self) -> None:
        """Do nothing: bytes in memory stay what they are."""

    def close(self) -> None:
        """Do nothing: there is no file."""

    def _view(self, offset: int, count: int) -> memoryview:
        check_inside(self, offset, count)
        return memoryview(self._data)[offset : offset + count]


def check_inside(source: Source, offset: int, count: int) -> None:
    """Raise SourceRangeError unless a range lies inside of a source."""
    if offset < 0 or count < 0 or offset + count > source.size:
        raise SourceRangeError(
            f"{source.name} has {source.size} bytes; {count} from offset {offset} are not inside"
        )
