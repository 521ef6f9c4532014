"""Few large requests give the same bytes as many small ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import SourceRangeError, UsageError
from wsistore.sources.ranges import FEW, Limits, cut, plan

DATA = bytes(np.random.default_rng(0).integers(0, 256, 4000, np.uint8))
SIZE = len(DATA)


def fetch(offset, count):
    return DATA[offset : offset + count]


def make(offsets, counts, gap=10, request=200, size=SIZE):
    return plan(offsets, counts, name="x", size=size, limits=Limits(gap, request))


ranges = st.integers(0, SIZE).flatmap(
    lambda offset: st.tuples(st.just(offset), st.integers(0, min(300, SIZE - offset)))
)


@given(st.lists(ranges, max_size=3 * FEW), st.integers(0, 50), st.integers(1, 500), st.booleans())
def test_every_range_gets_its_bytes_in_order(wanted, gap, request, as_numpy):
    offsets, counts = [o for o, _ in wanted], [c for _, c in wanted]
    if as_numpy:
        offsets, counts = np.array(offsets, np.uint64), np.array(counts, np.int32)
    planned = make(offsets, counts, gap, request)
    assert [bytes(v) for v in cut(planned, fetch)] == [DATA[o : o + c] for o, c in wanted]
    members = sorted(i for r in planned.requests for i in r.members)
    assert members == [i for i, (_, c) in enumerate(wanted) if c]
    for r in planned.requests:
        assert r.stop - r.start <= request or len(r.members) == 1


@given(st.lists(ranges, min_size=1, max_size=FEW), st.integers(0, 50), st.integers(1, 500))
def test_numpy_and_plain_planning_agree_on_the_bytes_read(wanted, gap, request):
    offsets, counts = [o for o, _ in wanted], [c for _, c in wanted]
    few = make(offsets, counts, gap, request)
    padding = FEW + 1 - len(wanted)  # empty ranges bring it to the other planner
    many = make(offsets + [0] * padding, counts + [0] * padding, gap, request)
    if request == 500 or max(counts) <= request:
        assert [r[:2] for r in few.requests] == [r[:2] for r in many.requests]


@pytest.mark.parametrize("padding", [0, FEW])
@pytest.mark.parametrize(
    ("offsets", "gap", "requests"),
    [
        ([0, 20], 10, [(0, 30)]),
        ([0, 21], 10, [(0, 10), (21, 31)]),
        ([20, 0], 10, [(0, 30)]),
        ([5, 5, 7], 0, [(5, 17)]),
    ],
)
def test_neighbours_are_fetched_together_up_to_the_gap(padding, offsets, gap, requests):
    planned = make(offsets + [0] * padding, [10] * len(offsets) + [0] * padding, gap)
    assert [r[:2] for r in planned.requests] == requests


@pytest.mark.parametrize("padding", [0, FEW])
def test_a_range_within_another_ends_nothing(padding):
    offsets, counts = [0, 10, 70, 200] + [0] * padding, [100, 5, 5, 5] + [0] * padding
    planned = make(offsets, counts)
    assert [r[:2] for r in planned.requests] == [(0, 100), (200, 205)]
    views = cut(planned, fetch)
    assert [bytes(v) for v in views[:4]] == [DATA[:100], DATA[10:15], DATA[70:75], DATA[200:205]]


@pytest.mark.parametrize("padding", [0, FEW])
def test_a_request_is_not_larger_than_its_limit(padding):
    offsets = list(range(0, 100, 10)) + [0] * padding
    planned = make(offsets, [10] * 10 + [0] * padding, gap=0, request=35)
    assert [r[:2] for r in planned.requests] == [(0, 30), (30, 60), (60, 90), (90, 100)]


@pytest.mark.parametrize("padding", [0, FEW])
@pytest.mark.parametrize(
    ("offset", "count"), [(-1, 5), (5, -1), (SIZE - 4, 5), (SIZE, 1), (2**62, 2**62)]
)
def test_a_range_outside_is_named(padding, offset, count):
    with pytest.raises(SourceRangeError) as caught:
        make([0] * padding + [offset], [1] * padding + [count])
    assert str(SIZE) in str(caught.value)
    assert f"{count} bytes from offset {offset}" in str(caught.value)


@pytest.mark.parametrize("padding", [0, FEW])
def test_uint64_beyond_int64_is_outside_and_nothing_overflows(padding):
    offsets = np.array([0] * padding + [2**64 - 2], np.uint64)
    with pytest.raises(SourceRangeError):
        make(offsets, np.ones(padding + 1, np.uint64))


@pytest.mark.parametrize("padding", [0, FEW])
def test_an_empty_range_is_empty_whatever_its_offset(padding):
    offsets, counts = [-7, 2**40, 3] + [0] * padding, [0, 0, 2] + [0] * padding
    views = cut(make(offsets, counts), fetch)
    assert [bytes(v) for v in views[:3]] == [b"", b"", DATA[3:5]]


@pytest.mark.parametrize("n", [2, FEW + 2])
def test_what_are_no_ranges_is_refused(n):
    with pytest.raises(UsageError, match="don't make ranges"):
        make([0] * n, [1] * (n - 1))
    with pytest.raises(UsageError, match="integers"):
        make([0.5] * n, [1] * n)
