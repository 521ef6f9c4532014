"""Slides that come from other processes, opened once in this one."""

from __future__ import annotations

from collections import deque
from weakref import WeakValueDictionary

from wsistore.slides import Slide
from wsistore.slides.reopening import Opening, reopen

_KEPT = 8
"""Slides that stay open although nothing uses them: the next task of dask brings them again."""
_open: WeakValueDictionary[str, Slide] = WeakValueDictionary()
_last: deque[Slide] = deque(maxlen=_KEPT)


def shared_slide(opening: Opening) -> Slide:
    """Return the slide that an opening tells of, the same one as long as it is in use.

    It belongs to no one, so don't close it.

    Raises
    ------
    wsistore.errors.SourceChangedError
        If the file is not the one that was opened.
    wsistore.errors.WsistoreError
        As `wsistore.open_slide`.
    """
    key = repr(opening)
    found = _open.get(key)
    if found is None:
        # Two threads may both open it; then one is used for as long as its task takes.
        found = reopen(opening, closed=False)
        _open[key] = found
        _last.append(found)
    return found
