"""Ranges of many sources at once, all of their requests in flight together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from wsistore.sources import io_threads
from wsistore.sources.model import Source
from wsistore.sources.objects import ObjectSource
from wsistore.sources.ranges import EMPTY, Plan, Request

Wanted = Sequence[tuple[Source, Sequence[int], Sequence[int]]]
Answers = list[list[memoryview]]


def fetch_many(wanted: Wanted) -> Answers:
    """Read ranges of many sources in the time of the slowest; see `submit_many`.

    Returns
    -------
    list of list of memoryview
        For each source, the ranges in the order given.

    Raises
    ------
    wsistore.errors.SourceError
        The first one; requests that have not begun are dropped.
    """
    future = submit_many(wanted)
    try:
        return future.result()
    finally:
        future.cancel()


def submit_many(wanted: Wanted) -> Future[Answers]:
    """Begin to read ranges of many sources; return at once what `fetch_many` waits for.

    Requests are joined within each object as `Source.read_many` joins them. They share the
    threads of the process, so no more than `io_threads.REQUESTS_AT_ONCE` are in flight;
    all bytes asked for are held, so whoever calls bounds them. Local files are read
    before this returns.

    Parameters
    ----------
    wanted : sequence of (source, offsets, counts)
        The same source may be named several times. Offsets and counts are in bytes.

    Returns
    -------
    concurrent.futures.Future
        Cancelling it drops requests that have not begun.

    Raises
    ------
    wsistore.errors.SourceRangeError
        If a range is not wholly inside its source. Nothing is asked for then.
    wsistore.errors.SourceError
        If a source is closed, or a local one can't be read. What a server does wrong is
        raised by the future instead.
    """
    planned = [
        (source, source.plan(offsets, counts)) if isinstance(source, ObjectSource) else None
        for source, offsets, counts in wanted
    ]
    answers: Answers = [
        [EMPTY] * len(one[1].offsets) if one is not None else source.read_many(offsets, counts)
        for one, (source, offsets, counts) in zip(planned, wanted, strict=True)
    ]
    tasks = [
        (one[0], one[1], request, views)
        for one, views in zip(planned, answers, strict=True)
        if one is not None
        for request in one[1].requests
    ]
    return _Gathering(answers, tasks).future


class _Gathering:
    """Counts what has come; the last request, or the first that fails, ends the future."""

    def __init__(
        self, answers: Answers, tasks: list[tuple[ObjectSource, Plan, Request, list[memoryview]]]
    ) -> None:
        self.future: Future[Answers] = Future()
        self._answers = answers
        self._left = len(tasks)
        self._lock = threading.Lock()
        if not tasks:
            self.future.set_result(answers)
            return
        jobs = [io_threads.submit(source.serve, *rest) for source, *rest in tasks]
        for job in jobs:
            job.add_done_callback(self._count)
        self.future.add_done_callback(lambda _: [job.cancel() for job in jobs])

    def _count(self, job: Future[None]) -> None:
        if job.cancelled():  # only where the future has ended
            return
        error = job.exception()
        with self._lock:
            over = self._left == 0
            self._left = 0 if error is not None else max(self._left - 1, 0)
            if over or self._left or not self.future.set_running_or_notify_cancel():
                return
        if error is None:
            self.future.set_result(self._answers)
        else:
            self.future.set_exception(error)
