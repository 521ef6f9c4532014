"""``wsistore process``: from slides to features, files of other tools included.

Three stages, each over all slides: plans (`wsistore.engine.planning`), features into a
cohort's store (`wsistore.engine.embedding`), and files: features are written into the HDF5
file of their plan, and exported. What is finished is left alone; a slide that fails in one
stage is left out of the next, and ends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from wsistore.durable import Outcome
from wsistore.durable.outcome import counted
from wsistore.engine.embed_events import EmbedEvent
from wsistore.engine.embedding import EmbedReport, embed
from wsistore.engine.exporting import (
    FEATURE_FORMATS,
    PATCH_FORMATS,
    PatchOptions,
    check_remote_formats,
    each_slide,
    export_patches_into,
)
from wsistore.engine.outlets import Outlet, PathLike, below, open_outlet
from wsistore.engine.plan_results import PlanFiles, SlideResult
from wsistore.engine.planning import PlanningOptions, PlanningReport, plan_into
from wsistore.engine.reports import RunReport
from wsistore.errors import SourceNotFoundError, StoreLockedError, UsageError, WsistoreError
from wsistore.export import read_plan
from wsistore.export.feature_formats import check_format
from wsistore.export.features_hdf5 import add_features_h5, feature_facts
from wsistore.export.lmdb_reader import LmdbPatches
from wsistore.export.store_features import stored_features
from wsistore.features import FeatureCohort
from wsistore.sources import is_url, redact
from wsistore.tiles.plan import TilePlan

LAYOUTS = ("slideprocessor", "atlaspatch")
"""Layouts whose files hold features beside the plan."""
STORE = "features.zarr"
EXPORTS = "exports"

OnResult = Callable[[SlideResult], None]
OnEvent = Callable[[EmbedEvent], None]


@dataclass(frozen=True)
class ProcessOptions:
    """What a run computes.

    Parameters
    ----------
    planning : PlanningOptions
        Of the tiles; its layout is one of `LAYOUTS`.
    encoders : tuple of str
        Names for `wsistore.encoders.load_encoder`.
    store : path or URL, optional
        Of the cohort; ``features.zarr`` in the folder of the run where not said.
    exports : tuple of str
        Formats that are written to ``exports/<format>/`` in the folder of the run.
    embedding : mapping
        Further arguments of `wsistore.engine.embedding.embed`: device, precision, batch
        size, scheduler, workers, ...
    patches : PatchOptions
        For exports of pixels.

    Raises
    ------
    UsageError
        If a layout or format is none, or no encoder is named.
    """

    planning: PlanningOptions
    encoders: tuple[str, ...]
    store: PathLike | None = None
    exports: tuple[str, ...] = ()
    embedding: Mapping[str, Any] = field(default_factory=dict)
    patches: PatchOptions = field(default_factory=lambda: PatchOptions(overwrite=True))

    def __post_init__(self) -> None:
        """Check the names."""
        if self.planning.layout not in LAYOUTS:
            raise UsageError(
                f"files of layout {self.planning.layout!r} hold no features",
                hint=f"Use {' or '.join(LAYOUTS)}, and export to the other.",
            )
        if self.planning.spec is None:
            raise UsageError("a run needs tiles: name their size and resolution")
        if not self.encoders:
            raise UsageError("no encoder is named")
        for name in self.exports:
            check_format(name)


@dataclass(frozen=True)
class ProcessedSlide:
    """What became of one slide.

    Parameters
    ----------
    path, name : str
        The slide, as it may be shown, and its stem.
    status : {"done", "skipped", "failed"}
        ``"skipped"``: nothing was missing.
    stage : str
        ``"plan"``, ``"embed"``, ``"write"`` or ``"export"``: where it failed; else empty.
    tiles : int or None
        Of its plan.
    seconds : float
        Spent on its plan.
    detail : str
        One line for people.
    files : tuple of Path or str
        Where its results are; URLs where they are in a bucket.
    error : WsistoreError or None
        Why it failed.
    """

    path: str
    name: str
    status: Literal["done", "skipped", "failed"]
    stage: str = ""
    tiles: int | None = None
    seconds: float = 0.0
    detail: str = ""
    files: tuple[PathLike, ...] = ()
    error: WsistoreError | None = None

    @property
    def outcome(self) -> Outcome:
        """The same in short."""
        code = "" if self.error is None else self.error.code
        return Outcome(self.path, self.status, code, self.detail)


@dataclass(frozen=True)
class ProcessReport(RunReport):
    """What became of each slide of a run.

    Parameters
    ----------
    folder : Path or str
        Of the run: a path or a URL.
    store : Path or str
        Of the features.
    slides : tuple of ProcessedSlide
        In the order they were named.
    planning : PlanningReport
        Of the first stage.
    embedding : EmbedReport or None
        Of the second; None where no slide was planned.
    exports : mapping of str to Path or str
        Folders of the formats that were exported to.
    """

    folder: PathLike
    store: PathLike
    slides: tuple[ProcessedSlide, ...]
    planning: PlanningReport
    embedding: EmbedReport | None = None
    exports: Mapping[str, PathLike] = field(default_factory=dict)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each slide, in short; the unit is its path."""
        return tuple(slide.outcome for slide in self.slides)

    @property
    def errors(self) -> tuple[WsistoreError, ...]:
        """Why slides failed."""
        return tuple(slide.error for slide in self.slides if slide.error is not None)


