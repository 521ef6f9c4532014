"""`ObjectWork` on a place in memory: what is there at each moment, and after each end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from wsistore.durable import ObjectWork, clear_leftovers, plain_etag
from wsistore.errors import (
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    StoreWriteError,
    UsageError,
)

SETTINGS = {"codec": "copy", "size": 3}
ROOT = {"zarr.json": b"{}"}


class Info(NamedTuple):
    key: str
    size: int
    etag: str


class Memory:
    """Objects in a dictionary."""

    name = "mem://place"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing = ""

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def put(self, key: str, data: bytes) -> str:
        if self.failing and self.failing in key:
            raise StoreWriteError(f"writing failed: {key}")
        self.objects[key] = bytes(data)
        return self._etag(key)

    def create(self, key: str, data: bytes) -> bool:
        if key in self.objects:
            return False
        self.put(key, data)
        return True

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)

    def list_tree(self, prefix: str = "") -> Iterator[Info]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield Info(key, len(self.objects[key]), self._etag(key))

    def _etag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()}"'


@pytest.fixture
def place():
    return Memory()


def make(place, *, parts=("a/0", "a/1"), settings=SETTINGS, **options):
    with ObjectWork(place, "s.zarr", settings, **options) as work:
        for part in parts:
            work.write(part, part.encode())
            work.append(part, {"key": part})
        return work.finish(ROOT)


class CutError(Exception):
    pass


def cut(place, *, parts=("a/0",), settings=SETTINGS, **options):
    with (  # noqa: PT012
        pytest.raises(CutError),
        ObjectWork(place, "s.zarr", settings, **options) as work,
    ):
        for part in parts:
            work.write(part, part.encode())
            work.append(part, {"key": part})
        raise CutError


def test_a_store_is_there_when_it_is_finished(place):
    place.objects["s.zarr2/x"] = place.objects["s.zarr.bak"] = b"of others"
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        assert (work.root, work.resumed) == ("mem://place/s.zarr", False)
        work.write("a/0", b"x")
        work.sketch("zarr.json", b"not yet")
        work.append("a/0", {"key": "a/0"})
        assert "s.zarr/zarr.json" not in place.objects
        assert place.objects[".s.zarr.partial/head/zarr.json"] == b"not yet"
        assert work.head == "mem://place/.s.zarr.partial/head"
        assert work.listing() == {"a/0": (1, hashlib.md5(b"x").hexdigest())}
        assert work.finish(ROOT)
    assert sorted(place.objects) == ["s.zarr.bak", "s.zarr/a/0", "s.zarr/zarr.json", "s.zarr2/x"]


def test_work_that_is_cut_is_resumed_with_its_receipts(place):
    cut(place, parts=("a/0", "a/1"))
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        assert work.resumed
        assert sorted(entry["key"] for entry in work.entries()) == ["a/0", "a/1"]
        work.finish(ROOT)


def test_damaged_receipts_are_dropped(place):
    cut(place, parts=("a/0", "a/1", "a/2"))
    key = ".s.zarr.partial/done/a/1"
    place.objects[key] = place.objects[key].replace(b"a/1", b"a/7")
    place.objects[".s.zarr.partial/done/a/2"] = b""
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        assert [entry["key"] for entry in work.entries()] == ["a/0"]


def test_work_without_a_receipt_leaves_nothing(place):
    with pytest.raises(CutError), ObjectWork(place, "s.zarr", SETTINGS) as work:  # noqa: PT012
        work.write("a/0", b"x")
        work.sketch("zarr.json", b"{}")
        raise CutError
    assert place.objects == {}


def test_what_was_resumed_stays_even_where_nothing_was_added(place):
    cut(place)
    before = dict(place.objects)
    with pytest.raises(CutError), ObjectWork(place, "s.zarr", SETTINGS):
        raise CutError
    assert place.objects == before


def test_other_settings_are_refused_by_name(place):
    cut(place)
    with pytest.raises(StoreMismatchError, match='codec: "copy" -> "zstd"') as raised:
        make(place, settings={**SETTINGS, "codec": "zstd"})
    assert "mem://place/.s.zarr.partial/" in (raised.value.hint or "")
    assert make(place)


def test_damaged_settings_are_told(place):
    cut(place)
    place.objects[".s.zarr.partial/settings.json"] = b"{"
    with pytest.raises(StoreCorruptError, match="damaged"):
        make(place)
    assert make(place, restart=True)


def test_what_exists_is_not_taken(place):
    make(place)
    with pytest.raises(StoreExistsError):
        make(place)
    place.objects = {"s.zarr/notes.txt": b"mine"}
    with pytest.raises(StoreExistsError):
        make(place)
    assert place.objects == {"s.zarr/notes.txt": b"mine"}


def test_overwriting_removes_the_old_store_first(place):
    make(place, parts=("a/0", "a/9"), settings={"old": 1})
    with ObjectWork(place, "s.zarr", SETTINGS, overwrite=True) as work:
        assert [key for key in place.objects if key.startswith("s.zarr/")] == []
        work.write("a/0", b"new")
        work.append("a/0", {"key": "a/0"})
        work.finish(ROOT)
    assert sorted(place.objects) == ["s.zarr/a/0", "s.zarr/zarr.json"]


def test_removing_that_was_cut_is_ended_by_the_next_run(place):
    make(place, parts=("a/0", "a/9"), settings={"old": 1})
    gone = place.delete
    place.delete = lambda keys: (_ for _ in ()).throw(CutError)
    with pytest.raises(CutError):
        ObjectWork(place, "s.zarr", SETTINGS, overwrite=True).__enter__()
    place.delete = gone
    place.delete(["s.zarr/zarr.json"])
    # Also where it is not told to overwrite any more.
    assert make(place, parts=("a/0",))
    assert sorted(place.objects) == ["s.zarr/a/0", "s.zarr/zarr.json"]


def test_who_finishes_second_is_told_so(place):
    with ObjectWork(place, "s.zarr", SETTINGS) as one:
        with ObjectWork(place, "s.zarr", SETTINGS) as other:
            other.write("a/0", b"x")
            assert other.finish(ROOT)
        one.write("a/0", b"x")
        assert not one.finish(ROOT)
    assert sorted(place.objects) == ["s.zarr/a/0", "s.zarr/zarr.json"]


def test_who_finishes_second_with_another_store_is_an_error(place):
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        work.append("a/0", {"key": "a/0"})
        place.objects["s.zarr/zarr.json"] = b"of another"
        with pytest.raises(StoreExistsError, match="another run"):
            work.finish(ROOT)
    assert place.objects["s.zarr/zarr.json"] == b"of another"


class Fleeting(Memory):
    """Where settings, refused because they are there, are gone when they are looked at."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def create(self, key: str, data: bytes) -> bool:
        if key.endswith("settings.json") and self.times:
            self.times -= 1
            self.objects.pop(key, None)
            return False
        return super().create(key, data)


