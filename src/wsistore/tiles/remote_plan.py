"""What a batch needs from object storage: views, encoded tiles, requests.

A *group* is the unit of fetching and of decoding: encoded tiles of one object that lie near
each other, and the requests that bring them. Requests join tiles that lie at most
`FetchLimits.gap` bytes apart.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import WsistoreError
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.slides.model import TileRefs
from wsistore.sources import Source, is_url
from wsistore.sources.ranges import Limits, Request, plan
from wsistore.tiles.engine import Cell
from wsistore.tiles.model import NormalRequest, SlideLike
from wsistore.tiles.views import View

GROUP_TILES = 16
"""Most encoded tiles of a group: enough that handing it to a thread costs little, few enough
that decoding starts early."""


FETCH_BYTES = 256 << 20
"""Most bytes in flight or waiting to be decoded, where not said otherwise."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How object storage is asked for the encoded tiles of batches.

    Parameters
    ----------
    gap : int
        Bytes between two tiles that are fetched along rather than asked around.
    request : int
        Bytes of one request, and of a group, at most, but for a single tile that is larger.
    budget : int
        Bytes in flight or waiting to be decoded at most, over all batches of a loader; a
        single tile is let through where it alone is larger.
    """

    gap: int = 64 << 10
    request: int = 8 << 20
    budget: int = FETCH_BYTES


class Reader(Protocol):
    """What planning needs of a `BatchReader`."""

    def view(self, slide: SlideLike, resolution: Resolution) -> View:
        """Return the (kept) view of a slide at a resolution."""
        ...

    def window(self, view: View) -> Size:
        """Return the size of the canvas window that is read for a patch."""
        ...


Submit = Callable[..., Future[Any]]


@dataclass(slots=True)
class Group:
    """Encoded tiles of one object that are fetched and decoded together.

    Parameters
    ----------
    view : View
        Whose tiles.
    source : Source
        The object.
    requests : list of (Request, cells)
        Contiguous ranges, and the tiles that are cut from each with their offsets and
        counts within the object.
    size : int
        Bytes of all requests.
    needed : int
        Bytes of the tiles alone.
    """

    view: View
    source: Source
    requests: list[tuple[Request, list[tuple[Cell, int, int]]]] = field(default_factory=list)
    size: int = 0
    needed: int = 0

    def cells(self) -> Iterator[Cell]:
        """Yield its tiles."""
        for _, tiles in self.requests:
            for cell, _, _ in tiles:
                yield cell


@dataclass(slots=True)
class Wanted:
    """What a batch needs, found out.

    Attributes
    ----------
    views : dict
        The view of each remote slide and resolution, or why there is none; see `view_key`.
    groups : list of Group
        What is to be fetched.
    empty : set of (int, cell)
        Tiles for which the slide holds no bytes, by the id of their view.
    errors : dict of (int, cell) to WsistoreError
        Tiles that can't be located.
    """

    views: dict[Hashable, View | WsistoreError] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    empty: set[tuple[int, Cell]] = field(default_factory=set)
    errors: dict[tuple[int, Cell], WsistoreError] = field(default_factory=dict)


def is_remote(slide: SlideLike) -> bool:
    """Return whether a slide lies in object storage, without opening it."""
    if isinstance(slide, Slide):
        return is_url(slide.path)
    name = slide if isinstance(slide, str) else os.fspath(slide)
    return "://" in name and is_url(name)


def any_remote(requests: Sequence[NormalRequest]) -> bool:
    """Return whether a request is for a slide in object storage."""
    return any(is_remote(slide) for slide in {id(r.slide): r.slide for r in requests}.values())


def view_key(request: NormalRequest) -> Hashable:
    """Return what stands for a request's slide and resolution while the request lives."""
    slide = request.slide
    return (slide if isinstance(slide, str) else id(slide), request.resolution)


