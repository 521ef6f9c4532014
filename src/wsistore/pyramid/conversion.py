"""Converting one slide to one store: plan, shards, ledger, documents, one rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import (
    ObjectWork,
    Work,
    WorkFolder,
    check_settings,
    clear_leftovers,
    partial_name,
)
from wsistore.errors import (
    SlideError,
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    StoreWriteError,
    TileError,
)
from wsistore.pyramid.checksums import Checksums, file_sums, read_checksums
from wsistore.pyramid.documents import (
    Documents,
    associated_documents,
    level_documents,
    root_documents,
)
from wsistore.pyramid.events import (
    OnEvent,
    ShardDone,
    SlideFinished,
    SlideResumed,
    SlideStarted,
)
from wsistore.pyramid.naming import check_names, is_group
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.pyramid.objectfiles import Listing, split_store
from wsistore.pyramid.options import ConversionOptions
from wsistore.pyramid.planning import ConversionPlan, plan_conversion
from wsistore.pyramid.units import (
    ShardReceipt,
    ShardTask,
    SlideRef,
    check_unit,
    is_unit_listed,
    slide_of,
)
from wsistore.slides import Slide
from wsistore.sources import is_url, open_place, redact

LAYOUT = 1
"""Version of what equal settings write; another one does not resume this one's work."""

RunTasks = Callable[[Sequence[ShardTask]], Iterator[ShardReceipt]]
"""Runs `write_shard` on tasks in any order, and gives their receipts as they come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideJob:
    """One slide to convert.

    Parameters
    ----------
    source : str
        Path or URL of the slide.
    store : str
        Final name of the store: path or URL.
    options : ConversionOptions
        What is asked for.
    mpp : float, (float, float) or None
        Override of the pixel size, µm/px at level 0.
    magnification : float or None
        Override of the objective power.
    overwrite : bool
        Whether a store of that name is replaced.
    """

    source: str
    store: str
    options: ConversionOptions = field(default_factory=ConversionOptions)
    mpp: float | tuple[float, float] | None = None
    magnification: float | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class SlideResult:
    """What became of one slide.

    Parameters
    ----------
    status : {"done", "skipped"}
        ``"skipped"``: it had been finished before.
    size : int
        Bytes of all shards.
    missing, damaged : int
        Tiles that were left out.
    kept : int
        Shards kept from an earlier run.
    notes : tuple of str
        What else was left out: associated images that can't be read.
    """

    status: Literal["done", "skipped"]
    size: int
    missing: int = 0
    damaged: int = 0
    kept: int = 0
    notes: tuple[str, ...] = ()


def plan_slide(job: SlideJob) -> ConversionPlan:
    """Return what converting a slide would write; nothing is written.

    Raises
    ------
    wsistore.errors.WsistoreError
        If the slide can't be opened, or not be converted so.
    """
    check_names(job.source, job.store, overwrite=job.overwrite)
    return plan_conversion(slide_of(_reference(job)), job.options)


def convert_slide(job: SlideJob, run: RunTasks, tell: OnEvent) -> SlideResult:
    """Convert one slide; nothing has the store's name before all of it is written.

    A run that ends early, in whatever way, leaves its finished shards for the next one.

    Parameters
    ----------
    job : SlideJob
        What to convert, and how.
    run : callable
        Runs tasks; see `RunTasks`.
    tell : callable
        Is told each `Event`, in the caller's thread.

    Raises
    ------
    wsistore.errors.SlideError, wsistore.errors.TileError, wsistore.errors.SourceError
        If the slide can't be read.
    wsistore.errors.UsageError
        If the slide can't be converted as asked.
    wsistore.errors.StoreExistsError, wsistore.errors.StoreMismatchError
        If something else has the name, or was begun under it.
    wsistore.errors.StoreLockedError
        If another run is writing it.
    wsistore.errors.StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    check_names(job.source, job.store, overwrite=job.overwrite)
    reference = _reference(job)
    slide = slide_of(reference)
    plan = plan_conversion(slide, job.options)
    settings = _settings(job, slide)
    finished = None if job.overwrite else _finished(job.store, settings)
    if finished is not None:
        return _skip(job, finished, settings, tell)
    try:
        work = _begin(job, settings)
    except StoreExistsError:
        # Another run may have come to its end just now.
        finished = None if job.overwrite else _finished(job.store, settings)
        if finished is None:
            raise
        return _skip(job, finished, settings, tell)
    with ExitStack() as stack:
        stack.push(work)
        writing = _Writing(job, plan, slide, reference, work, tell)
        return writing.finish(writing.write_shards(run), settings)


