"""Value objects of space and scale."""

import math
import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wsistore.errors import MetadataError, ResolutionError, UsageError
from wsistore.geometry import (
    MPP_MAX,
    MPP_MIN,
    Box,
    Magnification,
    Mpp,
    Resolution,
    Size,
    as_box,
    ceil_div,
    snap_downsample,
)

sides = st.integers(2_000, 300_000)


@given(sides, sides, st.integers(1, 64), st.sampled_from(["floor", "ceil", "round"]))
def test_the_integer_that_was_meant_is_found(width, height, factor, rounding):
    make = {"floor": math.floor, "ceil": math.ceil, "round": round}[rounding]
    full = Size(width, height)
    reduced = Size(make(width / factor), make(height / factor))
    # A ratio of sizes is off by up to ratio / reduced; where that reaches half, sizes
    # don't tell the integer.
    assume(factor / min(reduced) < 0.4)
    found = snap_downsample(full, reduced)
    assert found == factor
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("full", "reduced", "downsample"),
    [
        ((46000, 32914), (11500, 8228), 4.0),
        ((46000, 32914), (2875, 2057), 16.0),
        ((2220, 2967), (574, 768), (2220 / 574 + 2967 / 768) / 2),
        ((1000, 1000), (400, 400), 2.5),
        ((100, 100), (100, 100), 1.0),
        ((10, 10), (1000, 1000), 0.01),
    ],
)
def test_known_downsamples(full, reduced, downsample):
    assert snap_downsample(Size(*full), Size(*reduced)) == downsample


@given(st.integers(0, 100))
def test_levels_survive_parsing(index):
    resolution = Resolution.level(index)
    assert Resolution.parse(str(resolution)) == resolution


@given(st.sampled_from(["mpp", "magnification"]), st.floats(1e-3, 1e3))
def test_resolutions_survive_parsing(unit, value):
    resolution = Resolution(unit, value)
    again = Resolution.parse(str(resolution))
    assert again.unit == unit
    assert again.value == pytest.approx(value, rel=1e-5)  # six digits are printed
    assert Resolution.parse(f"  {value!r}{'MPP' if unit == 'mpp' else 'X'} ") == resolution


@pytest.mark.parametrize(
    ("text", "resolution"),
    [
        ("level:1", Resolution.level(1)),
        ("0.5mpp", Resolution.mpp(0.5)),
        ("0.5um", Resolution.mpp(0.5)),
        ("0.5µm", Resolution.mpp(0.5)),
        ("20x", Resolution.magnification(20)),
    ],
)
def test_texts_of_resolutions(text, resolution):
    assert Resolution.parse(text) == resolution


@pytest.mark.parametrize(
    "text", ["", "20", "x", "level:-1", "level:1.5", "0mpp", "-1x", "nanmpp", "infx", "1,5mpp"]
)
def test_what_is_no_resolution_is_refused(text):
    with pytest.raises(ResolutionError):
        Resolution.parse(text)


def test_a_resolution_checks_itself():
    for unit, value in [("level", 0.5), ("mpp", math.nan), ("magnification", math.inf)]:
        with pytest.raises(ResolutionError, match=unit):
            Resolution(unit, value)
    with pytest.raises(ResolutionError, match="unknown unit"):
        Resolution("dpi", 300)


@given(st.floats(MPP_MIN, MPP_MAX), st.floats(MPP_MIN, MPP_MAX), st.floats(1, 64))
def test_mpp_is_a_pair_that_travels_with_its_origin(x, y, downsample):
    mpp = Mpp(x, y, "aperio.MPP").scaled(downsample)  # may go beyond MPP_MAX
    again = pickle.loads(pickle.dumps(mpp))
    assert type(again) is Mpp
    assert tuple(again) == (again.x, again.y) == (x * downsample, y * downsample)
    assert again.origin == "aperio.MPP"
    assert again.mean == pytest.approx((mpp.x + mpp.y) / 2)
    assert "aperio.MPP" in repr(again)


@pytest.mark.parametrize("bad", [0.0, -0.25, MPP_MIN / 2, MPP_MAX * 1.01, math.nan, math.inf])
def test_absurd_pixel_sizes_are_refused(bad):
    for pair in ((bad, 0.25), (0.25, bad)):
        with pytest.raises(MetadataError, match=r"aperio\.MPP"):
            Mpp(*pair, "aperio.MPP")


def test_magnification_is_a_number_that_travels_with_its_origin():
    again = pickle.loads(pickle.dumps(Magnification(40, "aperio.AppMag")))
    assert type(again) is Magnification
    assert again == 40.0
    assert again.origin == "aperio.AppMag"
    assert "aperio.AppMag" in repr(again)
    for bad in (0, -20, math.nan, math.inf):
        with pytest.raises(MetadataError, match="argument"):
            Magnification(bad, "argument")


boxes = st.builds(Box, st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 9), st.integers(0, 9))


def pixels(box):
    return {(x, y) for x in range(box.x, box.right) for y in range(box.y, box.bottom)}


@given(boxes, boxes)
def test_an_intersection_holds_the_common_pixels(a, b):
    common = a.intersect(b)
    assert pixels(common) == pixels(a) & pixels(b)
    assert common.is_empty == (not pixels(common))


@pytest.mark.parametrize(
    "bad",
    [(0, 0, 0, 5), (0, 0, 5, -1), (0, 0, 5), (0, 0, 1.5, 5), "abcd", None, (0, 0, math.inf, 1)],
)
def test_what_is_no_box_is_refused(bad):
    with pytest.raises(UsageError, match="box"):
        as_box(bad)


def test_a_box_may_lie_outside_and_be_told_in_floats():
    assert as_box((-5.0, 3, 2, 4.0)) == Box(-5, 3, 2, 4)


@given(st.integers(-1000, 1000), st.integers(1, 50))
def test_ceil_div_rounds_up(numerator, denominator):
    found = ceil_div(numerator, denominator)
    assert found * denominator >= numerator > (found - 1) * denominator
