"""One slide of an embedding run, on the side of the caller: locked, prepared, finished."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsistore.engine.unit_reading import Reading
from wsistore.engine.units import UnitReceipt, UnitTask
from wsistore.errors import StoreMismatchError, UsageError, WsistoreError
from wsistore.features.checking import check_slide
from wsistore.features.documents import read_info
from wsistore.features.places import SlidePlace
from wsistore.features.progress import OBJECTS, Progress, begin_work
from wsistore.features.records import EncoderRecord, SlideInfo
from wsistore.features.schema import unit_count
from wsistore.features.verifying import open_planned
from wsistore.features.writing import (
    UnitSummary,
    UnitWriter,
    discard_slide,
    finish_slide,
    prepare_slide,
)
from wsistore.slides import Slide
from wsistore.tiles.handles import default_cache
from wsistore.tiles.lattice import tile_geometry
from wsistore.tiles.model import SlideLike
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.provenance import state_of


@dataclass(frozen=True)
class SlideWork:
    """A slide whose tiles are to be encoded.

    Parameters
    ----------
    name : str
        Name in the store.
    plan : TilePlan
        Its tiles.
    slide : Slide, path or None
        Where the slide is now; where it lay when it was planned, if not said.
    """

    name: str
    plan: TilePlan
    slide: SlideLike | None = None

    def open(self) -> Slide:
        """Open the slide, and check that the plan is of it.

        Raises
        ------
        wsistore.errors.StoreMismatchError
            If it is another slide, or is calibrated otherwise.
        wsistore.errors.WsistoreError
            If it can't be opened.
        """
        slide = self._opened()
        try:
            self.plan.check_slide(slide)
        except UsageError as error:
            raise StoreMismatchError(error.message, hint=error.hint) from error
        found = tile_geometry(slide, self.plan.spec)
        if found != self.plan.geometry:
            raise StoreMismatchError(
                f"tiles of {self.name} would be {found.size_level0} px at level 0, were planned "
                f"with {self.plan.geometry.size_level0}",
                hint="Open the slide with the pixel size and power that it was planned with.",
            )
        return slide

    def _opened(self) -> Slide:
        if isinstance(self.slide, Slide):
            return self.slide
        facts = self.plan.slide
        if self.slide is None:
            return open_planned(facts.to_dict(), facts.path)
        if facts.mpp_origin or facts.magnification_origin:
            return open_planned(facts.to_dict(), str(self.slide))
        return default_cache().get(self.slide)


@dataclass
class SlideJob:
    """A slide at hand; made by `begin_slide`, which holds the lock of a local one.

    Parameters
    ----------
    work : SlideWork
        The slide.
    place : SlidePlace
        Where its features go.
    info : SlideInfo
        What the store says of it.
    tasks : list of UnitTask
        Units that lack an encoder.
    kept, redone : int
        Units of an encoder that are kept, and that had been noted and are not whole.
    """

    work: SlideWork
    place: SlidePlace
    info: SlideInfo
    tasks: list[UnitTask]
    kept: int
    redone: int
    encoders: tuple[str, ...]
    _progress: Progress
    _waiting: set[int] = field(default_factory=set)
    error: WsistoreError | None = None
    failed_tiles: int = 0

    def __post_init__(self) -> None:
        """Remember which units are awaited."""
        self._waiting = {task.unit for task in self.tasks}

    @property
    def is_complete(self) -> bool:
        """Whether all units are written."""
        return not self._waiting

    def note(self, task: UnitTask, receipt: UnitReceipt) -> None:
        """Note what a worker has written."""
        for name, summary in receipt.written:
            self._progress.note(_entry(self.info, name, task.unit, summary))
        self._waiting.discard(task.unit)

    def finish(self) -> SlideInfo:
        """Say in the store that all is written, and throw the notes away.

        Raises
        ------
        wsistore.errors.StoreError
            If that can't be written.
        """
        info = finish_slide(self.place, self.encoders)
        states = [info.encoders[name] for name in self.encoders]
        self.failed_tiles = max((state.failed_tiles for state in states), default=0)
        self._progress.forget()
        return info

    def close(self) -> None:
        """Free the slide's lock; what was noted stays for the next run."""
        self._progress.close()


@dataclass(frozen=True)
class JobSettings:
    """What all slides of a run have in common.

    Parameters
    ----------
    run : str
        Unlike any other run; the token of the encoders' team.
    encoders : tuple of EncoderRecord
        Those that are wanted.
    reading : Reading
        How tiles are read.
    unit_tiles : int
        Tiles of a unit.
    overwrite : bool
        Whether features that are there are thrown away.
    """

    run: str
    encoders: tuple[EncoderRecord, ...]
    reading: Reading
    unit_tiles: int
    overwrite: bool = False


