"""Work done ahead of its reader by one background thread, in order and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from wsistore.errors import UsageError

Key = TypeVar("Key")
Item = TypeVar("Item")


def ahead(
    make: Callable[[Key], Item], keys: Iterable[Key], depth: int
) -> Generator[Item, None, None]:
    """Return a generator of ``make(key)`` for each key, made before they are asked for.

    Parameters
    ----------
    make : callable
        Makes an item; runs in one background thread, or in the caller's with depth 0.
    keys : iterable
        What to make, in order; taken in the caller's thread.
    depth : int
        While the caller works on an item, this many of the next ones are made.

    Returns
    -------
    generator of items
        In the order of the keys. An error of `make` is raised in its item's place, and
        ends the walk. Closing the generator waits for the item in work and ends the thread.

    Raises
    ------
    wsistore.errors.UsageError
        If `depth` is negative.
    """
    if depth < 0:
        raise UsageError(f"items made ahead must be at least 0, got {depth!r}")
    return _in_background(make, keys, depth) if depth else (make(key) for key in keys)


def _in_background(
    make: Callable[[Key], Item], keys: Iterable[Key], depth: int
) -> Generator[Item, None, None]:
    waiting: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="wsistore-ahead") as thread:
        try:
            for key in keys:
                waiting.append(thread.submit(make, key))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
