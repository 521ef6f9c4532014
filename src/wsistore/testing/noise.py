"""Hashes of lattice points, and smooth noise made of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]

QUAD = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Steps (row, column) from a lattice point to the corners of its cell."""


def mix(word: Words) -> Words:
    """Scramble 32-bit words (multiply and xor-shift, an invertible integer hash)."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> np.uint32(15))) * np.uint32(0x846CA68B)
    return word ^ (word >> np.uint32(16))


def words(column: NDArray[np.int64], row: NDArray[np.int64], salt: int) -> Words:
    """Return one hash per lattice point; (1, w) and (h, 1) stay cheap until they meet."""
    across = mix(column.astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32(salt))
    down = mix(row.astype(np.uint32) * np.uint32(0x85EBCA77) + np.uint32(salt ^ 0x5BD1E995))
    word: Words = across ^ (down << np.uint32(1))
    return (word ^ (word >> np.uint32(15))) * np.uint32(0x2C1B3C6D)


def unit(word: Words, shift: int = 0) -> Floats:
    """Return the hash as a number in [0, 1); `shift` rotates other bits to the top."""
    if shift:
        word = (word * np.uint32(0x9E3779B1 + 2 * shift)) ^ (word >> np.uint32(shift))
    return (word >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def smooth(t: Floats) -> Floats:
    """Return the cubic step 3 t^2 - 2 t^3 of t in [0, 1]."""
    return t * t * (np.float32(3) - np.float32(2) * t)


def ramp(value: Floats, low: float, high: float) -> Floats:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    t = (value - np.float32(low)) * np.float32(1 / (high - low))
    return smooth(np.clip(t, np.float32(0), np.float32(1)))


def value_noise(x: Floats, y: Floats, cell: tuple[float, float], salt: int) -> Floats:
    """Return value noise in [0, 1) with lattice cells of (width, height) px."""
    u, v = x * np.float32(1 / cell[0]), y * np.float32(1 / cell[1])
    left, top = np.floor(u), np.floor(v)
    fx, fy = smooth(u - left), smooth(v - top)
    column, row = left.astype(np.int64), top.astype(np.int64)
    a, b, c, d = (unit(words(column + i, row + j, salt)) for j, i in QUAD)
    upper = a + (b - a) * fx
    lower = c + (d - c) * fx
    return upper + (lower - upper) * fy
