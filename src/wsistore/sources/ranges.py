"""Plans few large requests for many small ranges."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.sources.mapping import outside

FEW = 16
"""Up to so many ranges plain Python plans faster than numpy does."""

EMPTY = memoryview(b"")


class Limits(NamedTuple):
    """What makes one request out of two.

    Parameters
    ----------
    gap : int
        Bytes between two ranges that are read along rather than asked around.
    request : int
        Bytes that one request of several ranges holds at most. A single range is never
        split here.
    """

    gap: int
    request: int


class Request(NamedTuple):
    """One contiguous read, and the ranges that are cut from it.

    Parameters
    ----------
    start, stop : int
        First byte, and the first one beyond.
    members : sequence of int
        Positions of the ranges in the caller's order.
    """

    start: int
    stop: int
    members: Sequence[int]


class Plan(NamedTuple):
    """The caller's ranges as plain integers, and the requests that fetch them."""

    offsets: list[int]
    counts: list[int]
    requests: list[Request]


def plan(
    offsets: Sequence[int] | NDArray[np.integer],
    counts: Sequence[int] | NDArray[np.integer],
    *,
    name: str,
    size: int,
    limits: Limits,
) -> Plan:
    """Return the requests that fetch these ranges, in ascending order.

    Ranges may overlap, repeat and come in any order; those of count 0 need no request,
    whatever their offset (a missing tile's offset means nothing).

    Raises
    ------
    SourceRangeError
        If a range is negative or not wholly inside the file.
    UsageError
        If there are not as many counts as offsets, or they are no integers.
    """
    if len(offsets) != len(counts):
        raise UsageError(f"{len(offsets)} offsets and {len(counts)} counts don't make ranges")
    if len(offsets) > FEW:
        return _plan_many(offsets, counts, name, size, limits)
    return _plan_few(_as_list(offsets), _as_list(counts), name, size, limits)


def cut(planned: Plan, fetch: Callable[[int, int], bytes]) -> list[memoryview]:
    """Fetch every request and cut the ranges from the answers, in the caller's order.

    Parameters
    ----------
    planned : Plan
        From `plan`.
    fetch : callable
        ``fetch(offset, count)`` returns exactly so many bytes.
    """
    views = [EMPTY] * len(planned.offsets)
    for request in planned.requests:
        share(planned, request, fetch(request.start, request.stop - request.start), views)
    return views


def share(
    planned: Plan, request: Request, data: bytes | memoryview, views: list[memoryview]
) -> None:
    """Put the ranges of one request into `views`, as views of its data."""
    start, _, members = request
    offsets, counts = planned.offsets, planned.counts
    whole = memoryview(data)
    for i in members:
        begin = offsets[i] - start
        views[i] = whole[begin : begin + counts[i]]


def _as_list(values: Sequence[int] | NDArray[np.integer]) -> list[int]:
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        raise UsageError(f"offsets and counts are integers, got {values!r}") from None


def _plan_few(offsets: list[int], counts: list[int], name: str, size: int, limits: Limits) -> Plan:
    gap, most = limits
    requests: list[Request] = []
    members: list[int] = []
    start = stop = 0
    for i in sorted(range(len(offsets)), key=offsets.__getitem__):
        offset, count = offsets[i], counts[i]
        if count == 0:
            continue
        end = offset + count
        if offset < 0 or count < 0 or end > size:
            raise outside(name, offset, count, size)
        if members and offset <= stop + gap and max(end, stop) - start <= most:
            members.append(i)
            stop = max(end, stop)
            continue
        if members:
            requests.append(Request(start, stop, members))
        members, start, stop = [i], offset, end
    if members:
        requests.append(Request(start, stop, members))
    return Plan(offsets, counts, requests)


def _plan_many(
    offsets: Sequence[int] | NDArray[np.integer],
    counts: Sequence[int] | NDArray[np.integer],
    name: str,
    size: int,
    limits: Limits,
) -> Plan:
    o, c = _as_array(offsets), _as_array(counts)
    wanted = c != 0
    # Written so that nothing overflows: size - c is exact for 0 <= c.
    bad = wanted & ((o < 0) | (c < 0) | (o > size - np.maximum(c, 0)))
    if bad.any():
        first = int(bad.argmax())
        raise outside(name, int(o[first]), int(c[first]), size)
    order = np.argsort(o, kind="stable")
    order = order[wanted[order]]
    starts = o[order]
    ends = starts + c[order]
    requests = _group(order, starts, ends, limits) if len(order) else []
    return Plan(o.tolist(), c.tolist(), requests)


def _as_array(values: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UsageError(
            f"offsets and counts are integers in one dimension, got {array.dtype} of shape "
            f"{array.shape}"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        # TIFF offsets may be any uint64; what int64 can't hold is outside of every file.
        array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
    return array.astype(np.int64, copy=False)


def _group(
    order: NDArray[np.intp],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    limits: Limits,
) -> list[Request]:
    """Return requests over ranges that are sorted by their starts."""
    gap, most = limits
    reach = np.maximum.accumulate(ends)
    breaks = np.flatnonzero(starts[1:] > reach[:-1] + gap) + 1
    edges = [0, *breaks.tolist(), len(starts)]
    members = order.tolist()
    requests = []
    for first, last in pairwise(edges):
        begin = first
        while begin < last:
            start = int(starts[begin])
            stop = int(reach[last - 1])
            end = last
            if stop - start > most:
                end = begin + int(np.searchsorted(reach[begin:last], start + most, side="right"))
                end = max(end, begin + 1)
                stop = int(ends[begin:end].max())
            requests.append(Request(start, stop, members[begin:end]))
            begin = end
    return requests
