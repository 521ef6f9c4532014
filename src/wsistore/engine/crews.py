"""Who computes units: threads of this process, processes, or a dask cluster.

A crew takes tasks from an iterator, as its workers become free, and gives a receipt for each
as they come. No more tasks are under way than workers can hold, so a run of any size needs
the same memory. A task whose worker died is given to another one, `MAX_TRIES` times in all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from wsistore.engine.schedulers import cpu_count
from wsistore.engine.seats import Team, describe_team, leave_seat, take_seat
from wsistore.engine.units import UnitReceipt, UnitTask, clear_desks, run_unit
from wsistore.errors import StoreWriteError, UsageError
from wsistore.features.records import EncoderRecord

MAX_TRIES = 3
"""Workers that may die over one task before it is given up: the task may be what kills."""

THREADS = 2
"""Workers where units run in threads: while one encodes, the other one reads."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker died over a task, which is tried again.

    Parameters
    ----------
    reason : str
        What is known of it.
    """

    reason: str


Result = tuple[UnitTask, UnitReceipt | Lost]


class Crew(Protocol):
    """Workers that share a team of encoders.

    Attributes
    ----------
    workers : int
        Units that are worked on at a time.
    sent_bytes : int
        Bytes of tasks that were sent to other processes.
    """

    workers: int
    sent_bytes: int

    def describe(self) -> list[EncoderRecord]:
        """Return what the encoders of the team are; a worker loads them."""

    def run(self, tasks: Iterator[UnitTask]) -> Iterator[Result]:
        """Give receipts as they come, and tell of tasks that were lost and tried again."""


@dataclass(frozen=True)
class CrewOptions:
    """How a crew is made.

    Parameters
    ----------
    scheduler : str
        ``"threads"``, ``"processes"``, ``"dask"``, ``"slurm"``, or the address of a dask
        scheduler.
    workers : int or None
        Units at a time.
    memory_limit : int or None
        Bytes of all workers together.
    resources : mapping
        What a task needs of dask workers, such as ``{"GPU": 1}``.
    cluster_options : mapping
        For the dask cluster that is made.
    """

    scheduler: str = "threads"
    workers: int | None = None
    memory_limit: int | None = None
    resources: Mapping[str, float] | None = None
    cluster_options: Mapping[str, Any] | None = None

    @property
    def count(self) -> int:
        """Number of workers, by default one for each CPU, and two threads.

        Raises
        ------
        wsistore.errors.UsageError
            If it is less than one.
        """
        if self.workers is None:
            return THREADS if self.scheduler == "threads" else cpu_count()
        if self.workers < 1:
            raise UsageError(f"workers must be at least 1, got {self.workers!r}")
        return self.workers

    @property
    def cpus_of_a_worker(self) -> int:
        """CPUs for each worker: all of them for threads, which share them."""
        return cpu_count() if self.scheduler == "threads" else max(1, cpu_count() // self.count)


def crew(options: CrewOptions, team: Team) -> AbstractContextManager[Crew]:
    """Return workers, which end with the ``with`` statement.

    Raises
    ------
    wsistore.errors.UsageError
        If there is no such scheduler, or less than one worker.
    wsistore.errors.DependencyError
        If a package is missing.
    """
    count = options.count
    if options.scheduler == "threads":
        return _thread_crew(count, team)
    if options.scheduler == "processes":
        from wsistore.engine.process_crew import process_crew

        return process_crew(count, team)
    if options.scheduler in ("dask", "slurm") or "://" in options.scheduler:
        from wsistore.engine.dask_crew import dask_crew

        return dask_crew(options, team)
    raise UsageError(
        f"unknown scheduler {options.scheduler!r}",
        hint="Use 'threads', 'processes', 'dask', 'slurm' or the address of a dask scheduler, "
        "tcp://host:port.",
    )


class Retries:
    """Tasks that are still to be given out: those of an iterator, and those that were lost.

    Parameters
    ----------
    tasks : iterator of UnitTask
        Taken from as needed.
    """

    def __init__(self, tasks: Iterator[UnitTask]) -> None:
        self._tasks = tasks
        self._again: deque[UnitTask] = deque()
        self._tries: Counter[tuple[str, int]] = Counter()

    def next(self) -> UnitTask | None:
        """Return the next task; None where there is none now (a lost one may come)."""
        return self._again.popleft() if self._again else next(self._tasks, None)

    def lost(self, task: UnitTask, reason: str) -> Result:
        """Return what to tell of a task whose worker died: it comes again, or is given up."""
        key = (task.job, task.unit)
        self._tries[key] += 1
        if self._tries[key] < MAX_TRIES:
            self._again.append(task)
            return task, Lost(reason)
        error = StoreWriteError(
            f"unit {task.unit} of {task.slide} was lost with its worker {MAX_TRIES} times "
            f"({reason})",
            hint="Use fewer workers or smaller batches; a run that was cut short resumes.",
        )
        return task, UnitReceipt(error=error)


@contextmanager
def _thread_crew(count: int, team: Team) -> Iterator[Crew]:
    seat = take_seat(team)
    pool = ThreadPoolExecutor(count, "wsistore-unit")
    try:
        yield ThreadCrew(pool, count, team)
    finally:
        seat.stopped.set()  # units that still run end after the batch that they are at
        pool.shutdown(wait=True, cancel_futures=True)
        leave_seat(team.token)
        clear_desks(team.token)


class ThreadCrew:
    """Workers that are threads of this process; see `Crew`."""

    def __init__(self, pool: ThreadPoolExecutor, workers: int, team: Team) -> None:
        self.workers = workers
        self.sent_bytes = 0
        self._pool = pool
        self._team = team

    def describe(self) -> list[EncoderRecord]:
        """Return what the encoders of the team are."""
        return describe_team(self._team.token)

    def run(self, tasks: Iterator[UnitTask]) -> Iterator[Result]:
        """Give receipts as they come."""
        under_way: dict[Future[UnitReceipt], UnitTask] = {}
        while True:
            # One waits for each that runs, so that no thread waits for the caller.
            while len(under_way) < 2 * self.workers:
                task = next(tasks, None)
                if task is None:
                    break
                under_way[self._pool.submit(run_unit, task)] = task
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield under_way.pop(future), future.result()
