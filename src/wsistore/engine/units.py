"""A unit of work in a worker: read tiles, encode them, write whole chunks.

Coordinates and features stay where they are: a task names a unit, the worker reads the
unit's rows of the plan from the store, and what returns is a receipt of some hundred bytes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.engine.seats import Seat, seat_of
from wsistore.engine.unit_reading import PixelBatch, Reading, read_batches
from wsistore.errors import (
    SourceChangedError,
    StoreCorruptError,
    StoreUnfinishedError,
    WsistoreError,
)
from wsistore.features.documents import read_info
from wsistore.features.places import READ_ERRORS, SlidePlace, open_group
from wsistore.features.schema import TileStatus
from wsistore.features.writing import UnitSummary, UnitWriter
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.slides.reopening import Opening, reopen
from wsistore.tiles.lattice import TileGeometry
from wsistore.tiles.provenance import state_of
from wsistore.tiles.spec import TileSpec

DESKS = 8
"""Slides kept open in a process."""


@dataclass(frozen=True, slots=True)
class UnitTask:
    """A unit that is to be computed. Pickles to less than a kilobyte.

    Parameters
    ----------
    team : str
        Token of the encoders' team.
    job : str
        Unlike that of any other slide or run.
    slide : str
        Name of the slide.
    place : SlidePlace
        Where the plan is, and where features go.
    opening : Opening or Slide
        How to open the slide; itself where it can't be pickled.
    unit : int
        Number of the unit.
    encoders : tuple of str
        Encoders that lack it.
    reading : Reading
        How tiles are read.
    state : str
        Of the slide's object, where it is one: a worker that finds another one stops.
    """

    team: str
    job: str
    slide: str
    place: SlidePlace
    opening: Opening | Slide
    unit: int
    encoders: tuple[str, ...]
    reading: Reading
    state: str = ""


@dataclass(frozen=True, slots=True)
class UnitReceipt:
    """What became of a unit.

    Parameters
    ----------
    tiles : int
        Tiles of the unit.
    failed_tiles : int
        Tiles without features by one of the encoders.
    written : tuple of (str, UnitSummary)
        What was written, by encoder.
    tiles_decoded : int
        Encoded tiles of the slide that were decoded.
    bytes_read : int
        Encoded bytes that were fetched.
    error : WsistoreError or None
        Why it could not be computed.
    """

    tiles: int = 0
    failed_tiles: int = 0
    written: tuple[tuple[str, UnitSummary], ...] = ()
    tiles_decoded: int = 0
    bytes_read: int = 0
    error: WsistoreError | None = None


def run_unit(task: UnitTask) -> UnitReceipt:
    """Compute a unit and write it; the function that runs in workers."""
    try:
        return _compute(task)
    except WsistoreError as error:
        return UnitReceipt(error=error)


class _Desk:
    """A slide that is being worked on in this process: its plan, its pixels, its features."""

    def __init__(self, task: UnitTask) -> None:
        self.info = read_info(task.place)
        self.writer = UnitWriter(task.place, self.info)
        group = open_group(task.place)
        self.x = _column(group, task.place, "x")
        self.y = _column(group, task.place, "y")
        spec = TileSpec.from_dict(self.info.provenance["spec"])
        self.fill: int = spec.fill
        self.resolution: Resolution = spec.resolution
        self.size: Size = TileGeometry.from_dict(self.info.provenance["geometry"]).size
        self._opening = task.opening
        self._state = task.state
        self._slide: Slide | None = None
        self._lock = threading.Lock()

    @property
    def slide(self) -> Slide:
        """The slide, opened when its pixels are first asked for."""
        with self._lock:
            if self._slide is None:
                opening = self._opening
                slide = opening if isinstance(opening, Slide) else reopen(opening, False)
                found = state_of(slide) if self._state else ""
                if found and found != self._state:
                    raise SourceChangedError(
                        f"{slide.path} was replaced since the run began: it was {self._state}, "
                        f"is {found}",
                        hint="Leave it alone while it is in use, and start again.",
                    )
                self._slide = slide
            return self._slide

    def batches(self, rows: slice, reading: Reading) -> closing[Generator[PixelBatch, None, None]]:
        """Return a reader of the tiles in these rows, to be closed."""
        return closing(
            read_batches(
                self.slide,
                self.x[rows],
                self.y[rows],
                self.size,
                self.resolution,
                self.fill,
                reading,
            )
        )


def _column(group: Any, place: SlidePlace, name: str) -> NDArray[np.int64]:
    try:
        array = group[name]
        return np.asarray(array[:], np.int64)
    except WsistoreError:
        raise
    except READ_ERRORS as error:
        raise StoreCorruptError(f"column {name} of {place} can't be read: {error}") from error


_desks: OrderedDict[str, _Desk] = OrderedDict()
_desks_lock = threading.Lock()


def _desk_of(task: UnitTask) -> _Desk:
    """Return the desk of a task's slide; the least recently used one makes room."""
    with _desks_lock:
        desk = _desks.get(task.job)
        if desk is None:
            desk = _desks[task.job] = _Desk(task)
            while len(_desks) > DESKS:
                _desks.popitem(last=False)
        _desks.move_to_end(task.job)
        return desk


