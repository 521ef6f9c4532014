"""``wsistore.convert``: many slides, one run, one report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from wsistore.durable import Outcome
from wsistore.durable.outcome import counted
from wsistore.engine.jobs import PathLike, places
from wsistore.engine.reports import RunReport
from wsistore.engine.schedulers import Run, cpu_count, runner
from wsistore.errors import UsageError, WsistoreError
from wsistore.pyramid.conversion import SlideJob, SlideResult, convert_slide, plan_slide
from wsistore.pyramid.events import Event, OnEvent, SlideFailed
from wsistore.pyramid.options import (
    BadTilePolicy,
    ConversionOptions,
    MetadataPolicy,
    NgffVersion,
)
from wsistore.pyramid.units import write_shard
from wsistore.sources import is_url, redact

if TYPE_CHECKING:
    from wsistore.pyramid.planning import ConversionPlan


REMOTE_WORKERS = 8
"""Threads by default where slides or stores are remote: they wait more than they work. Each
holds a shard, about 20 MB of a 4096 px one, and 50 MB at most."""


@dataclass(frozen=True)
class ConvertReport(RunReport):
    """What became of each slide of a run.

    Parameters
    ----------
    outcomes : tuple of Outcome
        One for each slide, in the order they were named; the unit is the slide's path.
    plans : mapping of str to ConversionPlan
        By the slide's path; of a dry run only.
    errors : tuple of WsistoreError
        Those behind the outcomes that failed, in their order.
    """

    outcomes: tuple[Outcome, ...]
    plans: Mapping[str, ConversionPlan] = field(default_factory=dict)
    errors: tuple[WsistoreError, ...] = ()


def convert(
    sources: PathLike | Iterable[PathLike],
    destination: PathLike,
    *,
    codec: str = "auto",
    quality: int | None = None,
    chunk: int | None = None,
    shard: int | None = None,
    format: NgffVersion = "0.5",  # noqa: A002 (the word of the field)
    add_levels: bool = False,
    keep_levels: bool = False,
    associated: Iterable[str] = ("thumbnail",),
    keep_metadata: MetadataPolicy = "allowed",
    mpp: float | Sequence[float] | None = None,
    magnification: float | None = None,
    on_bad_tile: BadTilePolicy = "fill-missing",
    recursive: bool = False,
    keep_tree: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str = "threads",
    dry_run: bool = False,
    on_event: OnEvent | None = None,
) -> ConvertReport:
    """Convert slides to OME-Zarr stores.

    A slide that fails ends nothing: the others go on, and the report tells. A run that
    was cut short resumes when it is called again; finished stores are skipped.

    Parameters
    ----------
    sources : path or iterable of path
        Slides, stores, or folders of slides, local or by URL. A URL that ends with ``/``
        stands for all slides below it.
    destination : path
        The store where one file is named and this is no folder; else a folder in which
        each slide gets ``<stem>.ome.zarr``. A URL is a folder if it ends with ``/``; a
        store in a bucket appears with its root document, which is written last.
    codec : str
        ``"auto"`` moves JPEG and JPEG 2000 tiles as they are and encodes others with
        zstd; ``"copy"``; or one to encode with: ``"zstd"``, ``"blosc"``, ``"gzip"``,
        ``"jpegxl"`` (lossless), ``"jpeg"``, ``"jpeg2000"``.
    quality : int, optional
        1-100, of lossy codecs.
    chunk, shard : int, optional
        Sides in px; by default the slide's tile, and 16 chunks.
    format : {"0.5", "0.4"}
        NGFF version; 0.4 takes zstd, blosc and gzip only.
    add_levels : bool
        Whether a copy gets the levels that are missing from a 2x pyramid (as JPEG).
    keep_levels : bool
        Whether a transcode takes the slide's own reduced levels.
    associated : iterable of str
        Associated images to keep. Labels may show a patient's name, so they are neither
        decoded nor kept unless named.
    keep_metadata : {"allowed", "all"}
        Whether properties are kept that may say something of a person (never paths and
        user names).
    mpp : float or (x, y), optional
        True pixel size at level 0, µm/px.
    magnification : float, optional
        True objective power.
    on_bad_tile : {"fill-missing", "fill", "raise"}
        See `wsistore.pyramid.options.ConversionOptions`.
    recursive : bool
        Whether folders within folders are searched.
    keep_tree : bool
        Whether those folders are made anew in the destination.
    overwrite : bool
        Whether stores that exist are replaced. In a bucket, the old one is removed before
        the new one is written.
    workers : int, optional
        Threads or processes; by default one for each CPU, and at least `REMOTE_WORKERS`
        where something is remote.
    scheduler : str
        ``"threads"``, ``"processes"`` (spawned, so remote slides and stores go there as
        well), or the address of a dask scheduler.
    dry_run : bool
        Whether to plan only: the report's `plans` tell what would be written.
    on_event : callable, optional
        Is told each event of `wsistore.pyramid.events`, in the caller's thread.

    Returns
    -------
    ConvertReport

    Raises
    ------
    UsageError
        If the call makes no sense, whatever the slides hold.
    SourceNotFoundError
        If a named file is not there.
    DependencyError
        If the scheduler needs a package that is missing.
    """
    options = ConversionOptions(
        codec=codec,
        quality=quality,
        chunk=chunk,
        shard=shard,
        format=format,
        add_levels=add_levels,
        keep_levels=keep_levels,
        associated=tuple(associated) if not isinstance(associated, str) else (associated,),
        keep_metadata=keep_metadata,
        on_bad_tile=on_bad_tile,
    )
    pixel_size = _pixel_size(mpp)
    jobs = [
        SlideJob(
            source=place.source,
            store=place.store,
            options=options,
            mpp=pixel_size,
            magnification=magnification,
            overwrite=overwrite,
        )
        for place in places(sources, destination, recursive=recursive, keep_tree=keep_tree)
    ]
    if dry_run:
        return _plan_all(jobs)
    if workers is None and any(is_url(name) for job in jobs for name in (job.source, job.store)):
        workers = max(cpu_count(), REMOTE_WORKERS)
    with runner(scheduler, workers) as run:
        return _convert_all(jobs, run, on_event or _ignore)


def _plan_all(jobs: Sequence[SlideJob]) -> ConvertReport:
    outcomes, plans, errors = [], {}, []
    for job in jobs:
        try:
            plans[redact(job.source)] = plan_slide(job)
        except WsistoreError as error:
            errors.append(error)
            outcomes.append(Outcome(redact(job.source), "failed", error.code, str(error)))
        else:
            outcomes.append(Outcome(redact(job.source), "done", detail="planned, nothing written"))
    return ConvertReport(tuple(outcomes), plans, tuple(errors))


def _convert_all(jobs: Sequence[SlideJob], run: Run, tell: OnEvent) -> ConvertReport:
    outcomes, errors = [], []
    for job in jobs:
        try:
            result = convert_slide(job, partial(run, write_shard), tell)
        except WsistoreError as error:
            tell(SlideFailed(redact(job.source), redact(job.store), error.code, str(error)))
            errors.append(error)
            outcomes.append(Outcome(redact(job.source), "failed", error.code, str(error)))
        else:
            outcomes.append(Outcome(redact(job.source), result.status, detail=_detail(job, result)))
    return ConvertReport(tuple(outcomes), {}, tuple(errors))


def _detail(job: SlideJob, result: SlideResult) -> str:
    if result.status == "skipped":
        return f"{redact(job.store)} was finished before"
    parts = [f"{redact(job.store)}: {result.size} bytes"]
    if result.kept:
        parts.append(f"{counted(result.kept, 'shard')} kept from an earlier run")
    if result.missing:
        parts.append(f"{counted(result.missing, 'missing tile')} left out")
    if result.damaged:
        parts.append(f"{counted(result.damaged, 'damaged tile')} left out")
    return ", ".join((*parts, *result.notes))


def _pixel_size(mpp: float | Sequence[float] | None) -> float | tuple[float, float] | None:
    """Return the override in a form that travels; its values are checked on opening."""
    if mpp is None or isinstance(mpp, (int, float)):
        return mpp
    values = tuple(float(value) for value in mpp)
    if len(values) != 2 or not all(map(math.isfinite, values)):
        raise UsageError(f"mpp is one number or a pair (x, y), got {mpp!r}")
    return (values[0], values[1])


def _ignore(event: Event) -> None:
    del event
