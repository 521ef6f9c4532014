"""The bucket in memory, by the client that it is made for."""

from __future__ import annotations

import pytest

from wsistore.errors import SourceChangedError
from wsistore.sources import open_place
from wsistore.testing.buckets import BucketBackend
from wsistore.testing.server import FaultServer


@pytest.fixture
def place():
    with FaultServer(BucketBackend()) as server:
        yield open_place("s3://bucket/a", endpoint=server.url, region="r", anonymous=True)


def test_what_is_put_is_read_listed_and_deleted(place):
    etag = place.put("b/x&y", b"0123456789")
    assert place.get("b/x&y") == b"0123456789"
    assert [(i.key, i.size, i.etag) for i in place.list_tree()] == [("b/x&y", 10, etag)]
    assert place.list_names() == ["b/"]
    assert place.list_names("b") == ["x&y"]
    source = place.source("b/x&y")
    assert bytes(source.read_many([3], [4])[0]) == b"3456"
    assert place.source_with_tail("b/x&y", 3).read(7, 3) == b"789"
    place.put("b/x&y", b"9876543210")
    with pytest.raises(SourceChangedError):
        source.read_many([3], [4])
    place.delete(["b/x&y", "none"])
    assert place.get("b/x&y") is None
    assert list(place.list_tree()) == []


def test_conditions_hold(place):
    assert place.create("k", b"1")
    assert not place.create("k", b"2")
    data, etag = place.get_tagged("k")
    assert place.replace("k", b"3", etag)
    assert not place.replace("k", b"4", etag)
    assert (data, place.get("k")) == (b"1", b"3")


def test_parts_are_put_together(place):
    place.put("big", (bytes([n]) * 6_000_000 for n in range(4)))
    data = place.get("big")
    assert len(data) == 24_000_000
    assert data == b"".join(bytes([n]) * 6_000_000 for n in range(4))
    source = place.source("big")
    offsets, counts = [5_999_999, 0, 23_999_999, 5_000_000], [2, 1, 1, 14_000_000]
    views = source.read_many(offsets, counts)
    assert [bytes(v) for v in views] == [
        data[o : o + c] for o, c in zip(offsets, counts, strict=True)
    ]


def test_parts_that_fail_leave_nothing(place):
    def pieces():
        yield bytes(12_000_000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.put("big", pieces())
    assert place.get("big") is None
