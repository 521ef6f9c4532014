"""Where bytes come from: the cache, and folders whose objects are made on request."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import SourceAccessError
from wsistore.serving.cache import ChunkCache
from wsistore.serving.contents import FolderContents, LocalFiles, file_contents
from wsistore.sources import Folder, LocalFolder, Source


class Made(Folder):
    """A folder that makes its objects and counts them."""

    name = "made"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.calls.append(key)
        return None if key == "absent" else f"<{key}>".encode()

    def source(self, key: str) -> Source:
        raise NotImplementedError

    def list_names(self, prefix: str = "") -> list[str]:
        return [prefix + "a"]


def test_chunks_are_made_once() -> None:
    folder = Made()
    contents = FolderContents(folder, "state", ChunkCache(100))
    for _ in range(3):
        found = contents.find("a")
        assert found is not None
        assert found.read(0, found.size) == b"<a>"
        assert found.tag == contents.known_tag("a")
    assert contents.find("absent") is None
    assert folder.calls == ["a", "absent"]


def test_folders_do_not_share_chunks() -> None:
    cache = ChunkCache(100)
    one, other = Made(), Made()
    FolderContents(one, "x", cache).find("a")
    FolderContents(other, "x", cache).find("a")
    assert (one.calls, other.calls) == (["a"], ["a"])


def test_tags_tell_states_apart() -> None:
    cache = ChunkCache(0)
    tags = {
        FolderContents(Made(), state, cache).known_tag(key) for state in "xy" for key in ("a", "b")
    }
    assert len(tags) == 4


def test_the_cache_drops_what_was_used_longest_ago() -> None:
    cache = ChunkCache(10)
    for key in "abc":
        cache.put(0, key, b"123")
    assert cache.get(0, "a") == b"123"
    cache.put(0, "d", b"123")
    assert [cache.get(0, key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put(0, "large", b"x" * 11)
    assert cache.get(0, "large") is None
    assert cache.get(0, "a") is not None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 6))))
def test_the_cache_counts_its_bytes(puts: list[tuple[str, int]]) -> None:
    cache = ChunkCache(9)
    for key, size in puts:
        cache.put(0, key, bytes(size))
        held = [cache.get(0, name) for name in "abcd"]
        assert cache.size == sum(len(data) for data in held if data is not None) <= 9
        assert cache.get(0, key) == bytes(size)


def test_the_cache_bears_threads() -> None:
    cache = ChunkCache(50)

    def work(start: int) -> None:
        for number in range(500):
            key = str((start + number) % 20)
            cache.put(0, key, key.encode() * 4)
            assert cache.get(0, key) in (None, key.encode() * 4)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [cache.get(0, str(key)) for key in range(20)]
    assert cache.size == sum(len(data) for data in held if data is not None) <= 50


def test_files_that_may_not_be_read_are_no_absent_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chunk").write_bytes(b"x")
    contents = file_contents(LocalFolder(tmp_path), "state")
    assert isinstance(contents, LocalFiles)
    assert contents.find("none") is None
    assert contents.find("chunk/x") is None

    def refuse(self: Path) -> None:
        raise PermissionError(13, "not permitted")

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr("os.open", lambda *args, **kwargs: refuse(tmp_path))
    with pytest.raises(SourceAccessError):
        contents.find("chunk")
