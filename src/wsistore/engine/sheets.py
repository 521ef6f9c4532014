"""The contact sheets of a planning run."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsistore.export import Cell, contact_sheets, save_picture

if TYPE_CHECKING:
    from wsistore.engine.outlets import PathLike
    from wsistore.engine.plan_results import PlanFiles, SlideResult


def write_sheets(
    files: PlanFiles, results: Sequence[SlideResult], title: str
) -> tuple[PathLike, ...]:
    """Draw all slides of a run; ``contact_sheet.png``, and ``_2.png`` ... of large runs."""
    if not results:
        return ()
    cells = [_cell_of(files, result) for result in results]
    written = []
    for number, sheet in enumerate(contact_sheets(cells, title), start=1):
        suffix = "" if number == 1 else f"_{number}"
        written.append(files.folder / f"contact_sheet{suffix}.png")
        save_picture(written[-1], sheet)
    return files.outlet.ship(written)


def _cell_of(files: PlanFiles, result: SlideResult) -> Cell:
    if result.status == "failed":
        return Cell(result.name, f"{_code(result)}{result.detail}", "failed")
    picture = functools.partial(_load, files, files.cell(result.name))
    return Cell(result.name, _caption(result), "warning" if result.is_odd else "done", picture)


def _code(result: SlideResult) -> str:
    return "" if result.error is None else f"{result.error.code}: "


def _caption(result: SlideResult) -> str:
    told = []
    if result.tiles is not None:
        told.append(f"{result.tiles:,} tile{'s' * (result.tiles != 1)}".replace(",", " "))
    elif result.pieces:
        told.append(f"{result.pieces} piece{'s' * (result.pieces != 1)}")
    if result.pieces == 0:
        told.append("no tissue found")
    elif result.tissue is not None:
        told.append(f"{100 * result.tissue:.0f} % tissue")
    return ", ".join(told) or result.detail


def _load(files: PlanFiles, path: Path) -> NDArray[np.uint8] | None:
    from PIL import Image, UnidentifiedImageError

    data = files.outlet.read(path)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError):  # cut short: the caption stands for it
        return None
