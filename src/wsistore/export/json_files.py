"""Plans as JSON: one object with the document and the columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wsistore.durable import atomic_write
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.documents import FORMAT, as_json, plan_document, plan_from_document
from wsistore.export.foreign import read_bytes
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

EXTENSIONS = (".json",)


def write_json(plan: TilePlan, path: Path, *, indent: int | None = None) -> None:
    """Write a plan as one JSON object; ``columns`` holds a list a column.

    Parameters
    ----------
    plan : TilePlan
        Any plan.
    path : Path
        The file; its folder must exist.
    indent : int, optional
        Spaces of indentation; compact without.
    """
    columns = {name: as_json(values) for name, values in plan.columns.items()}
    atomic_write(path, dump({**plan_document(plan), "columns": columns}, indent or None))


def read_json(path: Path, slide: Slide | None = None) -> TilePlan:
    """Read a plan that `write_json` wrote."""
    del slide
    document = load(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(
            f"{path} is JSON, but no plan of wsistore", hint=f'It would say "format": "{FORMAT}".'
        )
    columns = document.get("columns")
    if not isinstance(columns, dict):
        raise StoreCorruptError(f"{path} holds no columns")
    return plan_from_document(document, columns, str(path))


def sniff_json(path: Path, head: bytes) -> bool:
    """Return whether a file starts as `write_json` writes."""
    del path
    return head.lstrip().startswith(b"{") and f'"{FORMAT}"'.encode() in head


def dump(value: Any, indent: int | None = None) -> bytes:
    """Return JSON as bytes.

    Raises
    ------
    UsageError
        If a text can't be encoded (half of a surrogate pair).
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators
    )
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"a text of the plan is no Unicode: {error}") from error


def load(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    StoreCorruptError
        If it is no JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{path} is no JSON: {error}") from error
