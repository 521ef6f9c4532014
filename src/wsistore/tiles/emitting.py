"""From a canvas window to the patch: averaging, enlarging, and the order of axes."""

from __future__ import annotations

import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Box, Size
from wsistore.slides.resampling import Window, halve
from wsistore.slides.resampling import shrink as average

Pixels = NDArray[np.uint8]

_thread = threading.local()


def emit(
    canvas: Pixels, target: Pixels, place: tuple[float, float], shrink: float, layout: str
) -> None:
    """Write the patch behind a canvas window.

    Parameters
    ----------
    canvas : (ch, cw, 3) uint8
        The window, in canvas px.
    target : (h, w, 3) or (3, h, w) uint8
        Where the patch goes.
    place : (float, float)
        Left and top of the patch within the window, in canvas px; below 1.
    shrink : float
        Canvas px per patch px.
    layout : {"nhwc", "nchw"}
        Order of the axes of `target`.
    """
    planar = layout == "nchw"
    height, width = target.shape[1:] if planar else target.shape[:2]
    interleaved = _buffer(height, width) if planar else target
    if shrink == 1.0:
        interleaved = canvas
    else:
        _resize(canvas, interleaved, place, shrink)
    if planar:
        # cv2.split is about ten times as fast as numpy's strided copy.
        cv2.split(interleaved, list(target))


def _resize(canvas: Pixels, out: Pixels, place: tuple[float, float], shrink: float) -> None:
    height, width = out.shape[:2]
    if canvas.shape[:2] == (2 * height, 2 * width) and place == (0.0, 0.0):
        out[...] = halve(canvas)
        return
    if place == (0.0, 0.0) and _whole(canvas.shape[1], width, canvas.shape[0], height, shrink):
        method = cv2.INTER_AREA if shrink > 1 else cv2.INTER_LINEAR
        cv2.resize(canvas, (width, height), dst=out, interpolation=method)
        return
    window = Window(place[0], place[1], width * shrink, height * shrink)

    def read(box: Box) -> Pixels:
        return canvas[box.y : box.bottom, box.x : box.right]

    out[...] = average(read, window, Size(width, height), canvas.shape[0])


def _whole(canvas_w: int, width: int, canvas_h: int, height: int, shrink: float) -> bool:
    """Whether the patch covers the whole window, to half a canvas px."""
    return abs(width * shrink - canvas_w) <= 0.5 and abs(height * shrink - canvas_h) <= 0.5


def _buffer(height: int, width: int) -> Pixels:
    kept: Pixels | None = getattr(_thread, "pixels", None)
    if kept is None or kept.shape[:2] != (height, width):
        kept = np.empty((height, width, 3), np.uint8)
        _thread.pixels = kept
    return kept
