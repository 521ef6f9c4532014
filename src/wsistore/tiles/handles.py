"""Slides kept open between batches, so that a tile table is parsed once."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from wsistore.errors import UsageError
from wsistore.geometry import Resolution
from wsistore.slides import Slide, open_slide
from wsistore.tiles.model import SlideLike
from wsistore.tiles.views import View, make_view

_caches: weakref.WeakSet[SlideCache] = weakref.WeakSet()

DEFAULT_SLIDES = 1024
"""Slides kept open: a parsed table of 20,000 tiles takes about 0.3 MB."""


class SlideCache:
    """A bounded cache of opened slides, least recently used out first.

    A local path is looked up together with its device, inode, size and time of change, so
    that a file replaced under its name is opened anew. Files are not held open by it: the
    pool of `wsistore.sources` bounds those. Safe in threads; empty after unpickling.

    Parameters
    ----------
    max_slides : int
        Most slides kept.
    **options
        Passed to `wsistore.open_slide`.
    """

    def __init__(self, max_slides: int = DEFAULT_SLIDES, **options: Any) -> None:
        if max_slides < 1:
            raise UsageError(f"max_slides must be at least 1, got {max_slides!r}")
        self.max_slides = max_slides
        self.options = options
        self._lock = threading.Lock()
        self._slides: OrderedDict[Hashable, Slide] = OrderedDict()
        self._views: dict[tuple[int, Resolution, bool, bool], View] = {}
        _caches.add(self)

    def get(self, slide: SlideLike) -> Slide:
        """Return the opened slide; a `Slide` is given back as it is.

        Raises
        ------
        wsistore.errors.WsistoreError
            If the slide can't be opened.
        """
        if isinstance(slide, Slide):
            return slide
        key = _identity(os.fspath(slide))
        with self._lock:
            kept = self._slides.get(key)
            if kept is not None:
                self._slides.move_to_end(key)
                return kept
        opened = open_slide(slide, **self.options)  # outside of the lock: may take a while
        with self._lock:
            kept = self._slides.setdefault(key, opened)
            self._slides.move_to_end(key)
            while len(self._slides) > self.max_slides:
                # Not closed: a thread may still be reading from it. Its files go back to
                # the pool by themselves.
                self._slides.popitem(last=False)
        return kept

    def view(
        self, slide: SlideLike, resolution: Resolution, *, exact: bool, allow_upsample: bool
    ) -> View:
        """Return the (kept) view of a slide at a resolution; see `make_view`.

        Raises
        ------
        wsistore.errors.WsistoreError
            If the slide can't be opened, or has no such resolution.
        """
        opened = self.get(slide)
        key = (id(opened), resolution, exact, allow_upsample)
        view = self._views.get(key)
        if view is None or view.slide is not opened:  # an id may be given out again
            view = make_view(opened, resolution, exact=exact, allow_upsample=allow_upsample)
            if len(self._views) >= 4 * self.max_slides:
                self._views.clear()
            self._views[key] = view
        return view

    def __len__(self) -> int:
        return len(self._slides)

    def clear(self) -> None:
        """Forget all slides."""
        with self._lock:
            self._slides.clear()
            self._views.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.max_slides, self.options))


def _rebuild(max_slides: int, options: dict[str, Any]) -> SlideCache:
    return SlideCache(max_slides, **options)


def _identity(path: str) -> Hashable:
    if "://" in path:
        return path
    try:
        status = os.stat(path)  # noqa: PTH116 (a Path costs more than the call)
    except OSError:
        return path  # opening it will say what is wrong, in our own words
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_default: SlideCache | None = None
_default_lock = threading.Lock()


def default_cache() -> SlideCache:
    """Return the process's own cache, used where no other is given."""
    global _default  # noqa: PLW0603 (one per process is the point)
    with _default_lock:
        if _default is None:
            _default = SlideCache()
        return _default


def _renew_locks() -> None:
    """Give a forked child locks of its own; parsed slides are plain data and stay valid."""
    global _default_lock  # noqa: PLW0603
    _default_lock = threading.Lock()
    for cache in list(_caches):
        cache._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)
