"""Pictures of what was found on a slide: tiles, tissue and contours over a thumbnail.

Each takes the thumbnail of a whole slide and returns a new picture of the same size, so
that pictures of one slide lie over each other. Positions are level-0 px; the slide's size
gives the scale, along x and y apart, as thumbnails are whole px.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import UsageError
from wsistore.export.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    Colour,
    Pixels,
    as_picture,
    blend,
    draw_scale_bar,
    font,
)
from wsistore.geometry import Size
from wsistore.tissue import TissueMask

OVERLAY_SIDE = 1024
"""Longest side of overlays in px."""

_LINES_FROM = 5
"""Px of the picture from which tiles get lines; below, lines would cover all."""
_SUBPIXEL = 6
"""Bits of a fraction of px that OpenCV draws with."""


def draw_grid(
    thumbnail: ArrayLike,
    boxes: ArrayLike,
    slide_size: Size | tuple[int, int],
    *,
    colour: Colour = BLUE,
    mpp: float | None = None,
) -> Pixels:
    """Return the thumbnail with the tiles of a plan; the rest of the slide is paled.

    Parameters
    ----------
    thumbnail : (h, w, 3) uint8
        Of the whole slide.
    boxes : (n, 4) int
        x, y, width, height in level-0 px.
    slide_size : Size
        Level-0 px.
    colour : (r, g, b)
        Of the lines.
    mpp : float, optional
        µm per level-0 px, for a scale bar.

    Raises
    ------
    UsageError
        If the picture or the boxes are none.
    """
    picture = as_picture(thumbnail)
    edges = _edges(boxes, picture, Size(*slide_size))
    covered = np.zeros(picture.shape[:2], np.bool_)
    for left, top, right, bottom in edges.tolist():
        covered[top : bottom + 1, left : right + 1] = True
    blend(picture, PAPER, 0.55, ~covered)
    if len(edges) and np.median(edges[:, 2] - edges[:, 0]) >= _LINES_FROM:
        _outline(picture, edges, colour)
    else:
        blend(picture, colour, 0.35, covered)
    draw_scale_bar(picture, _picture_mpp(mpp, picture, slide_size))
    return picture


def _edges(boxes: ArrayLike, picture: Pixels, slide: Size) -> NDArray[np.int64]:
    """Return left, top, right, bottom (all within) of boxes in px of the picture.

    Boxes that share an edge share its px, so lines between neighbours are one px wide.
    """
    array = np.asarray(boxes, np.int64).reshape(-1, 4)
    height, width = picture.shape[:2]
    corners = np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], axis=1)
    scale = np.array([width / slide.width, height / slide.height] * 2)
    edges = np.rint(corners * scale).astype(np.int64)
    most = np.array([width - 1, height - 1] * 2)
    clipped: NDArray[np.int64] = np.clip(edges, 0, most)
    return clipped


def _outline(picture: Pixels, edges: NDArray[np.int64], colour: Colour) -> None:
    lines = np.zeros(picture.shape[:2], np.bool_)
    for left, top, right, bottom in edges.tolist():
        lines[top, left : right + 1] = True
        lines[bottom, left : right + 1] = True
        lines[top : bottom + 1, left] = True
        lines[top : bottom + 1, right] = True
    blend(picture, colour, 0.8, lines)


def draw_mask(
    thumbnail: ArrayLike,
    mask: TissueMask,
    *,
    colour: Colour = GREEN,
    mpp: float | None = None,
) -> Pixels:
    """Return the thumbnail with tissue as it is, edged, and all else paled under a veil.

    Parameters
    ----------
    thumbnail : (h, w, 3) uint8
        Of the whole slide.
    mask : TissueMask
        Of the same slide.
    colour : (r, g, b)
        Of the veil over tissue, and of its edge.
    mpp : float, optional
        µm per level-0 px, for a scale bar.
    """
    import cv2

    picture = as_picture(thumbnail)
    height, width = picture.shape[:2]
    share = cv2.resize(
        mask.pixels.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
    )
    tissue = share >= 0.5
    blend(picture, PAPER, 0.6, ~tissue)
    blend(picture, colour, 0.15, tissue)
    kernel = np.ones((5, 5), np.uint8)  # an edge of two px
    edge = tissue & (cv2.erode(tissue.astype(np.uint8), kernel, borderValue=1) == 0)
    blend(picture, colour, 1.0, edge)
    draw_scale_bar(picture, _picture_mpp(mpp, picture, mask.slide_size))
    return picture


def draw_contours(
    thumbnail: ArrayLike,
    contours: Iterable[Any],
    slide_size: Size | tuple[int, int],
    *,
    colour: Colour = GREEN,
    hole_colour: Colour = ORANGE,
    mpp: float | None = None,
) -> Pixels:
    """Return the thumbnail with contours and their numbers; holes in another colour.

    Parameters
    ----------
    thumbnail : (h, w, 3) uint8
        Of the whole slide.
    contours : iterable of wsistore.tissue.contours.Contour
        In level-0 px.
    slide_size : Size
        Level-0 px.
    colour, hole_colour : (r, g, b)
        Of the lines around tissue, and around holes.
    mpp : float, optional
        µm per level-0 px, for a scale bar.
    """
    picture = as_picture(thumbnail)
    size = Size(*slide_size)
    found = list(contours)
    for contour in found:
        _ring(picture, contour.polygon.exterior, size, colour)
        for hole in contour.polygon.holes:
            _ring(picture, hole, size, hole_colour)
    _number(picture, found, size, colour)
    draw_scale_bar(picture, _picture_mpp(mpp, picture, size))
    return picture


def _ring(picture: Pixels, ring: NDArray[np.float64], slide: Size, colour: Colour) -> None:
    import cv2

    height, width = picture.shape[:2]
    # OpenCV counts from the centres of px, positions from their corners.
    points = ring * (width / slide.width, height / slide.height) - 0.5
    fixed = np.rint(np.clip(points, 0, (width - 1, height - 1)) * (1 << _SUBPIXEL))
    outline = [fixed.astype(np.int32).reshape(-1, 1, 2)]
    for line, thickness in ((PAPER, 4), (colour, 2)):
        cv2.polylines(picture, outline, True, line, thickness, cv2.LINE_AA, _SUBPIXEL)


def _number(picture: Pixels, contours: list[Any], slide: Size, colour: Colour) -> None:
    """Write each contour's tissue_id beside its topmost point."""
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    face = font(15)
    for contour in contours:
        ring = contour.polygon.exterior
        x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]]
        label = str(contour.tissue_id)
        at_x = min(x * width / slide.width + 2, width - draw.textlength(label, font=face) - 3)
        at_y = max(1.0, y * height / slide.height - 20)
        draw.text((at_x, at_y), label, font=face, fill=INK, stroke_width=3, stroke_fill=PAPER)
        draw.text((at_x, at_y), label, font=face, fill=colour, stroke_width=0)
    picture[:] = np.asarray(image)


def _picture_mpp(
    mpp: float | None, picture: Pixels, slide_size: Size | tuple[int, int]
) -> float | None:
    if mpp is None:
        return None
    if not mpp > 0:
        raise UsageError(f"mpp must be positive, got {mpp!r}")
    return float(mpp * max(slide_size) / max(picture.shape[:2]))
