"""Names, keys and local folders."""

import os
import pickle

import pytest

from wsistore import errors
from wsistore.sources import is_url, open_folder, redact


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("s3://b/k", True),
        ("https://h/k?x=1", True),
        ("file:///a", False),
        ("FILE:///a", False),
        ("a/b.svs", False),
        ("C:/x", False),
        ("a:b//c", False),
        ("", False),
    ],
)
def test_what_is_remote(text, remote):
    assert is_url(text) is remote


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h:8/a/b.svs?X-Amz-Signature=s#f", "https://h:8/a/b.svs"),
        ("s3://bucket/a@b.svs", "s3://bucket/a@b.svs"),
        ("/data/a?b#c.svs", "/data/a?b#c.svs"),
        ("https://u:secret@[broken/a", "https://..."),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert redact(url) == shown


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "zarr.json").write_bytes(b"{}")
    (root / "a" / "c").write_bytes(b"0123456789")
    (tmp_path / "secret").write_bytes(b"no")
    return root


def test_a_folder_gives_bytes_sources_and_names(root):
    folder = open_folder(root)
    assert folder.get("zarr.json") == b"{}"
    assert folder.get("none") is None
    assert folder.get("zarr.json/none") is None
    assert folder.get("a") is None
    assert folder.source("a/c").read(3, 4) == b"3456"
    assert folder.list_names() == ["a/", "zarr.json"]
    assert folder.list_names("a") == folder.list_names("a/") == ["b/", "c"]
    assert folder.list_names("none") == []
    with pytest.raises(errors.SourceNotFoundError, match="none"):
        folder.source("none")


@pytest.mark.parametrize(
    "key", ["../secret", "a/../../secret", "/etc/passwd", "", ".", "a//c", "a/./c", "a/", "\0"]
)
def test_a_key_does_not_leave_the_root(root, key):
    folder = open_folder(root)
    for use in (folder.get, folder.source):
        with pytest.raises(errors.UsageError, match="not the key"):
            use(key)
    with pytest.raises(errors.UsageError, match="not the key"):
        folder.list_names("../root")


def test_a_folder_pickles_and_minds_no_working_directory(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    data = pickle.dumps(open_folder("root"))
    monkeypatch.chdir("/")
    folder = pickle.loads(data)
    assert folder.name == "root"
    assert folder.get("zarr.json") == b"{}"


def test_what_is_no_folder_is_told(root):
    with pytest.raises(errors.SourceNotFoundError):
        open_folder(root / "none")
    with pytest.raises(errors.SourceError, match="not a folder"):
        open_folder(root / "zarr.json")
    with pytest.raises(errors.UsageError, match="region"):
        open_folder(root, region="x")


def test_a_file_that_may_not_be_read_is_told(root, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "no")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    folder = open_folder(root)
    with pytest.raises(errors.SourceAccessError, match=r"zarr\.json"):
        folder.get("zarr.json")
    with pytest.raises(errors.SourceAccessError):
        folder.list_names("a")
