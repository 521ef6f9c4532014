"""Which slides a call names, and what their stores are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsistore.engine.jobs import places
from wsistore.errors import SourceAccessError, SourceNotFoundError, UsageError


@pytest.fixture
def folder(tmp_path):
    for name in ("in/a.svs", "in/b.ome.tiff", "in/notes.txt", "in/.hidden.svs", "in/deep/c.ndpi"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    store = tmp_path / "in/d.ome.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    return tmp_path


def told(found, root):
    return [(os.path.relpath(p.source, root), os.path.relpath(p.store, root)) for p in found]


def test_one_file_makes_the_store_itself(folder):
    found = places(folder / "in/a.svs", folder / "x.zarr")
    assert told(found, folder) == [("in/a.svs", "x.zarr")]


def test_one_file_goes_into_a_folder_that_exists(folder):
    (folder / "out").mkdir()
    found = places([folder / "in/b.ome.tiff"], folder / "out")
    assert told(found, folder) == [("in/b.ome.tiff", "out/b.ome.zarr")]


def test_one_file_replaces_a_store_rather_than_entering_it(folder):
    found = places(folder / "in/a.svs", folder / "in/d.ome.zarr")
    assert told(found, folder) == [("in/a.svs", "in/d.ome.zarr")]


def test_folder_gives_its_slides_and_stores(folder):
    assert told(places(folder / "in", folder / "out"), folder) == [
        ("in/a.svs", "out/a.ome.zarr"),
        ("in/b.ome.tiff", "out/b.ome.zarr"),
        ("in/d.ome.zarr", "out/d.ome.zarr"),
    ]


def test_recursive_goes_deeper_and_keep_tree_keeps_folders(folder):
    flat = places(folder / "in", folder / "out", recursive=True)
    assert ("in/deep/c.ndpi", "out/c.ome.zarr") in told(flat, folder)
    kept = places(folder / "in", folder / "out", recursive=True, keep_tree=True)
    assert ("in/deep/c.ndpi", "out/deep/c.ome.zarr") in told(kept, folder)
    assert len(flat) == len(kept) == 4


def test_equal_stems_are_listed(folder):
    (folder / "in/deep/a.tif").write_bytes(b"")
    with pytest.raises(UsageError, match=r"a\.ome\.zarr: .*in/a\.svs, .*in/deep/a\.tif"):
        places(folder / "in", folder / "out", recursive=True)
    assert len(places(folder / "in", folder / "out", recursive=True, keep_tree=True)) == 5


def test_a_slide_named_twice_is_converted_once(folder):
    found = places([folder / "in", folder / "in/a.svs"], folder / "out")
    assert len(found) == 3


def test_folder_without_slides_is_told(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no slide in the folder .*empty.*--recursive"):
        places(folder / "empty", folder / "out")


def test_file_that_is_not_there_is_told(folder):
    with pytest.raises(SourceNotFoundError, match=r"nothing\.svs"):
        places(folder / "nothing.svs", folder / "out")


@pytest.mark.parametrize(
    ("destination", "store"),
    [
        ("s3://bucket/x.zarr", "s3://bucket/x.zarr"),
        ("s3://bucket/x.zarr/", "s3://bucket/x.zarr"),
        ("s3://bucket/out", "s3://bucket/out"),
        ("s3://bucket/out/", "s3://bucket/out/a.ome.zarr"),
        ("s3://bucket", "s3://bucket/a.ome.zarr"),
    ],
)
def test_spelling_tells_what_a_remote_destination_is(folder, destination, store):
    assert [place.store for place in places(folder / "in/a.svs", destination)] == [store]


def test_destination_must_have_a_name(folder):
    with pytest.raises(UsageError, match="destination"):
        places(folder / "in/a.svs", "")


def test_url_of_a_slide_is_named_by_its_last_part(tmp_path):
    (tmp_path / "out").mkdir()
    (place,) = places("s3://bucket/folder/a.svs", tmp_path / "out")
    assert place.source == "s3://bucket/folder/a.svs"
    assert Path(place.store).name == "a.ome.zarr"


def test_no_slide_is_told(tmp_path):
    with pytest.raises(UsageError, match="no slide is named"):
        places([], tmp_path)


def test_a_destination_below_the_source_is_not_searched(folder):
    store = folder / "in/stores/a.ome.zarr"
    store.mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    found = places(folder / "in", folder / "in/stores", recursive=True)
    assert told(found, folder) == [
        ("in/a.svs", "in/stores/a.ome.zarr"),
        ("in/b.ome.tiff", "in/stores/b.ome.zarr"),
        ("in/d.ome.zarr", "in/stores/d.ome.zarr"),
        ("in/deep/c.ndpi", "in/stores/c.ome.zarr"),
    ]
    kept = places(folder / "in", folder / "in/stores", recursive=True, keep_tree=True)
    assert len(kept) == 4


@pytest.mark.parametrize("keep_tree", [False, True])
def test_results_beside_the_slides_are_not_converted_again(folder, keep_tree):
    for name in ("in/a.ome.zarr", "in/deep/c.ome.zarr"):
        (folder / name).mkdir()
        (folder / name / "zarr.json").write_text("{}")
    found = places(folder / "in", folder / "in", recursive=keep_tree, keep_tree=keep_tree)
    sources = [Path(place.source).name for place in found]
    assert sources == ["a.svs", "b.ome.tiff", "c.ndpi"][: 2 + keep_tree]


def test_a_folder_of_stores_is_not_converted_onto_itself(folder):
    for name in ("a.svs", "b.ome.tiff"):
        (folder / "in" / name).unlink()
    with pytest.raises(UsageError, match="both source and destination"):
        places(folder / "in", folder / "in")


def test_links_that_go_in_circles_are_followed_once(folder):
    (folder / "in/deep/back").symlink_to(folder / "in")
    (folder / "in/deep/self").symlink_to("self")
    (folder / "in/other").symlink_to(folder / "in/deep")
    found = places(folder / "in", folder / "out", recursive=True)
    assert [Path(place.source).name for place in found] == [
        "a.svs",
        "b.ome.tiff",
        "d.ome.zarr",
        "c.ndpi",
    ]


def test_a_folder_that_may_not_be_listed_fails_by_itself(folder, monkeypatch):
    closed = folder / "in/closed"
    closed.mkdir()
    plain = Path.iterdir

    def iterdir(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = places(folder / "in", folder / "out", recursive=True)
    assert ("in/closed", "out/closed.ome.zarr") in told(found, folder)
    assert len(found) == 5
    with pytest.raises(SourceAccessError, match=r"closed may not be listed"):
        places(closed, folder / "out")


def test_a_path_that_may_not_be_looked_at_is_left_to_the_opening(folder, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "lstat", refuse)
    (place,) = places(folder / "in/a.svs", folder / "x.ome.zarr")
    assert place.store == str(folder / "x.ome.zarr")


def test_a_destination_written_like_a_folder_is_one(folder):
    assert told(places(folder / "in/a.svs", f"{folder}/new/"), folder) == [
        ("in/a.svs", "new/a.ome.zarr")
    ]
    assert told(places(folder / "in/a.svs", f"{folder}/new.ome.zarr/"), folder) == [
        ("in/a.svs", "new.ome.zarr")
    ]
    assert told(places(folder / "in/a.svs", f"{folder}/in/d.ome.zarr/"), folder) == [
        ("in/a.svs", "in/d.ome.zarr")
    ]


def test_the_tree_is_offered_only_where_it_helps(folder):
    (folder / "in/deep/a.tif").write_bytes(b"")
    with pytest.raises(UsageError) as apart:
        places(folder / "in", folder / "out", recursive=True)
    assert "--keep-tree" in apart.value.hint
    (folder / "in/a.tif").write_bytes(b"")
    with pytest.raises(UsageError) as together:
        places(folder / "in", folder / "out", recursive=True)
    assert "--keep-tree" not in together.value.hint
