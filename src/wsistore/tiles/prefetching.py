"""Work done ahead of its reader, in order and bounded: fetched, then made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from wsistore.errors import UsageError

Key = TypeVar("Key")
Item = TypeVar("Item")
Begin = Callable[[Key], "AbstractContextManager[Any] | None"]
"""Begins the fetches of a key; what it returns is handed on, and left at the end."""


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
    return fetched_ahead(lambda key, _: make(key), keys, lambda _: None, depth, 0)


def fetched_ahead(
    make: Callable[[Key, Any], Item],
    keys: Iterable[Key],
    begin: Begin[Key],
    depth: int,
    fetches: int,
) -> Generator[Item, None, None]:
    """Return a generator of items whose fetches are begun before they are made.

    Parameters
    ----------
    make : callable
        ``make(key, begun)`` makes an item, as in `ahead`.
    keys : iterable
        What to make, in order; taken in the caller's thread.
    begin : callable
        ``begin(key)`` begins what `make` will wait for, and returns at once a context
        manager that ends it, or None. Called in the order of the keys.
    depth : int
        Items made ahead, as in `ahead`.
    fetches : int
        Items begun beyond those that are being made.

    Returns
    -------
    generator of items
        As in `ahead`; closing it ends also what was begun.

    Raises
    ------
    wsistore.errors.UsageError
        If `depth` or `fetches` is negative.
    """
    if min(depth, fetches) < 0:
        raise UsageError(f"items made ahead must be at least 0, got {min(depth, fetches)!r}")
    if depth:
        return _in_background(make, keys, begin, depth, fetches)
    return _in_place(make, keys, begin, fetches)


class _Begun(Iterator[tuple[Key, Any]]):
    """Keys with what was begun for them, some of them ahead."""

    def __init__(self, keys: Iterable[Key], begin: Begin[Key], fetches: int) -> None:
        self._keys = iter(keys)
        self._begin = begin
        self._fetches = fetches
        self._waiting: deque[tuple[Key, Any]] = deque()

    def __next__(self) -> tuple[Key, Any]:
        while len(self._waiting) <= self._fetches:
            try:
                key = next(self._keys)
            except StopIteration:
                break
            self._waiting.append((key, self._begin(key)))
        if not self._waiting:
            raise StopIteration
        return self._waiting.popleft()

    def close(self) -> None:
        """End what was begun and not asked for."""
        for _, begun in self._waiting:
            if begun is not None:
                begun.__exit__(None, None, None)


def _make(make: Callable[[Key, Any], Item], key: Key, begun: Any) -> Item:
    with nullcontext() if begun is None else begun:
        return make(key, begun)


def _in_place(
    make: Callable[[Key, Any], Item], keys: Iterable[Key], begin: Begin[Key], fetches: int
) -> Generator[Item, None, None]:
    ready = _Begun(keys, begin, fetches)
    try:
        for key, begun in ready:
            yield _make(make, key, begun)
    finally:
        ready.close()


def _in_background(
    make: Callable[[Key, Any], Item],
    keys: Iterable[Key],
    begin: Begin[Key],
    depth: int,
    fetches: int,
) -> Generator[Item, None, None]:
    waiting: deque[tuple[Future[Item], Any]] = deque()
    ready = _Begun(keys, begin, fetches)
    with ThreadPoolExecutor(1, thread_name_prefix="wsistore-ahead") as thread:
        try:
            for key, begun in ready:
                waiting.append((thread.submit(_make, make, key, begun), begun))
                if len(waiting) > depth:
                    yield waiting.popleft()[0].result()
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, begun in waiting:
                if future.cancel() and begun is not None:
                    begun.__exit__(None, None, None)
            ready.close()