def clear_desks(run: str) -> None:
    """Forget the slides of a run in this process."""
    with _desks_lock:
        for job in [job for job in _desks if job.startswith(run)]:
            del _desks[job]


def _compute(task: UnitTask) -> UnitReceipt:
    desk, seat = _desk_of(task), seat_of(task.team)
    rows = desk.writer.rows(task.unit)
    results = _Results(seat, task.encoders, rows.stop - rows.start)
    if any(getattr(seat.encoders()[name], "reads_pixels", True) for name in task.encoders):
        with desk.batches(rows, task.reading) as batches:
            for batch in batches:
                _check_running(seat, task)
                results.add(batch)
    else:
        results.add_unread(task.reading.batch_size)
    _check_running(seat, task)
    written = tuple(
        (name, desk.writer.write(name, task.unit, results.features[name], results.status[name]))
        for name in task.encoders
    )
    return UnitReceipt(
        tiles=rows.stop - rows.start,
        failed_tiles=results.failed_tiles,
        written=written,
        tiles_decoded=results.tiles_decoded,
        bytes_read=results.bytes_read,
    )


def _check_running(seat: Seat, task: UnitTask) -> None:
    if seat.stopped.is_set():
        raise StoreUnfinishedError(f"unit {task.unit} of {task.slide} was stopped")


class _Results:
    """Features and status codes of a unit, as they come."""

    def __init__(self, seat: Seat, encoders: tuple[str, ...], tiles: int) -> None:
        self._seat = seat
        self._tiles = tiles
        dims = {name: seat.encoders()[name].dim for name in encoders}
        self.features = {name: np.empty((tiles, dim), np.float32) for name, dim in dims.items()}
        self.status = {name: np.zeros(tiles, np.uint8) for name in encoders}
        self.tiles_decoded = 0
        self.bytes_read = 0

    def add(self, batch: PixelBatch) -> None:
        """Encode a batch by all encoders. Bad tiles go along: batches are always the same."""
        rows = slice(batch.start, batch.start + len(batch.pixels))
        for name in self.features:
            self._put(name, rows, batch.pixels, batch.status)
        self.tiles_decoded += batch.tiles_decoded
        self.bytes_read += batch.bytes_read

    def add_unread(self, batch_size: int) -> None:
        """Encode all tiles by encoders that don't look at pixels."""
        for start in range(0, self._tiles, batch_size):
            rows = slice(start, min(start + batch_size, self._tiles))
            count = rows.stop - rows.start
            blank = np.zeros((count, 3, 1, 1), np.uint8)
            for name in self.features:
                self._put(name, rows, blank, np.zeros(count, np.uint8))

    def _put(
        self, name: str, rows: slice, pixels: NDArray[np.uint8], status: NDArray[np.uint8]
    ) -> None:
        features = self._seat.encode(name, pixels)
        codes = status.copy()
        broken = ~np.isfinite(features).all(axis=1)
        codes[broken & (codes == TileStatus.OK)] = TileStatus.NOT_FINITE
        self.features[name][rows] = features
        self.status[name][rows] = codes

    @property
    def failed_tiles(self) -> int:
        """Tiles without features by one of the encoders."""
        worst = np.zeros(self._tiles, np.uint8)
        for codes in self.status.values():
            worst |= codes
        return int(np.count_nonzero(worst))