def _skip(
    job: SlideJob, finished: Checksums, settings: dict[str, Any], tell: OnEvent
) -> SlideResult:
    """Tell that a store was finished before, and clear up behind the run that did so."""
    if is_url(job.store):
        parent, name = split_store(job.store)
        clear_leftovers(open_place(parent), name, settings)
    size = sum(shard.size for shard in finished.shards.values())
    tell(SlideFinished(redact(job.source), redact(job.store), True, size, 0, 0))
    return SlideResult("skipped", size)


def _reference(job: SlideJob) -> SlideRef:
    return SlideRef(job.source, job.mpp, job.magnification, epoch=_epoch())


def _epoch() -> int:
    """Return a number that no other run has, so that no slide of an earlier one is met."""
    return secrets.randbits(62)


def _settings(job: SlideJob, slide: Slide) -> dict[str, Any]:
    """Return all that decides the bytes of the store."""
    mpp = list(job.mpp) if isinstance(job.mpp, tuple) else job.mpp
    return {
        "layout": LAYOUT,
        "options": job.options.settings(),
        "mpp": mpp,
        "magnification": job.magnification,
        "source": slide.fingerprint,
    }


def _finished(store: str, settings: dict[str, Any]) -> Checksums | None:
    """Return the checksums of a store that is finished just so, None where none is there.

    Raises
    ------
    StoreExistsError
        If something else is there.
    StoreMismatchError
        If it was made otherwise, or from another slide.
    """
    group = is_group(store)
    # What lies at a URL without being a store may be one that is being made.
    if not group and (is_url(store) or not os.path.lexists(store)):
        return None
    found = read_checksums(store)
    if found is None:
        raise StoreExistsError(
            f"{redact(store)} exists, and is no store that wsistore made",
            hint=f"Choose another name{', or have it overwritten' if group else ''}.",
        )
    try:
        check_settings(found.settings, settings, name=redact(store))
    except StoreMismatchError as error:
        raise StoreMismatchError(
            error.message, hint="Choose another name, or have it overwritten."
        ) from None
    return found


def _begin(job: SlideJob, settings: dict[str, Any]) -> Work:
    """Return the entered work; where overwriting, other unfinished work goes."""
    try:
        return _work(job, settings).__enter__()
    except (StoreMismatchError, StoreCorruptError):
        if not job.overwrite:
            raise
    return _work(job, settings, restart=True).__enter__()


def _work(job: SlideJob, settings: dict[str, Any], *, restart: bool = False) -> Work:
    if not is_url(job.store):
        return WorkFolder(job.store, settings, overwrite=job.overwrite, restart=restart)
    parent, name = split_store(job.store)
    place = open_place(parent)
    return ObjectWork(place, name, settings, overwrite=job.overwrite, restart=restart)


