"""One slide of a planning run: what is missing of it is made, what is there is left alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsistore.durable import atomic_write
from wsistore.durable.outcome import counted
from wsistore.engine.discovery import stem_of
from wsistore.engine.plan_pictures import draw_pictures, missing_pictures, save_images
from wsistore.engine.plan_results import PlanFiles, SlideResult
from wsistore.engine.plan_settings import (
    SETTINGS,
    check_calibration,
    check_mpp,
    finished,
    settings_of,
)
from wsistore.errors import (
    StoreLockedError,
    UsageError,
    WsistoreError,
)
from wsistore.export import plan_format
from wsistore.slides import Slide, open_slide
from wsistore.sources import redact
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tissue import (
    Contour,
    Segmenter,
    TissueMask,
    find_contours,
    save_mask,
    segment_slides,
    to_geojson,
)

if TYPE_CHECKING:
    from wsistore.engine.planning import PlanningOptions

MOST_HOLES = 10
"""Holes of tissue that count, the largest of a slide; smaller ones are filled."""
LEAST_HOLE_PX = 16
"""Px of the mask that a hole has at least."""


@dataclass
class _Task:
    """A slide at hand."""

    path: str
    stem: str
    slide: Slide
    settings: Mapping[str, Any]
    begun: float
    plan: TilePlan | None = None
    mask: TissueMask | None = None
    contours: list[Contour] = field(default_factory=list)
    thumbnail: Any = None
    is_finished: bool = False
    missing: tuple[str, ...] = ()


def run_group(
    paths: Sequence[str],
    files: PlanFiles,
    options: PlanningOptions,
    segmenter: Segmenter,
    turn: threading.Lock,
) -> list[SlideResult]:
    """Work on some slides, whose thumbnails go through the segmenter together."""
    results: list[SlideResult] = []
    with ExitStack() as stack:
        tasks: list[_Task] = []
        for path in paths:
            begun = time.monotonic()
            try:
                with files.outlet.naming():
                    tasks.append(_begin(path, files, options, segmenter, stack))
            except WsistoreError as error:
                results.append(_not_done(redact(path), error, begun))
        _segment(tasks, options, segmenter, turn, results)
        for task in tasks:
            try:
                with files.outlet.naming():
                    results.append(_finish(task, files, options))
            except WsistoreError as error:
                results.append(_not_done(task.path, error, task.begun))
    return results


def _not_done(path: str, error: WsistoreError, begun: float) -> SlideResult:
    seconds = time.monotonic() - begun
    detail = " ".join(error.message.split())
    if isinstance(error, StoreLockedError):
        return SlideResult(path, stem_of(path), "skipped", detail=detail, seconds=seconds)
    return SlideResult(path, stem_of(path), "failed", detail=detail, error=error, seconds=seconds)


def _begin(
    path: str,
    files: PlanFiles,
    options: PlanningOptions,
    segmenter: Segmenter,
    stack: ExitStack,
) -> _Task:
    """Open a slide, lock its results, and see what is there of them."""
    stem = stem_of(path)
    begun = time.monotonic()
    told = options.mpp.get(stem)
    if told is not None:
        check_mpp(stem, told, "the table of pixel sizes")
    slide = stack.enter_context(open_slide(path, mpp=told))
    if options.spec is not None:
        check_calibration(slide)
    place = files.root(stem, planned=options.spec is not None)
    stack.enter_context(files.outlet.locked(place, f"{stem} in {files.place}"))
    files.outlet.sweep([place, *files.others(stem)])
    task = _Task(redact(path), stem, slide, settings_of(slide, options, segmenter), begun)
    if not options.force and files.outlet.fetch(place):
        task.is_finished, task.plan = finished(place, task.settings, options)
        files.outlet.drop(place)
    task.missing = missing_pictures(None if options.force else files, stem, options)
    return task


class _Watching:
    """A segmenter that keeps the thumbnails it is shown, so that they are read once."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.seen: list[Any] = []
        self.name = segmenter.name
        self.parameters = segmenter.parameters
        self.thumbnail_mpp = segmenter.thumbnail_mpp
        self.thumbnail_side = segmenter.thumbnail_side
        self._segmenter = segmenter

    def segment(self, thumbnails: Any, mpps: Any = None) -> Any:
        """Segment, and keep the thumbnails."""
        self.seen = list(thumbnails)
        return self._segmenter.segment(thumbnails, mpps)


def _segment(
    tasks: list[_Task],
    options: PlanningOptions,
    segmenter: Segmenter,
    turn: threading.Lock,
    results: list[SlideResult],
) -> None:
    """Give a mask to each task that needs one; take out those that fail."""
    needy = [task for task in tasks if _needs_mask(task)]
    if not needy:
        return
    try:
        _segment_together(needy, options, segmenter, turn)
    except WsistoreError:  # one of them: which one shows when they go one by one
        for task in needy:
            try:
                _segment_together([task], options, segmenter, turn)
            except WsistoreError as error:
                tasks.remove(task)
                results.append(_not_done(task.path, error, task.begun))


