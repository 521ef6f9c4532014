"""Plans of other tools' files: positions and a few attributes, made a `TilePlan`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import SourceAccessError, SourceError, SourceNotFoundError, UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.tiles.lattice import TileGeometry, tile_geometry
from wsistore.tiles.plan import TilePlan, make_boxes
from wsistore.tiles.provenance import Rule, SlideFacts
from wsistore.tiles.spec import TileSpec

SOURCE_ROW = "source_row"
"""Further column: the row in the file, where the plan's order is another one."""


@dataclass(frozen=True, slots=True)
class ForeignTiles:
    """What another tool's file says of its tiles.

    Parameters
    ----------
    x, y : (n,) int64
        Top-left corners in level-0 px.
    facts : SlideFacts
        What the file says of the slide.
    spec : TileSpec
        What its attributes come to.
    geometry : TileGeometry
        The same on the slide, as far as the file tells; used where the slide is not given.
    tool : str
        Whose file it is.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    facts: SlideFacts
    spec: TileSpec
    geometry: TileGeometry
    tool: str


def foreign_plan(tiles: ForeignTiles, slide: Slide | None, where: str) -> TilePlan:
    """Return the plan of another tool's file.

    Rows are put in the order of plans, repeats are dropped; where that moves any, the
    column ``source_row`` tells where each came from (so that features find their tile).

    Parameters
    ----------
    tiles : ForeignTiles
        What the file says.
    slide : Slide, optional
        The slide; its own sizes and levels then count, and its fingerprint is recorded.
    where : str
        The file, for messages.

    Raises
    ------
    UsageError
        If the slide is not as large as the file says.
    """
    facts, geometry = tiles.facts, tiles.geometry
    if slide is not None:
        if min(facts.size) > 0 and slide.size != facts.size:
            raise UsageError(
                f"{where} is of a slide of {facts.size.width}x{facts.size.height} px, "
                f"{slide.name} has {slide.size.width}x{slide.size.height}"
            )
        facts, geometry = SlideFacts.of(slide), tile_geometry(slide, tiles.spec)
    order, rows = plan_order(tiles.x, tiles.y)
    x, y = tiles.x[order], tiles.y[order]
    count = len(x)
    boxes = make_boxes(x, y, geometry.size_level0)
    rule = Rule("read", {"tool": tiles.tool}, len(tiles.x), len(tiles.x) - count)
    return TilePlan(
        slide=facts,
        spec=replace_edge(tiles.spec, boxes, facts.size),
        geometry=geometry,
        x=x,
        y=y,
        column=np.full(count, -1, np.int32),
        row=np.full(count, -1, np.int32),
        level=np.full(count, geometry.level, np.int16),
        read_width=np.full(count, geometry.read_size.width, np.int32),
        read_height=np.full(count, geometry.read_size.height, np.int32),
        tissue_ratio=np.full(count, np.nan, np.float32),
        contour=np.zeros(count, np.int32),
        valid_fraction=inside_fraction(boxes, facts.size),
        extras={} if rows is None else {SOURCE_ROW: rows},
        rules=(rule,),
        version="",
    )


def plan_order(
    x: NDArray[np.int64], y: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return which rows to take, by y and then x and each place once.

    The second value is the same again, or None where all rows are in that order already.
    """
    order = np.lexsort((np.arange(len(x)), x, y)).astype(np.int64)
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(x[order]) != 0) | (np.diff(y[order]) != 0)
    order = order[new]
    same = len(order) == len(x) and bool((order == np.arange(len(x))).all())
    return order, None if same else order


def inside_fraction(boxes: NDArray[np.int64], slide: Size) -> NDArray[np.float32]:
    """Return the fraction of each box's area that lies in the slide, (n,) float32."""
    start = np.maximum(boxes[:, :2], 0)
    stop = np.minimum(boxes[:, :2] + boxes[:, 2:], np.array(slide))
    inside = np.maximum(stop - start, 0).prod(axis=1)
    return np.asarray(inside / boxes[:, 2:].prod(axis=1), np.float32)


def replace_edge(spec: TileSpec, boxes: NDArray[np.int64], slide: Size) -> TileSpec:
    """Return the spec with an edge policy that these boxes could come from."""
    out = bool(len(boxes)) and bool((inside_fraction(boxes, slide) < 1).any())
    return TileSpec.from_dict(spec.to_dict() | {"edge": "pad" if out else "drop"})


def positions_plan(x: ArrayLike, y: ArrayLike, slide: Slide, spec: TileSpec) -> TilePlan:
    """Return the plan of tiles at given places: for tables that say no more than x and y.

    Parameters
    ----------
    x, y : (n,) array_like of int
        Top-left corners in level-0 px.
    slide : Slide
        The slide.
    spec : TileSpec
        Size and resolution of the tiles.

    Raises
    ------
    UsageError
        If the positions are not whole numbers.
    """
    left, top = np.asarray(x), np.asarray(y)
    if left.dtype.kind not in "iu" or top.dtype.kind not in "iu" or left.shape != top.shape:
        raise UsageError(f"x and y must be whole level-0 px, got {left.dtype} and {top.dtype}")
    tiles = ForeignTiles(
        left.astype(np.int64),
        top.astype(np.int64),
        SlideFacts.of(slide),
        spec,
        tile_geometry(slide, spec),
        "positions",
    )
    return foreign_plan(tiles, slide, "the table")


def with_read_size(geometry: TileGeometry, level: int, read: Size) -> TileGeometry:
    """Return the geometry with another level and read size."""
    return replace(geometry, level=level, read_size=read)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    SourceNotFoundError, SourceAccessError, SourceError
        If they can't be had.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {path}") from error
    except PermissionError as error:
        raise SourceAccessError(f"{path} may not be read") from error
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}") from error


def need(module: str, what: str) -> Any:
    """Return a module of the extra ``export``.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    import importlib

    from wsistore.errors import DependencyError

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise DependencyError(
            f"{what} needs {package}, which is not installed",
            hint='pip install "wsistore[export]"',
        ) from error
