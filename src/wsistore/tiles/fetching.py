"""Encoded tiles fetched ahead of decoding: many requests in flight, memory bounded.

A `FetchQueue` belongs to one loader or one call. Batches are begun in the order in which
they will be decoded; each is planned (`remote_plan`), and its groups are let through in
order while the bytes in flight, or waiting to be decoded, stay within the budget. Decoding
takes groups as they come in, and gives their bytes back.

Requests run in the threads in which the process waits for remote storage
(`wsistore.sources.io_threads`). They are left behind in a forked child, where a remote read
is refused with a clear error: start workers by spawning.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from wsistore.errors import SourceError, UsageError, WsistoreError
from wsistore.sources import Source
from wsistore.sources.io_threads import submit
from wsistore.sources.ranges import Request
from wsistore.tiles.engine import Cell, Unit, Work, fetch_blocks, split_units
from wsistore.tiles.model import NormalRequest
from wsistore.tiles.remote_plan import (
    FetchLimits,
    Group,
    Reader,
    Wanted,
    any_remote,
    find_wanted,
    is_remote,
    view_key,
)
from wsistore.tiles.views import View

PLANNERS = 4
"""Batches of a queue that are planned at the same time."""

DEFAULT_LIMITS = FetchLimits()


@dataclass(slots=True)
class FetchStats:
    """What fetching has cost so far, opening and tile tables left out.

    Parameters
    ----------
    requests : int
        Requests for encoded tiles.
    bytes_fetched : int
        Bytes of them.
    bytes_needed : int
        Bytes of the encoded tiles alone; the rest are gaps read along.
    peak_bytes : int
        Most bytes in flight or waiting to be decoded at a time.
    """

    requests: int = 0
    bytes_fetched: int = 0
    bytes_needed: int = 0
    peak_bytes: int = 0


class _Flight:
    """One group under way; its fields are guarded by the lock of its batch."""

    __slots__ = ("blocks", "errors", "group", "left", "started", "taken")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.blocks: dict[Cell, memoryview] = {}
        self.errors: dict[Cell, WsistoreError] = {}
        self.left = len(group.requests)
        self.started = False
        self.taken = False


class FetchQueue:
    """Fetches for a sequence of batches, in order and within a budget of bytes.

    Parameters
    ----------
    limits : FetchLimits
        The budget, and how requests are joined.
    once : bool
        For walks that keep decoded tiles: a tile that one batch wants is not fetched for
        later ones.

    Attributes
    ----------
    stats : FetchStats
        What it has cost so far.
    held_bytes : int
        Bytes in flight or waiting to be decoded now.
    """

    def __init__(self, limits: FetchLimits = DEFAULT_LIMITS, *, once: bool = False) -> None:
        if limits.gap < 0 or limits.request < 1 or limits.budget < 1:
            raise UsageError(f"limits of fetching must be positive, got {limits}")
        self.limits = limits
        self.stats = FetchStats()
        self.held_bytes = 0
        self._seen: set[tuple[int, Cell]] | None = set() if once else None
        self._planners = 1 if once else PLANNERS  # what is seen depends on the order
        self._lock = threading.Lock()
        self._waiting: deque[BatchFetch] = deque()
        self._executor: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, reader: Reader, requests: Sequence[NormalRequest]) -> BatchFetch | None:
        """Begin to fetch what a batch needs, in the background.

        Returns
        -------
        BatchFetch or None
            Give it to `BatchReader.read`, and close it; None where no slide is remote.
        """
        if not any_remote(requests):
            return None
        batch = self._enqueue(reader)
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._planners, "wsistore-plan")
        planning = self._executor.submit(self._find, reader, requests)
        planning.add_done_callback(lambda done: self._planned(batch, done))
        return batch

    def begin_now(self, reader: Reader, requests: Sequence[NormalRequest]) -> BatchFetch:
        """Like `begin`, but plan in the caller's thread; for a single batch."""
        planning: Future[Wanted] = Future()
        planning.set_result(self._find(reader, requests))
        batch = self._enqueue(reader)
        self._planned(batch, planning)
        return batch

    def close(self) -> None:
        """Cancel what has not begun; what is in flight is dropped when it comes."""
        with self._lock:
            waiting = list(self._waiting)
        for batch in waiting:
            batch.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _enqueue(self, reader: Reader) -> BatchFetch:
        batch = BatchFetch(self, reader)
        with self._lock:
            self._waiting.append(batch)
        return batch

    def _find(self, reader: Reader, requests: Sequence[NormalRequest]) -> Wanted:
        return find_wanted(reader, requests, submit, self.limits, self._seen)

    def _planned(self, batch: BatchFetch, planning: Future[Wanted]) -> None:
        batch.planned(planning)
        self.pump()

    def pump(self) -> None:
        """Start the groups whose turn has come and for which there is room."""
        started: list[tuple[BatchFetch, _Flight]] = []
        with self._lock:
            while self._waiting:
                batch = self._waiting[0]
                if batch.closed:
                    batch.queued.clear()
                elif not batch.is_planned:
                    break
                if not self._admit(batch, started):
                    break
                self._waiting.popleft()
        for batch, flight in started:
            batch.start(flight)

    def _admit(self, batch: BatchFetch, started: list[tuple[BatchFetch, _Flight]]) -> bool:
        """Let groups of a batch through; say whether all of them are."""
        while batch.queued:
            size = batch.queued[0].group.size
            if self.held_bytes and self.held_bytes + size > self.limits.budget:
                return False
            self.held_bytes += size
            flight = batch.queued.popleft()
            flight.started = True
            started.append((batch, flight))
            stats = self.stats
            stats.peak_bytes = max(stats.peak_bytes, self.held_bytes)
            stats.requests += len(flight.group.requests)
            stats.bytes_fetched += size
            stats.bytes_needed += flight.group.needed
        return True

    def release(self, size: int) -> None:
        """Give bytes back to the budget."""
        with self._lock:
            self.held_bytes -= size
        self.pump()

    def unqueue(self, batch: BatchFetch) -> None:
        """Take back the groups of a batch that have not begun."""
        with self._lock:
            batch.queued.clear()
        self.pump()


