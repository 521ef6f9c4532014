"""Tile specs, and what they come to on a slide: lengths in whole level-0 px by one rule."""

import json
import pickle
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore import Resolution, Size, TileSpec
from wsistore.errors import MetadataError, ResolutionError, UsageError
from wsistore.testing.blank import blank_slide
from wsistore.tiles.grids import axis_starts
from wsistore.tiles.lattice import TileGeometry, axis_positions, tile_geometry, to_level0
from wsistore.tiles.levels import closest_level
from wsistore.tiles.regions import MeasurementUnit

SLIDE = (100_000, 80_000)


def test_sides_may_be_one_number_or_two():
    spec = TileSpec((256, 128), 64, "20x")
    assert (spec.width, spec.height) == (256, 128)
    assert (spec.stride_width, spec.stride_height) == (64, 64)
    assert spec.overlap == (192, 64)
    assert TileSpec(256, resolution="20x").stride == (256, 256)
    assert spec.resolution == Resolution.magnification(20)
    assert all(type(side) is int for side in (*spec.size, *spec.stride))


def test_a_spec_is_frozen_hashable_and_travels():
    spec = TileSpec(100.5, (50, 40), "0.5mpp", "um", "pad", layout="hexagonal", fill=240)
    with pytest.raises(FrozenInstanceError):
        spec.fill = 0
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert TileSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert len({spec, replace(spec), replace(spec, fill=0)}) == 2
    assert TileSpec(10, 10, "20x", MeasurementUnit.UM) == TileSpec(10, 10, "20x", "um")


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": 2.5},
        {"size": (1, 2, 3)},
        {"size": "256"},
        {"size": float("nan")},
        {"stride": -1},
        {"stride": (1,)},
        {"unit": "mm"},
        {"edge": "wrap"},
        {"layout": "round"},
        {"origin": "tissue"},
        {"align": "yes"},
        {"fill": 256},
        {"resolution": None},
        {"resolution": 0.5},
    ],
)
def test_values_that_make_no_sense_are_refused(change):
    with pytest.raises(ValueError, match=r"."):  # UsageError and ResolutionError are ValueErrors
        TileSpec(**{"size": 256, "resolution": "20x", **change})


def test_micrometres_are_rounded_half_up_once():
    spec = TileSpec(101, 0.1, "0.5mpp", "um")
    assert spec.to_px((0.4, 2.0)) == (Size(253, 51), Size(1, 1))  # 252.5, 50.5; at least 1
    with pytest.raises(UsageError, match="pixel size"):
        spec.to_px()
    assert TileSpec(7, 3, "20x").to_px() == (Size(7, 7), Size(3, 3))


def test_sizes_in_reference_px():
    assert TileSpec(256, 128, "20x").scale_to_reference(16) == (Size(16, 16), Size(8, 8))
    assert TileSpec(100, 10, "0.5mpp", "um").scale_to_reference(8, 0.5) == (
        Size(25, 25),
        Size(3, 3),  # 2.5
    )
    with pytest.raises(UsageError, match="pixel size"):
        TileSpec(100, 10, "0.5mpp", "um").scale_to_reference(8)
    with pytest.raises(UsageError, match="downsample_ratio"):
        TileSpec(100, resolution="20x").scale_to_reference(0)


@pytest.mark.parametrize(
    ("power", "level", "read", "level0"),
    [
        (20, 0, 512, 512),
        (10, 1, 256, 1024),
        (15, 0, 683, 683),  # the planner measured said 682: off by one
        (7, 1, 366, 1463),  # and 1462 here
        (40, 0, 256, 256),
        (2.5, 2, 256, 4096),
    ],
)
def test_the_table_of_magnifications(power, level, read, level0):
    geometry = tile_geometry(blank_slide(SLIDE), TileSpec(256, resolution=f"{power}x"))
    assert (geometry.level, geometry.read_size) == (level, (read, read))
    assert geometry.size_level0 == geometry.stride_level0 == (level0, level0)
    again = TileGeometry.from_dict(json.loads(json.dumps(geometry.to_dict())))
    assert again == geometry


