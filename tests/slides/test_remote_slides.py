"""Slides in buckets: what opening costs, equal pixels, and changes that are noticed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from wsistore.errors import SourceChangedError, SourceError
from wsistore.slides import open_slide
from wsistore.sources import open_place
from wsistore.sources.bucket import request_counts


@pytest.fixture
def both(bucket, aperio):
    """Path of a slide of many levels, and URL of its copy in a bucket."""
    path = aperio(size=(2600, 1700)).path
    open_place(bucket).put("a/slide.svs", path.read_bytes())
    return path, f"{bucket}/a/slide.svs"


def test_pixels_and_fingerprint_are_those_of_the_file(both):
    path, url = both
    with open_slide(path) as local, open_slide(url) as remote:
        assert remote.fingerprint == local.fingerprint
        assert remote.levels == local.levels
        for level in range(local.level_count):
            found = remote.read_region((300, 200), level, (300, 200))
            np.testing.assert_array_equal(found, local.read_region((300, 200), level, (300, 200)))


def test_opening_costs_few_requests_and_once_more_with_a_cache_one(both, tmp_path):
    _, url = both
    counts = []
    for _ in range(2):
        before = request_counts()
        open_slide(url, index_cache=tmp_path).close()
        counts.append(request_counts().requests - before.requests)
    assert counts[0] <= 6
    assert counts[1] == 1


def test_a_slide_that_was_replaced_is_refused_by_another_process(both, bucket):
    path, url = both
    packed = pickle.dumps(open_slide(url))
    assert pickle.loads(packed).level_count > 1
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    open_place(bucket).put("a/slide.svs", bytes(data))
    with pytest.raises(SourceChangedError, match=r"slide\.svs"):
        pickle.loads(packed)


def test_a_slide_that_is_replaced_while_it_is_read_is_noticed(both, bucket):
    path, url = both
    with open_slide(url) as slide:
        slide.read_region((0, 0), 0, (64, 64))
        data = bytearray(path.read_bytes())
        data[3000] ^= 1
        open_place(bucket).put("a/slide.svs", bytes(data))
        with pytest.raises(SourceChangedError):
            slide.read_region((1000, 1000), 0, (64, 64))


def test_what_is_not_there_is_told_with_its_url(bucket):
    with pytest.raises(SourceError, match=f"{bucket}/none.svs"):
        open_slide(f"{bucket}/none.svs")
