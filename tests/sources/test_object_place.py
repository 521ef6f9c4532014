"""Writing objects: whole or not at all, once or not at all."""

from __future__ import annotations

import pytest

from wsistore.errors import SourceNotFoundError, StoreWriteError, UsageError
from wsistore.sources import ObjectInfo, open_place


def test_what_is_put_is_read_back(bucket: str) -> None:
    place = open_place(f"{bucket}/a/b")
    etag = place.put("k/one", b"abc")
    assert place.get("k/one") == b"abc"
    assert list(place.list_tree()) == [ObjectInfo("k/one", 3, etag)]
    assert place.list_names("k") == ["one"]


def test_pieces_are_uploaded_in_parts(bucket: str) -> None:
    place = open_place(bucket)
    place.put("big", (bytes([i]) * 3_000_000 for i in range(5)))
    source = place.source("big")
    assert source.size == 15_000_000
    assert source.read(2_999_999, 2) == b"\x00\x01"


def test_pieces_may_be_read_from_a_bucket_while_they_are_uploaded(bucket: str) -> None:
    place = open_place(bucket)
    data = bytes(range(250)) * 80_000
    place.put("from", data)
    source = place.source("from")
    place.put("to", (source.read(start, 1_000_000) for start in range(0, len(data), 1_000_000)))
    assert place.get("to") == data


def test_no_object_appears_where_the_pieces_fail(bucket: str) -> None:
    def pieces():
        yield b"x" * 12_000_000
        raise ZeroDivisionError

    place = open_place(bucket)
    with pytest.raises(ZeroDivisionError):
        place.put("big", pieces())
    assert place.get("big") is None


def test_create_writes_once(bucket: str) -> None:
    place = open_place(bucket)
    assert place.create("k", b"first")
    assert not place.create("k", b"second")
    assert place.get("k") == b"first"


def test_delete_takes_what_is_there(bucket: str) -> None:
    place = open_place(bucket)
    place.put("a/1", b"1")
    place.put("a/2", b"2")
    place.delete(["a/1", "a/none"])
    assert [found.key for found in place.list_tree("a")] == ["a/2"]


def test_a_bucket_that_is_not_there_is_an_error(bucket: str) -> None:
    with pytest.raises(StoreWriteError, match="no-such-bucket"):
        open_place("s3://no-such-bucket").put("k", b"1")


def test_a_local_path_is_no_place() -> None:
    with pytest.raises(UsageError, match="local path"):
        open_place("/tmp/x")


def test_only_the_state_that_was_seen_is_replaced(bucket: str) -> None:
    place = open_place(bucket)
    first = place.put("k", b"1")
    assert first is not None
    assert place.replace("k", b"2", first)
    assert not place.replace("k", b"3", first)  # somebody has written since
    assert not place.replace("none", b"3", first)
    again = place.get_tagged("k")
    assert again is not None
    assert again[0] == b"2"
    assert again[1] != first
    assert place.get_tagged("none") is None


def test_an_etag_that_writing_did_not_tell_is_asked_for(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    put = obstore.put
    monkeypatch.setattr(obstore, "put", lambda *args, **more: {**put(*args, **more), "e_tag": None})
    place = open_place(bucket)
    etag = place.put("a", b"of an object that Ceph got in parts")
    assert [info.etag for info in place.list_tree()] == [etag]
    assert etag


def test_a_bucket_that_is_not_there_is_not_taken_for_an_empty_one(bucket: str) -> None:
    for look in (lambda place: place.list_names(), lambda place: list(place.list_tree())):
        with pytest.raises(SourceNotFoundError, match="no-such-bucket"):
            look(open_place("s3://no-such-bucket/a"))


def test_a_server_that_compares_with_unquoted_etags_replaces(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore
    from obstore.exceptions import PreconditionError

    put = obstore.put
    conditions: list[str] = []

    def put_as_ceph(store, key, data, *, mode=None, **more):
        if isinstance(mode, dict):
            conditions.append(mode["e_tag"])
            if mode["e_tag"].startswith('"'):
                raise PreconditionError("412")
            mode = {"e_tag": f'"{mode["e_tag"]}"'}
        return put(store, key, data, mode=mode, **more)

    place = open_place(bucket)
    first = place.put("k", b"1")
    assert first is not None
    monkeypatch.setattr(obstore, "put", put_as_ceph)
    assert place.replace("k", b"2", first)
    assert place.get("k") == b"2"
    assert conditions == [first, first.strip('"')]
    assert not place.replace("k", b"3", first)  # somebody has written since
    assert place.get("k") == b"2"
    assert conditions[2:] == [first]
