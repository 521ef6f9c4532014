"""Plans as CSV: a row a tile for any table program, and a small JSON file beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.documents import as_json, plan_document, plan_from_document
from wsistore.export.foreign import positions_plan, read_bytes
from wsistore.export.json_files import dump, load
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.spec import TileSpec

EXTENSIONS = (".csv",)
_ROWS_AT_ONCE = 20_000


def sidecar(path: Path) -> Path:
    """Return the name of the JSON file beside a CSV file."""
    return path.with_name(f"{path.name}.json")


def write_csv(plan: TilePlan, path: Path) -> None:
    """Write a plan as CSV (UTF-8, comma, a header), and its provenance as ``PATH.json``.

    Columns: ``slide`` (name), those of the plan, then ``width`` and ``height`` (level-0 px)
    and ``resolution``, which are the same in every row. NaN is an empty cell.

    Parameters
    ----------
    plan : TilePlan
        Any plan.
    path : Path
        The file; its folder must exist.

    Raises
    ------
    UsageError
        If a further column has the name of one of those.
    """
    constant = {
        "slide": plan.slide.name,
        "width": plan.size_level0.width,
        "height": plan.size_level0.height,
        "resolution": str(plan.resolution),
    }
    taken = sorted(constant.keys() & plan.columns.keys())
    if taken:
        raise UsageError(f"a CSV file has columns {', '.join(taken)} of its own; rename the plan's")
    # The document goes first: a CSV file is never there without it.
    atomic_write(sidecar(path), dump(plan_document(plan), 2))
    atomic_write(path, _pieces(plan, constant))


def _pieces(plan: TilePlan, constant: dict[str, Any]) -> Iterator[bytes]:
    slide, *rest = constant.values()
    name, *others = constant
    yield _lines([[name, *plan.columns, *others]])
    for run in plan.split(_ROWS_AT_ONCE):
        columns = [_cells(values[run]) for values in plan.columns.values()]
        yield _lines([[slide, *row, *rest] for row in zip(*columns, strict=True)])


def _cells(values: NDArray[Any]) -> list[Any]:
    if values.dtype.kind == "b":
        return ["true" if value else "false" for value in values.tolist()]
    return as_json(values)  # None is written as an empty cell


def _lines(rows: list[list[Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)  # CRLF (RFC 4180), so that a CR in a text is quoted
    try:
        return buffer.getvalue().encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"a text of the plan is no Unicode: {error}") from error


def read_csv(path: Path, slide: Slide | None = None, *, spec: TileSpec | None = None) -> TilePlan:
    """Read a plan that `write_csv` wrote, or any CSV file with columns ``x`` and ``y``.

    Parameters
    ----------
    path : Path
        The file.
    slide : Slide, optional
        Needed, with `spec`, where there is no JSON file beside it.
    spec : TileSpec, optional
        Size and resolution of the tiles.
    """
    columns = _columns(path)
    beside = sidecar(path)
    if beside.is_file() and spec is None:
        return plan_from_document(load(beside), columns, str(path))
    if slide is None or spec is None:
        raise UsageError(
            f"{path} has no {beside.name} beside it, which tells the slide and the tiles' size",
            hint="Keep both files together, or name slide=... and spec=TileSpec(...).",
        )
    try:
        x, y = (np.array([int(v) for v in columns[name]], np.int64) for name in ("x", "y"))
    except (KeyError, ValueError, OverflowError) as error:
        raise StoreCorruptError(f"{path} has no columns x and y of whole numbers") from error
    return positions_plan(x, y, slide, spec)


def _columns(path: Path) -> dict[str, list[str]]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if len(set(header)) != len(header):
            raise StoreCorruptError(f"{path} names a column twice")
        columns = [list(values) for values in zip(*rows, strict=True)] or [[] for _ in header]
        return dict(zip(header, columns, strict=True))
    except (ValueError, csv.Error) as error:
        raise StoreCorruptError(f"{path} is no CSV table: {error}") from error


def sniff_csv(path: Path, head: bytes) -> bool:
    """Return whether a file is a table of positions."""
    header = head.partition(b"\n")[0].decode("utf-8", "replace").lstrip("\ufeff").strip()
    return path.is_file() and {"x", "y"} <= {name.strip('" ') for name in header.split(",")}
