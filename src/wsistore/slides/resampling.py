"""Area averaging of a window of a level, exact to the fraction of a pixel.

A window is a rectangle of a level with real-valued edges. Px ``i`` of the result covers
the level px ``[x + i * step, x + (i + 1) * step)`` with ``step = window width / result
width``; its value is the mean over that interval, px at its ends counted by the fraction
that lies inside. So nothing is shifted, whatever the fractions.

Large windows are read in bands of rows, so memory is bounded by the result and one band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Box, Size

BAND_BYTES = 32 << 20
"""Decoded bytes of a level held at a time (more only where one row of tiles has more)."""

WHOLE = 1e-9
"""Distance from an integer, in px, that is rounding and no fraction."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
ReadBox = Callable[[Box], Pixels]


class Window(NamedTuple):
    """Real-valued rectangle of a level: left, top, width and height in level px."""

    x: float
    y: float
    width: float
    height: float

    @property
    def is_whole(self) -> bool:
        """Whether all edges lie between pixels."""
        edges = (self.x, self.y, self.x + self.width, self.y + self.height)
        return all(abs(edge - round(edge)) <= WHOLE for edge in edges)

    @property
    def has_whole_sides(self) -> bool:
        """Whether its left and right edge lie between pixels."""
        return all(abs(edge - round(edge)) <= WHOLE for edge in (self.x, self.x + self.width))

    @property
    def hull(self) -> Box:
        """Smallest box of whole pixels around it."""
        left, top = math.floor(self.x + WHOLE), math.floor(self.y + WHOLE)
        right = math.ceil(self.x + self.width - WHOLE)
        bottom = math.ceil(self.y + self.height - WHOLE)
        return Box(left, top, max(1, right - left), max(1, bottom - top))


