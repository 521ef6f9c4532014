"""All slides of a run in one picture, to see at a glance which ones went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wsistore.errors import UsageError
from wsistore.export.drawing import (
    GREY,
    INK,
    ORANGE,
    PAPER,
    RED,
    Pixels,
    drawable,
    fitted,
    font,
    wrapped,
)

CELL_SIDES = (320, 240, 160)
"""Sides of a cell's picture in px: for up to 24 slides, for up to 96, and for more."""
PER_SHEET = 240
"""Most slides of one sheet; larger runs give several."""

_MARGIN = 24
_GAP = 20
_HEAD = 64
_CAPTION = 46


@dataclass(frozen=True, slots=True)
class Cell:
    """One slide of a contact sheet.

    Parameters
    ----------
    name : str
        Of the slide.
    caption : str
        One line, such as ``"412 tiles, 23 % tissue"``.
    status : {"done", "warning", "failed"}
        A slide with a warning is framed in orange, one that failed in red.
    picture : callable, optional
        Returns (h, w, 3) uint8, or None where there is none; called when the sheet is
        drawn, so that only one is in memory. Without, the caption takes its place.
    """

    name: str
    caption: str
    status: Literal["done", "warning", "failed"] = "done"
    picture: Callable[[], Pixels | None] | None = None


def cell_side(count: int) -> int:
    """Return the longest side in px of a slide's picture on a sheet of so many slides."""
    return CELL_SIDES[0] if count <= 24 else CELL_SIDES[1] if count <= 96 else CELL_SIDES[2]


def contact_sheets(cells: Sequence[Cell], title: str) -> list[Pixels]:
    """Return the sheets of a run: one, or more where there are more than `PER_SHEET` slides.

    Parameters
    ----------
    cells : sequence of Cell
        In the order wanted.
    title : str
        Headline; the counts of slides and failures are put to it.

    Returns
    -------
    list of (h, w, 3) uint8

    Raises
    ------
    UsageError
        If there is no cell.
    """
    if not cells:
        raise UsageError("a contact sheet needs at least one slide")
    pages = [cells[at : at + PER_SHEET] for at in range(0, len(cells), PER_SHEET)]
    side = cell_side(len(cells))
    counts = _counts(cells)
    return [
        _sheet(
            page,
            title if len(pages) == 1 else f"{title} ({number} of {len(pages)})",
            counts,
            side,
        )
        for number, page in enumerate(pages, start=1)
    ]


def _counts(cells: Sequence[Cell]) -> str:
    told = [f"{len(cells)} slide{'s' * (len(cells) != 1)}"]
    for status, words in (("failed", "failed"), ("warning", "to look at")):
        count = sum(cell.status == status for cell in cells)
        if count:
            told.append(f"{count} {words}")
    return ", ".join(told)


def _sheet(cells: Sequence[Cell], title: str, counts: str, side: int) -> Pixels:
    from PIL import Image, ImageDraw

    columns = min(len(cells), max(2, math.ceil(math.sqrt(len(cells) * 1.6))))
    rows = -(-len(cells) // columns)
    width = max(2 * _MARGIN + columns * (side + _GAP) - _GAP, 560)
    height = _HEAD + rows * (side + _CAPTION + _GAP) + _MARGIN - _GAP
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    face = font(22)
    used = draw.textlength(counts, font=font(15))
    draw.text(
        (_MARGIN, 18),
        fitted(draw, drawable(title), face, width - 3 * _MARGIN - used),
        font=face,
        fill=INK,
    )
    draw.text((width - _MARGIN - used, 24), counts, font=font(15), fill=GREY)
    for number, cell in enumerate(cells):
        x = _MARGIN + number % columns * (side + _GAP)
        y = _HEAD + number // columns * (side + _CAPTION + _GAP)
        _draw_cell(image, draw, cell, x, y, side)
    return np.asarray(image)


def _draw_cell(image: Any, draw: Any, cell: Cell, x: int, y: int, side: int) -> None:
    from PIL import Image

    frame = {"done": (222, 225, 230), "warning": ORANGE, "failed": RED}[cell.status]
    thick = 1 if cell.status == "done" else 3
    back = {"done": (247, 248, 250), "warning": (255, 247, 235), "failed": (253, 240, 239)}
    draw.rectangle((x, y, x + side - 1, y + side - 1), fill=back[cell.status])
    pixels = None if cell.picture is None else cell.picture()
    if pixels is not None:
        picture = Image.fromarray(pixels)
        picture.thumbnail((side - 2 * thick, side - 2 * thick))
        place = (x + (side - picture.width) // 2, y + (side - picture.height) // 2)
        image.paste(picture, place)
    else:
        _write_reason(draw, cell, x, y, side)
    draw.rectangle((x, y, x + side - 1, y + side - 1), outline=frame, width=thick)
    face, small = font(15 if side > 200 else 13), font(13 if side > 200 else 12)
    draw.text((x, y + side + 5), fitted(draw, drawable(cell.name), face, side), font=face, fill=INK)
    colour = GREY if cell.status == "done" else frame
    line = "failed" if cell.status == "failed" and pixels is None else cell.caption
    draw.text(
        (x, y + side + 24), fitted(draw, drawable(line), small, side), font=small, fill=colour
    )


def _write_reason(draw: Any, cell: Cell, x: int, y: int, side: int) -> None:
    face = font(14 if side > 200 else 12)
    step = 19 if side > 200 else 16
    lines = wrapped(draw, drawable(cell.caption), face, side - 32, (side - 32) // step)
    top = y + (side - step * len(lines)) / 2
    for number, line in enumerate(lines):
        draw.text((x + 16, top + step * number), line, font=face, fill=INK)
