"""Thumbnails of slides whose tissue is known to the px, for tests of tissue masks.

Each scene is what a slide looks like at about 8 µm/px (1.25x): glass, pieces of stained
tissue with an irregular border, and what makes masks go wrong: ink, folds, fat, borders
of the scanner, dust, grey light. As `wsistore.testing.texture` it is made of hashes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsistore.testing.noise import Floats, ramp, unit, value_noise, words

SCENE_MPP = 8.0
"""µm/px of the scenes."""

_EOSIN = np.array([0.045, 0.31, 0.15], np.float32)
_HAEMATOXYLIN = np.array([0.46, 0.56, 0.27], np.float32)
_INKS = {
    "blue": (38, 60, 168),
    "green": (28, 145, 84),
    "red": (208, 34, 44),
    "black": (32, 30, 34),
}


@dataclass(frozen=True, eq=False)
class Scene:
    """A thumbnail and the truth about it.

    Parameters
    ----------
    name : str
        Key in `SCENES`.
    pixels : (h, w, 3) uint8
        RGB.
    truth : (h, w) bool
        Where there is tissue.
    """

    name: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.bool_]


_Amount = NDArray[np.floating] | float


class _Canvas:
    """Light that is filtered by stain and ink, and a record of where the tissue is."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        self.salt = 7919 * (seed + 1)
        self.x = np.arange(width, dtype=np.float32)[None, :]
        self.y = np.arange(height, dtype=np.float32)[:, None]
        self.width, self.height = width, height
        self.light = np.empty((height, width, 3), np.float32)
        self.light[:] = (243.0, 242.0, 244.0)
        self.truth = np.zeros((height, width), np.bool_)

    def noise(self, cell: float, salt: int) -> Floats:
        return value_noise(self.x, self.y, (cell, cell), self.salt + salt)

    def blob(self, cx: float, cy: float, radius: float, salt: int = 0) -> Floats:
        """Return a piece with a ragged border: > 0 inside; lengths are fractions of a side."""
        dx = (self.x - cx * self.width) / (radius * self.width)
        dy = (self.y - cy * self.height) / (radius * self.height)
        field = 1 - np.sqrt(dx * dx + dy * dy)
        field = field + 0.5 * (self.noise(90, salt + 1) - 0.5) + 0.12 * (self.noise(17, salt) - 0.5)
        smooth: Floats = field.astype(np.float32)
        return smooth

    def stain(self, field: Floats, eosin: _Amount, haematoxylin: _Amount) -> None:
        """Stain where the field is positive; the border is soft by about a px."""
        cover = ramp(field, -0.006, 0.006)[..., None]
        red_stain, blue_stain = (np.broadcast_to(a, field.shape) for a in (eosin, haematoxylin))
        amount = np.multiply.outer(red_stain, _EOSIN) + np.multiply.outer(blue_stain, _HAEMATOXYLIN)
        self.light *= 1 - cover + cover * 10.0 ** -amount.astype(np.float32)
        self.truth |= field > 0

    def tissue(self, field: Floats, strength: float = 1.0, salt: int = 40) -> None:
        """Stain as ordinary tissue is: mottled eosin, and nests of haematoxylin."""
        eosin = strength * (0.35 + 0.5 * self.noise(13, salt) + 0.25 * self.noise(3, salt + 1))
        nests = ramp(self.noise(38, salt + 2), 0.45, 0.75)
        blue = strength * (0.06 + 0.4 * nests * (0.6 + 0.6 * self.noise(4, salt + 3)))
        self.stain(field, eosin, blue)

    def stroke(self, distance: Floats, width: float, colour: tuple[int, int, int]) -> None:
        """Paint ink where a line is nearer than half its width, in px."""
        wobble = 6 * (self.noise(40, 71) - 0.5)
        cover = ramp(width / 2 + wobble - distance, -1.0, 1.5)[..., None]
        streaks = 0.85 + 0.3 * self.noise(9, 72)[..., None]
        through = (np.asarray(colour, np.float32) / 243.0) ** streaks
        self.light *= 1 - cover + cover * through
        self.truth &= distance > width / 2 + wobble

    def ring(self, cx: float, cy: float, rx: float, ry: float) -> Floats:
        """Return the distance to an ellipse, roughly, in px."""
        dx, dy = (self.x - cx * self.width) / rx, (self.y - cy * self.height) / ry
        return np.asarray(np.abs(np.sqrt(dx * dx + dy * dy) - 1) * min(rx, ry), np.float32)

    def finish(self, name: str) -> Scene:
        """Add the sensor's noise, and round."""
        columns = np.arange(self.width, dtype=np.int64)[None, :]
        rows = np.arange(self.height, dtype=np.int64)[:, None]
        for channel in range(3):
            word = words(columns, rows, self.salt + 900 + channel)
            self.light[..., channel] += 3 * (unit(word) + unit(word, 3) - np.float32(1))
        pixels = np.clip(self.light + 0.5, 0, 255).astype(np.uint8)
        self.truth.flags.writeable = False
        return Scene(name, pixels, self.truth)


