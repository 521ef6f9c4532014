"""Running tasks: in threads, in processes, or on a dask cluster.

Each runner takes tasks in order and gives receipts as they come, with a bounded number of
tasks under way, so memory does not grow with the size of a slide.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from wsistore.errors import DependencyError, StoreWriteError, UsageError, WsistoreError

_AHEAD = 2
"""Tasks under way for each worker: one that runs, one that waits."""

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""``run(function, tasks)`` gives the results as they come."""


@contextmanager
def runner(scheduler: str, workers: int | None) -> Iterator[Run]:
    """Give what runs tasks; its workers end with the block.

    Parameters
    ----------
    scheduler : str
        ``"threads"``, ``"processes"``, or the address of a dask scheduler
        (``tcp://host:port``).
    workers : int, optional
        Threads or processes; by default one for each CPU of this process.

    Raises
    ------
    UsageError
        If there is no such scheduler, or less than one worker.
    DependencyError
        If dask is not installed.
    """
    count = cpu_count() if workers is None else workers
    if count < 1:
        raise UsageError(f"workers must be at least 1, got {workers!r}")
    if scheduler == "threads":
        with _pool(ThreadPoolExecutor(count, "wsistore-shard")) as pool:
            yield _on_pool(pool, count)
    elif scheduler == "processes":
        # Spawned: a fork would take over locks that threads of the caller hold.
        spawn = multiprocessing.get_context("spawn")
        workers_pool = ProcessPoolExecutor(count, spawn, initializer=_end_with_parent)
        with _pool(workers_pool) as pool:
            yield _on_pool(pool, count)
    elif "://" in scheduler:
        with _dask_client(scheduler) as client:
            yield _on_dask(client, workers)
    else:
        raise UsageError(
            f"unknown scheduler {scheduler!r}",
            hint="Use 'threads', 'processes' or the address of a dask scheduler, tcp://host:port.",
        )


def cpu_count() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _pool(pool: Executor) -> Iterator[Executor]:
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Have this worker end when the process that started it has been killed.

    Otherwise it would wait for its next task forever: it holds the other end of the queue
    itself, so the queue never closes.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _on_pool(pool: Executor, count: int) -> Run:
    def run(function: Callable[[Task], Receipt], tasks: Sequence[Task]) -> Iterator[Receipt]:
        waiting = iter(tasks)
        under_way: set[Future[Receipt]] = set()
        try:
            while True:
                for task in waiting:
                    under_way.add(pool.submit(function, task))
                    if len(under_way) >= _AHEAD * count:
                        break
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from _results(done)
        finally:
            # Nobody may go on writing once the caller has given up.
            for future in under_way:
                future.cancel()
            wait(under_way)

    return run


def _results(done: set[Future[Receipt]]) -> Iterator[Receipt]:
    """Yield what succeeded, then raise the first failure: finished work is noted first."""
    failures = []
    for future in done:
        error = future.exception()
        if error is None:
            yield future.result()
        else:
            failures.append(error)
    for error in failures:
        if isinstance(error, BrokenProcessPool):
            raise StoreWriteError(
                "a worker process died (out of memory, or killed)",
                hint="Use fewer workers; a run that was cut short resumes.",
            ) from error
        raise error


@contextmanager
def _dask_client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError(
            f"scheduler {address!r} needs dask, which is not installed",
            hint="pip install 'wsistore[dask]'",
        ) from error
    try:
        client = Client(address, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(f"no dask scheduler answers at {address}: {error}") from error
    try:
        yield client
    finally:
        client.close()


def _on_dask(client: Any, workers: int | None) -> Run:
    def run(function: Callable[[Task], Receipt], tasks: Sequence[Task]) -> Iterator[Receipt]:
        from distributed import as_completed

        window = _AHEAD * (workers or max(1, sum(client.nthreads().values())))
        waiting = iter(tasks)
        # Not pure: the same call on another day has to write again.
        first = [client.submit(function, task, pure=False) for task in islice(waiting, window)]
        under_way = as_completed(first, loop=client.loop)
        try:
            for future in under_way:
                yield _dask_result(future)
                for task in waiting:
                    under_way.add(client.submit(function, task, pure=False))
                    break
        finally:
            client.cancel(list(under_way.futures), force=True)

    return run


def _dask_result(future: Any) -> Any:
    if future.status == "cancelled":
        raise StoreWriteError("the dask cluster cancelled a task", hint="Run it again: it resumes.")
    try:
        return future.result()
    except WsistoreError:
        raise
    except (OSError, RuntimeError) as error:
        raise StoreWriteError(
            f"a dask worker failed: {error}",
            hint="Workers need the same disk and the same version of wsistore.",
        ) from error
