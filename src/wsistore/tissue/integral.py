"""Exact areas of a mask under boxes, through its integral image.

A mask is constant within a px, so the area of it left of and above a point grows
bilinearly there: four sums of the integral image and two fractions tell it exactly, in
the manner of Crow's summed-area tables (SIGGRAPH 1984). All is counted in integers, so a
box that lies in tissue has a coverage of exactly 1.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size

_BOXES_AT_ONCE = 1 << 15
_INT64_MAX = (1 << 63) - 1


class IntegralImage:
    """Sums of a mask, ready to be asked for the coverage of boxes.

    Parameters
    ----------
    pixels : (h, w) bool
        The mask; it covers the whole slide.
    slide_size : Size
        Level-0 px of the slide.
    """

    def __init__(self, pixels: NDArray[np.bool_], slide_size: Size) -> None:
        height, width = pixels.shape
        self._shape = (height, width)
        self._size = slide_size
        # Mask px per level-0 px as a quotient of small integers.
        self._x_unit = slide_size.width // math.gcd(slide_size.width, width)
        self._y_unit = slide_size.height // math.gcd(slide_size.height, height)
        self._x_step = width // math.gcd(slide_size.width, width)
        self._y_step = height // math.gcd(slide_size.height, height)
        if width * height * self._x_unit * self._y_unit > _INT64_MAX:
            raise UsageError(
                f"a mask of {width}x{height} px over a slide of {slide_size.width}x"
                f"{slide_size.height} px is too fine to be summed in 64 bits",
                hint="Resize the mask to a size that divides the slide's, or to a smaller one.",
            )
        # The last row and column stand twice, so that a point on the border has a "next" px.
        sums = np.empty((height + 2, width + 2), np.int64 if pixels.size >> 31 else np.int32)
        if pixels.size >> 31:
            sums[:-1, :-1] = 0
            np.cumsum(pixels, axis=0, dtype=np.int64, out=sums[1:-1, 1:-1])
            np.cumsum(sums[1:-1, 1:-1], axis=1, out=sums[1:-1, 1:-1])
        else:
            sums[:-1, :-1] = cv2.integral(pixels.view(np.uint8))
        sums[-1, :-1] = sums[-2, :-1]
        sums[:, -1] = sums[:, -2]
        self._row = width + 2
        self._sums = sums.ravel()

    def coverage(self, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the fraction of the area of each box that is tissue.

        Parameters
        ----------
        boxes : (n, 4) int64
            x, y, width, height in level-0 px; width and height positive.

        Returns
        -------
        (n,) float64
        """
        out = np.empty(len(boxes), np.float64)
        for start in range(0, len(boxes), _BOXES_AT_ONCE):
            part = boxes[start : start + _BOXES_AT_ONCE]
            out[start : start + _BOXES_AT_ONCE] = self._coverage(part)
        return out

    def _coverage(self, boxes: NDArray[np.int64]) -> NDArray[np.float64]:
        x, y, width, height = (np.ascontiguousarray(column) for column in boxes.T)
        left, left_part = self._split_x(x)
        right, right_part = self._split_x(x + width)
        top, top_part = self._split_y(y)
        bottom, bottom_part = self._split_y(y + height)
        columns = (left, left_part, right, right_part)
        area = self._band(bottom, bottom_part, columns) - self._band(top, top_part, columns)
        # Both sides count level-0 px x mask px: area / units / (mask px per level-0 px).
        whole = (width.astype(np.float64) * self._x_step) * (height * float(self._y_step))
        fractions: NDArray[np.float64] = area / whole
        return fractions

    def _split_x(self, x: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        scaled = np.clip(x, 0, self._size.width) * self._x_step
        whole = scaled // self._x_unit
        return whole, scaled - whole * self._x_unit

    def _split_y(self, y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        scaled = np.clip(y, 0, self._size.height) * self._y_step
        whole = scaled // self._y_unit
        return whole, scaled - whole * self._y_unit

    def _band(
        self,
        row: NDArray[np.int64],
        part: NDArray[np.int64],
        columns: tuple[NDArray[np.int64], ...],
    ) -> NDArray[np.int64]:
        """Return the area above a y and between two x, in 1 / (x_unit * y_unit) mask px."""
        start = row * self._row
        above = self._between(start, columns)
        below = self._between(start + self._row, columns)
        return above * (self._y_unit - part) + below * part

    def _between(
        self, start: NDArray[np.int64], columns: tuple[NDArray[np.int64], ...]
    ) -> NDArray[np.int64]:
        left, left_part, right, right_part = columns
        unit = self._x_unit
        at = start + right
        area: NDArray[np.int64] = self._sums.take(at) * (unit - right_part)
        area += self._sums.take(at + 1) * right_part
        at = start + left
        left_area: NDArray[np.int64] = self._sums.take(at) * (unit - left_part)
        left_area += self._sums.take(at + 1) * left_part
        return area - left_area
