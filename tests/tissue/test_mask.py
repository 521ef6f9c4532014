from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.tissue import TissueMask


def brute_force(mask: TissueMask, box: list[int]) -> Fraction:
    """Area of the box that is tissue, px by px, in exact fractions."""
    x, y, width, height = box
    (rows, columns), size = mask.shape, mask.slide_size
    covered = Fraction(0)
    for i in range(rows):
        for j in range(columns):
            if mask.pixels[i, j]:
                left = max(Fraction(j * size.width, columns), Fraction(x))
                right = min(Fraction((j + 1) * size.width, columns), Fraction(x + width))
                top = max(Fraction(i * size.height, rows), Fraction(y))
                bottom = min(Fraction((i + 1) * size.height, rows), Fraction(y + height))
                covered += max(Fraction(0), right - left) * max(Fraction(0), bottom - top)
    return covered / (width * height)


@st.composite
def masks(draw: st.DrawFn) -> TissueMask:
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    size = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
    return TissueMask(np.array(bits).reshape(height, width), size)


box = st.tuples(
    st.integers(-30, 60), st.integers(-30, 60), st.integers(1, 70), st.integers(1, 70)
).map(list)


@given(masks(), st.lists(box, min_size=1, max_size=5))
def test_coverage_is_the_area_counted_by_hand(mask: TissueMask, boxes: list[list[int]]) -> None:
    found = mask.coverage(np.array(boxes))
    assert found == pytest.approx([float(brute_force(mask, b)) for b in boxes], abs=1e-14)


@given(masks(), box)
def test_coverage_is_within_bounds_and_adds_up(mask: TissueMask, b: list[int]) -> None:
    inverse = mask.with_pixels(~mask.pixels)
    everything = mask.with_pixels(np.ones_like(mask.pixels))
    part, rest, whole = (m.coverage([b])[0] for m in (mask, inverse, everything))
    assert 0 <= part <= whole <= 1
    assert part + rest == pytest.approx(whole)


def test_a_box_in_tissue_is_covered_exactly() -> None:
    mask = TissueMask(np.ones((97, 131)), (99991, 70001))
    rng = np.random.default_rng(0)
    at = rng.integers(0, 69_000, (20_000, 2))
    boxes = np.column_stack([at, rng.integers(1, 1000, (20_000, 2))])
    assert (mask.coverage(boxes) == 1.0).all()


def test_what_lies_outside_counts_in_the_area() -> None:
    mask = TissueMask(np.ones((10, 10)), (100, 100))
    boxes = [[-50, 0, 100, 100], [0, 90, 20, 20], [100, 0, 5, 5], [-50, -50, 200, 200]]
    assert mask.coverage(boxes).tolist() == [0.5, 0.5, 0.0, 0.25]


def test_many_boxes_come_in_order_across_the_blocks_they_are_counted_in() -> None:
    pixels = np.random.default_rng(1).random((64, 64)) > 0.5
    mask = TissueMask(pixels, (6400, 6400))
    y, x = np.divmod(np.arange(40_000, dtype=np.int64), 200)
    boxes = np.column_stack([x * 31, y * 31, np.full_like(x, 77), np.full_like(x, 45)])
    whole = mask.coverage(boxes)
    for at in (0, 32_767, 32_768, 39_999):
        assert whole[at] == mask.coverage(boxes[at : at + 1])[0]
    assert mask.coverage(np.empty((0, 4), np.int64)).shape == (0,)


def test_masks_of_more_than_2_to_the_31_px_are_refused_or_counted_by_their_size() -> None:
    mask = TissueMask(np.ones((3, 7)), (2**30 - 1, 2**31 - 3))
    assert mask.coverage([[5, 5, 2**29, 2**29]])[0] == 1.0
    with pytest.raises(UsageError, match="64 bits"):
        TissueMask(np.ones((3001, 3001)), (2**31 - 1, 2**31 - 1)).coverage([[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.5, 0, 1, 1]], "integers"),
        ([0, 0, 1, 1], "integers"),
        ([[0, 0, 1]], "integers"),
        ([[0, 0, 4, 4], [1, 2, 0, 3]], r"box 1 has no area: \[1, 2, 0, 3\]"),
    ],
)
def test_boxes_are_checked(boxes: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TissueMask(np.ones((2, 2)), (9, 9)).coverage(boxes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": np.ones((2, 2, 3))}, "height, width"),
        ({"pixels": np.ones((0, 2))}, "height, width"),
        ({"slide_size": (0, 5)}, "slide_size"),
        ({"mpp": (1.0, float("nan"))}, "mpp"),
        ({"mpp": (-1.0, 1.0)}, "mpp"),
        ({"parameters": {"f": object()}}, "JSON"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TissueMask(**{"pixels": np.ones((2, 2)), "slide_size": (9, 9), **arguments})  # type: ignore[arg-type]


def test_it_can_not_be_changed() -> None:
    pixels = np.ones((2, 2), bool)
    mask = TissueMask(pixels, (9, 9))
    pixels[0, 0] = False
    assert mask.pixels.all()
    with pytest.raises(ValueError, match="read-only"):
        mask.pixels[0, 0] = False


def test_areas_and_fractions() -> None:
    pixels = np.zeros((10, 20))
    pixels[2:7, 4:8] = 255
    mask = TissueMask(pixels, (2000, 1000), mpp=(50.0, 25.0))
    assert mask.tissue_fraction == 0.1
    assert mask.area_mm2 == pytest.approx(20 * 50 * 25 * 1e-6)
    assert mask.downsample == (100.0, 100.0)
    assert not mask.is_empty
    assert mask.with_pixels(np.zeros((10, 20))).is_empty
    with pytest.raises(UsageError, match="pixel size"):
        _ = TissueMask(pixels, (2000, 1000)).area_mm2


def test_the_fingerprint_tells_masks_apart() -> None:
    pixels = np.zeros((4, 6))
    base = TissueMask(pixels, (60, 40), (10, 10), "here", "otsu", {"a": 1, "b": 2}, "slide")
    same = TissueMask(pixels, (60, 40), (10, 10), "there", "otsu", {"b": 2, "a": 1}, "other")
    assert base.fingerprint == same.fingerprint
    assert base == same
    assert hash(base) == hash(same)
    others = [
        base.with_pixels(np.eye(4, 6)),
        TissueMask(pixels.reshape(6, 4), (60, 40), (10, 10), "", "otsu", {"a": 1, "b": 2}),
        TissueMask(pixels, (61, 40), (10, 10), "", "otsu", {"a": 1, "b": 2}),
        TissueMask(pixels, (60, 40), None, "", "otsu", {"a": 1, "b": 2}),
        TissueMask(pixels, (60, 40), (10, 10), "", "entropy", {"a": 1, "b": 2}),
        TissueMask(pixels, (60, 40), (10, 10), "", "otsu", {"a": 1}),
    ]
    assert len({m.fingerprint for m in [base, *others]}) == 7
    assert all(other != base for other in others)


def test_it_pickles() -> None:
    mask = TissueMask(np.eye(4, 6), (60, 40), (10, 10), "tag", "otsu", {"a": 1}, "slide")
    again = pickle.loads(pickle.dumps(mask))
    assert again == mask
    assert (again.origin, again.source, dict(again.parameters)) == ("tag", "slide", {"a": 1})
