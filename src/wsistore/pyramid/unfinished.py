"""Telling a store that is half written from one that is not there at all."""

from __future__ import annotations

import os
from typing import Any

from wsistore.durable import unfinished_folder, unfinished_objects
from wsistore.errors import SourceError, StoreUnfinishedError, UsageError
from wsistore.pyramid.objectfiles import split_store
from wsistore.sources import is_url, open_folder


def unfinished_at(
    path_or_url: str | os.PathLike[str], **source_options: Any
) -> StoreUnfinishedError | None:
    """Return the error for a store that has been begun and is no store yet, else None.

    Ask only where no root document was found: a finished store may still have leftovers
    of its making beside it.

    Parameters
    ----------
    path_or_url : str or os.PathLike
        The name of the store.
    **source_options
        As for `wsistore.sources.open_folder`.
    """
    told = os.fspath(path_or_url)
    if not is_url(told):
        return unfinished_folder(told)
    if "store" in source_options:  # which may know nothing of what lies beside
        return None
    try:
        parent, name = split_store(told)
        return unfinished_objects(open_folder(parent, **source_options), name)
    except (SourceError, UsageError):
        return None  # this is a second look: what the first one found is told then