def test_settings_that_another_run_takes_along_are_made_again():
    place = Fleeting(times=1)
    assert make(place)
    assert not place.times
    assert sorted(place.objects) == ["s.zarr/a/0", "s.zarr/a/1", "s.zarr/zarr.json"]


def test_settings_that_never_stay_are_an_error():
    place = Fleeting(times=99)
    with pytest.raises(StoreWriteError, match="came and went 10 times"):
        make(place)


def test_who_lost_the_name_is_told_before_the_end(place):
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        work.append("a/0", {"key": "a/0"})
        place.objects[".s.zarr.partial/settings.json"] = b'{"codec":"zstd"}'
        with pytest.raises(StoreMismatchError):
            work.finish(ROOT)
    assert "s.zarr/zarr.json" not in place.objects


def test_who_lost_the_name_is_told_while_writing(place, monkeypatch):
    monkeypatch.setattr("wsistore.durable.objects._WATCH_S", 0.0)
    with (  # noqa: PT012
        pytest.raises(StoreMismatchError),
        ObjectWork(place, "s.zarr", SETTINGS) as work,
    ):
        work.append("a/0", {"key": "a/0"})
        place.objects[".s.zarr.partial/settings.json"] = b'{"codec":"zstd"}'
        for number in range(100):
            work.append(f"a/{number}", {"key": f"a/{number}"})


def test_receipts_that_could_not_be_written_are_an_error_at_the_end(place):
    place.failing = "/done/a/1"
    with pytest.raises(StoreWriteError, match="a/1"):
        make(place)
    assert "s.zarr/zarr.json" not in place.objects
    with pytest.raises(StoreWriteError), ObjectWork(place, "s.zarr", SETTINGS) as work:
        work.append("a/1", {"key": "a/1"})


def test_the_last_document_is_the_one_that_counts(place):
    order = []
    put = place.put
    place.put = lambda key, data: order.append(key) or put(key, data)
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        work.finish({".zgroup": b"1", ".zattrs": b"2"})
    assert order[-2:] == ["s.zarr/.zgroup", "s.zarr/.zattrs"]


def test_discarded_work_is_gone(place):
    cut(place)
    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        work.discard()
        with pytest.raises(UsageError):
            work.write("a", b"")
    assert place.objects == {}


def test_leftovers_of_equal_settings_are_cleared_and_no_others(place):
    cut(place)
    clear_leftovers(place, "s.zarr", {"codec": "zstd"})
    assert ".s.zarr.partial/settings.json" in place.objects
    clear_leftovers(place, "s.zarr", SETTINGS)
    assert sorted(place.objects) == ["s.zarr/a/0"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_names_that_are_none(place, name):
    with pytest.raises(UsageError):
        ObjectWork(place, name)


def test_a_store_without_a_document_is_none(place):
    with ObjectWork(place, "s.zarr") as work, pytest.raises(UsageError):
        work.finish({})
    with pytest.raises(UsageError):
        work.append("a", {})


@pytest.mark.parametrize("etag", ['"abc"', "abc", 'W/"abc"'])
def test_etags_are_compared_without_quotes(etag):
    assert plain_etag(etag) == "abc"
    assert plain_etag(None) == ""


def test_several_documents_are_written_side_by_side(place, monkeypatch):
    together = threading.Barrier(3, timeout=20)
    put = place.put

    def meet(key, data):
        if key.endswith("zarr.json") and "partial" not in key:
            together.wait()
        return put(key, data)

    with ObjectWork(place, "s.zarr", SETTINGS) as work:
        monkeypatch.setattr(place, "put", meet)
        work.write_all({f"{level}/zarr.json": b"%d" % level for level in range(3)})
        monkeypatch.setattr(place, "put", put)
        assert [place.get(f"s.zarr/{level}/zarr.json") for level in range(3)] == [b"0", b"1", b"2"]
        place.failing = "2/zarr.json"
        with pytest.raises(StoreWriteError):
            work.write_all({f"{level}/zarr.json": b"x" for level in range(3)})
        place.failing = ""
        work.append("a", {"key": "a"})
        assert work.finish(ROOT)