def process_slides(
    paths: Sequence[str],
    folder: str | os.PathLike[str],
    options: ProcessOptions,
    *,
    on_plan: OnResult | None = None,
    on_event: OnEvent | None = None,
) -> ProcessReport:
    """Plan, embed and export slides; a run that was cut short goes on where it stopped.

    Parameters
    ----------
    paths : sequence of str
        Slides; see `wsistore.engine.discovery.find_slides`.
    folder : path or URL
        Of the run; made where missing. Gets what `plan_slides` makes, with
        ``features/<encoder>`` in the HDF5 files, the store, and ``exports/``.
    options : ProcessOptions
        What is wanted.
    on_plan : callable, optional
        Is told what became of each plan.
    on_event : callable, optional
        Is told each event of `wsistore.engine.embed_events`.

    Raises
    ------
    UsageError, wsistore.errors.EncoderError, wsistore.errors.DependencyError
        If segmenter or encoders can't be made.
    wsistore.errors.StoreError
        If the folder or the store can't be made.
    """
    where = os.fspath(folder)
    if is_url(where):
        check_remote_formats(options.exports)
    with open_outlet(where) as outlet:
        run = _Run(paths, outlet, below(where, STORE), options)
        planned = plan_into(run.files, paths, options.planning, on_plan)
        for result in planned.results:
            run.take(result)
        report = run.embed(on_event)
        if report is not None:
            run.write()
            run.export()
    slides = tuple(run.slides[result.path] for result in planned.results)
    exports = {kind: below(outlet.place, EXPORTS, kind) for kind in options.exports}
    return ProcessReport(outlet.place, run.store, slides, planned, report, exports)


