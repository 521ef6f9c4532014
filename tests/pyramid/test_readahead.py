"""Fetching ahead: order, bound, errors."""

from __future__ import annotations

import threading

import pytest

from wsistore.pyramid.readahead import read_ahead


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_items_come_in_order(ahead, count):
    assert list(read_ahead(lambda i: -i, range(count), ahead)) == [(i, -i) for i in range(count)]


def test_no_more_are_fetched_than_the_bound():
    begun, lock = [], threading.Lock()

    def fetch(item):
        with lock:
            begun.append(item)
        return item

    for item, _ in read_ahead(fetch, range(50), 3):
        assert max(begun) <= item + 3
    assert sorted(begun) == list(range(50))


def test_an_error_comes_when_its_turn_has_come():
    def fetch(item):
        if item == 2:
            raise ValueError(item)
        return item

    fetched = read_ahead(fetch, range(10), 4)
    assert [next(fetched)[0], next(fetched)[0]] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(fetched)


def test_one_item_needs_no_thread():
    (found,) = read_ahead(lambda item: threading.current_thread(), [0], 4)
    assert found[1] is threading.current_thread()