def shrink(read: ReadBox, window: Window, size: Size, band_rows: int) -> Pixels:
    """Return the area average of a window.

    Parameters
    ----------
    read : callable
        ``read(box) -> (h, w, 3) uint8``: pixels of the level, box in level px.
    window : Window
        What is averaged, in level px. A side shorter than that of the result (boxes of
        a px or two) spreads its px out.
    size : Size
        Width and height of the result.
    band_rows : int
        Height of an encoded tile in level px: bands end on its multiples, so that each
        tile is decoded once.

    Returns
    -------
    (h, w, 3) uint8
    """
    hull = window.hull
    by_area = window.is_whole and hull.width >= size.width and hull.height >= size.height
    if by_area and hull.width * hull.height * 3 <= BAND_BYTES:
        return _by_area(read(hull), size)
    out = np.empty((size.height, size.width, 3), np.uint8)
    bands: _WholeSteps | _AnySteps
    if by_area and hull.height % size.height == 0:
        bands = _WholeSteps(hull.height // size.height, out)
    else:
        bands = _AnySteps(window, hull, out)
    for band in _bands(hull, band_rows):
        bands.add(read(band), band)
    return out


def enlarge(read: ReadBox, window: Window, size: Size) -> Pixels:
    """Return a window enlarged by bilinear interpolation, without shift.

    Parameters
    ----------
    read : callable
        As for `shrink`.
    window : Window
        What is enlarged, in level px; taken to the whole pixels around it.
    size : Size
        Width and height of the result.
    """
    pixels = read(window.hull)
    return _three(cv2.resize(pixels, tuple(size), interpolation=cv2.INTER_LINEAR))


def halve(pixels: Pixels) -> Pixels:
    """Return the mean of each 2x2 px, halves rounded to the even neighbour.

    A quarter of all sums of four lies halfway between two grey levels. Rounding those up,
    as OpenCV does, brightens by 1/8 of a grey level each time, which adds up in a pyramid.

    Parameters
    ----------
    pixels : (h, w, 3) uint8
        h and w even.

    Returns
    -------
    (h / 2, w / 2, 3) uint8
    """
    size = (pixels.shape[1] // 2, pixels.shape[0] // 2)
    means = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return _three(cv2.convertScaleAbs(means))  # rounds to nearest, halves to even


def _by_area(pixels: Pixels, size: Size) -> Pixels:
    if pixels.shape[:2] == (size.height, size.width):
        return pixels
    if pixels.shape[:2] == (2 * size.height, 2 * size.width):
        return halve(pixels)
    return _three(cv2.resize(pixels, tuple(size), interpolation=cv2.INTER_AREA))


def _three(pixels: NDArray[np.generic]) -> Pixels:
    return np.ascontiguousarray(pixels, np.uint8)


def _bands(hull: Box, band_rows: int) -> Iterator[Box]:
    """Cut a box into bands of rows that end on multiples of the tile height."""
    rows = max(1, BAND_BYTES // (hull.width * 3))
    rows = max(band_rows, rows // band_rows * band_rows)
    y = hull.y
    while y < hull.bottom:
        end = min(hull.bottom, (y // band_rows) * band_rows + rows)
        yield Box(hull.x, y, hull.width, end - y)
        y = end


class _Taps(NamedTuple):
    """For each px of the result the px that it covers, and their weights.

    `first` is (n,) int64: first px covered, counted from the start of the data;
    `weights` is (n, k) float32: weight of px ``first + 0 ... k - 1``, each row of sum 1
    where all of its px are in the data.
    """

    first: NDArray[np.int64]
    weights: Floats

    @classmethod
    def make(
        cls, start: float, length: float, count: int, data_start: int, data_stop: int
    ) -> _Taps:
        """Return the taps of `count` px over ``[start, start + length)``.

        Px outside of ``[data_start, data_stop)`` get no weight.
        """
        edges = start + np.arange(count + 1) * (length / count)
        first = np.floor(edges[:-1] + WHOLE).astype(np.int64)
        taps = int(np.max(np.ceil(edges[1:] - WHOLE) - first))
        px = first[:, None] + np.arange(max(1, taps))
        covered = np.minimum(px + 1, edges[1:, None]) - np.maximum(px, edges[:-1, None])
        weights = np.maximum(covered, 0) / np.diff(edges)[:, None]
        weights[(px < data_start) | (px >= data_stop)] = 0
        return cls(first - data_start, weights.astype(np.float32))

    def average_rows(self, data: Floats | Pixels) -> Floats:
        """Average (h, w, 3) data along y to (n, w, 3) float32."""
        total = np.zeros((len(self.first), *data.shape[1:]), np.float32)
        for tap in range(self.weights.shape[1]):
            px = np.clip(self.first + tap, 0, len(data) - 1)
            total += data[px] * self.weights[:, tap, None, None]
        return total

    def average_columns(self, data: Floats) -> Floats:
        """Average (h, w, 3) data along x to (h, n, 3) float32."""
        total = np.zeros((data.shape[0], len(self.first), 3), np.float32)
        for tap in range(self.weights.shape[1]):
            px = np.clip(self.first + tap, 0, data.shape[1] - 1)
            total += np.take(data, px, axis=1) * self.weights[None, :, tap, None]
        return total


class _WholeSteps:
    """Writes bands to a result of which each row covers a whole number of rows.

    Rows that are left over at the end of a band are carried over to the next.
    """

    def __init__(self, step: int, out: Pixels) -> None:
        self._step = step
        self._out = out
        self._done = 0
        self._left: Pixels | None = None

    def add(self, pixels: Pixels, band: Box) -> None:
        """Take the pixels of the next band."""
        del band
        if self._left is not None and len(self._left):
            pixels = np.concatenate([self._left, pixels])
        rows = len(pixels) // self._step
        if rows:
            size = Size(self._out.shape[1], rows)
            self._out[self._done : self._done + rows] = _by_area(pixels[: rows * self._step], size)
            self._done += rows
        self._left = pixels[rows * self._step :].copy()


class _AnySteps:
    """Writes bands to a result whose rows and columns may cover fractions of pixels.

    A row of the result that straddles two bands is carried over as a partial sum.
    """

    def __init__(self, window: Window, hull: Box, out: Pixels) -> None:
        self._window = window
        self._out = out
        self._step = window.height / len(out)
        self._done = 0
        self._carry: Floats | None = None
        width = out.shape[1]
        self._columns: _Taps | None = None
        if not window.has_whole_sides or hull.width < width:
            self._columns = _Taps.make(window.x, window.width, width, hull.x, hull.right)

    def add(self, pixels: Pixels, band: Box) -> None:
        """Take the pixels of the next band; write the rows that are complete with it."""
        reach = (band.bottom - self._window.y) / self._step
        complete = min(len(self._out), math.floor(reach + WHOLE))
        touched = min(len(self._out), math.ceil(reach - WHOLE))
        if touched <= self._done:
            return
        start = self._window.y + self._done * self._step
        length = (touched - self._done) * self._step
        taps = _Taps.make(start, length, touched - self._done, band.y, band.bottom)
        rows = taps.average_rows(pixels)
        if self._carry is not None:
            rows[0] += self._carry
        ready = complete - self._done
        if ready:
            averaged = self._average_columns(rows[:ready])
            self._out[self._done : complete] = np.clip(np.rint(averaged), 0, 255)
        self._carry = rows[ready].copy() if touched > complete else None
        self._done = complete

    def _average_columns(self, rows: Floats) -> Floats:
        if self._columns is not None:
            return self._columns.average_columns(rows)
        size = (self._out.shape[1], len(rows))
        return np.asarray(cv2.resize(rows, size, interpolation=cv2.INTER_AREA), np.float32)
