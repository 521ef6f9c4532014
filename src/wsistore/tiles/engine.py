"""The batch engine: requests -> unique encoded tiles -> few fetches -> pixels in place.

Four steps, each the cheapest that is right:

1. every request becomes a window of a canvas (`wsistore.tiles.views`), and every window a
   set of *uses* of encoded tiles; uses of one tile, by whatever requests, come together;
2. the tiles of a unit of work are located and fetched in few large reads;
3. each tile is decoded once, no more of it than is used, at the coarsest scale that serves;
4. the pixels go straight into the output, or into a canvas that is then area-averaged.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import RegionJob, check_crc32c, decode, decode_regions
from wsistore.codecs.model import Integrity
from wsistore.errors import (
    MissingTileError,
    SourceAccessError,
    SourceChangedError,
    SourceUnavailableError,
    TileError,
    WsistoreError,
)
from wsistore.geometry import Box, Size
from wsistore.slides import TileTable
from wsistore.tiles.model import BatchReport, NormalRequest, TileFault
from wsistore.tiles.views import View

UNIT_TILES = 32
"""Most encoded tiles in a unit of work: enough to coalesce reads and to hide the cost of
handing work to a thread, few enough to keep threads evenly busy and memory small."""

Pixels = NDArray[np.uint8]
Cell = tuple[int, int]
"""(row, column) of an encoded tile in the grid of its level."""


class Use(NamedTuple):
    """A part of one encoded tile that goes to one request.

    Parameters
    ----------
    request : int
        Index of the request in the batch.
    x, y : int
        Where the part goes, in px of the request's canvas window.
    part : Box
        The part, in canvas px of the tile.
    """

    request: int
    x: int
    y: int
    part: Box


@dataclass(slots=True)
class Work:
    """Everything that a batch wants from one view."""

    view: View
    uses: dict[Cell, list[Use]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unit:
    """Encoded tiles of one view that are fetched and decoded together."""

    work: Work
    cells: tuple[Cell, ...]


class Fetched(Protocol):
    """Encoded tiles of a batch on their way from object storage; see `tiles.fetching`."""

    def view(self, request: NormalRequest) -> View:
        """Return the view of a request, or raise what kept its slide from being opened."""
        ...

    def units(self, works: Sequence[Work]) -> Iterator[Unit]:
        """Yield the work in units as their tiles come in."""
        ...

    def blocks(self, view: View, cells: Sequence[Cell]) -> list[memoryview]:
        """Return the bytes of encoded tiles, empty where one is missing; each once."""
        ...

    def done(self, unit: Unit) -> None:
        """Let go of the bytes of a unit."""
        ...

    def cost(self) -> tuple[int, int]:
        """Return the number of requests for encoded tiles, and their bytes."""
        ...


class Ledger:
    """Counts and faults of a batch, gathered from many threads."""

    def __init__(self, requests: int) -> None:
        self.lost_px = [0] * requests
        self.faults: list[TileFault] = []
        self.tiles_decoded = 0
        self.bytes_read = 0
        self._lock = threading.Lock()

    def count(self, tiles: int, size: int) -> None:
        """Add what a unit of work cost."""
        with self._lock:
            self.tiles_decoded += tiles
            self.bytes_read += size

    def lose(self, uses: Sequence[Use], view: View, cell: Cell, error: WsistoreError) -> None:
        """Note that these uses were painted with the fill colour, and why."""
        reason = "missing" if isinstance(error, MissingTileError) else error.message
        with self._lock:
            for use in uses:
                self.lost_px[use.request] += use.part.width * use.part.height
                self.faults.append(
                    TileFault(
                        use.request,
                        view.slide.name,
                        view.level,
                        cell[1],
                        cell[0],
                        error.code,
                        reason,
                    )
                )

    def report(self, valid_fraction: NDArray[np.float32]) -> BatchReport:
        """Return the public form, faults in the order of requests."""
        self.faults.sort(key=lambda f: (f.request, f.level, f.row, f.column))
        return BatchReport(valid_fraction, self.faults, self.tiles_decoded, self.bytes_read)


class TileStore:
    """Decoded tiles kept for later uses of an ordered walk, within a budget of bytes.

    A tile is kept only while uses of it are still to come, as the walk's plan says; when the
    budget is full, further tiles are not kept and will be decoded again. Serves one view.
    Safe in threads.

    Parameters
    ----------
    budget_bytes : int
        Most bytes of pixels held.
    future : (rows, columns) int32
        Uses to come of each encoded tile.
    """

    def __init__(self, budget_bytes: int, future: NDArray[np.int32]) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._future = future
        self._kept: dict[Cell, Pixels] = {}
        self._lock = threading.Lock()

    def take(self, cell: Cell, uses: int) -> tuple[Pixels | None, bool]:
        """Return the tile if it is kept, and whether uses are left after these."""
        with self._lock:
            left = int(self._future[cell]) - uses
            self._future[cell] = left
            pixels = self._kept.get(cell)
            if pixels is not None and left <= 0:
                del self._kept[cell]
                self.held_bytes -= pixels.nbytes
            return pixels, left > 0

    def keep(self, cell: Cell, pixels: Pixels) -> None:
        """Keep a tile if the budget allows."""
        with self._lock:
            if cell not in self._kept and self.held_bytes + pixels.nbytes <= self.budget_bytes:
                self._kept[cell] = pixels
                self.held_bytes += pixels.nbytes

    def has_room(self, size: int) -> bool:
        """Whether a tile of this many bytes could be kept now."""
        return self.held_bytes + size <= self.budget_bytes


def plan_window(work: Work, request: int, x: int, y: int, window: Size) -> int:
    """Add the uses of one window to the work of its view.

    Parameters
    ----------
    work : Work
        Where the uses go.
    request : int
        Index of the request in the batch.
    x, y : int
        Top-left corner of the window in canvas px.
    window : Size
        Its size in canvas px.

    Returns
    -------
    int
        Pixels of the window that lie on the canvas.
    """
    view = work.view
    table = view.table
    width, height = view.canvas_size
    left, right = max(x, 0), min(x + window.width, width)
    top, bottom = max(y, 0), min(y + window.height, height)
    if left >= right or top >= bottom:
        return 0
    if table is None:
        part = Box(left, top, right - left, bottom - top)
        work.uses.setdefault((-1, request), []).append(Use(request, left - x, top - y, part))
        return part.width * part.height
    tile_w = table.block_format.width // view.scale
    tile_h = table.block_format.height // view.scale
    uses = work.uses
    for row in range(top // tile_h, (bottom - 1) // tile_h + 1):
        tile_y = row * tile_h
        y0, y1 = max(top, tile_y), min(bottom, tile_y + tile_h)
        for column in range(left // tile_w, (right - 1) // tile_w + 1):
            tile_x = column * tile_w
            x0, x1 = max(left, tile_x), min(right, tile_x + tile_w)
            use = Use(request, x0 - x, y0 - y, Box(x0 - tile_x, y0 - tile_y, x1 - x0, y1 - y0))
            known = uses.get((row, column))
            if known is None:
                uses[row, column] = [use]
            else:
                known.append(use)
    return (right - left) * (bottom - top)


def split_units(works: Sequence[Work], threads: int) -> list[Unit]:
    """Return the work cut into units, tiles in the order of their rows.

    With one thread a unit may be large (one read for many tiles); with more, units are
    small enough to keep all of them busy.
    """
    total = sum(len(work.uses) for work in works)
    most = UNIT_TILES if threads == 1 else max(1, min(UNIT_TILES, -(-total // (4 * threads))))
    units = []
    for work in works:
        cells = sorted(work.uses)
        units += [
            Unit(work, tuple(cells[start : start + most])) for start in range(0, len(cells), most)
        ]
    return units


@dataclass(frozen=True, slots=True)
class Policy:
    """How a batch treats tiles without pixels.

    Parameters
    ----------
    on_bad_tile : {"fill-missing", "raise", "fill"}
        As in `wsistore.open_slide`.
    fill : int
        Grey level that is painted, 0-255.
    integrity : {"strict", "fast"}
        As in `wsistore.codecs.decode`; tiles with a checksum are vouched for by it and
        decoded with ``"fast"`` whatever this says.
    """

    on_bad_tile: str
    fill: int
    integrity: Integrity

    def forgives(self, error: WsistoreError) -> bool:
        """Whether the error is painted over and reported instead of raised."""
        if isinstance(error, MissingTileError):
            return self.on_bad_tile != "raise"
        # An outage is no property of the slide: what is painted then would stay wrong.
        # So with keys that expire midway.
        outage = isinstance(error, SourceUnavailableError | SourceChangedError | SourceAccessError)
        return self.on_bad_tile == "fill" and not outage


def run_unit(
    unit: Unit,
    canvases: Pixels,
    policy: Policy,
    ledger: Ledger,
    store: TileStore | None = None,
    fetched: Fetched | None = None,
) -> None:
    """Fetch and decode the tiles of a unit and put their pixels in place.

    Parameters
    ----------
    unit : Unit
        What to do.
    canvases : (n, h, w, 3) uint8
        The canvas window of each request of the batch.
    policy : Policy
        What to do with tiles without pixels.
    ledger : Ledger
        Gathers counts and faults.
    store : TileStore, optional
        Decoded tiles of a walk.
    fetched : Fetched, optional
        Where the bytes come from, if not straight from the tile table's files.

    Raises
    ------
    wsistore.errors.WsistoreError
        For what the policy doesn't forgive.
    """
    view = unit.work.view
    table = view.table
    if table is None:
        _read_container(unit, canvases, policy, ledger)
        return
    cells = [c for c in unit.cells if store is None or not _from_store(unit, c, canvases, store)]
    if not cells:
        return
    blocks = _fetch(table, cells, unit, policy, ledger, canvases, fetched)
    size = sum(len(block) for _, block in blocks)
    sound: list[tuple[Cell, memoryview]] = []
    for cell, block in blocks:
        try:
            sound.append((cell, _payload(table, block)))
        except TileError as error:
            _forgive(error, unit.work.uses[cell], view, cell, canvases, policy, ledger)
    # What a checksum vouches for need not be read to its end.
    integrity = "fast" if table.checksum == "crc32c" else policy.integrity
    single = store is None and canvases.flags.c_contiguous
    rest = _place_together(unit, table, sound, canvases, integrity) if single else sound
    decoded = len(sound) - len(rest)
    for cell, block in rest:
        uses = unit.work.uses[cell]
        try:
            _place(view, table, cell, block, uses, canvases, integrity, store)
            decoded += 1
        except TileError as error:
            _forgive(error, uses, view, cell, canvases, policy, ledger)
    ledger.count(decoded, size)


def _fetch(
    table: TileTable,
    cells: Sequence[Cell],
    unit: Unit,
    policy: Policy,
    ledger: Ledger,
    canvases: Pixels,
    fetched: Fetched | None = None,
) -> list[tuple[Cell, memoryview]]:
    """Return the encoded tiles; one that can't be had is treated as damaged."""
    try:
        blocks = (
            fetch_blocks(table, cells) if fetched is None else fetched.blocks(unit.work.view, cells)
        )
        return list(zip(cells, blocks, strict=True))
    except WsistoreError as error:
        if not policy.forgives(error):
            raise
        if len(cells) > 1:  # one by one, so that the good ones are not lost with the bad one
            single = (
                _fetch(table, [cell], unit, policy, ledger, canvases, fetched) for cell in cells
            )
            return [got for found in single for got in found]
        (cell,) = cells
        _forgive(error, unit.work.uses[cell], unit.work.view, cell, canvases, policy, ledger)
        return []