class _Run:
    """A run under way: which slides are still in it, and what became of the others."""

    def __init__(
        self, paths: Sequence[str], outlet: Outlet, store: PathLike, options: ProcessOptions
    ) -> None:
        self._named = {redact(path): path for path in paths}
        self.outlet = outlet
        self.options = options
        self.store = store if options.store is None else options.store
        self.files = PlanFiles(outlet, keep_plans=outlet.is_remote)
        self.slides: dict[str, ProcessedSlide] = {}
        self.plans: dict[str, TilePlan] = {}
        self._paths: dict[str, str] = {}
        self._encoders: tuple[str, ...] = ()

    def take(self, result: SlideResult) -> None:
        """Take a slide over from the first stage."""
        slide = ProcessedSlide(
            result.path,
            result.name,
            result.status,
            "plan" if result.status == "failed" else "",
            result.tiles,
            result.seconds,
            result.detail,
            error=result.error,
        )
        if result.status != "failed" and result.files:
            try:
                plan = self._plan_of(result)
            except WsistoreError as error:
                slide = _failed(slide, "plan", error)
            else:
                if plan is not None:
                    self.plans[result.name] = plan
                    self._paths[result.name] = result.path
        self.slides[result.path] = slide

    def _plan_of(self, result: SlideResult) -> TilePlan | None:
        place = self.files.patches(result.name)
        if self.outlet.is_remote:
            return result.plan
        return read_plan(place) if place.exists() else None

    def embed(self, on_event: OnEvent | None) -> EmbedReport | None:
        """Compute the features of all plans."""
        if not self.plans:
            return None
        works = {name: (self._named[self._paths[name]], plan) for name, plan in self.plans.items()}
        report = embed(
            works,
            list(self.options.encoders),
            self.store,
            overwrite=self.options.planning.force,
            on_event=on_event,
            **dict(self.options.embedding),
        )
        self._encoders = tuple(record.name for record in report.encoders)
        errors = iter(report.errors)
        for outcome in report.outcomes:
            slide = self._slide(outcome.unit)
            if outcome.status == "failed":
                self._lose(outcome.unit, "embed", next(errors))
            elif outcome.code:  # another run is at it
                self._put(slide, detail=outcome.detail, status="skipped")
                del self.plans[outcome.unit]
            else:
                done = "done" in (outcome.status, slide.status)
                detail = (
                    outcome.detail
                    if done
                    else f"{counted(slide.tiles or 0, 'tile')}, complete before"
                )
                self._put(slide, detail=detail, status="done" if done else "skipped")
        return report

    def write(self) -> None:
        """Write features into the HDF5 files of their plans, where they lack them."""
        cohort = FeatureCohort(self.store, encoders=list(self._encoders))
        for name in list(self.plans):
            path = self.files.patches(name)
            try:
                with self.outlet.naming():
                    is_new = self._write_one(cohort, name, path)
                if is_new:
                    self._put(self._slide(name), status="done")
                self._put(self._slide(name), files=(self.outlet.shown(path),))
            except StoreLockedError as error:  # another run is at it, and will write the same
                self._put(self._slide(name), status="skipped", detail=error.message)
            except WsistoreError as error:
                self._lose(name, "write", error)

    def _write_one(self, cohort: FeatureCohort, name: str, path: Path) -> bool:
        with self.outlet.locked(path, f"{name} in {self.outlet.place}"):
            if not self.outlet.fetch(path):
                raise SourceNotFoundError(f"{self.outlet.shown(path)} is there no longer")
            found = feature_facts(path)
            wanted = cohort.infos[name].encoders if name in cohort.infos else {}
            lacking = [
                encoder
                for encoder in self._encoders
                if encoder not in found
                or found[encoder].get("fingerprint") != wanted[encoder].fingerprint
            ]
            if lacking:
                add_features_h5(
                    stored_features(cohort, name, lacking),
                    path,
                    write_batch=self.options.planning.write_batch,
                )
                self.outlet.ship([path])
            self.outlet.drop(path)
        return bool(lacking)

    def export(self) -> None:
        """Write the formats that are wanted: of slides that are new, or not there yet."""
        cohort = FeatureCohort(self.store, encoders=list(self._encoders))
        for kind in self.options.exports:
            folder = self.outlet.folder / EXPORTS / kind
            there = _exported(kind, folder, self.outlet)
            names = [n for n in self.plans if self._is_new(n) or not there(n)]
            if not names:
                continue
            if kind in PATCH_FORMATS:
                # Shards run over all slides, so they are made anew together.
                chosen = list(self.plans) if kind == "tar" else names
                plans = {name: self.plans[name] for name in chosen}
                report = export_patches_into(self.outlet, folder, plans, kind, self.options.patches)
            else:
                write = FEATURE_FORMATS[kind].write

                def features(
                    name: str, write: Any = write, folder: Path = folder
                ) -> Sequence[PathLike]:
                    written = write(stored_features(cohort, name, self._encoders), folder)
                    return self.outlet.ship(written)

                report = each_slide(names, features)
            self._note(report.outcomes, report.errors)

    def _note(self, outcomes: Sequence[Outcome], errors: Sequence[WsistoreError]) -> None:
        waiting = iter(errors)
        for outcome in outcomes:
            if outcome.status == "failed":
                self._lose(outcome.unit, "export", next(waiting), keep=True)
            else:
                self._put(self._slide(outcome.unit), status="done")

    def _is_new(self, name: str) -> bool:
        return self._slide(name).status == "done"

    def _slide(self, name: str) -> ProcessedSlide:
        return self.slides[self._paths[name]]

    def _put(self, slide: ProcessedSlide, **changes: Any) -> None:
        if slide.status == "failed":  # stays what it is, whatever later formats do
            changes.pop("status", None)
        self.slides[slide.path] = replace(slide, **changes)

    def _lose(self, name: str, stage: str, error: WsistoreError, *, keep: bool = False) -> None:
        slide = self._slide(name)
        self.slides[slide.path] = _failed(slide, stage, error)
        if not keep:
            del self.plans[name]


def _failed(slide: ProcessedSlide, stage: str, error: WsistoreError) -> ProcessedSlide:
    detail = " ".join(error.message.split())
    return replace(slide, status="failed", stage=stage, detail=detail, error=error)


def _exported(kind: str, folder: Path, outlet: Outlet) -> Callable[[str], bool]:
    """Return what tells whether a slide seems to be in an export; a wrong no costs only time."""
    if kind == "lmdb":
        slides = _slides_of_lmdb(folder)
        return lambda name: name in slides
    files = list(outlet.files_below(folder))
    if kind == "images":
        done = {path.parts[0] for path in files if path.name == "plan.json"}
    elif kind == "tar":
        complete = any(path.name.endswith(".shards.json") for path in files)
        return lambda _: complete
    else:
        # Of files, and of folders that are stores of a slide.
        done = {PurePosixPath(part).stem for path in files for part in path.parts}
    return lambda name: name in done


def _slides_of_lmdb(folder: Path) -> Container[str]:
    if not folder.exists():
        return ()
    try:
        with LmdbPatches(folder) as store:
            return frozenset(store.slides)
    except WsistoreError:
        return ()