def find_wanted(
    reader: Reader,
    requests: Sequence[NormalRequest],
    submit: Submit,
    limits: FetchLimits,
    seen: set[tuple[int, Cell]] | None = None,
) -> Wanted:
    """Find out what a batch needs: slides are opened and tiles located side by side.

    Parameters
    ----------
    reader : Reader
        Tells how requests become windows.
    requests : sequence of NormalRequest
        The batch; local slides are left out.
    submit : callable
        ``submit(function, *args) -> Future``, for what may wait for the network.
    limits : FetchLimits
        How requests are joined.
    seen : set of (int, cell), optional
        Tiles that were wanted before and are not wanted again; those found are added.
    """
    wanted = Wanted()
    remote = [request for request in requests if is_remote(request.slide)]
    opening: dict[Hashable, Future[View]] = {}
    for request in remote:
        key = view_key(request)
        if key not in opening:
            opening[key] = submit(reader.view, request.slide, request.resolution)
    for key, future in opening.items():
        error = future.exception()
        if error is not None and not isinstance(error, WsistoreError):
            raise error
        wanted.views[key] = future.result() if error is None else error
    cells: dict[int, dict[Cell, None]] = {}
    views: dict[int, View] = {}
    for request in remote:
        view = wanted.views[view_key(request)]
        if isinstance(view, View) and view.table is not None:
            views[id(view)] = view
            mine = cells.setdefault(id(view), {})
            for cell in cells_of(view, request, reader.window(view)):
                mine[cell] = None
    _drop_seen(cells, seen)
    located = [
        (views[key], mine, submit(_locate, views[key], list(mine), limits))
        for key, mine in cells.items()
        if mine
    ]
    for view, mine, locating in located:
        _gather(wanted, view, list(mine), locating, submit, limits)
    return wanted


def cells_of(view: View, request: NormalRequest, window: Size) -> Iterator[Cell]:
    """Yield the encoded tiles that the window of a request touches."""
    table = view.table
    if table is None:
        return
    width, height = view.canvas_size
    x, y = math.floor(view.origin(request.x)), math.floor(view.origin(request.y))
    left, right = max(x, 0), min(x + window.width, width)
    top, bottom = max(y, 0), min(y + window.height, height)
    if left >= right or top >= bottom:
        return
    tile_w = table.block_format.width // view.scale
    tile_h = table.block_format.height // view.scale
    for row in range(top // tile_h, (bottom - 1) // tile_h + 1):
        for column in range(left // tile_w, (right - 1) // tile_w + 1):
            yield row, column


def _drop_seen(cells: dict[int, dict[Cell, None]], seen: set[tuple[int, Cell]] | None) -> None:
    if seen is None:
        return
    for key, mine in cells.items():
        for cell in [cell for cell in mine if (key, cell) in seen]:
            del mine[cell]
        seen.update((key, cell) for cell in mine)


def _locate(
    view: View, cells: Sequence[Cell], limits: FetchLimits
) -> tuple[list[Group], list[Cell]]:
    """Return the groups that fetch these tiles, and the tiles without bytes."""
    table = view.table
    if table is None:
        return [], []
    grid = np.array(cells, dtype=np.int64)
    refs = table.locate(grid[:, 1], grid[:, 0])
    empty = [cells[i] for i in np.flatnonzero(refs.counts == 0).tolist()]
    groups: list[Group] = []
    for part in np.unique(refs.parts[refs.counts > 0]).tolist():
        mine = np.flatnonzero((refs.parts == part) & (refs.counts > 0))
        groups += _groups(
            view, table.source(part), [cells[i] for i in mine.tolist()], refs, mine, limits
        )
    return groups, empty


def _groups(
    view: View,
    source: Source,
    cells: Sequence[Cell],
    refs: TileRefs,
    mine: NDArray[np.intp],
    limits: FetchLimits,
) -> list[Group]:
    """Join tiles of one object to requests, and requests to groups."""
    most = min(limits.request, limits.budget)
    planned = plan(
        refs.offsets[mine],
        refs.counts[mine],
        name=source.name,
        size=source.size,
        limits=Limits(limits.gap, most),
    )
    groups: list[Group] = []
    tiles = GROUP_TILES
    for request in planned.requests:
        length = request.stop - request.start
        full = tiles + len(request.members) > GROUP_TILES
        if full or groups[-1].size + length > most:
            groups.append(Group(view, source))
            tiles = 0
        members = [(cells[i], planned.offsets[i], planned.counts[i]) for i in request.members]
        groups[-1].requests.append((request, members))
        groups[-1].size += length
        groups[-1].needed += sum(count for _, _, count in members)
        tiles += len(members)
    return groups


def _gather(
    wanted: Wanted,
    view: View,
    cells: list[Cell],
    future: Future[tuple[list[Group], list[Cell]]],
    submit: Submit,
    limits: FetchLimits,
) -> None:
    """Take the result of locating; where it failed, locate one by one to spare the others."""
    error = future.exception()
    if error is None:
        groups, empty = future.result()
        wanted.groups += groups
        wanted.empty.update((id(view), cell) for cell in empty)
        return
    if not isinstance(error, WsistoreError):
        raise error
    if len(cells) == 1:
        wanted.errors[id(view), cells[0]] = error
        return
    singles = [([cell], submit(_locate, view, [cell], limits)) for cell in cells]
    for single, again in singles:
        _gather(wanted, view, single, again, submit, limits)
