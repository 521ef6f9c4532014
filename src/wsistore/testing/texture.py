"""A procedural H&E-like texture: every pixel is a pure function of (seed, x, y).

Nothing here is taken from a slide. Glass, pieces of tissue, wavy eosin stroma, glands
with a white lumen, haematoxylin nuclei and sensor noise are drawn from integer hashes
of lattice points, so that any window can be made without making the whole. Only
additions, products, square roots and tables are used, which IEEE 754 rounds alike
everywhere; a seed therefore gives the same pixels on every machine.

Lengths are in level-0 px and look right at about 0.5 µm/px (20x).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from wsistore.testing.noise import QUAD, Floats, ramp, unit, value_noise, words

GLASS_RGB = (244.0, 243.0, 245.0)
"""Colour of the empty slide under the lamp."""

PIECE_PX = (760, 600)
"""Pitch of the pieces of tissue, px."""
GLAND_PX = 190
"""Pitch of the glands, px."""
NUCLEUS_PX = 17
"""Pitch of the nuclei, px."""

_STAIN_STEPS = 1024
_MAX_STAIN = 2.0
_GRAIN = 5.0
# Salts of the fields, added to that of the seed.
_PIECES, _GLANDS, _SENSOR = 101, 211, 307
_SLAB_PX = 1 << 17


def texture(
    width: int, height: int, *, seed: int = 0, downsample: int = 1, x: int = 0, y: int = 0
) -> NDArray[np.uint8]:
    """Return a window of the texture, at full or reduced resolution.

    Parameters
    ----------
    width, height : int
        Size of the window in px of the result.
    seed : int
        Which texture.
    downsample : int
        Each pixel is the mean of ``downsample x downsample`` px of the full texture.
    x, y : int
        Left and top of the window in level-0 px.

    Returns
    -------
    (height, width, 3) uint8
        RGB.
    """
    return sample(
        np.arange(x, x + width * downsample),
        np.arange(y, y + height * downsample),
        seed=seed,
        downsample=downsample,
    )


def sample(
    xs: NDArray[np.int64], ys: NDArray[np.int64], *, seed: int = 0, downsample: int = 1
) -> NDArray[np.uint8]:
    """Return the texture on the grid of the given columns and rows.

    Parameters
    ----------
    xs, ys : (n,) int64
        Columns and rows in level-0 px, in any order and with any stride; their numbers
        are multiples of `downsample`.
    seed : int
        Which texture.
    downsample : int
        Mean of each ``downsample x downsample`` block of the grid.

    Returns
    -------
    (len(ys) // downsample, len(xs) // downsample, 3) uint8
        RGB.
    """
    out = np.empty((len(ys) // downsample, len(xs) // downsample, 3), np.uint8)
    for rows, block in _slabs(xs, ys, seed, downsample):
        out[rows] = block
    return out


def _slabs(
    xs: NDArray[np.int64], ys: NDArray[np.int64], seed: int, downsample: int
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Yield the result in runs of rows: memory stays bounded, and arrays fit the cache."""
    rows = max(1, _SLAB_PX // max(1, len(xs) * downsample))
    for top in range(0, len(ys) // downsample, rows):
        part = ys[top * downsample : (top + rows) * downsample]
        pixels = _pixels(xs, part, seed)
        yield slice(top, top + len(part) // downsample), block_mean(pixels, downsample)


def block_mean(pixels: NDArray[np.uint8], downsample: int) -> NDArray[np.uint8]:
    """Return the rounded mean of each block; sizes are multiples of `downsample`.

    Parameters
    ----------
    pixels : (h, w, 3) uint8
        Full-resolution pixels.
    downsample : int
        Side of the blocks, px.

    Returns
    -------
    (h // downsample, w // downsample, 3) uint8
    """
    if downsample == 1:
        return pixels
    height, width = pixels.shape[0] // downsample, pixels.shape[1] // downsample
    area = downsample * downsample
    total = pixels.reshape(height, downsample, width * downsample, 3).sum(1, dtype=np.uint32)
    total = total.reshape(height, width, downsample, 3).sum(2, dtype=np.uint32)
    mean: NDArray[np.uint8] = ((total + area // 2) // area).astype(np.uint8)
    return mean


# ------------------------------------------------------------------ anatomy


def _tissue(x: Floats, y: Floats, salt: int) -> Floats:
    """Return how much tissue there is, 0 (glass) to 1."""
    width, height = PIECE_PX
    column = np.floor(x * np.float32(1 / width) - np.float32(0.5)).astype(np.int64)
    row = np.floor(y * np.float32(1 / height) - np.float32(0.5)).astype(np.int64)
    field: Floats = np.full((1, 1), -1, np.float32)
    for j, i in QUAD:
        word = words(column + i, row + j, salt)
        cx = (column + i + np.float32(0.44) + np.float32(0.12) * unit(word)) * np.float32(width)
        cy = (row + j + np.float32(0.44) + np.float32(0.12) * unit(word, 3)) * np.float32(height)
        reach = np.float32(0.40) + np.float32(0.16) * unit(word, 5)
        dx, dy = (x - cx) * np.float32(1 / width), (y - cy) * np.float32(1 / height)
        field = np.maximum(field, np.float32(1) - (dx * dx + dy * dy) / (reach * reach))
    field = field + np.float32(1.1) * (value_noise(x, y, (170, 170), salt + 1) - np.float32(0.5))
    field = field + np.float32(0.35) * (value_noise(x, y, (37, 37), salt + 2) - np.float32(0.5))
    return ramp(field.astype(np.float32), 0.0, 0.07)


def _gland_distance(x: Floats, y: Floats, salt: int) -> Floats:
    """Return the distance to the nearest lumen's wall, px; negative inside a lumen."""
    column = np.floor(x * np.float32(1 / GLAND_PX) - np.float32(0.5)).astype(np.int64)
    row = np.floor(y * np.float32(1 / GLAND_PX) - np.float32(0.5)).astype(np.int64)
    nearest: Floats = np.full((1, 1), 1e3, np.float32)
    for j, i in QUAD:
        word = words(column + i, row + j, salt)
        cx = (column + i + np.float32(0.3) + np.float32(0.4) * unit(word)) * np.float32(GLAND_PX)
        cy = (row + j + np.float32(0.3) + np.float32(0.4) * unit(word, 3)) * np.float32(GLAND_PX)
        shape = np.float32(0.7) + np.float32(0.7) * unit(word, 5)
        radius = np.float32(62) * unit(word, 7) - np.float32(14)  # one in five has none
        dx, dy = (x - cx) * shape, (y - cy) / shape
        distance = np.sqrt(dx * dx + dy * dy) - radius
        distance = np.where(radius > np.float32(6), distance, np.float32(1e3))
        nearest = np.minimum(nearest, distance)
    wobble = value_noise(x, y, (26, 26), salt + 1) - np.float32(0.5)
    return (nearest + np.float32(16) * wobble).astype(np.float32)


def _nuclei(x: Floats, y: Floats, salt: int) -> tuple[Floats, Floats]:
    """Return (cover, chromatin) of nuclei: 0 to 1 inside of one, and its darkness.

    One nucleus per cell of a jittered lattice; none reaches further than half a cell
    beyond its own, so that the four nearest cells decide a pixel.
    """
    pitch = np.float32(1 / NUCLEUS_PX)
    column = np.floor(x[0] * pitch - np.float32(0.5)).astype(np.int64)
    row = np.floor(y[:, 0] * pitch - np.float32(0.5)).astype(np.int64)
    columns, column_at = np.unique(column, return_inverse=True)
    rows, row_at = np.unique(row, return_inverse=True)
    cover = np.zeros((len(row), len(column)), np.float32)
    dark = np.zeros_like(cover)
    for j, i in QUAD:
        cx, cy, along_x, along_y, across_x, across_y, strength = (
            value[row_at][:, column_at]
            for value in _nucleus(columns[None] + i, rows[:, None] + j, salt)
        )
        dx, dy = x - cx, y - cy
        u, v = along_x * dx + along_y * dy, across_x * dx + across_y * dy
        inside = ramp(u * u + v * v, 1.25, 0.7) * (strength > 0)
        stronger = inside > cover
        np.copyto(cover, inside, where=stronger)
        np.copyto(dark, strength, where=stronger)
    return cover, dark


def _nucleus(column: NDArray[np.int64], row: NDArray[np.int64], salt: int) -> tuple[Floats, ...]:
    """Return the nuclei of lattice cells.

    Returns
    -------
    tuple of seven float32 arrays
        Centre x and y in px; the two unit axes of the ellipse, each divided by the
        half-length along it; darkness, 0 where the cell has no nucleus.
    """
    word = words(column, row, salt)
    cx = (column + 0.2 + 0.6 * unit(word)).astype(np.float32) * np.float32(NUCLEUS_PX)
    cy = (row + 0.2 + 0.6 * unit(word, 3)).astype(np.float32) * np.float32(NUCLEUS_PX)
    wall = _gland_distance(cx, cy, salt + _GLANDS)
    epithelium = (wall > 4) & (wall < 25)
    wanted = np.where(epithelium, 0.9, np.where(wall >= 25, 0.38, 0.0))
    wanted = wanted * _tissue(cx, cy, salt + _PIECES)
    turn = 2 * unit(word, 5) - 1  # tangent of the half-angle: needs no sine
    cosine, sine = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    long = np.where(epithelium, 6.4, 5.0 + 4.5 * unit(word, 7)).astype(np.float32)
    short = np.where(epithelium, 4.8, 2.4 + 2.4 * unit(word, 9)).astype(np.float32)
    strength = np.where(unit(word, 11) < wanted, 0.55 + 0.45 * unit(word, 13), 0.0)
    axes = (cosine / long, sine / long, -sine / short, cosine / short)
    return cx, cy, *(axis.astype(np.float32) for axis in axes), strength.astype(np.float32)


# ------------------------------------------------------------------ stain and light


@cache
def _transmission() -> tuple[Floats, Floats]:
    """Return tables (steps, 3) of light that passes eosin and haematoxylin, per channel."""
    amount = np.linspace(0, _MAX_STAIN, _STAIN_STEPS)[:, None]
    eosin = 10.0 ** -(amount * np.array([[0.045, 0.31, 0.15]]))
    haematoxylin = 10.0 ** -(amount * np.array([[0.46, 0.56, 0.27]]))
    return eosin.astype(np.float32), haematoxylin.astype(np.float32)


def _steps(amount: Floats) -> NDArray[np.intp]:
    scaled = np.clip(amount, 0, _MAX_STAIN) * np.float32((_STAIN_STEPS - 1) / _MAX_STAIN)
    return scaled.astype(np.intp)


def _pixels(xs: NDArray[np.int64], ys: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    """Return (len(ys), len(xs), 3) uint8 of the full-resolution texture."""
    salt = int(np.uint32(seed & 0xFFFFFFFF) * np.uint64(0x632BE5AB) & np.uint64(0x7FFFFFFF))
    x = xs.astype(np.float32)[None, :]
    y = ys.astype(np.float32)[:, None]
    eosin, haematoxylin = _stains(x, y, salt)
    tables = _transmission()
    light = np.array(GLASS_RGB, np.float32)
    light = light * tables[0][_steps(eosin)] * tables[1][_steps(haematoxylin)]
    word = words(xs[None, :], ys[:, None], salt + _SENSOR)
    # Noise of the sensor: the sum of two uniform numbers is near enough to a bell curve.
    grain = (unit(word) + unit(word, 3) - np.float32(1)) * np.float32(_GRAIN)
    light += grain[..., None]
    pixels: NDArray[np.uint8] = np.clip(light + np.float32(0.5), 0, 255).astype(np.uint8)
    return pixels


def _stains(x: Floats, y: Floats, salt: int) -> tuple[Floats, Floats]:
    """Return the amounts of eosin and haematoxylin."""
    tissue = _tissue(x, y, salt + _PIECES)
    if not tissue.any():
        return tissue, tissue
    wall = _gland_distance(x, y, salt + _GLANDS)
    in_wall = ramp(wall, -1, 2)
    stroma = ramp(wall, 23, 29)
    wave = np.float32(46) * value_noise(x, y, (120, 120), salt + 31)
    fibres = value_noise(x * np.float32(0.2), y + wave, (8, 5), salt + 32)
    fine = value_noise(x, y, (3.1, 3.1), salt + 33)
    broad = value_noise(x, y, (90, 90), salt + 34)
    cleft = ramp(fibres * np.float32(0.75) + fine * np.float32(0.25), 0.18, 0.30)
    texture_of_stroma = (0.45 + 0.55 * fibres + 0.35 * (fine - 0.5) + 0.35 * broad) * cleft
    cytoplasm = 0.5 + 0.25 * fine + 0.15 * broad
    eosin = tissue * in_wall * (cytoplasm + stroma * (texture_of_stroma - cytoplasm))
    cover, dark = _nuclei(x, y, salt)
    chromatin = dark * (0.75 + 0.5 * fine)
    basophilia = (1 - stroma) * (0.16 + 0.1 * fine) + stroma * 0.06 * broad
    haematoxylin = tissue * in_wall * (basophilia * (1 - cover) + cover * chromatin)
    return eosin.astype(np.float32), haematoxylin.astype(np.float32)
