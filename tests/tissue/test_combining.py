from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.tissue import (
    TissueMask,
    closed,
    difference,
    dilated,
    holes_filled,
    intersection,
    morphology,
    opened,
    resized,
    small_removed,
    union,
)


@st.composite
def pairs(draw):
    def one():
        height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
        bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
        return TissueMask(np.array(bits).reshape(height, width), (97, 61))

    return one(), one()


@given(pairs())
def test_union_and_intersection_are_bounds(pair):
    one, two = pair
    fitting = resized(two, one.shape[::-1])
    both, either, only = intersection(one, two), union(one, two), difference(one, two)
    assert both.tissue_fraction <= min(one.tissue_fraction, fitting.tissue_fraction)
    assert either.tissue_fraction >= max(one.tissue_fraction, fitting.tissue_fraction)
    assert (only.pixels == one.pixels & ~fitting.pixels).all()
    assert (either.pixels == one.pixels | fitting.pixels).all()
    assert either.shape == one.shape


@given(pairs(), st.integers(1, 12), st.integers(1, 12))
def test_resizing_asks_each_px_for_its_share(pair, width, height):
    mask = pair[0]
    x = np.arange(width + 1) * 97 / width
    y = np.arange(height + 1) * 61 / height
    some, half, whole = (resized(mask, (width, height), least=f).pixels for f in (0, 0.5, 1))
    (rows, columns) = mask.shape
    for i in range(height):
        for j in range(width):
            share = sum(
                max(0, min(x[j + 1], (c + 1) * 97 / columns) - max(x[j], c * 97 / columns))
                * max(0, min(y[i + 1], (r + 1) * 61 / rows) - max(y[i], r * 61 / rows))
                for r, c in zip(*np.nonzero(mask.pixels), strict=True)
            ) / ((x[j + 1] - x[j]) * (y[i + 1] - y[i]))
            assert some[i, j] == (share > 1e-9)
            assert whole[i, j] == (share > 1 - 1e-9)
            if abs(share - 0.5) > 1e-9:
                assert half[i, j] == (share > 0.5)


def test_resizing_keeps_the_ground_and_the_mpp_true():
    mask = TissueMask(np.eye(10), (1000, 1000), (100.0, 100.0))
    finer = resized(mask, (40, 20))
    assert finer.mpp == (25.0, 50.0)
    assert finer.area_mm2 == pytest.approx(mask.area_mm2)
    assert finer.downsample == (25.0, 50.0)
    with pytest.raises(UsageError):
        resized(mask, (0, 5))
    with pytest.raises(UsageError):
        resized(mask, (5, 5), least=2)


def test_masks_of_other_slides_don_t_combine():
    with pytest.raises(UsageError, match="slides of"):
        union(TissueMask(np.ones((2, 2)), (9, 9)), TissueMask(np.ones((2, 2)), (9, 8)))


@given(st.integers(0, 99), st.floats(0, 6), st.sampled_from(["opened", "closed", "dilated"]))
def test_morphology_is_that_of_a_disc(seed, radius, name):
    pixels = np.random.default_rng(seed).random((24, 31)) > 0.6
    reach = int(radius)
    side = np.arange(-reach, reach + 1)
    kernel = (side[:, None] ** 2 + side[None] ** 2 <= radius**2).astype(np.uint8)
    operation = {"opened": cv2.MORPH_OPEN, "closed": cv2.MORPH_CLOSE, "dilated": cv2.MORPH_DILATE}
    wide = 3 * reach if name != "opened" else 0
    expected = cv2.morphologyEx(np.pad(pixels, wide).astype(np.uint8), operation[name], kernel)
    expected = expected[wide : wide + 24, wide : wide + 31] > 0
    assert (getattr(morphology, name)(pixels, radius) == expected).all()


def test_radii_are_in_um_or_px():
    pixels = np.zeros((40, 40), bool)
    pixels[10:30, 10:30] = True
    pixels[5, 5] = True
    mask = TissueMask(pixels, (400, 400), (5.0, 5.0))
    assert (opened(mask, 10).pixels == opened(mask, 2, "px").pixels).all()
    assert not opened(mask, 10).pixels[5, 5]
    assert dilated(mask, 10).pixels.sum() > closed(mask, 10).pixels.sum()
    assert opened(mask, 10).parameters["steps"] == [{"step": "opened", "radius": 10, "unit": "um"}]
    twice = closed(opened(mask, 10), 5)
    assert [step["step"] for step in twice.parameters["steps"]] == ["opened", "closed"]
    for bad in (-1, float("nan"), 1e9):
        with pytest.raises(UsageError, match="radius"):
            opened(mask, bad, "px")
    with pytest.raises(UsageError, match="unit"):
        opened(mask, 1, "mm")
    with pytest.raises(UsageError, match="pixel size"):
        opened(TissueMask(pixels, (400, 400)), 1)


def test_holes_and_small_pieces_by_area():
    pixels = np.zeros((40, 40), bool)
    pixels[5:35, 5:35] = True
    pixels[8:10, 8:10] = pixels[20:30, 20:30] = False
    pixels[1, 1:5] = True
    mask = TissueMask(pixels, (400, 400), (10.0, 10.0))  # a px is 0.0001 mm²
    assert holes_filled(mask).pixels.sum() == 904
    assert holes_filled(mask, most_mm2=0.0005).pixels.sum() == 804
    assert holes_filled(mask, most_fraction=4 / 1600).pixels.sum() == 804
    assert small_removed(mask, least_mm2=0.0005).pixels.sum() == 796
    assert small_removed(mask, least_mm2=0.0004).pixels.sum() == 800
    assert small_removed(mask, least_fraction=5 / 1600).pixels.sum() == 796
    with pytest.raises(UsageError, match="either"):
        small_removed(mask)
    with pytest.raises(UsageError, match="within 0-1"):
        small_removed(mask, least_fraction=3)


def test_background_that_reaches_the_border_is_no_hole():
    pixels = np.ones((6, 6), bool)
    pixels[0:3, 2] = False
    pixels[4, 4] = False
    assert morphology.filled(pixels).sum() == 33
    # a gap that only touches the outside at a corner is open, as tissue there is apart
    diagonal = np.ones((4, 4), bool)
    diagonal[0, 0] = diagonal[1, 1] = False
    assert (morphology.filled(diagonal) == diagonal).all()
