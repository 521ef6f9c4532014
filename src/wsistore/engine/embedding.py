"""``wsistore.embed``: the tiles of many slides through encoders, into a feature store."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard

from wsistore.durable import Outcome
from wsistore.durable.outcome import counted
from wsistore.encoders import Encoder
from wsistore.engine.crews import Crew, CrewOptions, Lost, crew
from wsistore.engine.embed_events import (
    EmbedEvent,
    EmbedStarted,
    OnEmbedEvent,
    SlideFailed,
    SlideFinished,
    SlideResumed,
    SlideStarted,
    UnitDone,
    UnitLost,
)
from wsistore.engine.embed_jobs import (
    JobSettings,
    SlideJob,
    SlideWork,
    begin_slide,
    finished_before,
)
from wsistore.engine.memory import fit_memory, parse_bytes
from wsistore.engine.reports import RunReport
from wsistore.engine.seats import EncoderSpec, Team
from wsistore.engine.unit_reading import BAD_TILES, BadTiles, Reading
from wsistore.engine.units import UnitReceipt, UnitTask
from wsistore.errors import StoreLockedError, UsageError, WsistoreError
from wsistore.features.places import SlidePlace, absolute
from wsistore.features.records import EncoderRecord, SlideInfo
from wsistore.features.writing import prepare_cohort
from wsistore.tiles.cohort import CohortPlan
from wsistore.tiles.model import SlideLike
from wsistore.tiles.plan import TilePlan

PathLike = str | os.PathLike[str]
EncoderLike = str | os.PathLike[str] | Encoder | EncoderSpec | Callable[..., Encoder]
Planned = TilePlan | tuple[SlideLike, TilePlan]
Layout = Literal["cohort", "slides"]


@dataclass(frozen=True, slots=True)
class EmbedCounters:
    """What a run cost; exact.

    Parameters
    ----------
    tiles : int
        Tiles that were computed, whatever the number of encoders.
    failed_tiles : int
        Those among them that have no features by one of the encoders.
    units_computed : int
        Units that were computed and written.
    units_kept : int
        Units of an encoder that an earlier run had left, and that were kept.
    units_lost : int
        Units whose worker died, and that were given to another one.
    tiles_decoded : int
        Encoded tiles of slides that were decoded.
    bytes_read : int
        Encoded bytes of slides that were fetched.
    bytes_written : int
        Bytes of features, decoded.
    bytes_sent : int
        Bytes of tasks that were sent to other processes: 0 with threads.
    """

    tiles: int = 0
    failed_tiles: int = 0
    units_computed: int = 0
    units_kept: int = 0
    units_lost: int = 0
    tiles_decoded: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True)
class EmbedReport(RunReport):
    """What became of each slide of a run.

    Parameters
    ----------
    outcomes : tuple of Outcome
        One for each slide, in the order they were given; the unit is the slide's name. A
        slide that another run is writing is skipped, with the code ``"WSI503"``.
    counters : EmbedCounters
        What it cost.
    encoders : tuple of EncoderRecord
        By which features were computed.
    errors : tuple of WsistoreError
        Those behind the outcomes that failed, in their order.
    """

    outcomes: tuple[Outcome, ...]
    counters: EmbedCounters = field(default_factory=EmbedCounters)
    encoders: tuple[EncoderRecord, ...] = ()
    errors: tuple[WsistoreError, ...] = ()


def embed(
    slides_and_plans: Planned | CohortPlan | Iterable[Planned] | Mapping[str, Planned],
    encoders: EncoderLike | Sequence[EncoderLike],
    store: PathLike,
    *,
    scheduler: str = "threads",
    workers: int | None = None,
    unit_tiles: int = 1024,
    batch_size: int = 64,
    device: str | None = None,
    precision: str | None = None,
    encoder_options: Mapping[str, Any] | None = None,
    plugins: Sequence[PathLike] = (),
    on_bad_tile: BadTiles = "fill",
    layout: Layout = "cohort",
    overwrite: bool = False,
    decode_threads: int | None = None,
    prefetch: int = 1,
    memory_limit: int | str | None = None,
    resources: Mapping[str, float] | None = None,
    cluster_options: Mapping[str, Any] | None = None,
    on_event: OnEmbedEvent | None = None,
) -> EmbedReport:
    """Compute features of planned tiles, and keep them in a feature store.

    A slide that fails ends nothing: the others go on, and the report tells. A run that was
    cut short, however it was, resumes when it is called again, within slides. Slides that
    are complete are skipped, and where only some encoders are, the others are computed.
    The bytes of features don't depend on the scheduler, the number of workers or the order
    in which units are done; they may depend, in their last bits, on `batch_size`.

    Parameters
    ----------
    slides_and_plans : plans, or mapping of str to plan
        A `TilePlan`, or a pair of a slide (opened, or its path) and its plan, or several of
        these; a mapping names the slides in the store. Without names, the plan's name of
        the slide is used; without a slide, where it lay when it was planned.
    encoders : str, path, Encoder or callable, or sequence of these
        What `wsistore.encoders.load_encoder` takes, or returned. All of them see the same
        decoded tiles, and resize them as they need.
    store : path or URL
        Of the cohort; or, with ``layout="slides"``, a folder that gets a store per slide.
        In a bucket there are no locks: runs of equal settings write the same, and others
        are refused.
    scheduler : str
        ``"threads"`` of this process, ``"processes"``, ``"dask"`` (a cluster of this
        machine), ``"slurm"`` (jobs, by dask-jobqueue), or the address of a dask scheduler.
    workers : int, optional
        Units that are worked on at a time: two threads, or a process for each CPU, where
        not said. Each process has encoders of its own.
    unit_tiles : int
        Tiles of a unit: what is written, and redone after a crash, at once. Slides that are
        in the store keep theirs.
    batch_size : int
        Tiles that are encoded together.
    device, precision : str, optional
        For encoders that are named: passed to `load_encoder`.
    encoder_options : mapping, optional
        Further arguments of `load_encoder`, such as ``weights``.
    plugins : sequence of path
        Python files that add encoders, loaded by each worker.
    on_bad_tile : {"fill", "fill-missing", "raise"}
        Which tiles without pixels get NaN, and a status that says why, instead of ending
        their slide: all, those that the slide leaves out, or none.
    layout : {"cohort", "slides"}
        One store with a group per slide, or ``<name>.zarr`` per slide.
    overwrite : bool
        Whether features of these slides that are there are thrown away, by all encoders.
    decode_threads : int, optional
        Threads that decode, for each worker; by default CPUs are shared out.
    prefetch : int
        Batches read ahead of the encoders.
    memory_limit : int or str, optional
        Bytes, or ``"4GB"``, that all workers of this machine may hold at a time, models not
        counted: caches, read-ahead and the number of workers are made to fit. dask workers
        of a local cluster are also restarted beyond their share.
    resources : mapping, optional
        What each unit needs of dask workers, such as ``{"GPU": 1}``; workers that dask
        starts here are started with it.
    cluster_options : mapping, optional
        Arguments of the dask cluster that is made: ``LocalCluster`` or ``SLURMCluster``.
    on_event : callable, optional
        Is told each event of `wsistore.engine.embed_events`, in the caller's thread.

    Returns
    -------
    EmbedReport

    Raises
    ------
    wsistore.errors.UsageError
        If the call makes no sense, whatever the slides hold.
    wsistore.errors.EncoderError
        If an encoder can't be loaded.
    wsistore.errors.DependencyError
        If a package is missing.
    wsistore.errors.StoreError
        If the store can't be made.
    """
    works = as_works(slides_and_plans)
    if on_bad_tile not in BAD_TILES:
        raise UsageError(f"on_bad_tile must be one of {', '.join(BAD_TILES)}, got {on_bad_tile!r}")
    if batch_size < 1 or unit_tiles < 1 or prefetch < 0:
        raise UsageError(
            f"batch_size {batch_size}, unit_tiles {unit_tiles} and prefetch {prefetch} must be "
            "at least 1, 1 and 0"
        )
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    options = CrewOptions(scheduler, workers, limit, resources, cluster_options)
    reading = Reading(batch_size, prefetch, decode_threads or options.cpus_of_a_worker)
    reading = replace(reading, on_bad_tile=on_bad_tile)
    options, reading = fit_memory(options, reading, works, unit_tiles)
    named = {"device": device, "precision": precision, **dict(encoder_options or {})}
    if scheduler in ("processes", "dask"):
        named = {"threads": options.cpus_of_a_worker} | named
    files = tuple(os.path.abspath(path) for path in plugins)  # noqa: PTH100 (as it is named)
    team = Team(uuid.uuid4().hex, _specs(encoders, named), files)
    places = _places(works, store, layout)
    with _interruptible(), crew(options, team) as crewed:
        records = tuple(crewed.describe())
        if layout == "cohort":
            prepare_cohort(absolute(store))
        settings = JobSettings(team.token, records, reading, unit_tiles, overwrite)
        return _Run(works, places, settings, crewed, on_event or _ignore).go()


def as_works(
    given: Planned | CohortPlan | Iterable[Planned] | Mapping[str, Planned],
) -> list[SlideWork]:
    """Return the slides that a call names.

    Raises
    ------
    wsistore.errors.UsageError
        If there is none, one is no plan, or two have the same name.
    """
    if isinstance(given, Mapping):
        works = [_work(plan, name) for name, plan in given.items()]
    elif isinstance(given, TilePlan) or _is_pair(given):
        works = [_work(given, None)]
    else:
        several = given.plans if isinstance(given, CohortPlan) else given
        works = [_work(plan, None) for plan in several]
    if not works:
        raise UsageError("no slide is named")
    twice = [name for name, count in Counter(work.name for work in works).items() if count > 1]
    if twice:
        raise UsageError(
            f"several slides are called {', '.join(sorted(twice))}",
            hint="Give a mapping of names to plans.",
        )
    return works


def _is_pair(given: object) -> TypeGuard[tuple[SlideLike, TilePlan]]:
    """Return whether this is a slide and its plan, and not two plans."""
    if not isinstance(given, tuple) or len(given) != 2:
        return False
    return isinstance(given[1], TilePlan) and not isinstance(given[0], (TilePlan, tuple))


def _work(planned: object, name: str | None) -> SlideWork:
    slide, plan = planned if isinstance(planned, tuple) and len(planned) == 2 else (None, planned)
    if not isinstance(plan, TilePlan):
        raise UsageError(f"a TilePlan, or a pair of a slide and one, is needed, got {planned!r}")
    return SlideWork(name or plan.slide.name, plan, slide)


def _specs(
    encoders: EncoderLike | Sequence[EncoderLike], options: Mapping[str, Any]
) -> tuple[EncoderSpec, ...]:
    told = {name: value for name, value in options.items() if value is not None}
    several: Sequence[Any] = [encoders]
    if isinstance(encoders, Sequence) and not isinstance(encoders, str):
        several = encoders
    if not several:
        raise UsageError("no encoder is named")
    return tuple(
        spec if isinstance(spec, EncoderSpec) else EncoderSpec(spec, told) for spec in several
    )


def _places(works: Sequence[SlideWork], store: PathLike, layout: Layout) -> list[SlidePlace]:
    makers: dict[str, Callable[[PathLike, str], SlidePlace]] = {
        "cohort": SlidePlace.in_cohort,
        "slides": SlidePlace.alone,
    }
    if layout not in makers:
        raise UsageError(f"layout must be 'cohort' or 'slides', got {layout!r}")
    return [makers[layout](store, work.name) for work in works]


class _Run:
    """A run under way: which slides are begun, and what became of the others."""

    def __init__(
        self,
        works: Sequence[SlideWork],
        places: Sequence[SlidePlace],
        settings: JobSettings,
        crewed: Crew,
        tell: OnEmbedEvent,
    ) -> None:
        self._works = works
        self._places = places
        self._settings = settings
        self._crew = crewed
        self._tell = tell
        self._open: dict[str, SlideJob] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._errors: dict[str, WsistoreError] = {}
        self._counters = EmbedCounters()

    def go(self) -> EmbedReport:
        """Do all slides, the longest first, so that none is left over at the end."""
        names = tuple(record.name for record in self._settings.encoders)
        tiles = sum(len(work.plan) for work in self._works)
        self._tell(EmbedStarted(len(self._works), tiles, names, self._crew.workers))
        with contextlib.closing(self._crew.run(self._tasks())) as results:  # type: ignore[type-var]
            try:
                for task, receipt in results:
                    self._take(task, receipt)
            finally:
                for job in self._open.values():
                    job.close()
        order = [work.name for work in self._works]
        return EmbedReport(
            tuple(self._outcomes[name] for name in order),
            replace(self._counters, bytes_sent=self._crew.sent_bytes),
            self._settings.encoders,
            tuple(self._errors[name] for name in order if name in self._errors),
        )

    def _tasks(self) -> Iterator[UnitTask]:
        """Yield the units of all slides; each slide is begun when its turn comes."""
        pairs = sorted(
            zip(self._works, self._places, strict=True), key=lambda pair: -len(pair[0].plan)
        )
        for work, place in pairs:
            job = self._begin(work, place)
            if job is None:
                continue
            for task in job.tasks:
                if job.error is not None:
                    break
                yield task

    def _begin(self, work: SlideWork, place: SlidePlace) -> SlideJob | None:
        """Return a slide that has something to do; tell of others at once."""
        try:
            info = finished_before(work, place, self._settings)
            if info is not None:
                self._skip(work, place, info)
                return None
            job = begin_slide(work, place, self._settings)
        except StoreLockedError as error:
            self._outcomes[work.name] = Outcome(work.name, "skipped", error.code, error.message)
            self._tell(SlideFailed(work.name, error.code, error.message))
            return None
        except WsistoreError as error:
            self._fail(work.name, error)
            return None
        self._open[work.name] = job
        self._count(units_kept=job.kept)
        self._tell(SlideStarted(work.name, str(place), len(work.plan), len(job.tasks)))
        if job.kept or job.redone:
            self._tell(SlideResumed(work.name, job.kept, job.redone))
        if job.is_complete:
            self._finish(job)
            return None
        return job

    def _take(self, task: UnitTask, receipt: UnitReceipt | Lost) -> None:
        if isinstance(receipt, Lost):
            self._count(units_lost=1)
            self._tell(UnitLost(task.slide, task.unit, receipt.reason))
            return
        job = self._open.get(task.slide)
        if job is None:  # its slide has failed meanwhile
            return
        try:
            if receipt.error is not None:
                raise receipt.error
            job.note(task, receipt)
        except WsistoreError as error:
            job.error = error
            self._close(job)
            self._fail(task.slide, error)
            return
        self._count(
            tiles=receipt.tiles,
            failed_tiles=receipt.failed_tiles,
            units_computed=1,
            tiles_decoded=receipt.tiles_decoded,
            bytes_read=receipt.bytes_read,
            bytes_written=sum(summary.bytes for _, summary in receipt.written),
        )
        self._tell(UnitDone(task.slide, task.unit, receipt.tiles, receipt.failed_tiles))
        if job.is_complete:
            self._finish(job)

    def _finish(self, job: SlideJob) -> None:
        name = job.work.name
        try:
            job.finish()
        except WsistoreError as error:
            self._close(job)
            self._fail(name, error)
            return
        self._close(job)
        tiles = len(job.work.plan)
        detail = counted(tiles, "tile")
        if job.failed_tiles:
            detail += f", {job.failed_tiles} without features"
        if job.kept:
            detail += f", {counted(job.kept, 'unit')} kept from an earlier run"
        self._outcomes[name] = Outcome(name, "done", detail=detail)
        self._tell(SlideFinished(name, str(job.place), False, tiles, job.failed_tiles))

    def _skip(self, work: SlideWork, place: SlidePlace, info: SlideInfo) -> None:
        states = [info.encoders[record.name] for record in self._settings.encoders]
        failed = max(state.failed_tiles for state in states)
        detail = f"{place} was complete before"
        self._outcomes[work.name] = Outcome(work.name, "skipped", detail=detail)
        self._tell(SlideFinished(work.name, str(place), True, info.tiles, failed))

    def _fail(self, name: str, error: WsistoreError) -> None:
        self._errors[name] = error
        self._outcomes[name] = Outcome(name, "failed", error.code, str(error))
        self._tell(SlideFailed(name, error.code, str(error)))

    def _close(self, job: SlideJob) -> None:
        self._open.pop(job.work.name, None)
        job.close()

    def _count(self, **more: int) -> None:
        told = {name: getattr(self._counters, name) + count for name, count in more.items()}
        self._counters = replace(self._counters, **told)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, where nobody else handles it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        del frame
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ignore(event: EmbedEvent) -> None:
    del event
