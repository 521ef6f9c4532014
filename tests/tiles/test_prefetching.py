"""Work done ahead: in order, bounded, ended cleanly, errors in their place."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from wsistore.errors import UsageError
from wsistore.tiles import prefetching
from wsistore.tiles.prefetching import ahead, fetched_ahead


@pytest.fixture
def ahead_threads():
    """``ahead_threads()`` returns the threads that were begun since the test was."""
    before = set(threading.enumerate())

    def since():
        found = set(threading.enumerate()) - before
        return [thread for thread in found if thread.name.startswith("wsistore-ahead")]

    return since


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
def test_items_come_in_order(depth):
    assert list(ahead(lambda key: key * key, range(20), depth)) == [k * k for k in range(20)]
    assert list(ahead(str, [], depth)) == []


def test_depth_0_works_in_the_callers_thread_and_others_do_not():
    here = threading.get_ident()
    assert set(ahead(lambda _: threading.get_ident(), range(3), 0)) == {here}
    others = set(ahead(lambda _: threading.get_ident(), range(3), 2))
    assert len(others) == 1
    assert here not in others


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_is_begun_than_depth_items_ahead(depth):
    begun = []
    walk = ahead(begun.append, range(50), depth)
    for seen, _ in enumerate(walk, start=1):
        assert len(begun) <= seen + depth
    assert begun == list(range(50))


def test_the_next_item_is_made_while_the_caller_works():
    second_begun = threading.Event()

    def make(key):
        if key == 1:
            second_begun.set()
        return key

    walk = ahead(make, range(3), 1)
    assert next(walk) == 0
    assert second_begun.wait(10)
    walk.close()


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_in_its_items_place_and_ends_the_walk(depth, ahead_threads):
    made = []

    def make(key):
        if key == 3:
            raise KeyError("three")
        made.append(key)
        return key

    walk = ahead(make, range(100), depth)
    assert [next(walk) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(walk)
    assert list(walk) == []
    assert len(made) <= 3 + depth
    assert not ahead_threads()


def test_an_error_of_the_keys_is_raised_too(ahead_threads):
    def keys():
        yield 1
        raise OSError("no more keys")

    with pytest.raises(OSError, match="no more keys"):
        list(ahead(str, keys(), 2))
    assert not ahead_threads()


def test_leaving_early_ends_the_thread_and_what_has_not_begun(monkeypatch, ahead_threads):
    may_go_on, second_begun = threading.Event(), threading.Event()
    begun = []

    class Thread(ThreadPoolExecutor):
        def __exit__(self, *error):
            may_go_on.set()  # what waits has been called off by now
            return super().__exit__(*error)

    def make(key):
        begun.append(key)
        if key == 1:
            second_begun.set()
            assert may_go_on.wait(10)
        return key

    monkeypatch.setattr(prefetching, "ThreadPoolExecutor", Thread)
    walk = ahead(make, range(100), 4)
    assert next(walk) == 0
    assert second_begun.wait(10)
    walk.close()
    assert begun == [0, 1]
    assert not ahead_threads()


def test_no_thread_is_started_before_the_first_item_is_asked_for(ahead_threads):
    ahead(str, range(3), 2)
    assert not ahead_threads()


def test_negative_depths_are_refused_at_once():
    with pytest.raises(UsageError, match="at least 0"):
        ahead(str, range(3), -1)


class Fetches:
    """Begins and ends of the fetches of keys."""

    def __init__(self):
        self.begun, self.ended = [], []

    def begin(self, key):
        self.begun.append(key)
        return contextlib.closing(SimpleNamespace(key=key, close=lambda: self.ended.append(key)))


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("fetches", [0, 1, 5])
def test_fetches_are_begun_in_order_and_so_many_ahead(depth, fetches):
    noted = Fetches()
    made = []
    walk = fetched_ahead(lambda key, _: made.append(key), range(30), noted.begin, depth, fetches)
    for seen, _ in enumerate(walk, start=1):
        assert noted.begun == list(range(len(noted.begun)))
        assert min(30, seen + fetches) <= len(noted.begun) <= seen + depth + fetches
    assert made == noted.begun == list(range(30))
    assert sorted(noted.ended) == list(range(30))


@pytest.mark.parametrize("depth", [0, 2])
def test_leaving_early_ends_all_that_was_begun(depth):
    noted = Fetches()
    walk = fetched_ahead(lambda key, _: key, range(30), noted.begin, depth, 4)
    assert next(walk) == 0
    walk.close()
    assert 4 < len(noted.begun) < 10
    assert sorted(noted.ended) == noted.begun


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_ends_all_that_was_begun(depth):
    noted = Fetches()

    def make(key, _):
        if key == 2:
            raise KeyError(key)
        return key

    walk = fetched_ahead(make, range(30), noted.begin, depth, 4)
    seen = []
    with pytest.raises(KeyError):
        seen += walk
    assert sorted(noted.ended) == noted.begun


def test_keys_without_fetches_are_made_all_the_same():
    walk = fetched_ahead(lambda key, begun: (key, begun), range(3), lambda _: None, 1, 2)
    assert list(walk) == [(0, None), (1, None), (2, None)]
    with pytest.raises(UsageError, match="ahead"):
        fetched_ahead(lambda key, _: key, [], lambda _: None, 0, -1)
