"""Having the next items fetched while one is being worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    fetch: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what is fetched for it, in order.

    Parameters
    ----------
    fetch : callable
        What it raises goes through, when the turn of its item comes.
    items : iterable
        What to fetch.
    ahead : int
        How many are fetched before their turn; 0: none, and no thread is made.
    """
    waiting = iter(items)
    head = list(islice(waiting, 2))
    if ahead < 1 or len(head) < 2:
        for item in (*head, *waiting):
            yield item, fetch(item)
        return
    with ThreadPoolExecutor(ahead, "wsistore-ahead") as threads:
        under_way: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in (*head, *waiting):
                under_way.append((item, threads.submit(fetch, item)))
                if len(under_way) > ahead:
                    first, future = under_way.popleft()
                    yield first, future.result()
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
        finally:
            for _, future in under_way:
                future.cancel()
