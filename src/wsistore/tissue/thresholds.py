"""Otsu's thresholds of a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError


def otsu(histogram: NDArray[np.int64]) -> tuple[int, float]:
    """Return the threshold that parts a histogram best in two (Otsu, 1979).

    Parameters
    ----------
    histogram : (n,) int64
        Counts of the values 0 to n - 1.

    Returns
    -------
    limit : int
        The lower class has the values up to and including it.
    contrast : float
        Difference of the means of the classes; 0 where only one value occurs.
    """
    limit = multi_otsu(histogram, 2)[0]
    values = np.arange(len(histogram))
    lower, upper = histogram[: limit + 1], histogram[limit + 1 :]
    if not lower.any() or not upper.any():
        return limit, 0.0
    below = float(np.average(values[: limit + 1], weights=lower))
    return limit, float(np.average(values[limit + 1 :], weights=upper)) - below


def multi_otsu(histogram: NDArray[np.int64], classes: int) -> list[int]:
    """Return the thresholds that part a histogram best in several classes.

    The variance between the classes is the greatest there is, found by dynamic
    programming (Liao, Chen and Chung, 2001, for the criterion).

    Parameters
    ----------
    histogram : (n,) int64
        Counts of the values 0 to n - 1.
    classes : int
        At least 2.

    Returns
    -------
    list of int
        ``classes - 1`` ascending limits; each class has the values up to and including
        its limit. Where fewer values occur than classes are asked for, some are empty.
    """
    if classes < 2 or len(histogram) < classes:
        raise UsageError(f"can't part {len(histogram)} values in {classes} classes")
    counts = np.concatenate([[0.0], np.cumsum(histogram, dtype=np.float64)])
    sums = np.concatenate(
        [[0.0], np.cumsum(histogram * np.arange(len(histogram)), dtype=np.float64)]
    )
    # gain[a, b]: what the class of values a to b - 1 adds, its sum squared over its count.
    count = counts[None, :] - counts[:, None]
    total = sums[None, :] - sums[:, None]
    gain = np.where(count > 0, total * total / np.maximum(count, 1), 0.0)
    gain[np.tril_indices(len(counts))] = -np.inf  # a class spans one value at least
    best = gain[0]
    choices = []
    for _ in range(classes - 1):
        options = best[:, None] + gain
        choices.append(options.argmax(axis=0))
        best = options.max(axis=0)
    limits = []
    end = len(histogram)
    for choice in reversed(choices):
        end = int(choice[end])
        limits.append(end - 1)
    return limits[::-1]
