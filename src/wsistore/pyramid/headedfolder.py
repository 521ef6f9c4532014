"""A store whose root documents still lie elsewhere: one that is being written to a bucket."""

from __future__ import annotations

from wsistore.pyramid.groups import ROOT_DOCUMENTS
from wsistore.sources import Folder, Source


class HeadedFolder(Folder):
    """A folder that takes the root documents of a store from another one.

    Parameters
    ----------
    body : Folder
        All but the root documents.
    head : Folder
        The root documents.
    """

    def __init__(self, body: Folder, head: Folder) -> None:
        self.name = body.name
        self._body = body
        self._head = head

    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none."""
        data = self._head.get(key) if key in ROOT_DOCUMENTS else None
        # The head goes when another run with equal settings has finished the store.
        return self._body.get(key) if data is None else data

    def source(self, key: str) -> Source:
        """Return ranged access to an object; see `Folder.source`."""
        return self._body.source(key)

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
        names = self._body.list_names(prefix)
        return sorted({*names, *self._head.list_names()}) if not prefix else names