def fetch_blocks(table: TileTable, cells: Sequence[Cell]) -> list[memoryview]:
    """Return the bytes of these encoded tiles in few reads; empty where one is missing.

    Raises
    ------
    wsistore.errors.WsistoreError
        If the table or a file can't be read.
    """
    grid = np.array(cells, dtype=np.int64)
    refs = table.locate(grid[:, 1], grid[:, 0])
    offsets, counts = refs.offsets.tolist(), refs.counts.tolist()
    parts = refs.parts.tolist()
    first = parts[0]
    if all(part == first for part in parts):
        return _read_part(table, first, offsets, counts)
    blocks: list[memoryview] = [memoryview(b"")] * len(cells)
    for part in sorted(set(parts)):
        wanted = [i for i, p in enumerate(parts) if p == part]
        got = _read_part(table, part, [offsets[i] for i in wanted], [counts[i] for i in wanted])
        for i, block in zip(wanted, got, strict=True):
            blocks[i] = block
    return blocks


def _read_part(
    table: TileTable, part: int, offsets: list[int], counts: list[int]
) -> list[memoryview]:
    if not any(counts):
        return [memoryview(b"")] * len(counts)  # a missing shard has no file to read
    return table.source(part).read_many(offsets, counts)


def _payload(table: TileTable, block: memoryview) -> memoryview:
    """Return the encoded tile itself, its checksum checked where it has one."""
    if len(block) == 0:
        raise MissingTileError("the file holds no bytes for this tile")
    return check_crc32c(block, "the encoded tile") if table.checksum == "crc32c" else block


