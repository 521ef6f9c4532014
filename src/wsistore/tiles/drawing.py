"""Random choices as pure functions of (seed, epoch): the arithmetic under the sampler.

All randomness comes from the raw words of the counter-based generator Philox (Salmon et
al. 2011), whose stream numpy promises to keep. The distributions are made here, for those
of ``numpy.random.Generator`` may change between versions of numpy.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Weights = NDArray[np.float64]
Words = NDArray[np.uint64]


class Purpose(IntEnum):
    """What words are drawn for; each has a stream of its own. Numbers never change."""

    CHOICE = 0
    BLOCKS = 1
    MIXING = 2
    MOVING = 3


def words(seed: int, epoch: int, purpose: Purpose, count: int, start: int = 0) -> Words:
    """Return some of the random words of an epoch.

    Parameters
    ----------
    seed, epoch : int
        Key of the stream, modulo 2**64.
    purpose : Purpose
        Which stream.
    count, start : int
        How many words, and from which one on.

    Returns
    -------
    (count,) uint64
    """
    key = np.array([seed % 2**64, epoch % 2**64], np.uint64)
    block, skip = divmod(start, 4)  # Philox makes four words per step of its counter
    counter = np.array([block, 0, 0, int(purpose)], np.uint64)
    made: Words = np.random.Philox(key=key, counter=counter).random_raw(skip + count)
    return made[skip:]


def unit(source: Words) -> NDArray[np.float64]:
    """Return evenly spread numbers, 52 bits each, strictly between 0 and 1."""
    scaled: NDArray[np.float64] = ((source >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return scaled


def without_replacement(source: Words, weight: Weights | None, count: int | None = None) -> Rows:
    """Return rows in the order in which they are drawn, none of them twice.

    Efraimidis and Spirakis 2006: sorted by ``log(u) / w`` downwards, each beginning of the
    list is a weighted sample without replacement. Compared here as ``log(-log(u)) -
    log(w)``, which neither the largest nor the smallest weights can overflow.

    Parameters
    ----------
    source : (n,) uint64
        A random word for each row.
    weight : (n,) float64, optional
        Rows of weight 0 are not drawn; all alike where not given.
    count : int, optional
        Return this many rows at most; all that can be drawn where not said.
    """
    if weight is None:
        return _smallest(source, count)
    rows = np.flatnonzero(weight > 0)
    keys = np.log(-np.log(unit(source[rows]))) - np.log(weight[rows])
    drawn: Rows = rows[_smallest(keys, count)]
    return drawn


def _smallest(keys: NDArray[Any], count: int | None) -> Rows:
    """Return the places of the smallest keys, ascending; the earlier of equal ones first."""
    if count is None or not 0 < count < len(keys) // 4:
        return np.argsort(keys, kind="stable")[:count]
    # Sorting few of many: about ten times as fast.
    near = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
    smallest: Rows = near[np.argsort(keys[near], kind="stable")[:count]]
    return smallest


def with_replacement(source: Words, weight: Weights | None, population: int) -> Rows:
    """Return a row for each word.

    Parameters
    ----------
    source : (n,) uint64
        Random words.
    weight : (population,) float64, optional
        Rows of weight 0 are not drawn; all alike where not given.
    population : int
        Number of rows.
    """
    share = unit(source)
    if weight is None:
        return np.minimum((share * population).astype(np.int64), population - 1)
    rows = np.flatnonzero(weight > 0)
    total = np.cumsum(weight[rows] / weight.max())
    found = np.searchsorted(total, share * total[-1], side="right")
    drawn: Rows = rows[np.minimum(found, len(rows) - 1)]
    return drawn


def rank_within(groups: NDArray[np.integer]) -> Rows:
    """Return for each item how many earlier ones are of the same group."""
    by_group = np.argsort(groups, kind="stable")
    ordered = groups[by_group]
    place = np.arange(len(groups))
    first = np.r_[True, ordered[1:] != ordered[:-1]][: len(groups)]
    start = np.maximum.accumulate(np.where(first, place, 0))
    rank = np.empty(len(groups), np.int64)
    rank[by_group] = place - start
    return rank


def shuffle_blocks(rows: Rows, block: int, mix: int, seed: int, epoch: int) -> Rows:
    """Return the rows so ordered that neighbours in the index stay near each other.

    The rows are sorted and cut into blocks of neighbours, the blocks are shuffled, and the
    rows of `mix` blocks at a time are shuffled among themselves.
    """
    ordered = np.sort(rows)
    block_of = np.arange(len(ordered)) // block
    blocks = -(-len(ordered) // block)
    shuffled = np.argsort(words(seed, epoch, Purpose.BLOCKS, blocks), kind="stable")
    place = np.empty(blocks, np.int64)
    place[shuffled] = np.arange(blocks)
    group = place[block_of] // mix
    return ordered[np.lexsort((words(seed, epoch, Purpose.MIXING, len(ordered)), group))]


def moves(seed: int, epoch: int, start: int, spread: NDArray[np.float64]) -> Rows:
    """Return how far the patches from place `start` of an epoch on are moved.

    The move of a place does not depend on batches, ranks or workers.

    Parameters
    ----------
    seed, epoch : int
        As in `words`.
    start : int
        Place of the first patch within the epoch.
    spread : (n, 2) float64
        Width and height of the area that each patch's corner is spread over.

    Returns
    -------
    (n, 2) int64
        Whole px, from 0 to below the spread.
    """
    source = words(seed, epoch, Purpose.MOVING, 2 * len(spread), 2 * start)
    return (unit(source).reshape(-1, 2) * spread).astype(np.int64)