class _Writing:
    """The writing of one store within its work folder."""

    def __init__(
        self,
        job: SlideJob,
        plan: ConversionPlan,
        slide: Slide,
        reference: SlideRef,
        work: Work,
        tell: OnEvent,
    ) -> None:
        self._job = job
        self._name = redact(job.source)
        self._plan = plan
        self._slide = slide
        self._source = SlideRef(
            reference.path,
            reference.mpp,
            reference.magnification,
            slide.fingerprint,
            reference.epoch,
        )
        self._work = work
        self._root, self._head = work.root, work.head
        if is_url(job.store):  # as it was given, so that its quoting stays right
            self._root = job.store.rstrip("/")
            folder, _, name = self._root.rpartition("/")
            self._head = f"{folder}/{partial_name(name)}/head"
        self._tell = tell
        self._kept = 0

    def write_shards(self, run: RunTasks) -> list[ShardReceipt]:
        """Write all shards that an earlier run has not left; return the receipts of all."""
        self._write(level_documents(self._plan))
        for name, data in root_documents(self._plan, self._slide, self._job.options).items():
            self._work.sketch(name, data)
        tell, store = self._tell, redact(self._job.store)
        tell(SlideStarted(self._name, store, self._plan, self._plan.shard_count))
        receipts = self._keep()
        for tasks in self._phases():
            left = [task for task in tasks if task.key not in receipts]
            for receipt in run(left) if left else ():
                self._work.append(receipt.key, receipt.entry())
                receipts[receipt.key] = receipt
                tell(_done(self._name, receipt))
            _check_complete(tasks, receipts)
        return [receipts[key] for key in sorted(receipts)]

    def _phases(self) -> Iterator[list[ShardTask]]:
        """Yield tasks that don't depend on each other; each batch on those before."""
        levels = self._plan.levels
        yield [
            task for level in levels if level.pixels != "store" for task in self._tasks(level.index)
        ]
        for level in levels:
            if level.pixels == "store":
                yield list(self._tasks(level.index))

    def _tasks(self, index: int) -> Iterator[ShardTask]:
        level = self._plan.levels[index]
        slide = self._source
        if level.pixels == "store":
            # Opened anew for each level, since the one before is only now whole.
            slide = SlideRef(self._root, epoch=_epoch(), unfinished=True, head=self._head)
        for row, column in level.shards():
            yield ShardTask(
                slide,
                self._root,
                level,
                row,
                column,
                self._plan.format,
                self._job.options.on_bad_tile,
            )

    def _keep(self) -> dict[str, ShardReceipt]:
        """Return receipts of the earlier run whose shards are still whole."""
        entries = self._work.entries()
        if not entries:
            return {}
        listing = self._work.listing()
        tasks = {task.key: task for phase in self._phases() for task in phase}
        noted = {entry["key"]: ShardReceipt.of(entry) for entry in entries}
        kept = {
            key: receipt
            for key, receipt in noted.items()
            if key in tasks and _is_whole(tasks[key], receipt, listing)
        }
        self._kept = len(kept)
        kept_bytes = sum(receipt.size for receipt in kept.values())
        self._tell(SlideResumed(self._name, len(kept), kept_bytes, len(noted) - len(kept)))
        return kept

    def finish(self, receipts: list[ShardReceipt], settings: dict[str, Any]) -> SlideResult:
        """Write the last documents, and give the store its name."""
        documents = level_documents(self._plan)
        images, notes = self._images()
        options = self._job.options
        documents.update(associated_documents(self._plan, images, self._slide.icc_profile))
        roots = root_documents(self._plan, self._slide, options, receipts, notes)
        shards = {receipt.key: receipt.sum for receipt in receipts if receipt.tiles}
        checksums = Checksums(settings, shards, file_sums({**documents, **roots}))
        self._write({**documents, CHECKSUMS: checksums.to_bytes()})
        self._check_listed(receipts)
        first = self._work.finish(roots)
        result = SlideResult(
            "done" if first else "skipped",
            sum(receipt.size for receipt in receipts),
            sum(receipt.missing for receipt in receipts),
            sum(len(receipt.damaged) for receipt in receipts),
            self._kept,
            tuple(notes),
        )
        self._tell(
            SlideFinished(
                self._name,
                redact(self._job.store),
                not first,
                result.size,
                result.missing,
                result.damaged,
                result.notes,
            )
        )
        return result

    def _check_listed(self, receipts: Sequence[ShardReceipt]) -> None:
        """Raise if objects are no longer those that were written: nothing locks them.

        Raises
        ------
        StoreWriteError
            If another run has removed some, or written others.
        """
        listing = self._work.listing()
        if listing is None:
            return
        tasks = {task.key: task for phase in self._phases() for task in phase}
        lost = [
            r.key
            for r in receipts
            if r.tiles and not is_unit_listed(tasks[r.key], r, listing, reading=False)
        ]
        if lost:
            raise StoreWriteError(
                f"{len(lost)} of {len(receipts)} shards of {redact(self._job.store)}, such as "
                f"{lost[0]}, were removed or written by others meanwhile",
                hint="Run it again when no other run writes this store: it resumes.",
            )

    def _images(self) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
        """Return the associated images that are kept, and which could not be read."""
        images, notes = {}, []
        for name in self._plan.associated:
            try:
                images[name] = self._slide.associated[name]
            except (TileError, SlideError) as error:
                # Only its code: the message names the file.
                notes.append(f"{name} left out, it can't be read ({error.code})")
        return images, notes

    def _write(self, documents: Documents) -> None:
        self._work.write_all(documents)


def _check_complete(tasks: Sequence[ShardTask], receipts: Mapping[str, ShardReceipt]) -> None:
    """Raise if a task has no receipt: a store with a hole must not get its name."""
    lost = [task.key for task in tasks if task.key not in receipts]
    if lost:
        raise StoreWriteError(
            f"the scheduler lost {len(lost)} of {len(tasks)} shards, such as {lost[0]}",
            hint="Run it again: it resumes.",
        )


def _done(source: str, receipt: ShardReceipt) -> ShardDone:
    return ShardDone(
        source,
        receipt.level,
        receipt.key,
        receipt.bytes_in,
        receipt.size,
        receipt.tiles,
        receipt.missing,
        len(receipt.damaged),
    )


def _is_whole(task: ShardTask, receipt: ShardReceipt, listing: Listing | None) -> bool:
    if not receipt.tiles:
        return True
    if listing is not None:
        return is_unit_listed(task, receipt, listing)
    try:
        return check_unit(task) == receipt.sum
    except StoreCorruptError:
        return False