def _place_together(
    unit: Unit,
    table: TileTable,
    blocks: list[tuple[Cell, memoryview]],
    canvases: Pixels,
    integrity: Integrity,
) -> list[tuple[Cell, memoryview]]:
    """Decode the tiles that have one use each in one call; return the others, and the bad ones."""
    rest: list[tuple[Cell, memoryview]] = []
    chosen: list[tuple[Cell, memoryview]] = []
    jobs: list[RegionJob] = []
    uses_of = unit.work.uses
    _, rows, columns, _ = canvases.shape
    for item in blocks:
        cell, block = item
        uses = uses_of[cell]
        if len(uses) > 1:
            rest.append(item)
            continue
        request, x, y, part = uses[0]
        chosen.append(item)
        jobs.append(RegionJob(block, part, 3 * ((request * rows + y) * columns + x)))
    scale = unit.work.view.scale
    left = decode_regions(jobs, table.block_format, canvases, 3 * columns, scale, integrity)
    return rest + [chosen[index] for index in left]


def _place(
    view: View,
    table: TileTable,
    cell: Cell,
    block: memoryview,
    uses: Sequence[Use],
    canvases: Pixels,
    integrity: Integrity,
    store: TileStore | None,
) -> None:
    """Decode a tile once and give each use its part."""
    if store is not None and _keep(view, table, cell, block, uses, canvases, integrity, store):
        return
    if len(uses) == 1:
        use = uses[0]
        target = canvases[
            use.request, use.y : use.y + use.part.height, use.x : use.x + use.part.width
        ]
        _decode(block, view, table, use.part, target, integrity)
        return
    left = min(use.part.x for use in uses)
    top = min(use.part.y for use in uses)
    right = max(use.part.right for use in uses)
    bottom = max(use.part.bottom for use in uses)
    hull = Box(left, top, right - left, bottom - top)
    pixels = _scratch(hull.width, hull.height)
    _decode(block, view, table, hull, pixels, integrity)
    _scatter(pixels, hull, uses, canvases)


