"""Grid arithmetic: the rows of the seeds' table, and properties over all lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.tiles.grids import axis_starts, grid_array, grid_tiles

lengths = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("extent", "tile", "stride", "keep", "drop", "shift"),
    [
        (5, 2, 2, [0, 2, 4], [0, 2], [0, 2, 3]),
        (10, 4, 3, [0, 3, 6], [0, 3, 6], [0, 3, 6]),
        (10, 20, 20, [0], [], [0]),
        (10, 40, 20, [0], [], [0]),
        (100, 10, 50, [0, 50], [0, 50], [0, 50, 90]),
        (10, 10, 1, [0], [0], [0]),
        (1, 1, 1, [0], [0], [0]),
    ],
)
def test_starts_along_an_axis(extent, tile, stride, keep, drop, shift):
    assert axis_starts(extent, tile, stride, "keep").tolist() == keep
    assert axis_starts(extent, tile, stride, "drop").tolist() == drop
    assert axis_starts(extent, tile, stride, "shift").tolist() == shift


def test_x_is_fastest_and_dtype_is_int64():
    tiles = grid_array((5, 5), (2, 2), (2, 2), "shift")
    assert tiles.dtype == np.int64
    assert tiles.tolist() == [[x, y] for y in (0, 2, 3) for x in (0, 2, 3)]
    assert [t.tolist() for t in grid_tiles((5, 5), (2, 2), (2, 2), "shift")] == tiles.tolist()


def test_three_dimensions():
    tiles = grid_array((4, 2, 3), (2, 2, 2), (2, 2, 1), "drop")
    assert tiles.tolist() == [[x, 0, z] for z in (0, 1) for x in (0, 2)]


@given(lengths, lengths, lengths)
def test_keep_covers_what_the_stride_covers(extent, tile, stride):
    starts = axis_starts(extent, tile, stride, "keep")
    assert starts[0] == 0
    assert (np.diff(starts) == stride).all()
    assert starts[-1] < extent
    if stride <= tile:
        assert starts[-1] + tile >= extent


@given(lengths, lengths, lengths)
def test_drop_stays_inside(extent, tile, stride):
    starts = axis_starts(extent, tile, stride, "drop")
    assert len(starts) == (0 if tile > extent else (extent - tile) // stride + 1)
    assert (starts + tile <= extent).all()


@given(lengths, lengths, lengths)
def test_shift_covers_every_pixel_and_stays_inside(extent, tile, stride):
    starts = axis_starts(extent, tile, stride, "shift")
    assert (np.diff(starts) > 0).all()
    if tile > extent:
        assert starts.tolist() == [0]
        return
    assert starts[-1] + tile == extent
    if stride <= tile:
        covered = np.zeros(extent, bool)
        for start in starts:
            covered[start : start + tile] = True
        assert covered.all()


def test_a_tile_larger_than_the_slide_warns():
    with pytest.warns(UserWarning, match="larger than the slide"):
        assert grid_array((10, 10), (20, 5), (20, 5), "keep").tolist() == [[0, 0], [0, 5]]


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-5, 1, 1)])
def test_lengths_below_one_are_refused(bad):
    with pytest.raises(UsageError, match="at least 1 px"):
        axis_starts(*bad, "keep")


def test_unknown_policy_and_unequal_dimensions_are_refused():
    with pytest.raises(UsageError, match="keep, drop or shift"):
        axis_starts(5, 2, 2, "wrap")
    with pytest.raises(UsageError, match="one number per dimension"):
        grid_array((5, 5), (2,), (2, 2))
