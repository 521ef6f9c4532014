"""Mega-tiles: blocks of neighbours, their validity and limits, in both layouts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore import TileSpec
from wsistore.errors import UsageError
from wsistore.testing.blank import blank_slide
from wsistore.tiles import MegaTileExtractor, MegaTileSpec
from wsistore.tiles.megatiles import GridLayout

TILES = TileSpec(100, resolution=0)


def extract(valid, shape, *, layout=GridLayout.RECTANGULAR, stride=None, cap=None, **limits):
    """Return the blocks over a slide of one tile per px of a mask."""
    valid = np.asarray(valid)
    slide = blank_slide((valid.shape[1] * 100, valid.shape[0] * 100), (1,))
    spec = MegaTileSpec(shape, TILES, layout, stride, **limits)
    return MegaTileExtractor(spec, valid, max_megatiles=cap).extract(slide)


def test_blocks_of_neighbouring_tiles():
    found = extract(np.ones((5, 7)), (2, 3))
    assert list(zip(found.row, found.column, strict=True)) == [(0, 0), (0, 3), (2, 0), (2, 3)]
    assert found.valid_ratio.tolist() == [1] * 4
    assert found.members.shape == (4, 2, 3)
    plan = found.plan
    assert plan.x[found.members[1]].tolist() == [[300, 400, 500]] * 2
    assert plan.y[found.members[2]].tolist() == [[200] * 3, [300] * 3]
    assert len(plan) == 24  # the last column and row are in no block
    assert plan.rules[-1].name == "mega-tiles"
    assert (plan.rules[-1].seen, plan.rules[-1].dropped) == (35, 11)


def test_limits_of_validity():
    valid = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0]])
    expected = [1.0, 1.0, 0.5, 0.0, 0.0]
    every = extract(valid, (2, 2), stride=(1, 1), min_valid_tiles_ratio=0)
    assert every.valid_ratio.tolist() == expected
    assert extract(valid, (2, 2), stride=(1, 1)).column.tolist() == [0, 1, 2]
    upper = {"min_valid_tiles_ratio": 0.1, "max_valid_tiles_ratio": 0.5}
    assert extract(valid, (2, 2), stride=(1, 1), **upper).column.tolist() == [2]
    assert len(extract(valid, (3, 2))) == 0  # higher than the slide


def test_a_cap_takes_the_fullest_and_of_equals_the_first():
    valid = np.array([[1, 0, 1, 1, 1, 1, 0, 1]])
    found = extract(valid, (1, 2), cap=2)
    assert found.column.tolist() == [2, 4]
    assert extract(valid, (1, 2), cap=3).column.tolist() == [0, 2, 4]
    assert extract(valid, (1, 2), cap=99).column.tolist() == [0, 2, 4, 6]


def test_members_tell_tiles_that_are_not_valid():
    found = extract([[1, 0], [1, 1]], (2, 2))
    assert found.plan.extras["valid"][found.members[0]].tolist() == [[True, False], [True, True]]


def test_odd_rows_of_a_hexagonal_layout_are_shifted_by_half_a_tile():
    found = extract(np.ones((4, 6)), (2, 3), layout="hexagonal", min_valid_tiles_ratio=0)
    first, second = found.plan.x[found.members[0]].tolist()
    assert first == [0, 100, 200]
    assert second == [50, 150, 250]
    # An odd row has 5 tiles where an even one has 6; the place of the sixth is empty.
    assert (found.members[1] == -1).tolist() == [[False] * 3, [False, False, True]]
    assert found.valid_ratio.tolist() == pytest.approx([1, 5 / 6, 1, 5 / 6])
    third = found.plan.y[found.members[2]]
    assert third.tolist() == [[200] * 3, [300] * 3]


@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)),
    low=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_validity_is_counted_as_by_a_loop(seed, shape, stride, low):
    rng = np.random.default_rng(seed)
    valid = rng.random(rng.integers(1, 9, 2)) < 0.6
    found = extract(valid, shape, stride=stride, min_valid_tiles_ratio=low)
    down, right = stride or shape
    expected = [
        (row, column, valid[row : row + shape[0], column : column + shape[1]].mean())
        for row in range(0, valid.shape[0] - shape[0] + 1, down)
        for column in range(0, valid.shape[1] - shape[1] + 1, right)
    ]
    expected = [item for item in expected if item[2] >= low]
    assert list(zip(found.row, found.column, strict=True)) == [item[:2] for item in expected]
    assert found.valid_ratio.tolist() == pytest.approx([item[2] for item in expected])


def test_without_a_mask_every_tile_is_valid():
    found = MegaTileExtractor(MegaTileSpec((2, 2), TILES)).extract(blank_slide((400, 400), (1,)))
    assert found.valid_ratio.tolist() == [1] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"megatile_shape": (0, 2)},
        {"megatile_shape": (2,)},
        {"megatile_stride": (1, 0.5)},
        {"min_valid_tiles_ratio": 1.5},
        {"min_valid_tiles_ratio": 0.6, "max_valid_tiles_ratio": 0.5},
        {"grid_layout": "round"},
    ],
)
def test_specs_that_make_no_sense_are_refused(change):
    with pytest.raises(UsageError):
        MegaTileSpec(**{"megatile_shape": (2, 2), "tile_spec": TILES, **change})


def test_extractors_that_make_no_sense_are_refused():
    spec = MegaTileSpec((2, 2), TILES)
    for change in ({"max_megatiles": 0}, {"mask_threshold": -1}):
        with pytest.raises(UsageError):
            MegaTileExtractor(spec, **change)