class BatchFetch:
    """The encoded tiles of one batch, on their way; what the engine calls `Fetched`.

    Parameters
    ----------
    queue : FetchQueue
        Where it waits for its turn.
    reader : Reader
        Who reads the batch.
    """

    def __init__(self, queue: FetchQueue, reader: Reader) -> None:
        self.reader = reader
        self.queued: deque[_Flight] = deque()
        self.closed = False
        self._queue = queue
        self._wanted: Wanted | None = None
        self._failure: BaseException | None = None
        self._flights: dict[tuple[int, Cell], _Flight] = {}
        self._news = threading.Condition()

    @property
    def is_planned(self) -> bool:
        """Whether it is known what has to be fetched."""
        return self._wanted is not None or self._failure is not None

    def planned(self, planning: Future[Wanted]) -> None:
        """Take the result of planning."""
        with self._news:
            if planning.cancelled():
                self.closed = True
            else:
                self._failure = planning.exception()
            if self._failure is None and not self.closed:
                wanted = planning.result()
                flights = [_Flight(group) for group in wanted.groups]
                for flight in flights:
                    key = id(flight.group.view)
                    self._flights.update(((key, c), flight) for c in flight.group.cells())
                self.queued.extend(flights)
                self._wanted = wanted
            self._news.notify_all()

    def start(self, flight: _Flight) -> None:
        """Send the requests of a group."""
        for request, tiles in flight.group.requests:
            future = submit(self._get, flight.group.source, request)
            future.add_done_callback(partial(self._landed, flight, tiles, request.start))

    def _get(self, source: Source, request: Request) -> memoryview:
        if self.closed:
            raise UsageError("the batch is no longer wanted")
        start, stop, _ = request
        return source.read_many([start], [stop - start])[0]

    def _landed(
        self,
        flight: _Flight,
        tiles: list[tuple[Cell, int, int]],
        begin: int,
        future: Future[memoryview],
    ) -> None:
        error = future.exception()
        dropped = 0
        with self._news:
            if error is None:
                data = future.result()
                for cell, offset, count in tiles:
                    flight.blocks[cell] = data[offset - begin : offset - begin + count]
            elif isinstance(error, WsistoreError):
                flight.errors.update((cell, error) for cell, _, _ in tiles)
            else:
                self._failure = error
            flight.left -= 1
            if not flight.left:
                if self.closed:
                    dropped = self._drop(flight)
                self._news.notify_all()
        if dropped:
            self._queue.release(dropped)

    # What the engine asks

    def view(self, request: NormalRequest) -> View:
        """Return the view of a request, or raise what kept its slide from being opened."""
        if not is_remote(request.slide):
            return self.reader.view(request.slide, request.resolution)
        found = self._plan().views[view_key(request)]
        if isinstance(found, WsistoreError):
            raise found
        return found

    def units(self, works: Sequence[Work]) -> Iterator[Unit]:
        """Yield the work in units: what needs no waiting first, then as tiles come in."""
        self._plan()
        rest: list[Work] = []
        pending: dict[_Flight, tuple[Work, list[Cell]]] = {}
        for work in works:
            others = Work(work.view)
            for cell in sorted(work.uses):
                flight = self._flights.get((id(work.view), cell))
                if flight is None or flight.taken:
                    others.uses[cell] = work.uses[cell]
                else:
                    pending.setdefault(flight, (work, []))[1].append(cell)
            if others.uses:
                rest.append(others)
        yield from split_units(rest, 2)
        while pending:
            for flight in self._landed_of(pending):
                work, cells = pending.pop(flight)
                yield Unit(work, tuple(cells))

    def _landed_of(self, pending: dict[_Flight, tuple[Work, list[Cell]]]) -> list[_Flight]:
        """Wait until a group is in; return all that are."""
        with self._news:
            while True:
                if self._failure is not None:
                    raise self._failure
                if self.closed:
                    raise SourceError("fetching was cancelled")
                landed = [flight for flight in pending if not flight.left]
                if landed:
                    return landed
                self._news.wait()

    def blocks(self, view: View, cells: Sequence[Cell]) -> list[memoryview]:
        """Return the bytes of encoded tiles, empty where one is missing.

        Raises
        ------
        wsistore.errors.WsistoreError
            What kept the first bad one of them from being fetched.
        """
        found: dict[Cell, memoryview] = {}
        wanted = self._plan()
        for cell in cells:
            key = (id(view), cell)
            flight = self._flights.get(key)
            error = wanted.errors.get(key)
            if error is None and flight is not None:
                error = flight.errors.get(cell)
            if error is not None:
                raise error
            if key in wanted.empty:
                found[cell] = memoryview(b"")
            elif flight is not None and cell in flight.blocks:
                found[cell] = flight.blocks[cell]
        others = [cell for cell in cells if cell not in found]
        if others and view.table is not None:
            found.update(zip(others, fetch_blocks(view.table, others), strict=True))
        return [found[cell] for cell in cells]

    def done(self, unit: Unit) -> None:
        """Give back the bytes of a unit."""
        flight = self._flights.get((id(unit.work.view), unit.cells[0]))
        if flight is None:
            return
        with self._news:
            dropped = 0 if flight.left else self._drop(flight)
        if dropped:
            self._queue.release(dropped)

    def cost(self) -> tuple[int, int]:
        """Return the number of requests for encoded tiles, and their bytes."""
        groups = self._plan().groups
        return sum(len(g.requests) for g in groups), sum(g.size for g in groups)

    @staticmethod
    def _drop(flight: _Flight) -> int:
        """Forget the bytes of a group; return how many they were, the first time."""
        flight.blocks.clear()
        if flight.taken or not flight.started:
            return 0
        flight.taken = True
        return flight.group.size

    def _plan(self) -> Wanted:
        with self._news:
            while self._wanted is None:
                if self._failure is not None:
                    raise self._failure
                if self.closed:
                    raise SourceError("fetching was cancelled")
                self._news.wait()
            return self._wanted

    def close(self) -> None:
        """End it: what has not begun never will, what is in flight is dropped."""
        self._queue.unqueue(self)
        with self._news:
            self.closed = True
            flights = {id(flight): flight for flight in self._flights.values()}
            dropped = sum(self._drop(f) for f in flights.values() if f.started and not f.left)
            self._news.notify_all()
        if dropped:
            self._queue.release(dropped)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