def test_a_resolution_that_the_slide_lacks_is_refused():
    slide = blank_slide(SLIDE)
    for finer in ("80x", "0.1mpp", "level:7"):
        with pytest.raises(ResolutionError):
            tile_geometry(slide, TileSpec(256, resolution=finer))
    bare = blank_slide(SLIDE, mpp=None, magnification=None)
    with pytest.raises(MetadataError):
        tile_geometry(bare, TileSpec(256, resolution="20x"))
    with pytest.raises(UsageError, match="pixel size"):
        tile_geometry(bare, TileSpec(256, resolution=0, unit="um"))


def test_micrometres_on_a_slide_with_unequal_sides():
    slide = blank_slide(SLIDE, mpp=(0.25, 0.5))
    geometry = tile_geometry(slide, TileSpec(128, resolution=0, unit="um"))
    assert geometry.size == geometry.size_level0 == (512, 256)
    assert geometry.mpp == (0.25, 0.5)


def test_a_fraction_that_floats_miss_is_found():
    # 0.35 / 0.1 = 3.4999999999999996, and 3.5 px round up.
    slide = blank_slide((1000, 1000), mpp=0.1, magnification=None)
    geometry = tile_geometry(slide, TileSpec(1, 1, "0.35mpp"))
    assert geometry.ratio == Fraction(7, 2)
    assert axis_positions(geometry, 0, "drop")[:5].tolist() == [0, 4, 7, 11, 14]


@given(n=st.integers(0, 2**20), top=st.integers(1, 10**6), bottom=st.integers(1, 10**6))
def test_positions_are_rounded_once_however_far_out(n, top, bottom):
    ratio = Fraction(top, bottom)
    if n * ratio < 2**31:
        exact = (n * ratio + Fraction(1, 2)).__floor__()
        assert to_level0(np.array([n]), ratio)[0] == exact


@given(
    width=st.integers(1, 5000),
    size=st.integers(1, 300),
    stride=st.integers(1, 400),
    factor=st.sampled_from([1, 2, 4, 8]),
    last=st.sampled_from(["keep", "drop", "shift"]),
)
def test_whole_ratios_give_the_grid_of_the_level(width, size, stride, factor, last):
    slide = blank_slide((width, 5000), (1,))
    geometry = tile_geometry(slide, TileSpec(size, stride, f"{40 / factor}x"))
    found = axis_positions(geometry, 0, last)
    # A slide of less than one target px counts as one.
    expected = axis_starts(max(1, width // factor), size, stride, last) * factor
    assert found.tolist() == expected.tolist()


@given(
    width=st.integers(50, 5000),
    size=st.integers(1, 300),
    stride=st.integers(1, 300),
    power=st.floats(1.0, 40.0),
    last=st.sampled_from(["keep", "drop", "shift"]),
)
def test_any_magnification_keeps_lattice_and_edges(width, size, stride, power, last):
    slide = blank_slide((width, width), (1, 4))
    geometry = tile_geometry(slide, TileSpec(size, stride, Resolution.magnification(power)))
    found = axis_positions(geometry, 0, last)
    side = geometry.size_level0.width
    assert (np.diff(found) > 0).all()
    assert found.min(initial=0) >= 0
    assert geometry.extent.width <= width
    if last == "drop":
        assert (found + side <= geometry.extent.width).all()
    if last == "shift" and side <= geometry.extent.width:
        assert found[-1] + side == geometry.extent.width
    # No drift: each but a moved last one lies where its own number says.
    steps = np.arange(len(found) - 1)
    exact = [(k * stride * geometry.ratio + Fraction(1, 2)).__floor__() for k in steps.tolist()]
    assert found[:-1].tolist() == exact


@pytest.mark.parametrize(
    ("mpp", "level"), [(0.25, 0), (0.5, 0), (0.7, 1), (1.0, 1), (2.4, 1), (2.6, 2), (9.0, 2)]
)
def test_the_closest_level(mpp, level):
    slide = blank_slide(SLIDE)  # 0.25, 1 and 4 µm/px
    assert closest_level(slide, mpp) == level
    assert closest_level(slide, (mpp, mpp)) == level


def test_the_closest_level_needs_a_pixel_size():
    with pytest.raises(MetadataError, match="no pixel size"):
        closest_level(blank_slide(SLIDE, mpp=None, magnification=None), 0.5)
    with pytest.raises(UsageError):
        closest_level(blank_slide(SLIDE), -1)
