"""HDF5 files, written so that neither a crash nor a full disk can spoil one.

The file is made in memory, and its bytes are written under another name and renamed.
So HDF5 never writes to a disk: it would leave an unreadable file behind a kill, and may
crash the process where the disk is full.

A file that wsistore writes for another tool also has a group ``wsistore``, which no other
tool looks at and which gives the whole plan back: the text ``plan`` (JSON, as in
`wsistore.export.documents`), and the columns that the other tool has no place for.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write, canonical
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.documents import plan_document, plan_from_document
from wsistore.export.foreign import need, read_bytes
from wsistore.tiles.plan import TilePlan

SIGNATURE = b"\x89HDF\r\n\x1a\n"
GROUP = "wsistore"
COORDS = "coords"
DEFAULT_CHUNK = 8192
"""Rows of a chunk."""


def write_h5(path: Path, fill: Callable[[Any], None]) -> None:
    """Write an HDF5 file, whole or not at all.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    fill : callable
        Is given the open ``h5py.File``, in memory, and puts into it what is wanted.

    Raises
    ------
    DependencyError
        If h5py is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    UsageError
        If a text can't be held by HDF5.
    """
    h5py = need("h5py", "writing HDF5")
    # HDF5 keeps files in memory apart by their names, across all threads.
    with h5py.File(uuid.uuid4().hex, "w", driver="core", backing_store=False) as file:
        try:
            fill(file)
        except (UnicodeEncodeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"{path.name} can't be written as HDF5: {error}") from error
        file.flush()
        image = file.id.get_file_image()
    atomic_write(path, image)


def open_h5(path: Path) -> Any:
    """Return an ``h5py.File`` for reading, of a copy in memory.

    Raises
    ------
    DependencyError
        If h5py is not installed.
    StoreCorruptError
        If it is no whole HDF5 file.
    """
    import io

    h5py = need("h5py", "reading HDF5")
    try:
        return h5py.File(io.BytesIO(read_bytes(path)), "r")
    except OSError as error:
        if hasattr(error, "code"):  # a SourceError: the file is not there
            raise
        raise StoreCorruptError(f"{path} is no whole HDF5 file: {error}") from error


def put_rows(parent: Any, name: str, values: NDArray[Any], chunk: int) -> Any:
    """Make a dataset that can grow by rows, with chunks of so many rows."""
    if chunk < 1:
        raise UsageError(f"a chunk needs at least one row, got {chunk!r}")
    rest = values.shape[1:]
    return parent.create_dataset(
        name,
        data=values,
        maxshape=(None, *rest),
        chunks=(max(1, min(chunk, len(values))), *rest),
    )


def put_plan(file: Any, plan: TilePlan, chunk: int) -> None:
    """Add the group ``wsistore``: all of a plan but x and y, which stay where tools look."""
    h5py = need("h5py", "writing HDF5")
    group = file.create_group(GROUP)
    text = h5py.string_dtype("utf-8")
    group.create_dataset("plan", data=canonical(plan_document(plan)).decode(), dtype=text)
    columns = group.create_group("columns", track_order=True)
    for name, values in plan.columns.items():
        if name in ("x", "y"):
            continue
        if "/" in name or name == ".":
            raise UsageError(f"HDF5 can't hold a column named {name!r}")
        if values.dtype.kind == "U":
            columns.create_dataset(name, data=values.astype(object), dtype=text)
        else:
            put_rows(columns, name, values, chunk)


def own_plan(file: Any, xy: NDArray[np.int64], where: str) -> TilePlan | None:
    """Return the plan of the group ``wsistore``, None where there is none.

    Parameters
    ----------
    file : h5py.File
        Open.
    xy : (n, 2) int64
        What the other tool's dataset says of the places.
    where : str
        The file, for messages.
    """
    group = file.get(GROUP)
    if group is None or "plan" not in group:
        return None
    try:
        document = json.loads(group["plan"].asstr()[()])
        columns: dict[str, Any] = {"x": xy[:, 0], "y": xy[:, 1]}
        for name, dataset in group["columns"].items():
            is_text = dataset.dtype.kind == "O"
            columns[name] = np.asarray(dataset.asstr()[:]) if is_text else dataset[:]
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise StoreCorruptError(f"the group {GROUP} of {where} is broken: {error}") from error
    if any(len(values) != len(xy) for values in columns.values()):
        raise StoreCorruptError(
            f"{where} was changed after it was written: {len(xy)} coordinates, and "
            f"{document.get('tiles')} tiles in the group {GROUP}",
            hint=f"Delete the group {GROUP} to read the coordinates alone.",
        )
    return plan_from_document(document, columns, where)


def read_document(path: Path) -> dict[str, Any] | None:
    """Return the document of the plan in a file, None where there is none; reads no rows.

    Raises
    ------
    StoreCorruptError
        If it is no whole HDF5 file.
    """
    with open_h5(path) as file:
        group = file.get(GROUP)
        if group is None or "plan" not in group:
            return None
        try:
            document = json.loads(group["plan"].asstr()[()])
        except (TypeError, ValueError, AttributeError) as error:
            raise StoreCorruptError(f"the group {GROUP} of {path} is broken: {error}") from error
    return document if isinstance(document, dict) else None


def coords_of(file: Any, where: str, widths: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the dataset ``coords`` as (n, width) int64.

    Raises
    ------
    UsageError
        If there is none, or it has another width.
    """
    dataset = file.get(COORDS)
    shape = getattr(dataset, "shape", None)
    if shape is None or len(shape) != 2 or shape[1] not in widths or dataset.dtype.kind not in "iu":
        raise UsageError(
            f"{where} has no integer dataset {COORDS} of {' or '.join(map(str, widths))} columns"
        )
    rows: NDArray[np.int64] = dataset[:].astype(np.int64)
    return rows


def number(attributes: Mapping[str, Any], name: str, where: str) -> float:
    """Return a numeric attribute.

    Raises
    ------
    UsageError
        If it is missing, or none.
    """
    try:
        return float(np.asarray(attributes[name]).reshape(-1)[0])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{where} has no numeric attribute {name}") from error


def whole_if_close(value: float) -> int | float:
    """Return 20 for 20.0 or 19.9999999: what tools expect of a magnification."""
    nearest = round(value)
    return nearest if abs(value - nearest) < 1e-6 * max(1.0, abs(value)) else float(value)