def _ordinary(canvas: _Canvas) -> None:
    field = np.maximum(canvas.blob(0.35, 0.45, 0.28), canvas.blob(0.78, 0.6, 0.16, 20))
    vessel = canvas.blob(0.33, 0.42, 0.05, 60)  # a lumen that is no tissue
    canvas.tissue(np.minimum(field, -vessel))


def _pale_fat(canvas: _Canvas) -> None:
    """Fat: cells of about 80 µm that are empty, with thin and pale walls."""
    field = canvas.blob(0.5, 0.5, 0.33)
    pitch = 10.0
    column, row = np.floor(canvas.x / pitch), np.floor(canvas.y / pitch)
    first = np.full(field.shape, 1e3, np.float32)
    second = first.copy()
    for j in (-1, 0, 1):
        for i in (-1, 0, 1):
            word = words((column + i).astype(np.int64), (row + j).astype(np.int64), canvas.salt)
            cx = (column + i + np.float32(0.2) + np.float32(0.6) * unit(word)) * pitch
            cy = (row + j + np.float32(0.2) + np.float32(0.6) * unit(word, 3)) * pitch
            distance = np.hypot(canvas.x - cx, canvas.y - cy)
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
    wall = 1 - ramp(second - first, 0.3, 2.2)
    canvas.stain(field, 0.02 + 0.16 * wall, 0.015 * wall)


def _dark_fold(canvas: _Canvas) -> None:
    field = canvas.blob(0.5, 0.5, 0.33)
    canvas.tissue(field)
    along = canvas.x * 0.45 + canvas.y + 30 * canvas.noise(120, 80)
    fold = 1 - np.abs(along - 0.62 * (canvas.width * 0.45 + canvas.height)) / 24
    canvas.stain(np.minimum(field, fold.astype(np.float32)), 1.2, 1.0)


def _ink(colour: str) -> Callable[[_Canvas], None]:
    def draw(canvas: _Canvas) -> None:
        canvas.tissue(canvas.blob(0.45, 0.5, 0.24))
        canvas.stroke(
            canvas.ring(0.47, 0.5, 0.40 * canvas.width, 0.44 * canvas.height), 26, _INKS[colour]
        )
        slash = np.abs(canvas.y - 0.15 * canvas.height - 0.35 * (canvas.x - 0.1 * canvas.width))
        beyond = np.maximum(canvas.x - 0.55 * canvas.width, 0)
        canvas.stroke(np.asarray(slash + beyond, np.float32), 18, _INKS[colour])

    return draw