def _needs_mask(task: _Task) -> bool:
    return not task.is_finished or bool({"mask", "contours", "cell"} & set(task.missing))


def _segment_together(
    tasks: Sequence[_Task], options: PlanningOptions, segmenter: Segmenter, turn: threading.Lock
) -> None:
    watching = _Watching(segmenter)
    slides = [task.slide for task in tasks]
    if options.method == "sam2" or options.batch > 1:
        with turn:
            masks = segment_slides(slides, watching, batch_size=len(slides))
    else:
        masks = segment_slides(slides, watching, batch_size=len(slides))
    for task, mask, thumbnail in zip(tasks, masks, watching.seen, strict=True):
        task.mask, task.thumbnail = mask, thumbnail
        task.contours = find_contours(
            mask,
            least_fraction=options.tissue_thresh,
            most_holes=MOST_HOLES,
            least_hole_px=LEAST_HOLE_PX,
        )


def _finish(task: _Task, files: PlanFiles, options: PlanningOptions) -> SlideResult:
    """Make what is missing of a slide."""
    written: list[Path] = []
    if not task.is_finished:
        if options.spec is None:
            written += _write_tissue(task, files)
        else:
            written += _write_plan(task, files, options)
    if task.missing:
        written += draw_pictures(
            files,
            task.stem,
            task.slide,
            kinds=task.missing,
            plan=task.plan,
            mask=task.mask,
            contours=task.contours,
            thumbnail=task.thumbnail,
        )
    if options.save_images and task.plan is not None:
        count = save_images(files, task.stem, task.slide, task.plan)
        if count:
            written.append(files.images(task.stem))
    if files.outlet.is_remote:
        root = files.root(task.stem, planned=options.spec is not None)
        made = [path for path in (*files.others(task.stem), root) if path.exists()]
        files.outlet.ship(made)
    return _result(task, files, options, written)


def _write_tissue(task: _Task, files: PlanFiles) -> list[Path]:
    if task.mask is None:
        raise UsageError(f"{task.stem} has no mask")
    save_mask(task.mask, files.mask(task.stem), overwrite=True)
    content = {**to_geojson(task.contours), SETTINGS: task.settings}
    place = files.contours(task.stem)
    # The contours come last: where they are, the mask is.
    atomic_write(place, json.dumps(content, separators=(",", ":"), allow_nan=False).encode())
    return [files.mask(task.stem), place]


def _write_plan(task: _Task, files: PlanFiles, options: PlanningOptions) -> list[Path]:
    if options.spec is None or task.mask is None:
        raise UsageError(f"{task.stem} has no mask to plan with")
    reading: dict[str, Any] = {"threads": 1} if options.filters else {}
    task.plan = plan_tiles(
        task.slide,
        options.spec,
        task.mask,
        contours=task.contours,
        contour_rule=options.contour_rule,  # type: ignore[arg-type]
        filters=options.filters,
        **reading,
    )
    place = files.patches(task.stem)
    text = json.dumps(task.settings, sort_keys=True)
    plan_format(options.layout).write(
        task.plan, place, write_batch=options.write_batch, attributes={SETTINGS: text}
    )
    return [place]


def _result(
    task: _Task, files: PlanFiles, options: PlanningOptions, written: Sequence[Path]
) -> SlideResult:
    slide, mask, plan = task.slide, task.mask, task.plan
    made = bool(written) or not task.is_finished
    result = SlideResult(
        task.path,
        task.stem,
        "done" if made else "skipped",
        tiles=None if plan is None else len(plan),
        tissue=None if mask is None else mask.tissue_fraction,
        pieces=None if mask is None else len(task.contours),
        size=(slide.size.width, slide.size.height),
        mpp=None if slide.mpp is None else slide.mpp.mean,
        mpp_origin="" if slide.mpp is None else slide.mpp.origin,
        files=tuple(files.outlet.shown(path) for path in written),
        plan=plan if files.keep_plans else None,
        seconds=time.monotonic() - task.begun,
    )
    place = files.root(task.stem, planned=options.spec is not None)
    if not made:
        found = (files.outlet.shown(place),)
        return replace(result, files=found, detail="finished already")
    return replace(result, detail=_say(result, task, written))


def _say(result: SlideResult, task: _Task, written: Sequence[Path]) -> str:
    told = []
    if result.pieces == 0:
        told.append("no tissue found")
    if result.tiles is not None:
        told.append(counted(result.tiles, "tile"))
    elif result.pieces:
        told.append(f"{counted(result.pieces, 'piece')} of tissue")
    if task.is_finished:
        told.append(f"planned before, {counted(len(written), 'further file')}")
    return ", ".join(told)
