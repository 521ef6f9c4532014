"""Workers that are processes of this machine, each with one task at a time.

Unlike a pool of the standard library, a process that dies takes only its own task with it:
each has a pipe of its own, and is replaced.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from wsistore.engine.crews import Result, Retries
from wsistore.engine.schedulers import cpu_count
from wsistore.engine.seats import Team, describe_team, take_seat
from wsistore.engine.units import UnitTask, run_unit
from wsistore.errors import StoreWriteError, UsageError, WsistoreError
from wsistore.features.records import EncoderRecord

if TYPE_CHECKING:
    from wsistore.engine.crews import Crew

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What keeps numerical libraries from starting a thread per CPU in each process."""


@contextmanager
def process_crew(workers: int, team: Team) -> Iterator[Crew]:
    """Give processes that work; they end with the ``with`` statement.

    Raises
    ------
    wsistore.errors.UsageError
        If an encoder can't be sent to another process.
    """
    try:
        told = pickle.dumps(team)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise UsageError(
            f"an encoder can't be sent to another process: {error}",
            hint="Name it for load_encoder, or use scheduler='threads'.",
        ) from error
    made = ProcessCrew(workers, team, told)
    try:
        yield made
    finally:
        made.close()


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and what it works on."""

    process: Any
    pipe: Connection
    task: UnitTask | None = None


class ProcessCrew:
    """Workers that are spawned processes; see `wsistore.engine.crews.Crew`."""

    def __init__(self, workers: int, team: Team, told: bytes) -> None:
        self.workers = workers
        self.sent_bytes = 0
        self._team = team
        self._told = told
        self._started: list[_Worker] = []

    def describe(self) -> list[EncoderRecord]:
        """Return what the encoders of the team are; the first worker loads them."""
        worker = self._worker(0)
        try:
            worker.pipe.send_bytes(pickle.dumps(None))
            answer = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 (of our own process)
        except (EOFError, OSError) as error:
            raise StoreWriteError(
                f"a worker died while it loaded encoders ({_death(worker)})",
                hint="Is there memory enough for the model?",
            ) from error
        if isinstance(answer, WsistoreError):
            raise answer
        records: list[EncoderRecord] = answer
        return records

    def run(self, tasks: Iterator[UnitTask]) -> Iterator[Result]:
        """Give receipts as they come, and tell of tasks that were lost and tried again."""
        waiting = Retries(tasks)
        while True:
            for index in range(self.workers):
                if index >= len(self._started) or self._started[index].task is None:
                    task = waiting.next()
                    if task is None:
                        break
                    self._send(index, task)
            busy = {worker.pipe: worker for worker in self._started if worker.task is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]  # only pipes were waited for
                yield self._receive(worker, waiting)

    def close(self) -> None:
        """End all workers: those at rest by closing their pipes, others at once."""
        for worker in self._started:
            if worker.task is not None:
                worker.process.kill()  # units are written whole, so nothing is torn
            worker.pipe.close()
        for worker in self._started:
            worker.process.join()
            worker.process.close()
        self._started.clear()

    def _send(self, index: int, task: UnitTask) -> None:
        worker = self._worker(index)
        payload = pickle.dumps(task)
        worker.task = task
        # A process that has died while it was at rest shows when its receipt is awaited.
        with contextlib.suppress(OSError):
            worker.pipe.send_bytes(payload)
        self.sent_bytes += len(payload)

    def _receive(self, worker: _Worker, waiting: Retries) -> Result:
        task, worker.task = worker.task, None
        if task is None:
            raise StoreWriteError("a worker spoke without having a task")
        try:
            return task, pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 (of our own process)
        except (EOFError, OSError):
            return waiting.lost(task, self._bury(worker))

    def _worker(self, index: int) -> _Worker:
        while index >= len(self._started):
            self._started.append(self._start())
        return self._started[index]

    def _start(self) -> _Worker:
        # Spawned: a fork would take over locks that threads of the caller hold.
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        threads = max(1, cpu_count() // self.workers)
        process = spawn.Process(target=_serve, args=(theirs, self._told), daemon=True)
        with _environment(dict.fromkeys(THREAD_VARIABLES, str(threads))):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _bury(self, worker: _Worker) -> str:
        """Replace a worker that died when next needed; return what is known of its death."""
        reason = _death(worker)
        worker.pipe.close()
        worker.process.close()
        self._started.remove(worker)
        return reason


def _death(worker: _Worker) -> str:
    worker.process.join()
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables that are not set yet, for a process that is started."""
    fresh = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            del os.environ[name]


def _serve(pipe: Connection, told: bytes) -> None:
    """Work until the pipe is closed; the main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends us
    team: Team = pickle.loads(told)  # noqa: S301 (of the process that started us)
    take_seat(team)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task: UnitTask | None = pickle.loads(pipe.recv_bytes())  # noqa: S301 (as above)
            pipe.send_bytes(pickle.dumps(_describe(team) if task is None else run_unit(task)))


def _describe(team: Team) -> list[EncoderRecord] | WsistoreError:
    try:
        return describe_team(team.token)
    except WsistoreError as error:
        return error
