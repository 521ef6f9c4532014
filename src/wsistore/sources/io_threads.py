"""The threads in which a process waits for remote storage: one pool for all who read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

REQUESTS_AT_ONCE = 128
"""Requests in flight at most, of all readers together: 4000 a second at 30 ms each."""

_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_here = threading.local()


def submit(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Run a function that waits for a server in a thread of the process's pool.

    It may wait for others in the same pool by `run_all` alone: with nothing but waiting
    functions in all of its threads, the pool would stand still.
    """
    global _pool  # noqa: PLW0603 (one per process bounds the requests in flight)
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, "wsistore-read", initializer=_enter)
        return _pool.submit(function, *arguments)


def run_all(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run functions that wait for a server side by side; return their results in order.

    In a thread of the pool itself, those that no other thread has begun are run here. So
    it always comes to an end, also where every thread of the pool is in it.

    Raises
    ------
    Exception
        The first one, in the order of the calls; those that have not begun are dropped.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    jobs = [submit(call) for call in calls]
    inside = getattr(_here, "inside", False)
    try:
        return [
            call() if inside and job.cancel() else job.result()
            for call, job in zip(calls, jobs, strict=True)
        ]
    finally:
        for job in jobs:
            job.cancel()


def _enter() -> None:
    _here.inside = True


def _forget_after_fork() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
