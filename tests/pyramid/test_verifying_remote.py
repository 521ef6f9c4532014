"""Verifying and validating stores in buckets."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsistore
from wsistore.errors import UsageError
from wsistore.pyramid import shardfile
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.pyramid.validation import validate
from wsistore.pyramid.verifying import verify
from wsistore.sources import open_place
from wsistore.testing import write_slide

SHARD = "0/c/0/0/1"


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("remote") / "s.svs"
    return write_slide(path, size=(500, 300), tile=64, levels=(1, 4), distinct_tiles=8).path


@pytest.fixture
def store(slide, bucket):
    """URL of a copied store."""
    wsistore.convert(slide, f"{bucket}/x.zarr", shard=256).raise_for_failures()
    return f"{bucket}/x.zarr"


@pytest.fixture
def chunked(slide, bucket):
    """URL of a store of NGFF 0.4, a chunk an object."""
    options = {"codec": "zstd", "format": "0.4", "chunk": 64}
    wsistore.convert(slide, f"{bucket}/y.zarr", **options).raise_for_failures()
    return f"{bucket}/y.zarr"


def flip(url, key, at=None):
    place = open_place(url)
    data = bytearray(place.get(key))
    data[len(data) // 2 if at is None else at] ^= 1
    place.put(key, bytes(data))


def found(url, **more):
    return {finding.where: finding.what for finding in verify(url, **more).findings}


def test_a_store_is_what_was_written(store, slide, bucket):
    open_place(bucket).put("s.svs", Path(slide).read_bytes())
    told = []
    report = verify(store, f"{bucket}/s.svs", on_event=told.append)
    assert (report.findings, report.store) == ((), store)
    assert report.compared_tiles == report.chunks == 8 * 5 + 2 * 2
    assert [event.done for event in told if event.step == "checksums"] == [1, 2, 3, 4, 5]
    assert verify(f"{store}/", slide).ok


def test_windows_smaller_than_a_shard_tell_the_same(store, monkeypatch):
    monkeypatch.setattr(shardfile, "WINDOW_BYTES", 3000)
    assert verify(store).ok
    flip(store, SHARD)
    assert "chunk" in found(store)[SHARD]


@pytest.mark.parametrize("at", [0, None, -20, -1], ids=["chunk", "middle", "index", "its sum"])
def test_a_flipped_bit_is_found(store, at):
    flip(store, SHARD, at)
    assert found(store).keys() == {SHARD}


def test_shards_that_are_cut_missing_or_too_many(store):
    place = open_place(store)
    data = place.get(SHARD)
    place.put(SHARD, data[:-1])
    place.delete(["0/c/0/1/0"])
    place.put("0/c/0/7/7", data)
    place.put("labels/mine/zarr.json", b"{}")
    assert found(store) == {
        SHARD: f"has {len(data) - 1} bytes, expected {len(data)}",
        "0/c/0/1/0": "is missing",
        "0/c/0/7/7": "is no file of this store",
    }


def test_another_whole_shard_in_its_place_is_found(store):
    place = open_place(store)
    place.put(SHARD, place.get("0/c/0/0/0"))
    assert found(store).keys() == {SHARD}


def test_documents_are_vouched_for(store):
    flip(store, "0/zarr.json")
    assert found(store) == {"0/zarr.json": "does not match its checksum"}
    open_place(store).delete(["zarr.json"])
    assert found(store)["zarr.json"] == "is missing"
    flip(store, CHECKSUMS)
    assert found(store).keys() == {CHECKSUMS}


def test_chunks_of_their_own_objects(chunked, slide):
    assert verify(chunked, slide).ok
    flip(chunked, "0/0/1/1")
    (where,) = found(chunked)
    assert where.startswith("0/0/0-")
    open_place(chunked).delete(["0/0/1/1"])
    assert found(chunked).keys() == {where}


def test_another_slide_is_told(store, tmp_path):
    other = write_slide(tmp_path / "o.svs", size=(400, 300), tile=64, levels=(1,)).path
    assert "another slide" in next(iter(found(store, against=other).values()))


def test_what_has_no_checksums_is_none_of_ours(bucket):
    with pytest.raises(UsageError, match=CHECKSUMS):
        verify(f"{bucket}/nothing.zarr")


def test_few_requests(store, monkeypatch):
    asked = []
    for name in ("get", "source", "list_tree"):
        call = getattr(type(open_place(store)), name)

        def noted(self, *args, _call=call, _name=name):
            asked.append(_name)
            return _call(self, *args)

        monkeypatch.setattr(type(open_place(store)), name, noted)
    report = verify(store)
    assert report.ok
    assert asked.count("source") == report.shards
    assert asked.count("list_tree") == 1


def test_validate_looks_at_documents_in_buckets(store, chunked):
    for url in (store, chunked):
        assert [finding for finding in validate(url) if finding.severity == "error"] == []
    place = open_place(store)
    place.put("zarr.json", place.get("zarr.json").replace(b'"0.5"', b'"0.9"'))
    assert "version" in {finding.code for finding in validate(store)}
