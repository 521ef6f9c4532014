"""Ranges of many sources at once."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

from wsistore import errors
from wsistore.sources import LocalSource, fetch_many, open_folder, submit_many
from wsistore.sources.io_threads import REQUESTS_AT_ONCE
from wsistore.sources.objects import ObjectSource

DATA = np.random.default_rng(0).bytes(3 << 20)
FAR = 1 << 20
"""Bytes between two ranges that are never joined."""


@pytest.fixture
def objects():
    store = MemoryStore()
    for name in "abc":
        obstore.put(store, name, name.encode() + DATA)
    folder = open_folder("memory:///", store=store)
    return [folder.source(name) for name in "abc"]


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"x" + DATA)
    return LocalSource(path)


def test_every_source_gets_its_ranges_in_order(objects, local):
    a, b, _ = objects
    offsets = [2 * FAR, 0, 5, FAR]
    wanted = [(a, offsets, [4, 1, 0, 3]), (local, offsets, [4] * 4), (b, [], []), (a, [0], [2])]
    wanted.append((b, np.array(offsets), np.full(4, 7)))
    answers = fetch_many(wanted)
    for (source, starts, counts), views in zip(wanted, answers, strict=True):
        assert [bytes(view) for view in views] == [
            source.read(int(o), int(c)) for o, c in zip(starts, counts, strict=True)
        ]
    assert fetch_many([]) == []


def test_requests_of_all_sources_are_in_flight_together(objects, monkeypatch):
    together = threading.Barrier(9, timeout=20)  # 3 objects of 3 requests each
    fetch = ObjectSource._fetch

    def meet(self, start, stop):
        together.wait()
        return fetch(self, start, stop)

    monkeypatch.setattr(ObjectSource, "_fetch", meet)
    answers = fetch_many([(source, [0, FAR, 2 * FAR], [1] * 3) for source in objects])
    assert [bytes(views[0]) for views in answers] == [b"a", b"b", b"c"]


def test_a_range_outside_is_told_before_anything_is_asked_for(objects, monkeypatch):
    monkeypatch.setattr(ObjectSource, "_fetch", lambda *_: pytest.fail("asked"))
    with pytest.raises(errors.SourceRangeError, match="/b"):
        submit_many([(objects[0], [0], [1]), (objects[1], [len(DATA)], [2])])
    objects[2].close()
    with pytest.raises(errors.SourceError, match="closed"):
        submit_many([(objects[0], [0], [1]), (objects[2], [0], [1])])


def test_the_first_failure_is_raised_and_the_rest_dropped(objects, monkeypatch):
    fail, dropped, release = threading.Event(), threading.Event(), threading.Event()
    begun = []

    def fetch(self, start, stop):
        begun.append(start)
        if start == 0:
            assert fail.wait(20)
            raise errors.SourceUnavailableError(f"{self.name} is away")
        assert release.wait(20)
        return memoryview(DATA)[start:stop]

    monkeypatch.setattr(ObjectSource, "_fetch", fetch)
    a = objects[0]
    more = [(a, [FAR], [1]) for _ in range(4 * REQUESTS_AT_ONCE)]
    future = submit_many([(a, [0], [1]), *more])
    future.add_done_callback(lambda _: dropped.set())  # after the one that drops the rest
    fail.set()
    with pytest.raises(errors.SourceUnavailableError, match="away"):
        future.result(20)
    assert dropped.wait(20)
    release.set()
    fetch_many([(a, [2 * FAR], [1])])  # begins after all that were not dropped
    assert begun.count(FAR) < len(more)
    with pytest.raises(errors.SourceUnavailableError):
        fetch_many([(a, [0], [1])])


def test_what_was_begun_can_be_given_up(objects, monkeypatch):
    release = threading.Event()
    fetch = ObjectSource._fetch

    def wait(self, start, stop):
        assert release.wait(20)
        return fetch(self, start, stop)

    monkeypatch.setattr(ObjectSource, "_fetch", wait)
    future = submit_many([(source, [0, FAR], [1, 1]) for source in objects])
    assert not future.done()
    assert future.cancel()
    release.set()
    with pytest.raises(CancelledError):
        future.result(20)
    assert len(fetch_many([(objects[0], [0], [1])])) == 1
