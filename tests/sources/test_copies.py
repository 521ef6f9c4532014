"""Files that stand for objects: fetched, uploaded, and named as what they stand for."""

from __future__ import annotations

import pytest

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.sources import open_place
from wsistore.sources.copies import local_copy, split_place, uploaded


def test_an_object_with_what_lies_beside_it(bucket: str) -> None:
    place = open_place(f"{bucket}/a b")
    place.put("m.png", b"1")
    place.put("m.json", b"2")
    place.put("other", b"3")
    with local_copy(f"{bucket}/a%20b/m.png", beside=["{stem}.json", "{name}.json"]) as path:
        found = {inner.name: inner.read_bytes() for inner in path.parent.iterdir()}
        assert found == {"m.png": b"1", "m.json": b"2"}
    assert not path.parent.exists()


def test_a_tree_of_objects(bucket: str) -> None:
    with uploaded(f"{bucket}/x/tree") as path:
        (path / "a" / "b").mkdir(parents=True)
        (path / "a" / "b" / "one").write_bytes(b"1")
        (path / "two").write_bytes(b"2")
    keys = [found.key for found in open_place(bucket).list_tree()]
    assert keys == ["x/tree/a/b/one", "x/tree/two"]
    with local_copy(f"{bucket}/x/tree/") as copy:
        assert (copy / "a" / "b" / "one").read_bytes() == b"1"
    with pytest.raises(SourceNotFoundError), local_copy(f"{bucket}/x/none"):
        pass


def test_nothing_is_uploaded_where_writing_fails(bucket: str) -> None:
    def write() -> None:
        with uploaded(f"{bucket}/x/file") as path:
            path.write_bytes(b"half")
            raise StoreCorruptError(f"{path} is cut")

    with pytest.raises(StoreCorruptError, match=f"^{bucket}/x/file is cut"):
        write()
    assert list(open_place(bucket).list_tree()) == []


def test_a_path_is_written_where_it_is(tmp_path) -> None:
    with uploaded(tmp_path / "file") as path:
        assert path == tmp_path / "file"


def test_a_whole_bucket_is_no_file(bucket: str) -> None:
    with pytest.raises(UsageError, match="whole bucket"):
        split_place(f"{bucket}/")