def _decode(
    block: memoryview, view: View, table: TileTable, part: Box, out: Pixels, integrity: Integrity
) -> None:
    scale = view.scale
    region = Box(part.x * scale, part.y * scale, part.width * scale, part.height * scale)
    decode(
        block,
        table.block_format,
        out=out,
        region=region,
        scale=scale,
        integrity=integrity,
    )


def _scatter(pixels: Pixels, origin: Box, uses: Sequence[Use], canvases: Pixels) -> None:
    """Copy the parts of a decoded piece of a tile to where they are used."""
    for use in uses:
        x, y = use.part.x - origin.x, use.part.y - origin.y
        canvases[use.request, use.y : use.y + use.part.height, use.x : use.x + use.part.width] = (
            pixels[y : y + use.part.height, x : x + use.part.width]
        )


def _from_store(unit: Unit, cell: Cell, canvases: Pixels, store: TileStore) -> bool:
    """Serve a tile from the walk's store; say whether that was possible."""
    uses = unit.work.uses[cell]
    pixels, _ = store.take(cell, len(uses))
    if pixels is None:
        return False
    _scatter(pixels, Box(0, 0, 0, 0), uses, canvases)
    return True


def _keep(
    view: View,
    table: TileTable,
    cell: Cell,
    block: memoryview,
    uses: Sequence[Use],
    canvases: Pixels,
    integrity: Integrity,
    store: TileStore,
) -> bool:
    """Decode a tile whole and keep it, where uses of it are still to come."""
    whole = Box(
        0, 0, table.block_format.width // view.scale, table.block_format.height // view.scale
    )
    if not store.take(cell, 0)[1] or not store.has_room(whole.width * whole.height * 3):
        return False
    pixels = np.empty((whole.height, whole.width, 3), np.uint8)
    _decode(block, view, table, whole, pixels, integrity)
    _scatter(pixels, whole, uses, canvases)
    store.keep(cell, pixels)
    return True


