"""Workers of a dask cluster: one that runs, one on this machine, or jobs of SLURM."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from wsistore.engine.crews import CrewOptions, Result, Retries
from wsistore.engine.seats import Team, describe_team, leave_seat, take_seat
from wsistore.engine.units import UnitTask, clear_desks, run_unit
from wsistore.errors import DependencyError, StoreWriteError, UsageError
from wsistore.features.records import EncoderRecord

try:
    import dask
    from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed
except ImportError as missing:
    raise DependencyError(
        f"this scheduler needs dask, which can't be imported: {missing}",
        hint="pip install 'wsistore[dask]'",
    ) from missing

if TYPE_CHECKING:
    from wsistore.engine.crews import Crew

_FAILURES = "distributed.scheduler.allowed-failures"
AHEAD = 2
"""Tasks under way for each worker: one that runs, one that waits."""

ALLOWED_FAILURES = 3
"""Workers that may die over one task before dask itself gives it up."""

SLURM_JOB: Mapping[str, Any] = {
    "cores": 8,
    "processes": 1,
    "memory": "64GB",
    "walltime": "12:00:00",
    "job_extra_directives": ["--gres=gpu:1"],
}
"""Of one worker: one GPU, 8 CPUs, 64 GB, 12 hours."""


class TeamPlugin(WorkerPlugin):  # type: ignore[misc]  # distributed is Any to mypy here
    """Gives workers the encoders of a team, and takes them back.

    Models are loaded with a worker's first task, so that one that can't be loaded fails that
    task and not the worker.

    Parameters
    ----------
    team : Team
        The encoders.
    """

    def __init__(self, team: Team) -> None:
        self.team = team
        self.name = f"wsistore-{team.token}"

    def setup(self, worker: Any) -> None:
        """Take a seat in a worker's process."""
        del worker
        take_seat(self.team)

    def teardown(self, worker: Any) -> None:
        """Give it back."""
        del worker
        leave_seat(self.team.token)
        clear_desks(self.team.token)


@contextmanager
def dask_crew(options: CrewOptions, team: Team) -> Iterator[Crew]:
    """Give the workers of a dask cluster; one that is made here ends with the statement.

    Raises
    ------
    wsistore.errors.DependencyError
        If dask-jobqueue is needed and not installed.
    wsistore.errors.UsageError
        If no scheduler answers, or an encoder can't be sent there.
    """
    with ExitStack() as stack:
        stack.enter_context(
            dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES})
        )
        cluster: Any = options.scheduler
        if options.scheduler == "dask":
            cluster = stack.enter_context(_local_cluster(options))
        elif options.scheduler == "slurm":
            cluster = stack.enter_context(_slurm_cluster(options))
        try:
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no dask scheduler answers at {options.scheduler}: {error}"
            ) from error
        plugin = _register(client, team)
        try:
            yield DaskCrew(client, options, team)
        finally:
            client.unregister_worker_plugin(plugin.name)


def _register(client: Any, team: Team) -> TeamPlugin:
    plugin = TeamPlugin(team)
    try:
        client.register_plugin(plugin, plugin.name)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise UsageError(
            f"an encoder can't be sent to dask workers: {error}",
            hint="Name it for load_encoder, or use scheduler='threads'.",
        ) from error
    return plugin


def _local_cluster(options: CrewOptions) -> Any:
    """Return a cluster of this machine, which no other machine can reach."""
    count = options.count
    limit = None if options.memory_limit is None else options.memory_limit // count
    told = {
        "n_workers": count,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "memory_limit": "auto" if limit is None else limit,
        "resources": dict(options.resources or {}) or None,
    }
    return LocalCluster(**(told | dict(options.cluster_options or {})))


@contextmanager
def _slurm_cluster(options: CrewOptions) -> Iterator[Any]:
    """Give a cluster whose workers are jobs of SLURM."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise DependencyError(
            "scheduler 'slurm' needs dask-jobqueue, which is not installed",
            hint="pip install 'wsistore[slurm]'",
        ) from error
    told = dict(SLURM_JOB) | dict(options.cluster_options or {})
    if options.resources:
        words = [f"{name}={value:g}" for name, value in options.resources.items()]
        told["worker_extra_args"] = [
            *told.get("worker_extra_args", ()),
            "--resources",
            ",".join(words),
        ]
    with SLURMCluster(**told) as cluster:
        cluster.scale(jobs=options.count)
        yield cluster


class DaskCrew:
    """Workers of a dask cluster; see `wsistore.engine.crews.Crew`."""

    def __init__(self, client: Any, options: CrewOptions, team: Team) -> None:
        threads = sum(client.nthreads().values())
        self.workers = options.workers or max(1, threads)
        self.sent_bytes = 0
        self._client = client
        self._team = team
        self._resources = dict(options.resources or {}) or None

    def describe(self) -> list[EncoderRecord]:
        """Return what the encoders of the team are; a worker loads them."""
        future = self._client.submit(
            describe_team, self._team.token, pure=False, resources=self._resources
        )
        records: list[EncoderRecord] = future.result()
        return records

    def run(self, tasks: Iterator[UnitTask]) -> Iterator[Result]:
        """Give receipts as they come, and tell of tasks that were lost and tried again."""
        waiting = Retries(tasks)
        by_key: dict[str, UnitTask] = {}
        under_way = as_completed([], loop=self._client.loop)
        try:
            while True:
                while len(by_key) < AHEAD * self.workers:
                    task = waiting.next()
                    if task is None:
                        break
                    future = self._submit(task)
                    by_key[future.key] = task
                    under_way.add(future)
                if not by_key:
                    return
                future = next(under_way)
                task = by_key.pop(future.key)
                reason = _loss(future)
                yield waiting.lost(task, reason) if reason else (task, future.result())
        finally:
            self._client.cancel(list(under_way.futures), force=True)

    def _submit(self, task: UnitTask) -> Any:
        self.sent_bytes += len(pickle.dumps(task))
        # Not pure: the same call on another day has to write again.
        return self._client.submit(run_unit, task, pure=False, resources=self._resources)


def _loss(future: Any) -> str:
    """Return why a task has no receipt; empty where it has one.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If the worker's wsistore is another one.
    """
    if future.status == "finished":
        return ""
    if future.status in ("cancelled", "lost"):
        return f"dask {future.status} it"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return "its dask workers died"
    if isinstance(error, (OSError, RuntimeError, ImportError, AttributeError, TypeError)):
        raise StoreWriteError(
            f"a dask worker failed: {type(error).__name__}: {error}",
            hint="Workers need the same disk and the same version of wsistore.",
        ) from error
    raise error
