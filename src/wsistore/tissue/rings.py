"""The borders of a mask, along the edges of its px, and back.

OpenCV traces the centres of border px, which loses half a px all round and makes lines of
what is one px wide. Here the corners of the border are found and joined: in every row of
px corners the border runs from the first to the second, from the third to the fourth and
so on, and in every column alike. So a ring is exact: its area is the number of its px.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Ring = NDArray[np.int64]
"""(n, 2) corners x, y of a closed line, the last one not repeated."""


def trace(mask: Mask) -> list[Ring]:
    """Return the borders of a mask as simple closed lines.

    Tissue that only touches at a corner is apart (4 neighbours). A line never passes a
    point twice: where it would, it is parted in two that touch there, so polygons made of
    them are valid for GEOS and JTS.

    Parameters
    ----------
    mask : (h, w) bool
        The mask.

    Returns
    -------
    list of (n, 2) int64
        Corners x, y in px of the mask (px j spans j to j + 1). Borders around tissue have
        a positive `signed_area`, those around holes a negative one.
    """
    x, y, along_x, along_y = _corners(mask)
    rings: list[Ring] = []
    next_x, next_y = along_x.tolist(), along_y.tolist()
    seen = bytearray(len(next_x))
    points = np.column_stack([x, y])
    for start in range(len(next_x)):
        if seen[start]:
            continue
        path: list[int] = []
        at = start
        while not seen[at]:
            other = next_x[at]
            path += (at, other)
            seen[at] = seen[other] = 1
            at = next_y[other]
        rings.extend(_parted(points[path]))
    return [_oriented(ring, mask) for ring in rings]


def _corners(
    mask: Mask,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the corners of the border, and whom each is joined to along x and along y."""
    padded = np.pad(mask, 1).astype(np.int8)
    nw, ne = padded[:-1, :-1], padded[:-1, 1:]
    sw, se = padded[1:, :-1], padded[1:, 1:]
    single = ((nw + ne + sw + se) & 1).astype(np.bool_)
    falling = (nw == 1) & (se == 1) & (ne == 0) & (sw == 0)
    rising = (ne == 1) & (sw == 1) & (nw == 0) & (se == 0)
    # A point where tissue touches at a corner is two corners, one for each piece.
    times = single + 2 * (falling | rising).astype(np.int8)
    y, x = np.nonzero(times)
    twice = times[y, x]
    swap = np.repeat(rising[y, x], twice)
    y, x = np.repeat(y, twice), np.repeat(x, twice)
    second = np.zeros(len(x), np.bool_)
    second[1:] = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    order = np.arange(len(x), dtype=np.int64)
    along_x = order ^ 1  # by rows they are in order already
    # Along a column the upper piece comes first: of a falling pair that is the left one,
    # which came first along the row too; of a rising pair it is the right one.
    down = np.lexsort((second ^ swap, y, x))
    along_y = np.empty_like(order)
    along_y[down] = down[order ^ 1]
    return x, y, along_x, along_y


def _parted(ring: Ring) -> list[Ring]:
    """Return the ring as lines that pass no point twice."""
    keys = ring[:, 0] * (int(ring[:, 1].max()) + 1) + ring[:, 1]
    if len(np.unique(keys)) == len(keys):
        return [ring]
    parts: list[Ring] = []
    stack: list[int] = []
    place: dict[int, int] = {}
    for at, key in enumerate(keys.tolist()):
        if key in place:
            begin = place[key]
            loop = stack[begin:]
            parts.append(ring[loop])
            for left in loop[1:]:
                del place[int(keys[left])]
            del stack[begin + 1 :]
            continue
        place[key] = len(stack)
        stack.append(at)
    parts.append(ring[stack])
    return [_without_straight(part) for part in parts]


def _without_straight(ring: Ring) -> Ring:
    """Return the ring without points that lie between two others on a line."""
    step = np.sign(np.roll(ring, -1, axis=0) - ring)
    turns = (step != np.roll(step, 1, axis=0)).any(axis=1)
    kept: Ring = ring[turns]
    return kept


def _oriented(ring: Ring, mask: Mask) -> Ring:
    """Return the ring with a positive area if there is tissue inside of its first corner."""
    top = int(np.lexsort((ring[:, 0], ring[:, 1]))[0])  # topmost, of these leftmost
    x, y = ring[top]
    # The corner there is convex, so the px to its lower right lies inside of the line.
    inside = bool(mask[y, x])
    return ring if (signed_area(ring) > 0) == inside else ring[::-1]


def signed_area(ring: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Return the area of a ring; positive where x turns towards y (clockwise on screen)."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def nested(
    rings: Sequence[Ring], labels: NDArray[np.int32], mask: Mask
) -> list[tuple[Ring, list[Ring]]]:
    """Return each border of tissue with the borders of its holes.

    Parameters
    ----------
    rings : sequence of (n, 2) int64
        Of `trace`.
    labels : (h, w) int32
        Pieces of the mask by 4 neighbours.
    mask : (h, w) bool
        The mask.
    """
    outer: dict[int, Ring] = {}
    inner: dict[int, list[Ring]] = {}
    for ring in rings:
        top = int(np.lexsort((ring[:, 0], ring[:, 1]))[0])
        x, y = (int(value) for value in ring[top])
        if mask[y, x]:
            outer[int(labels[y, x])] = ring
        else:  # the px above the topmost edge of a hole is tissue, and its own
            inner.setdefault(int(labels[y - 1, x]), []).append(ring)
    return [(outer[label], inner.get(label, [])) for label in sorted(outer)]
