"""The threads in which a process waits for remote storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

REQUESTS_AT_ONCE = 32
"""Requests in flight at most, of all readers of ranges together."""

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Run a function that waits for a server in a thread of the process's pool.

    It must not wait for another function in the same pool.
    """
    global _pool  # noqa: PLW0603 (one per process bounds the requests in flight)
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, "wsistore-read")
        return _pool.submit(function, *arguments)


def _forget_after_fork() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
