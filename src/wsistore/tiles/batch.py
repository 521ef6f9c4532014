"""Batches of patches from many slides: `read_tiles`, `read_tile` and `read_context`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError, WsistoreError
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.slides.resolving import ResolutionLike, as_resolution
from wsistore.tiles.emitting import emit
from wsistore.tiles.engine import (
    Fetched,
    Ledger,
    Policy,
    TileStore,
    Unit,
    Work,
    lost_request,
    plan_window,
    run_unit,
    split_units,
)
from wsistore.tiles.fetching import FetchQueue
from wsistore.tiles.handles import SlideCache, default_cache
from wsistore.tiles.model import (
    BatchReport,
    Layout,
    NormalRequest,
    Request,
    SlideLike,
    as_size,
    normalize,
)
from wsistore.tiles.remote_plan import any_remote
from wsistore.tiles.views import View

Pixels = NDArray[np.uint8]

CANVAS_BYTES = 32 << 20
"""Most bytes of canvas held at a time where patches are area-averaged or transposed."""


def default_threads() -> int:
    """Return the number of threads used where none is said: the CPUs of this process."""
    return max(1, min(16, len(os.sched_getaffinity(0))))


class BatchReader:
    """Reads batches with one set of options; the engine behind `read_tiles`.

    Safe in threads; options are as in `read_tiles`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        *,
        layout: Layout = "nhwc",
        threads: int | None = None,
        on_bad_tile: str = "fill-missing",
        fill: int = 255,
        integrity: str = "strict",
        exact: bool = False,
        allow_upsample: bool = False,
        cache: SlideCache | None = None,
    ) -> None:
        _one_of("layout", layout, ("nhwc", "nchw"))
        _one_of("on_bad_tile", on_bad_tile, ("fill-missing", "raise", "fill"))
        _one_of("integrity", integrity, ("strict", "fast"))
        if not 0 <= fill <= 255:
            raise UsageError(f"fill is a grey level from 0 to 255, got {fill!r}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads!r}")
        self.size = as_size(size)
        self.layout = layout
        self.threads = default_threads() if threads is None else threads
        self.policy = Policy(on_bad_tile, fill, "fast" if integrity == "fast" else "strict")
        self.exact = exact
        self.allow_upsample = allow_upsample
        self.cache = default_cache() if cache is None else cache

    def shape(self, count: int) -> tuple[int, int, int, int]:
        """Return the shape of a batch of this many patches."""
        width, height = self.size
        return (count, height, width, 3) if self.layout == "nhwc" else (count, 3, height, width)

    def view(self, slide: SlideLike, resolution: Resolution) -> View:
        """Return the (kept) view of a slide at a resolution."""
        return self.cache.view(
            slide, resolution, exact=self.exact, allow_upsample=self.allow_upsample
        )

    def read(
        self,
        requests: Sequence[NormalRequest],
        out: Pixels | None = None,
        store: TileStore | None = None,
        fetched: Fetched | None = None,
    ) -> tuple[Pixels, BatchReport]:
        """Read a batch; see `read_tiles`. `fetched` is what `fetching` has begun for it."""
        if fetched is None and any_remote(requests):
            with FetchQueue().begin_now(self, requests) as begun:
                return self.read(requests, out, store, begun)
        out = self._output(len(requests), out)
        ledger = Ledger(len(requests))
        valid = np.zeros(len(requests), np.float32)
        direct: list[tuple[int, View]] = []
        indirect: list[tuple[int, View]] = []
        # A slide that occurs several times is looked up once; requests share resolutions.
        seen: dict[tuple[Slide | str, int], View] = {}
        for index, request in enumerate(requests):
            try:
                slide = request.slide
                named = slide if isinstance(slide, Slide) else os.fspath(slide)
                key = (named, id(request.resolution))
                view = seen.get(key)
                if view is None:
                    view = seen[key] = self._view_of(request, fetched)
            except WsistoreError as error:
                if isinstance(error, UsageError) or not self.policy.forgives(error):
                    raise
                out[index] = self.policy.fill
                ledger.faults.append(lost_request(index, request, error))
                continue
            straight = view.is_direct and self.layout == "nhwc"
            (direct if straight else indirect).append((index, view))
        if direct:
            self._read_direct(requests, direct, out, valid, ledger, store, fetched)
        for group in self._portions(indirect):
            self._read_canvases(requests, group, out, valid, ledger, store, fetched)
        report = ledger.report(valid)
        if fetched is not None:
            report.requests, report.bytes_fetched = fetched.cost()
        return out, report

    def _view_of(self, request: NormalRequest, fetched: Fetched | None) -> View:
        if fetched is None:
            return self.view(request.slide, request.resolution)
        return fetched.view(request)

    def _output(self, count: int, out: Pixels | None) -> Pixels:
        shape = self.shape(count)
        if out is None:
            return np.empty(shape, np.uint8)
        if out.shape != shape or out.dtype != np.uint8:
            raise UsageError(
                f"out has shape {out.shape} and dtype {out.dtype}, expected {shape} uint8"
            )
        return out

    def _read_direct(
        self,
        requests: Sequence[NormalRequest],
        chosen: Sequence[tuple[int, View]],
        out: Pixels,
        valid: NDArray[np.float32],
        ledger: Ledger,
        store: TileStore | None,
        fetched: Fetched | None,
    ) -> None:
        """Read patches whose pixels are a level's (or decoder's) own, into the output."""
        works: dict[int, Work] = {}
        area = self.size.width * self.size.height
        for index, view in chosen:
            request = requests[index]
            x, y = int(view.origin(request.x)), int(view.origin(request.y))
            work = works.get(id(view))
            if work is None:
                work = works[id(view)] = Work(view)
            inside = plan_window(work, index, x, y, self.size)
            if inside < area:
                out[index] = self.policy.fill
            valid[index] = inside / area
        self._run(list(works.values()), out, ledger, store, fetched)
        for index, _ in chosen:
            valid[index] -= ledger.lost_px[index] / area

    def _read_canvases(
        self,
        requests: Sequence[NormalRequest],
        chosen: Sequence[tuple[int, View]],
        out: Pixels,
        valid: NDArray[np.float32],
        ledger: Ledger,
        store: TileStore | None,
        fetched: Fetched | None,
    ) -> None:
        """Read windows into canvases, then average or transpose them into the output."""
        window = self.window(chosen[0][1])
        canvases = np.empty((len(chosen), window.height, window.width, 3), np.uint8)
        local = Ledger(len(chosen))
        works: dict[int, Work] = {}
        places = []
        area = window.width * window.height
        for slot, (index, view) in enumerate(chosen):
            x, y = view.origin(requests[index].x), view.origin(requests[index].y)
            left, top = int(np.floor(x)), int(np.floor(y))
            places.append((x - left, y - top))
            work = works.setdefault(id(view), Work(view))
            inside = plan_window(work, slot, left, top, window)
            if inside < area:
                canvases[slot] = self.policy.fill
            valid[index] = _share_inside(requests[index], view, self.size)
        self._run(list(works.values()), canvases, local, store, fetched)
        shrink = chosen[0][1].shrink
        targets = [out[index] for index, _ in chosen]
        jobs = [
            (canvases[slot], targets[slot], places[slot], shrink, self.layout)
            for slot in range(len(chosen))
        ]
        self._map(lambda job: emit(*job), jobs)
        self._merge(ledger, local, chosen)
        for slot, (index, _) in enumerate(chosen):
            valid[index] -= local.lost_px[slot] / area

    @staticmethod
    def _merge(ledger: Ledger, local: Ledger, chosen: Sequence[tuple[int, View]]) -> None:
        ledger.count(local.tiles_decoded, local.bytes_read)
        for fault in local.faults:
            index = chosen[fault.request][0]
            ledger.faults.append(type(fault)(index, *_rest(fault)))

    def window(self, view: View) -> Size:
        """Return the size of the canvas window that is read for a patch."""
        window = view.window(self.size)
        # An exact window starts between two canvas px and may touch one px more.
        spare = 1 if view.exact and not view.is_direct else 0
        return Size(window.width + spare, window.height + spare)

    def _portions(self, chosen: list[tuple[int, View]]) -> list[list[tuple[int, View]]]:
        """Cut the requests into groups of one window size and bounded canvas memory."""
        groups: dict[tuple[Size, float], list[tuple[int, View]]] = {}
        for item in chosen:
            groups.setdefault((self.window(item[1]), item[1].shrink), []).append(item)
        portions = []
        for (window, _), items in groups.items():
            most = max(1, CANVAS_BYTES // (window.width * window.height * 3))
            portions += [items[i : i + most] for i in range(0, len(items), most)]
        return portions

    def _run(
        self,
        works: list[Work],
        canvases: Pixels,
        ledger: Ledger,
        store: TileStore | None,
        fetched: Fetched | None,
    ) -> None:
        if fetched is None:
            units = split_units(works, self.threads)
            self._map(lambda unit: run_unit(unit, canvases, self.policy, ledger, store), units)
            return

        def run(unit: Unit) -> None:
            try:
                run_unit(unit, canvases, self.policy, ledger, store, fetched)
            finally:
                fetched.done(unit)

        self._map(run, fetched.units(works))

    def _map(self, function: Callable[[Any], None], items: Iterable[Any]) -> None:
        if self.threads == 1 or (isinstance(items, Sequence) and len(items) < 2):
            for item in items:
                function(item)
            return
        pool = _pool(self.threads)
        futures = []
        try:
            for item in items:  # may wait for what comes in
                futures.append(pool.submit(function, item))  # noqa: PERF401 (some, on an error)
            for future in futures:
                future.result()
        finally:
            # After an error nothing may go on writing into the caller's array.
            for future in futures:
                future.cancel()
            for future in futures:
                if not future.cancelled():
                    future.exception()


def _share_inside(request: NormalRequest, view: View, size: Size) -> float:
    """Return the share of a patch's area that lies on the slide."""
    share = 1.0
    slide = view.slide.size
    for start, length, end in (
        (request.x, size.width, slide.width),
        (request.y, size.height, slide.height),
    ):
        length0 = length * view.shrink * view.unit
        inside = min(start + length0, end) - max(start, 0)
        share *= min(1.0, max(0.0, inside) / length0)
    return share


def _rest(fault: Any) -> tuple[Any, ...]:
    return fault.slide, fault.level, fault.column, fault.row, fault.code, fault.reason


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the process's pool with this many threads."""
    with _pools_lock:
        pool = _pools.get(threads)
        if pool is None:
            pool = ThreadPoolExecutor(threads, thread_name_prefix="wsistore-tiles")
            _pools[threads] = pool
        return pool


def _forget_after_fork() -> None:
    global _pools_lock  # noqa: PLW0603 (threads don't survive a fork, so neither do pools)
    _pools_lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


@overload
def read_tiles(
    requests: Iterable[Request],
    size: int | Sequence[int],
    resolution: ResolutionLike | None = ...,
    *,
    layout: Layout = ...,
    out: Pixels | None = ...,
    threads: int | None = ...,
    on_bad_tile: str = ...,
    fill: int = ...,
    integrity: str = ...,
    exact: bool = ...,
    allow_upsample: bool = ...,
    cache: SlideCache | None = ...,
    return_report: Literal[False] = ...,
) -> Pixels: ...


@overload
def read_tiles(
    requests: Iterable[Request],
    size: int | Sequence[int],
    resolution: ResolutionLike | None = ...,
    *,
    layout: Layout = ...,
    out: Pixels | None = ...,
    threads: int | None = ...,
    on_bad_tile: str = ...,
    fill: int = ...,
    integrity: str = ...,
    exact: bool = ...,
    allow_upsample: bool = ...,
    cache: SlideCache | None = ...,
    return_report: Literal[True],
) -> tuple[Pixels, BatchReport]: ...


def read_tiles(
    requests: Iterable[Request],
    size: int | Sequence[int],
    resolution: ResolutionLike | None = None,
    *,
    layout: Layout = "nhwc",
    out: Pixels | None = None,
    threads: int | None = None,
    on_bad_tile: str = "fill-missing",
    fill: int = 255,
    integrity: str = "strict",
    exact: bool = False,
    allow_upsample: bool = False,
    cache: SlideCache | None = None,
    return_report: bool = False,
) -> Pixels | tuple[Pixels, BatchReport]:
    """Read a batch of patches, from as many slides as it likes, in one call.

    Every encoded tile that the batch touches is fetched and decoded once, however many
    patches share it. Patches that reach over a slide's edge are padded with `fill`.

    Parameters
    ----------
    requests : iterable of (slide, x, y) or (slide, x, y, resolution)
        `slide` is a `Slide` or a path or URL; `x`, `y` the top-left corner in level-0 px,
        which may lie outside; a resolution of its own wins over `resolution`.
    size : int or (width, height)
        Size of every patch in px at its resolution.
    resolution : Resolution, str or int, optional
        How finely: ``Resolution.mpp(0.5)``, ``"20x"``, or a level index.
    layout : {"nhwc", "nchw"}
        Order of the axes of the result.
    out : ndarray, optional
        Array of the result's shape, uint8, that is written and returned.
    threads : int, optional
        Decoding threads; the CPUs of this process where not said.
    on_bad_tile : {"fill-missing", "raise", "fill"}
        ``"fill-missing"``: tiles for which the file holds no bytes are painted and
        reported, damaged ones raise. ``"raise"``: both raise. ``"fill"``: both are painted
        and reported, and so are slides that can't be opened. A server that fails, and a
        slide that changed, raise all the same.
    fill : int
        Grey level of padding and painted tiles.
    integrity : {"strict", "fast"}
        ``"strict"`` reads each JPEG stream to its end, so that all damage it can show is
        seen. ``"fast"`` stops after the last row that is needed. Tiles of stores that
        wsistore converted carry a checksum, which is always checked and makes the stop
        safe.
    exact : bool
        Decode whole pixels and area-average them. Otherwise JPEG tiles are decoded at 1/2,
        1/4 or 1/8 where that serves: about 1.5 times as fast, about 1 grey level apart on
        average at 1/2, and with the patch's corner moved to the nearest px of the scaled
        tile (half a px of the patch at most).
    allow_upsample : bool
        Allow resolutions finer than level 0, by bilinear enlarging.
    cache : SlideCache, optional
        Opened slides to use; the process's own where not said.
    return_report : bool
        Return also a `BatchReport`.

    Returns
    -------
    pixels : (n, h, w, 3) or (n, 3, h, w) uint8
        RGB.
    report : BatchReport
        Only with ``return_report=True``: valid fractions, faults, cost.

    Raises
    ------
    wsistore.errors.UsageError, wsistore.errors.ResolutionError
        If the call can't be carried out on any file.
    wsistore.errors.WsistoreError
        For slides and tiles that can't be read, where `on_bad_tile` doesn't forgive them.
    """
    default = None if resolution is None else as_resolution(resolution)
    reader = BatchReader(
        size,
        layout=layout,
        threads=threads,
        on_bad_tile=on_bad_tile,
        fill=fill,
        integrity=integrity,
        exact=exact,
        allow_upsample=allow_upsample,
        cache=cache,
    )
    pixels, report = reader.read(normalize(requests, default), out)
    return (pixels, report) if return_report else pixels


def read_tile(
    slide: SlideLike,
    x: int,
    y: int,
    size: int | Sequence[int],
    resolution: ResolutionLike,
    *,
    layout: Literal["hwc", "chw"] = "hwc",
    **options: Any,
) -> Pixels:
    """Read one patch.

    Parameters
    ----------
    slide : Slide, str or PathLike
        What to read from.
    x, y : int
        Top-left corner in level-0 px.
    size : int or (width, height)
        Size of the patch in px at the resolution; what is returned has exactly this size.
    resolution : Resolution, str or int
        How finely, as in `read_tiles`.
    layout : {"hwc", "chw"}
        Order of the axes of the result.
    **options
        As in `read_tiles`.

    Returns
    -------
    (h, w, 3) or (3, h, w) uint8

    Raises
    ------
    wsistore.errors.WsistoreError
        As in `read_tiles`.
    """
    _one_of("layout", layout, ("hwc", "chw"))
    full: Layout = "nhwc" if layout == "hwc" else "nchw"
    batch: Pixels = read_tiles([(slide, x, y)], size, resolution, layout=full, **options)
    patch: Pixels = batch[0]
    return patch


def read_context(
    requests: Iterable[tuple[SlideLike, int, int]],
    size: int | Sequence[int],
    resolutions: Sequence[ResolutionLike],
    **options: Any,
) -> Pixels:
    """Read patches of several resolutions around the same centres, in one batch.

    Parameters
    ----------
    requests : iterable of (slide, x, y)
        `x`, `y` are the centre in level-0 px.
    size : int or (width, height)
        Size of every patch in px at its resolution.
    resolutions : sequence of Resolution, str or int
        From one to many; each gives one patch per centre.
    **options
        As in `read_tiles`, but for `out` and `return_report`.

    Returns
    -------
    (n, k, h, w, 3) or (n, k, 3, h, w) uint8
        k patches per centre, in the order of `resolutions`.

    Raises
    ------
    wsistore.errors.WsistoreError
        As in `read_tiles`.
    """
    wanted = [as_resolution(resolution) for resolution in resolutions]
    if not wanted:
        raise UsageError("no resolution is named", hint="Pass at least one.")
    cache = options.pop("cache", None) or default_cache()
    width, height = as_size(size)
    full: list[Request] = []
    count = 0
    for slide, x, y in requests:
        opened = cache.get(slide)
        count += 1
        for resolution in wanted:
            zoom = opened.resolve(
                resolution, allow_upsample=options.get("allow_upsample", False)
            ).downsample
            left, top = x - round(width * zoom / 2), y - round(height * zoom / 2)
            full.append((opened, left, top, resolution))
    batch: Pixels = read_tiles(full, size, cache=cache, **options)
    shaped: Pixels = batch.reshape(count, len(wanted), *batch.shape[1:])
    return shaped
