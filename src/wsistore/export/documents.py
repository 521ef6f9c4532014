"""A plan as what any file can hold: a JSON document and columns of numbers and texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import StoreCorruptError, UsageError, WsistoreError
from wsistore.tiles.plan import COLUMNS, TilePlan

FORMAT = "wsistore-plan"
VERSION = 1
"""Of the document; a reader refuses newer ones."""

_INFINITE = {"inf": math.inf, "-inf": -math.inf}


def plan_document(plan: TilePlan) -> dict[str, Any]:
    """Return all of a plan but its columns, as JSON-able values.

    ``dtypes`` tells the NumPy dtypes of the further columns, in their order.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "plan_id": plan.plan_id,
        "tiles": len(plan),
        "dtypes": {name: values.dtype.str for name, values in plan.extras.items()},
        "provenance": plan.provenance,
    }


def plan_from_document(
    document: Mapping[str, Any], columns: Mapping[str, Any], where: str
) -> TilePlan:
    """Return the plan that a document and its columns describe, checked.

    Parameters
    ----------
    document : mapping
        Of `plan_document`.
    columns : mapping of str to array_like
        Those of every plan, and those that the document names; others are ignored.
    where : str
        The file, for messages.

    Raises
    ------
    StoreCorruptError
        If a column is missing, or the tiles are not those that the plan's id was made of.
    UsageError
        If the document is of a newer version.
    """
    version = document.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise UsageError(
            f"{where} holds a plan of version {version!r}, this wsistore reads up to {VERSION}",
            hint="Update wsistore.",
        )
    dtypes = document.get("dtypes", {})
    lacking = [name for name in (*COLUMNS, *dtypes) if name not in columns]
    if lacking:
        raise StoreCorruptError(f"{where} lacks the columns {', '.join(lacking)}")
    try:
        chosen = {
            name: as_column(columns[name], np.dtype(dtype))
            for name, dtype in {**COLUMNS, **dtypes}.items()
        }
        plan = TilePlan.from_columns(chosen, document["provenance"])
    except (WsistoreError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise StoreCorruptError(f"{where} holds no whole plan: {error}") from error
    if plan.plan_id != document.get("plan_id"):
        raise StoreCorruptError(
            f"{where} was changed after it was written: its tiles give the plan id "
            f"{plan.plan_id[:12]}, it says {str(document.get('plan_id'))[:12]}",
            hint="Write it again from the plan.",
        )
    return plan


def as_column(values: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as a column of a dtype, also such that were texts or JSON before.

    Parameters
    ----------
    values : (n,) array_like
        Numbers, texts of numbers, or JSON values: None (or an empty text) for NaN.
    dtype : dtype
        Of the column.

    Raises
    ------
    ValueError
        If a value can't be one of that dtype.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and dtype.kind in "biuf":
        return _whole(values, dtype)
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if dtype.kind == "f":
        numbers = [math.nan if v is None or v == "" else _INFINITE.get(v, v) for v in listed]
        return np.array(numbers, np.float64).astype(dtype)
    if dtype.kind == "b":
        return np.array([_truth(v) for v in listed], np.bool_)
    if dtype.kind in "iu":
        return np.array([int(v) for v in listed], dtype)
    return np.array([str(v) for v in listed], dtype)


def _whole(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers in another dtype, raising `ValueError` where integers don't fit."""
    found = values.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(found, values):
        raise ValueError(f"there are values that are no {dtype}")
    return found


def _truth(value: Any) -> bool:
    if value in (True, "true", "True", "1"):
        return True
    if value in (False, "false", "False", "0"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def as_json(values: NDArray[Any]) -> list[Any]:
    """Return a column as JSON values: NaN as null, infinities as ``"inf"``, ``"-inf"``.

    float32 is written with the fewest digits that give it back.
    """
    if values.dtype.kind != "f":
        return list(values.tolist())
    if np.isfinite(values).all():
        return _short(values)
    return [_number(value) for value in _short(values)]


def _short(values: NDArray[Any]) -> list[float]:
    """Return floats whose shortest texts are those of the column's own precision."""
    if values.dtype.itemsize >= 8:
        return list(values.astype(np.float64).tolist())
    return list(values.astype(str).astype(np.float64).tolist())


def _number(value: float) -> Any:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "inf" if value > 0 else "-inf"