def _forgive(
    error: WsistoreError,
    uses: Sequence[Use],
    view: View,
    cell: Cell,
    canvases: Pixels,
    policy: Policy,
    ledger: Ledger,
) -> None:
    """Paint the uses of a tile without pixels, or raise with the tile's name."""
    if not policy.forgives(error):
        where = f"{view.slide.name}: level {view.level}, tile column {cell[1]}, row {cell[0]}: "
        raise type(error)(
            where + error.message,
            hint=error.hint or "Pass on_bad_tile='fill' to paint it and have it reported.",
        ) from error
    for use in uses:
        canvases[use.request, use.y : use.y + use.part.height, use.x : use.x + use.part.width] = (
            policy.fill
        )
    ledger.lose(uses, view, cell, error)


def _read_container(unit: Unit, canvases: Pixels, policy: Policy, ledger: Ledger) -> None:
    """Read windows of a level without a tile table through its container."""
    view = unit.work.view
    for cell in unit.cells:
        (use,) = unit.work.uses[cell]
        try:
            pixels = view.slide.read_level(
                view.level, use.part, on_bad_tile=policy.on_bad_tile, threads=1
            )
        except WsistoreError as error:
            _forgive(error, (use,), view, (-1, -1), canvases, policy, ledger)
            continue
        canvases[use.request, use.y : use.y + use.part.height, use.x : use.x + use.part.width] = (
            pixels
        )
        ledger.count(0, 0)


_thread = threading.local()


def _scratch(width: int, height: int) -> Pixels:
    """Return a buffer of this thread, grown as needed and used again for each tile."""
    need = width * height * 3
    flat: Pixels | None = getattr(_thread, "flat", None)
    if flat is None or flat.size < need:
        flat = np.empty(max(need, 256 * 256 * 3), np.uint8)
        _thread.flat = flat
    return flat[:need].reshape(height, width, 3)


def lost_request(index: int, request: NormalRequest, error: WsistoreError) -> TileFault:
    """Return the fault of a request whose slide could not be read at all."""
    name = getattr(request.slide, "name", None) or str(request.slide)
    return TileFault(index, name, -1, -1, -1, error.code, error.message)
