"""Area averaging: exact, without shift and bias, the same in bands as in one piece."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsistore.geometry import Box, Size
from wsistore.slides import resampling
from wsistore.slides.resampling import Window, enlarge, halve, shrink

Pixels = NDArray[np.uint8]


def _reader(pixels: Pixels, boxes: list[Box] | None = None) -> Callable[[Box], Pixels]:
    def read(box: Box) -> Pixels:
        if boxes is not None:
            boxes.append(box)
        out = np.full((box.height, box.width, 3), 255, np.uint8)
        inside = box.intersect(Box(0, 0, pixels.shape[1], pixels.shape[0]))
        out[inside.y - box.y : inside.bottom - box.y, inside.x - box.x : inside.right - box.x] = (
            pixels[inside.y : inside.bottom, inside.x : inside.right]
        )
        return out

    return read


def _weights(start: float, length: float, count: int, px: int) -> NDArray[np.float64]:
    """Return (count, px): the part of each px within each px of the result, by definition."""
    edges = start + np.arange(count + 1)[:, None] * (length / count)
    j = np.arange(px)
    covered = np.minimum(edges[1:], j + 1) - np.maximum(edges[:-1], j)
    return np.maximum(covered, 0) / (length / count)


def _truth(pixels: Pixels, window: Window, size: Size) -> NDArray[np.float64]:
    rows = _weights(window.y, window.height, size.height, pixels.shape[0])
    columns = _weights(window.x, window.width, size.width, pixels.shape[1])
    down = np.tensordot(rows, pixels.astype(float), (1, 0))
    return np.tensordot(down, columns, (1, 1)).transpose(0, 2, 1)


def _noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


@given(
    x=st.floats(0, 9),
    y=st.floats(0, 9),
    width=st.floats(0.3, 30),
    height=st.floats(0.3, 30),
    factor=st.floats(1, 6),
)
def test_any_window_is_averaged_by_definition(
    x: float, y: float, width: float, height: float, factor: float
) -> None:
    pixels = _noise(40, 40)
    window = Window(x, y, width, height)
    size = Size(max(1, round(width / factor)), max(1, round(height / factor)))
    got = shrink(_reader(pixels), window, size, 8)
    assert got.shape == (size.height, size.width, 3)
    assert got.dtype == np.uint8
    assert np.abs(got - _truth(pixels, window, size)).max() <= 0.51


@pytest.mark.parametrize("factor", [2, 3, 4, 7])
def test_whole_factors_are_exact(factor: int) -> None:
    pixels = _noise(84, 168)
    size = Size(84 // factor, 168 // factor)
    got = shrink(_reader(pixels), Window(0, 0, 84, 168), size, 16)
    means = pixels.reshape(size.height, factor, size.width, factor, 3).mean((1, 3))
    assert np.abs(got - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    "window",
    [Window(0, 0, 96, 120), Window(3, 5, 64, 77), Window(1.25, 0.5, 90.5, 101.3)],
    ids=["all", "whole edges", "fractions"],
)
@pytest.mark.parametrize("rows", [8, 32])
def test_bands_give_what_one_piece_gives(
    monkeypatch: pytest.MonkeyPatch, window: Window, rows: int
) -> None:
    pixels, size = _noise(100, 130), Size(37, 29)
    whole = shrink(_reader(pixels), window, size, rows)
    monkeypatch.setattr(resampling, "BAND_BYTES", 100 * 3 * 20)
    boxes: list[Box] = []
    banded = shrink(_reader(pixels, boxes), window, size, rows)
    # cv2 and the bands may round a tie to different sides.
    assert np.abs(whole.astype(int) - banded).max() <= 1
    assert len(boxes) > 2
    assert all(box.bottom % rows == 0 for box in boxes[:-1])
    assert sum(box.height for box in boxes) == window.hull.height
    assert np.abs(banded - _truth(pixels, window, size)).max() <= 0.51


@pytest.mark.parametrize("factor", [3, 5])
@pytest.mark.parametrize("rows", [8, 31])
def test_bands_of_whole_steps_are_exact(
    monkeypatch: pytest.MonkeyPatch, factor: int, rows: int
) -> None:
    """Bands end within rows of the result, so that rows are carried over."""
    pixels, size = _noise(90, 150), Size(90 // factor, 120 // factor)
    window = Window(0, 7, 90, 120)
    monkeypatch.setattr(resampling, "BAND_BYTES", 90 * 3 * 10)
    got = shrink(_reader(pixels), window, size, rows)
    part = pixels[7:127].reshape(size.height, factor, size.width, factor, 3)
    assert np.abs(got - part.mean((1, 3))).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("factor", [1.7, 2, 2.5, 3.9, 8])
@pytest.mark.parametrize("offset", [0, 0.25, 3.6])
def test_a_gradient_is_not_shifted(factor: float, offset: float) -> None:
    """The mean of a linear ramp over an interval is its value at the interval's centre."""
    ramp = np.arange(0, 250, 2)  # a slope of 2: rounding to 0.5 hides a shift of 0.25 px at most
    pixels = np.broadcast_to(ramp[None, :, None], (40, 125, 3)).astype(np.uint8)
    count = int((125 - offset) / factor)
    window = Window(offset, 0, count * factor, 40)
    got = shrink(_reader(pixels), window, Size(count, 20), 16).astype(float)
    # Px i has its centre at i + 0.5.
    centres = 2 * (offset + (np.arange(count) + 0.5) * factor - 0.5)
    assert np.abs(got[0, :, 0] - centres).max() <= 0.51
    turned = shrink(
        _reader(pixels.transpose(1, 0, 2)),
        Window(0, offset, 40, count * factor),
        Size(20, count),
        16,
    )
    assert np.array_equal(turned.transpose(1, 0, 2)[0], got[0])


def test_there_is_no_bias() -> None:
    pixels = _noise(900, 900)
    for window, size in (
        (Window(0, 0, 900, 900), Size(500, 500)),
        (Window(0.3, 0.7, 890, 890), Size(300, 300)),
    ):
        got = shrink(_reader(pixels), window, size, 64)
        assert abs((got - _truth(pixels, window, size)).mean()) <= 0.01


def test_a_flat_image_stays_flat() -> None:
    pixels = np.full((200, 200, 3), 201, np.uint8)
    got = shrink(_reader(pixels), Window(0.3, 0.1, 187.7, 150.2), Size(41, 33), 16)
    assert np.unique(got).tolist() == [201]


def test_enlarging_a_gradient_does_not_shift_it() -> None:
    pixels = np.broadcast_to(np.arange(0, 200, 2)[None, :, None], (10, 100, 3)).astype(np.uint8)
    got = enlarge(_reader(pixels), Window(0, 0, 100, 10), Size(200, 20)).astype(float)
    wanted = np.arange(200) - 0.5
    assert np.abs(got[5, 1:-1, 0] - wanted[1:-1]).max() <= 0.51


def test_halving_has_no_bias():
    pixels = np.random.default_rng(3).integers(0, 256, (512, 512, 3), np.uint8)
    exact = pixels.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.array_equal(halve(pixels), np.rint(exact))
    assert abs((halve(pixels) - exact).mean()) < 0.01
