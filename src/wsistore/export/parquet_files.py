"""Plans as Parquet: folders ``slides/`` and ``tiles/``, tables joined by a SHA-256.

The folder holds any number of plans, each as two files of its own, so that runs may write
into it at once, and DuckDB, pandas, polars and Spark read each folder as one table::

    PATH/
    ├── slides/<id>.parquet   one row: what the slide is and how it was cut
    └── tiles/<id>.parquet    one row a tile, `slide_id` first

``id`` is the SHA-256 of the slide's row (all columns but itself, as canonical JSON).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from wsistore.durable import atomic_write, canonical, write_error
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.documents import plan_document, plan_from_document
from wsistore.export.foreign import need, read_bytes
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

EXTENSIONS = (".parquet", "")
SLIDES = "slides"
TILES = "tiles"


def slide_row(plan: TilePlan) -> dict[str, Any]:
    """Return the row of the ``slides`` table, its ``id`` first.

    Extents, tile extents and strides are in target px (`tile_extent`, `stride`) and level-0
    px (`extent`); mpp is µm per target px; `document` is JSON that gives the plan back.
    """
    geometry, slide = plan.geometry, plan.slide
    mpp = geometry.mpp or (None, None)
    row: dict[str, Any] = {
        "path": slide.path,
        "name": slide.name,
        "fingerprint": slide.fingerprint,
        "extent_x": slide.size.width,
        "extent_y": slide.size.height,
        "tile_extent_x": geometry.size.width,
        "tile_extent_y": geometry.size.height,
        "stride_x": geometry.stride.width,
        "stride_y": geometry.stride.height,
        "mpp_x": mpp[0],
        "mpp_y": mpp[1],
        "level": geometry.level,
        "downsample": geometry.downsample,
        "tile_level0_x": geometry.size_level0.width,
        "tile_level0_y": geometry.size_level0.height,
        "tiles": len(plan),
        "plan_id": plan.plan_id,
        "document": canonical(plan_document(plan)).decode(),
    }
    return {"id": hashlib.sha256(canonical(row)).hexdigest(), **row}


def write_parquet(plan: TilePlan, path: Path) -> None:
    """Write a plan into a folder of Parquet tables, beside others that are there.

    Parameters
    ----------
    plan : TilePlan
        Any plan.
    path : Path
        The folder; made where missing.

    Raises
    ------
    DependencyError
        If pyarrow is not installed.
    """
    pa = need("pyarrow", "writing Parquet")
    if path.is_file():
        raise UsageError(
            f"{path} is a file; Parquet plans are a folder of two tables",
            hint="Name a folder, such as plans/.",
        )
    row = slide_row(plan)
    tiles = _tile_table(pa, plan, row["id"])
    slides = pa.table({name: pa.array([row[name]], _type(pa, name)) for name in row})
    for folder in (SLIDES, TILES):
        try:
            (path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(error, path / folder) from error
    # The slide's row comes last: what it names is there.
    _write(tiles, path / TILES / f"{row['id']}.parquet")
    _write(slides, path / SLIDES / f"{row['id']}.parquet")


def _type(pa: Any, name: str) -> Any:
    if name in ("mpp_x", "mpp_y", "downsample"):
        return pa.float64()
    is_text = name in ("id", "path", "name", "fingerprint", "plan_id", "document")
    return pa.string() if is_text else pa.int64()


def _tile_table(pa: Any, plan: TilePlan, slide_id: str) -> Any:
    if "slide_id" in plan.extras:
        raise UsageError("Parquet tables have a column slide_id of their own; rename the plan's")
    codes = pa.array(np.zeros(len(plan), np.int32))
    ids = pa.DictionaryArray.from_arrays(codes, pa.array([slide_id]))
    columns = {"slide_id": ids}
    for name, values in plan.columns.items():
        listed = values.tolist() if values.dtype.kind == "U" else values
        try:
            columns[name] = pa.array(listed, pa.string() if values.dtype.kind == "U" else None)
        except (UnicodeEncodeError, pa.ArrowInvalid) as error:
            raise UsageError(f"column {name} can't be written as Parquet: {error}") from error
    return pa.table(columns)


def _write(table: Any, path: Path) -> None:
    parquet = need("pyarrow.parquet", "writing Parquet")
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    atomic_write(path, buffer.getbuffer())


def read_parquet(path: Path, slide: Slide | None = None) -> TilePlan:
    """Read the plan of a folder; where there are several, that of the slide.

    Parameters
    ----------
    path : Path
        A folder that `write_parquet` wrote.
    slide : Slide, optional
        Whose plan; by its fingerprint, or its name.
    """
    plans = read_all_parquet(path)
    if slide is not None:
        own = [plan for plan in plans if plan.slide.fingerprint == slide.fingerprint]
        plans = own or [plan for plan in plans if plan.slide.name == slide.name]
    if len(plans) != 1:
        whose = "" if slide is None else f" of {slide.name}"
        raise UsageError(
            f"{path} holds {len(plans)} plans{whose}",
            hint="Name the slide, or use read_all_parquet." if plans else "",
        )
    return plans[0]


def read_all_parquet(path: str | os.PathLike[str]) -> list[TilePlan]:
    """Return all plans of a folder of Parquet tables, ordered by the slides' names.

    Raises
    ------
    DependencyError
        If pyarrow is not installed.
    StoreCorruptError
        If a table is broken, or was changed.
    """
    folder = Path(path)
    found = sorted((folder / SLIDES).glob("*.parquet"))
    if not found:
        raise UsageError(f"there is no plan in {folder / SLIDES}")
    plans = [_read_one(folder, file.stem) for file in found]
    return sorted(plans, key=lambda plan: (plan.slide.name, plan.plan_id))


def _read_one(folder: Path, slide_id: str) -> TilePlan:
    place = folder / SLIDES / f"{slide_id}.parquet"
    rows = _table(place).to_pylist()
    try:
        document = json.loads(rows[0]["document"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise StoreCorruptError(f"{place} holds no row of a slide") from error
    tiles = _table(folder / TILES / f"{slide_id}.parquet")
    columns = {
        name: tiles[name].to_numpy(zero_copy_only=False)
        for name in tiles.column_names
        if name != "slide_id"
    }
    return plan_from_document(document, columns, str(folder / TILES / f"{slide_id}.parquet"))


def _table(path: Path) -> Any:
    pa = need("pyarrow", "reading Parquet")
    parquet = need("pyarrow.parquet", "reading Parquet")
    try:
        return parquet.read_table(io.BytesIO(read_bytes(path)))
    except (pa.ArrowException, OSError) as error:
        raise StoreCorruptError(f"{path} can't be read as Parquet: {error}") from error


def sniff_parquet(path: Path, head: bytes) -> bool:
    """Return whether a path is a folder of both tables."""
    del head
    return (path / SLIDES).is_dir() and (path / TILES).is_dir()
