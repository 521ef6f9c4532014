"""Writing objects: whole or not at all, once or not at all."""

from __future__ import annotations

import itertools
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsistore.errors import (
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
    StoreWriteError,
    UsageError,
)
from wsistore.sources import ObjectInfo, object_folder, open_folder, open_place, open_source
from wsistore.testing.faults import Fault, Reset, ResetUpload, Status
from wsistore.testing.server import FaultServer


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


def test_pieces_at_hand_go_in_one_request_unless_they_are_many(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [b"a" * 9_000_000, memoryview(b"xbcx")[1:3], b"", bytearray(b"d")]
    whole = b"".join(pieces)
    with FaultServer.before(s3_server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        place = open_place(bucket)
        etag = place.put("k", pieces)
        assert [request.method for request in server.requests] == ["PUT"]
        assert place.get("k") == whole
        assert [info.etag for info in place.list_tree()] == [etag]
        place.put("k", whole[1:])
        assert place.get("k") == whole[1:]
        monkeypatch.setattr(object_folder, "_SINGLE_BYTES", len(whole) - 1)
        server.reset()
        place.put("k", pieces)
        assert [request.method for request in server.requests] == ["POST", "PUT", "PUT", "POST"]
        assert place.get("k") == whole


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


def _unfinished_uploads(bucket: str) -> list[Any]:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1"
    )
    try:
        found = client.list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    finally:
        client.close()
    return list(found.get("Uploads", []))


def test_no_parts_stay_where_the_pieces_fail(bucket: str) -> None:
    seen = []

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 12_000_000
        seen.extend(_unfinished_uploads(bucket))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        open_place(bucket).put("big", pieces())
    assert len(seen) == 1  # it was under way, and in parts
    assert _unfinished_uploads(bucket) == []


def test_a_server_refuses_ranges_of_another_state(bucket: str, monkeypatch: Any) -> None:
    from wsistore.sources.objects import ObjectSource

    place = open_place(bucket)
    place.put("k", b"1" * 200_000)
    source = place.source("k")
    elsewhere = pickle.loads(pickle.dumps(source))
    place.put("k", b"2" * 200_000)
    # The server alone is to notice it here: nothing compares what it says.
    monkeypatch.setattr(ObjectSource, "_compare", lambda *_: None)
    for one in (source, elsewhere):
        with pytest.raises(SourceChangedError, match="not the object that was opened"):
            one.read(100_000, 5)


@pytest.mark.parametrize("deed", ["put", "parts", "create", "replace", "delete"])
def test_writing_to_a_server_that_fails_ends_in_time(deed: str, tmp_path: Path) -> None:
    with FaultServer(tmp_path) as server:
        server.play(itertools.repeat(Status(503)))
        place = open_place(
            "s3://b/a",
            endpoint=server.url,
            access_key_id="id",
            secret_access_key="canary",
            region="us-east-1",
            deadline_s=0.6,
            timeout_s=0.3,
            retries=1000,  # only time ends it
        )
        deeds = {
            "put": lambda: place.put("k", b"1"),
            "parts": lambda: place.put("k", iter([b"1" * 6_000_000] * 2)),
            "create": lambda: place.create("k", b"1"),
            "replace": lambda: place.replace("k", b"1", '"1"'),
            "delete": lambda: place.delete(["k"]),
        }
        began = time.monotonic()
        with pytest.raises(StoreWriteError, match="s3://b/a/k"):
            deeds[deed]()
        assert time.monotonic() - began < 30


class Doing:
    """A write on a condition, through a server whose PUTs meet faults."""

    def __init__(self, deed: str, url: str, server: FaultServer) -> None:
        self.place = open_place(url, deadline_s=5, timeout_s=3)
        self.server = server
        self.etag = self.place.put("k", b"old") if deed == "replace" else None

    def __call__(self, *faults: Fault | None) -> bool:
        self.server.reset()
        self.server.play(faults, lambda request: request.method == "PUT")
        if self.etag is None:
            return self.place.create("k", b"new")
        return self.place.replace("k", b"new", self.etag)

    def puts(self) -> int:
        return sum(request.method == "PUT" for request in self.server.requests)


@pytest.fixture(params=["create", "replace"])
def doing(
    request: pytest.FixtureRequest, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Doing]:
    with FaultServer.before(s3_server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield Doing(request.param, bucket, server)


def test_a_write_whose_answer_is_lost_was_written(doing: Doing) -> None:
    assert doing(Reset()) is True  # the server behind has done it
    assert (doing.puts(), doing.place.get("k")) == (1, b"new")


def test_a_write_that_did_not_come_through_is_done_again(doing: Doing) -> None:
    assert doing(ResetUpload(), ResetUpload()) is True
    assert (doing.puts(), doing.place.get("k")) == (3, b"new")


def test_a_write_that_never_comes_through_is_an_error(doing: Doing) -> None:
    before = doing.place.get("k")
    with pytest.raises(StoreWriteError, match="/k"):
        doing(*[ResetUpload()] * 10)
    assert doing.puts() < 10
    assert doing.place.get("k") == before


def test_with_the_bytes_of_another_it_was_not_written(doing: Doing) -> None:
    doing.place.put("k", b"of another")
    assert doing(Reset()) is False
    assert doing(ResetUpload()) is False
    assert doing(Reset(), Reset()) is False
    assert doing.place.get("k") == b"of another"


def test_a_write_that_comes_late_is_found_when_it_is_done_again(
    doing: Doing, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = object_folder._holds, []

    def look_too_early(*told: Any) -> bool:
        looks.append(told)
        return len(looks) > 1 and look(*told)

    monkeypatch.setattr(object_folder, "_holds", look_too_early)
    assert doing(Reset()) is True
    assert doing.puts() == 2


@pytest.mark.parametrize("deed", ["create", "replace"])
def test_storage_without_conditional_writing_is_told(deed: str) -> None:
    place = open_place("http://127.0.0.1:1/a")
    with pytest.raises(StoreWriteError, match="can't write on conditions") as caught:
        place.create("k", b"1") if deed == "create" else place.replace("k", b"1", '"1"')
    assert caught.value.__context__ is None
    assert "\n" not in str(caught.value)


def test_http_has_no_listings() -> None:
    place = open_place("http://user:canary@127.0.0.1:1/a?sig=canary")
    for look in (lambda: place.list_names("b"), lambda: list(place.list_tree())):
        with pytest.raises(SourceError, match="HTTP has no listings") as caught:
            look()
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("gs://b/k", {"anonymous": True}),
        ("az://c/k", {"account_name": "a", "anonymous": True}),
        ("https://h.example/k", {}),
    ],
)
def test_storage_of_all_kinds_is_set_up_without_asking_it(
    url: str, options: dict[str, Any]
) -> None:
    folder = open_folder(url, **options)
    assert folder.name == url
    assert pickle.loads(pickle.dumps(folder)).name == url
    with pytest.raises(UsageError, match="a folder, not an object"):
        open_source(f"{url}/", **options)
