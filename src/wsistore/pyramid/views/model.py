"""What a view offers beyond a folder: whether there is a key, and all keys."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from wsistore.sources import Folder


class ViewFolder(Folder):
    """Objects that are made of parts of other files when they are asked for.

    Attributes
    ----------
    remote : bool
        Whether making one takes requests over a network.
    """

    remote: bool = False

    @abstractmethod
    def contains(self, key: str) -> bool:
        """Return whether there is an object; its bytes are not read for that."""

    @abstractmethod
    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with a prefix."""