def finished_before(work: SlideWork, place: SlidePlace, settings: JobSettings) -> SlideInfo | None:
    """Return what the store says of a slide that lacks nothing; None where it lacks some.

    Raises
    ------
    wsistore.errors.StoreMismatchError
        If it is complete, but was made otherwise.
    wsistore.errors.WsistoreError
        If the slide can't be opened.
    """
    if settings.overwrite:
        return None
    try:
        info = read_info(place)
    except WsistoreError:
        return None  # whatever is wrong will be told under the lock
    if not all(record.name in info.finished for record in settings.encoders):
        return None
    slide = work.open()
    check_slide(place, info, work.plan, settings.encoders, fingerprint=slide.fingerprint)
    return info


def begin_slide(work: SlideWork, place: SlidePlace, settings: JobSettings) -> SlideJob:
    """Take the lock of a slide, make its group ready, and see which units are missing.

    Raises
    ------
    wsistore.errors.StoreLockedError
        If another run is writing it.
    wsistore.errors.StoreMismatchError
        If what is there was made otherwise.
    wsistore.errors.WsistoreError
        If the slide can't be opened, or the store can't be written.
    """
    slide = work.open()
    progress = begin_work(place)
    try:
        if settings.overwrite:
            progress.forget()
            discard_slide(place)
        info = prepare_slide(
            place,
            work.plan,
            settings.encoders,
            name=work.name,
            fingerprint=slide.fingerprint,
            unit_tiles=settings.unit_tiles,
        )
        wanted = [r.name for r in settings.encoders if not info.encoders[r.name].done]
        kept, redone = _kept(place, info, progress, wanted)
        tasks = list(_tasks(work, place, info, slide, kept, wanted, settings))
    except BaseException:
        progress.close()
        raise
    return SlideJob(
        work=work,
        place=place,
        info=info,
        tasks=tasks,
        kept=sum(len(units) for units in kept.values()),
        redone=redone,
        encoders=tuple(wanted),
        _progress=progress,
    )


def _tasks(
    work: SlideWork,
    place: SlidePlace,
    info: SlideInfo,
    slide: Slide,
    kept: Mapping[str, set[int]],
    wanted: Sequence[str],
    settings: JobSettings,
) -> Iterator[UnitTask]:
    state = state_of(slide)
    for unit in range(unit_count(info.tiles, info.unit_rows)):
        lacking = tuple(name for name in wanted if unit not in kept[name])
        if lacking:
            yield UnitTask(
                team=settings.run,
                job=f"{settings.run}/{work.name}",
                slide=work.name,
                place=place,
                opening=slide if slide.opening is None else slide.opening,
                unit=unit,
                encoders=lacking,
                reading=settings.reading,
                state=state,
            )


def _kept(
    place: SlidePlace, info: SlideInfo, progress: Progress, wanted: Sequence[str]
) -> tuple[dict[str, set[int]], int]:
    """Return the units of each encoder that are noted and whole, and how many are not."""
    kept: dict[str, set[int]] = {name: set() for name in wanted}
    noted: dict[tuple[str, int], Any] = {}
    for entry in progress.entries():
        name, unit = entry.get("encoder"), entry.get("unit")
        if name in kept and isinstance(unit, int):
            noted[name, unit] = entry
    if not noted:
        return kept, 0
    writer = UnitWriter(place, info)
    redone = 0
    count = unit_count(info.tiles, info.unit_rows)
    for (name, unit), entry in noted.items():
        if unit < count and _is_kept(entry, info, progress, writer):
            kept[name].add(unit)
        else:
            redone += 1
    return kept, redone


def _is_kept(
    entry: Mapping[str, Any], info: SlideInfo, progress: Progress, writer: UnitWriter
) -> bool:
    """Return whether a unit was written for this plan and encoder, and is as it was written."""
    name, unit = entry["encoder"], entry["unit"]
    if any(entry.get(key) != value for key, value in _made_for(info, name, unit).items()):
        return False
    whole = progress.is_whole(entry)
    if whole is not None:
        return whole
    found = writer.read(name, unit)
    return found is not None and entry.get("checksum") == found.checksum


def _made_for(info: SlideInfo, encoder: str, unit: int) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "fingerprint": info.encoders[encoder].fingerprint,
        "plan": info.plan_id,
        "unit": unit,
    }


def _entry(info: SlideInfo, encoder: str, unit: int, summary: UnitSummary) -> dict[str, Any]:
    """Return what is noted of a unit; the same only for the same plan and encoder."""
    told: dict[str, Any] = {"checksum": summary.checksum, "failed_tiles": summary.failed_tiles}
    if summary.objects:
        told[OBJECTS] = [list(written) for written in summary.objects]
    return _made_for(info, encoder, unit) | told
