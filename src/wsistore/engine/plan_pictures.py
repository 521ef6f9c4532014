"""Pictures of a planned slide: overlays, its cell of the contact sheet, its tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write, write_error
from wsistore.export import (
    OVERLAY_SIDE,
    draw_contours,
    draw_grid,
    draw_mask,
    save_picture,
)
from wsistore.export.contact_sheet import CELL_SIDES
from wsistore.export.drawing import encode_picture
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.walking import iter_tiles
from wsistore.tissue import Contour, TissueMask

if TYPE_CHECKING:
    from wsistore.engine.plan_results import PlanFiles
    from wsistore.engine.planning import PlanningOptions

CELL = "cell"
"""Kind of the small picture of a contact sheet."""


def missing_pictures(
    files: PlanFiles | None, stem: str, options: PlanningOptions
) -> tuple[str, ...]:
    """Return which pictures are wanted and not there; all that are wanted without files."""
    wanted = [kind for kind in options.pictures if kind != "grids" or options.spec is not None]
    found = [
        kind for kind in wanted if files is None or not files.outlet.has(files.picture(stem, kind))
    ]
    if options.contact_sheet and (files is None or not files.outlet.has(files.cell(stem))):
        found.append(CELL)
    return tuple(found)


def draw_pictures(
    files: PlanFiles,
    stem: str,
    slide: Slide,
    *,
    kinds: Sequence[str],
    plan: TilePlan | None,
    mask: TissueMask | None,
    contours: Sequence[Contour],
    thumbnail: NDArray[np.uint8] | None,
) -> list[Path]:
    """Draw and write pictures; return the overlays among them.

    Parameters
    ----------
    files : PlanFiles
        Where they go.
    stem : str
        Of the slide.
    slide : Slide
        Read where the thumbnail is too small.
    kinds : sequence of str
        ``"grids"``, ``"mask"``, ``"contours"``, ``"cell"``.
    plan, mask, contours
        What is drawn.
    thumbnail : (h, w, 3) uint8, optional
        One that was read for another purpose.
    """
    picture = overlay_thumbnail(slide, thumbnail)
    mpp = None if slide.mpp is None else slide.mpp.mean
    written = []
    for kind in kinds:
        if kind == CELL:
            cell = _cell(picture, slide, plan, contours)
            atomic_write(files.cell(stem), encode_picture(cell, ".jpg"))
            continue
        if kind == "grids" and plan is not None:
            drawn = draw_grid(picture, plan.boxes, slide.size, mpp=mpp)
        elif kind == "mask" and mask is not None:
            drawn = draw_mask(picture, mask, mpp=mpp)
        else:
            drawn = draw_contours(picture, contours, slide.size, mpp=mpp)
        save_picture(files.picture(stem, kind), drawn)
        written.append(files.picture(stem, kind))
    return written


def overlay_thumbnail(slide: Slide, seen: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return the slide with a longest side of 1024 px, from what was read if that is enough."""
    side = min(OVERLAY_SIDE, max(slide.size))
    if seen is None or max(seen.shape[:2]) < side:
        return slide.thumbnail(side)
    return _shrunk(seen, side)


def _shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    ratio = max(height, width) / side
    if ratio <= 1:
        return pixels
    size = (max(1, round(width / ratio)), max(1, round(height / ratio)))
    found: NDArray[np.uint8] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return found


def _cell(
    picture: NDArray[np.uint8],
    slide: Slide,
    plan: TilePlan | None,
    contours: Sequence[Contour],
) -> NDArray[np.uint8]:
    small = _shrunk(picture, CELL_SIDES[0])
    if plan is not None:
        return draw_grid(small, plan.boxes, slide.size)
    return draw_contours(small, contours, slide.size)


def save_images(files: PlanFiles, stem: str, slide: Slide, plan: TilePlan) -> int:
    """Write each tile as ``<stem>_x<x>_y<y>.png``; those that are there are left alone.

    Parameters
    ----------
    files : PlanFiles
        Where they go, in a folder of the slide.
    stem : str
        Of the slide.
    slide : Slide
        Of the plan.
    plan : TilePlan
        Which tiles.

    Returns
    -------
    int
        How many were written.
    """
    if not len(plan):
        return 0
    folder = files.images(stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = files.outlet.names(folder)
    except OSError as error:
        raise write_error(error, folder) from error
    names = [f"{stem}_x{x}_y{y}.png" for x, y in zip(plan.x.tolist(), plan.y.tolist(), strict=True)]
    missing = np.array([name not in there for name in names], np.bool_)
    rest = plan[missing]
    if not len(rest):
        return 0
    wanted = [name for name in names if name not in there]
    places = np.column_stack([rest.x, rest.y])
    walk = iter_tiles(slide, places, rest.size, rest.resolution, threads=1, fill=rest.spec.fill)
    for batch in walk:
        own = wanted[batch.start : batch.start + len(batch)]
        pairs = zip(own, batch.pixels, strict=True)
        files.outlet.write((folder / name, _png(pixels)) for name, pixels in pairs)
    return len(rest)


def _png(pixels: NDArray[np.uint8]) -> Any:
    _, data = cv2.imencode(".png", pixels[:, :, ::-1])
    return data.tobytes()