def _black_border(canvas: _Canvas) -> None:
    canvas.tissue(canvas.blob(0.5, 0.45, 0.25))
    canvas.light[:, : canvas.width // 14] = (4, 4, 5)
    canvas.light[-canvas.height // 11 :] = (9, 8, 8)
    canvas.light[:, -canvas.width // 40 :] = (120, 121, 120)
    canvas.truth[:, : canvas.width // 14] = False
    canvas.truth[-canvas.height // 11 :] = False
    canvas.truth[:, -canvas.width // 40 :] = False


def _almost_empty(canvas: _Canvas) -> None:
    canvas.tissue(canvas.blob(0.7, 0.35, 0.062, 20))


def _empty(canvas: _Canvas) -> None:
    """Glass alone, lit unevenly and a little yellow on one side."""
    shade = 1 - 0.05 * ((canvas.x / canvas.width - 0.5) ** 2 + (canvas.y / canvas.height) ** 2)
    canvas.light *= shade[..., None]
    canvas.light[..., 2] *= 1 - 0.012 * canvas.x / canvas.width


def _dust(canvas: _Canvas) -> None:
    """Specks and fibres, grey and brown, and the edge of a cover glass."""
    _empty(canvas)
    for index in range(40):
        word = words(np.array([[index]]), np.array([[3]]), canvas.salt)
        cx, cy, size, tint = (float(unit(word, shift)[0, 0]) for shift in (0, 3, 5, 7))
        distance = np.hypot(canvas.x - cx * canvas.width, canvas.y - cy * canvas.height)
        cover = 1 - ramp(distance.astype(np.float32), 0.5 + 3 * size, 1.5 + 3 * size)
        colour = np.array([0.45, 0.40 - 0.08 * tint, 0.38 - 0.2 * tint], np.float32)
        canvas.light *= 1 - cover[..., None] * (1 - colour)
    line = np.abs(canvas.x - 0.9 * canvas.width - 0.02 * canvas.y)
    canvas.light *= (1 - 0.35 * (1 - ramp(line.astype(np.float32), 0.5, 2.0)))[..., None]
    fibre = np.abs(canvas.y - 0.3 * canvas.height - 40 * (canvas.noise(150, 5) - 0.5))
    inside = (np.abs(canvas.x - 0.4 * canvas.width) < 60) * (1 - ramp(fibre, 0.4, 1.6))
    canvas.light *= 1 - inside[..., None] * np.array([0.5, 0.35, 0.15], np.float32)


def _grey(canvas: _Canvas) -> None:
    """Dim the lamp to glass at about 185, with white where nothing was scanned."""
    _ordinary(canvas)
    canvas.light *= np.array([0.77, 0.76, 0.755], np.float32)
    canvas.light[: canvas.height // 9] = 252.0  # the noise leaves it below 255
    canvas.truth[: canvas.height // 9] = False


_DRAW: dict[str, Callable[[_Canvas], None]] = {
    "ordinary": _ordinary,
    "pale-fat": _pale_fat,
    "dark-fold": _dark_fold,
    "blue-ink": _ink("blue"),
    "green-ink": _ink("green"),
    "red-ink": _ink("red"),
    "black-ink": _ink("black"),
    "black-border": _black_border,
    "almost-empty": _almost_empty,
    "grey-light": _grey,
    "empty": _empty,
    "dust": _dust,
}

SCENES = tuple(_DRAW)
"""Names of the scenes; ``"empty"`` and ``"dust"`` have no tissue."""


def scene(name: str, *, width: int = 640, height: int = 480, seed: int = 0) -> Scene:
    """Return a thumbnail at `SCENE_MPP` µm/px with known tissue.

    Parameters
    ----------
    name : str
        One of `SCENES`.
    width, height : int
        Size in px.
    seed : int
        Another seed gives another scene of the same kind.

    Raises
    ------
    ValueError
        If there is no such scene.
    """
    if name not in _DRAW:
        raise ValueError(f"no scene {name!r}; there are {', '.join(SCENES)}")
    canvas = _Canvas(width, height, seed)
    _DRAW[name](canvas)
    return canvas.finish(name)
