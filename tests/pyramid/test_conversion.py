"""Crash safety: kills, resumes, locks, full disks, settings; and what stays private."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import wsistore
from wsistore.durable import atomic
from wsistore.errors import StoreCorruptError, StoreExistsError, StoreWriteError, WsistoreError
from wsistore.pyramid.checksums import read_checksums
from wsistore.pyramid.conversion import SlideJob, convert_slide
from wsistore.pyramid.events import ShardDone, SlideFinished, SlideResumed, SlideStarted
from wsistore.pyramid.privacy import kept_properties
from wsistore.pyramid.units import write_shard
from wsistore.pyramid.verifying import verify
from wsistore.testing import CANARIES, write_slide

SMALL = {"size": (700, 500), "tile": 64, "levels": (1, 4), "distinct_tiles": 9}
"""With shards of 128 px: 24 shards of level 0, 2 of level 1."""
MODES = [
    {"shard": 128},
    {"codec": "zstd", "shard": 128},
    {"codec": "zstd", "format": "0.4", "chunk": 32},
    {"shard": 128, "add_levels": True},
]


class StopError(Exception):
    """The fault that tests inject."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("source") / "a.svs", **SMALL)


def tree(root):
    """Return {relative path: hash} of all files below a folder."""
    return {
        os.path.relpath(path, root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(root).rglob("*"))
        if path.is_file()
    }


def stop_after(count):
    """Return a listener that raises after so many shards, and what it heard."""
    heard = []

    def listen(event):
        heard.append(event)
        if sum(isinstance(one, ShardDone) for one in heard) == count:
            raise StopError

    return listen, heard


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_resumed_run_gives_the_same_bytes(tmp_path, slide, options, count):
    wsistore.convert(slide.path, tmp_path / "whole.ome.zarr", **options).raise_for_failures()
    listen, _ = stop_after(count)
    store = tmp_path / "a.ome.zarr"
    with pytest.raises(StopError):
        wsistore.convert(slide.path, store, on_event=listen, **options)
    assert not store.exists()
    heard = []
    wsistore.convert(slide.path, store, on_event=heard.append, **options).raise_for_failures()
    (resumed,) = [event for event in heard if isinstance(event, SlideResumed)]
    # Shards that were under way when it stopped are not noted.
    assert resumed.kept == count
    assert resumed.redone == 0
    (started,) = [event for event in heard if isinstance(event, SlideStarted)]
    done = sum(isinstance(event, ShardDone) for event in heard)
    assert done == started.shards - count
    assert tree(store) == tree(tmp_path / "whole.ome.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ome.zarr", "whole.ome.zarr"]


def test_two_conversions_have_the_same_bytes_whatever_the_names(tmp_path, slide):
    other = tmp_path / "elsewhere" / "b.svs"
    other.parent.mkdir()
    shutil.copy(slide.path, other)
    os.utime(other, (1, 1))
    wsistore.convert(slide.path, tmp_path / "a.ome.zarr", workers=1).raise_for_failures()
    wsistore.convert(other, tmp_path / "b.ome.zarr", workers=3).raise_for_failures()
    assert tree(tmp_path / "a.ome.zarr") == tree(tmp_path / "b.ome.zarr")


KILLED = """
import os, signal, sys
import wsistore
from wsistore.pyramid.events import ShardDone
left = [int(sys.argv[3])]
def listen(event):
    if isinstance(event, ShardDone):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
wsistore.convert(sys.argv[1], sys.argv[2], shard=128, on_event=listen)
"""


def test_killed_run_is_resumed(tmp_path, slide):
    wsistore.convert(slide.path, tmp_path / "whole.ome.zarr", shard=128).raise_for_failures()
    store = tmp_path / "a.ome.zarr"
    for count in (3, 7):
        command = [sys.executable, "-c", KILLED, str(slide.path), str(store), str(count)]
        ended = subprocess.run(command, check=False, capture_output=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not store.exists()
    heard = []
    wsistore.convert(slide.path, store, shard=128, on_event=heard.append).raise_for_failures()
    (resumed,) = [event for event in heard if isinstance(event, SlideResumed)]
    assert resumed.kept == 10
    assert tree(store) == tree(tmp_path / "whole.ome.zarr")


def test_damaged_shard_of_an_earlier_run_is_written_again(tmp_path, slide):
    wsistore.convert(slide.path, tmp_path / "whole.ome.zarr", shard=128).raise_for_failures()
    listen, heard = stop_after(5)
    store = tmp_path / "a.ome.zarr"
    with pytest.raises(StopError):
        wsistore.convert(slide.path, store, shard=128, on_event=listen)
    written = [event.key for event in heard if isinstance(event, ShardDone)]
    work = tmp_path / ".a.ome.zarr.partial" / "store"
    with (work / written[0]).open("r+b") as file:
        file.seek(100)
        file.write(b"\0" * 8)
    os.truncate(work / written[1], 50)
    (work / written[2]).unlink()
    heard.clear()
    wsistore.convert(slide.path, store, shard=128, on_event=heard.append).raise_for_failures()
    (resumed,) = [event for event in heard if isinstance(event, SlideResumed)]
    assert (resumed.kept, resumed.redone) == (2, 3)
    assert tree(store) == tree(tmp_path / "whole.ome.zarr")


def test_finished_store_is_skipped(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store).raise_for_failures()
    before = tree(store)
    heard = []
    report = wsistore.convert(slide.path, store, on_event=heard.append)
    assert report.outcomes[0].status == "skipped"
    assert [type(event) for event in heard] == [SlideFinished]
    assert report.exit_code == 0
    assert tree(store) == before


def test_other_settings_or_another_source_are_told(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store).raise_for_failures()
    report = wsistore.convert(slide.path, store, codec="zstd")
    assert report.outcomes[0].code == "WSI502"
    assert 'options.codec: "auto" -> "zstd"' in report.outcomes[0].detail
    other = write_slide(tmp_path / "b.svs", seed=3, **SMALL)
    report = wsistore.convert(other.path, store)
    assert report.outcomes[0].code == "WSI502"
    assert "source: " in report.outcomes[0].detail
    wsistore.convert(slide.path, store, codec="zstd", overwrite=True).raise_for_failures()
    assert read_checksums(store).settings["options"]["codec"] == "zstd"


def test_unfinished_work_of_other_settings_is_told_and_overwritten(tmp_path, slide):
    listen, _ = stop_after(1)
    store = tmp_path / "a.ome.zarr"
    with pytest.raises(StopError):
        wsistore.convert(slide.path, store, shard=128, on_event=listen)
    report = wsistore.convert(slide.path, store, shard=256)
    assert report.outcomes[0].code == "WSI502"
    assert "options.shard: 128 -> 256" in report.outcomes[0].detail
    wsistore.convert(slide.path, store, shard=256, overwrite=True).raise_for_failures()


def test_what_is_not_ours_is_not_replaced(tmp_path, slide):
    store = tmp_path / "mine.txt"
    store.write_text("mine")
    assert wsistore.convert(slide.path, store).outcomes[0].code == "WSI501"
    assert store.read_text() == "mine"


def test_two_runs_at_once_never_mix(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    codes = []

    def listen(event):
        if isinstance(event, ShardDone) and not codes:
            codes.append(wsistore.convert(slide.path, store, shard=128).outcomes[0].code)

    wsistore.convert(slide.path, store, shard=128, on_event=listen).raise_for_failures()
    assert codes == ["WSI503"]


def test_full_disk_leaves_a_resumable_state_and_no_store(tmp_path, slide, monkeypatch):
    wsistore.convert(slide.path, tmp_path / "whole.ome.zarr", shard=128).raise_for_failures()
    store = tmp_path / "a.ome.zarr"
    real, calls = os.writev, []

    def writev(fd, pieces):
        calls.append(fd)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, pieces)

    monkeypatch.setattr(atomic.os, "writev", writev)
    report = wsistore.convert(slide.path, store, shard=128)
    monkeypatch.undo()
    assert report.outcomes[0].code == "WSI505"
    assert isinstance(report.errors[0], StoreWriteError)
    assert not store.exists()
    heard = []
    wsistore.convert(slide.path, store, shard=128, on_event=heard.append).raise_for_failures()
    (resumed,) = [event for event in heard if isinstance(event, SlideResumed)]
    assert resumed.kept > 0
    assert tree(store) == tree(tmp_path / "whole.ome.zarr")


def test_scheduler_that_loses_a_shard_makes_no_store(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    job = SlideJob(source=str(slide.path), store=str(store))
    with pytest.raises(StoreWriteError, match="lost 1 of 2 shards"):
        convert_slide(job, lambda tasks: map(write_shard, tasks[1:]), lambda event: None)
    assert not store.exists()


def test_source_that_changes_meanwhile_is_noticed(tmp_path, slide):
    path = tmp_path / "a.svs"
    shutil.copy(slide.path, path)

    def listen(event):
        if isinstance(event, SlideStarted):
            write_slide(path, seed=9, **SMALL)

    report = wsistore.convert(path, tmp_path / "a.ome.zarr", on_event=listen)
    assert report.outcomes[0].code in ("WSI204", "WSI402")
    assert not (tmp_path / "a.ome.zarr").exists()


@pytest.mark.parametrize("policy", ["allowed", "all"])
@pytest.mark.parametrize("kind", ["aperio", "ome-tiff", "generic"])
def test_nothing_private_enters_a_store(tmp_path, policy, kind):
    folder = tmp_path / "canary-folder-55aa"
    folder.mkdir()
    slide = write_slide(folder / "canary-stem-77bb.svs", kind=kind, **SMALL)
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, keep_metadata=policy).raise_for_failures()
    secrets = [*CANARIES, "canary-folder-55aa", "canary-stem-77bb", str(tmp_path)]
    if policy == "all":
        secrets = [word for word in secrets if "date" not in word]
    for path in store.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        for word in secrets:
            assert word.encode() not in data, (path, word)
        assert not path.name.startswith(("label", "macro"))


def test_label_is_neither_decoded_nor_kept_unless_named(tmp_path, slide, monkeypatch):
    asked = []
    container = type(wsistore.open_slide(slide.path).associated)
    real = container.__getitem__

    def watched(self, name):
        asked.append(name)
        return real(self, name)

    monkeypatch.setattr(container, "__getitem__", watched)
    wsistore.convert(slide.path, tmp_path / "a.ome.zarr").raise_for_failures()
    assert asked == ["thumbnail"]
    wsistore.convert(
        slide.path, tmp_path / "b.ome.zarr", associated=("label",)
    ).raise_for_failures()
    with wsistore.open_slide(tmp_path / "b.ome.zarr") as opened:
        assert set(opened.associated) == {"label"}
        assert (opened.associated["label"] == slide.associated["label"]).all()


def test_allowed_metadata_and_units_survive(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store).raise_for_failures()
    with wsistore.open_slide(slide.path) as before, wsistore.open_slide(store) as after:
        assert after.mpp == before.mpp
        assert after.magnification == before.magnification
        assert after.icc_profile == before.icc_profile
    private = json.loads((store / "zarr.json").read_text())["attributes"]["wsistore"]
    assert private["metadata"]["aperio.AppMag"] == "20"
    assert "aperio.Date" not in private["metadata"]


def test_icc_profile_is_kept(tmp_path):
    slide = write_slide(tmp_path / "a.svs", icc_profile=b"profile" * 99, **SMALL)
    wsistore.convert(slide.path, tmp_path / "a.ome.zarr").raise_for_failures()
    with wsistore.open_slide(tmp_path / "a.ome.zarr") as opened:
        assert opened.icc_profile == slide.icc_profile


@pytest.mark.parametrize(
    ("key", "value", "allowed", "harmless"),
    [
        ("aperio.AppMag", "20", True, True),
        ("aperio.AppMag", "20 for Jane Doe", False, True),
        ("aperio.MPP", "0,4990", True, True),
        ("aperio.ICC Profile", "ScanScope v1", True, True),
        ("aperio.ICC Profile", "/home/jane/v1.icc", False, False),
        ("aperio.User", "jane", False, False),
        ("aperio.Filename", "1234", False, False),
        ("aperio.Date", "11/12/13", False, True),
        ("aperio.Note", r"see C:\slides\jane", False, False),
        ("aperio.Note", "in /home/jane/slides", False, False),
        ("tiff.ImageDescription", "Aperio|User = jane", False, False),
        ("openslide.comment", "Aperio|User = jane", False, False),
        ("tiff.HostComputer", "scanner7", False, False),
        ("aperio.Login", "jane", False, False),
        ("aperio.Owner", "jane", False, False),
        ("aperio.Scanned by", "jane", False, False),
        ("aperio.Workstation", "pathology7", False, False),
        ("aperio.PC", "pathology7", False, False),
        ("aperio.Specimen", "biopsy", False, True),
    ],
)
def test_which_properties_are_kept(key, value, allowed, harmless):
    assert bool(kept_properties({key: value}, "allowed")) == allowed
    assert bool(kept_properties({key: value}, "all")) == harmless


def test_pixel_size_can_be_stated(tmp_path):
    slide = write_slide(tmp_path / "a.svs", mpp=None, **SMALL)
    wsistore.convert(slide.path, tmp_path / "a.ome.zarr", mpp=0.25).raise_for_failures()
    with wsistore.open_slide(tmp_path / "a.ome.zarr") as opened:
        assert opened.mpp == (0.25, 0.25)


def test_checksum_document_vouches_for_itself(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store).raise_for_failures()
    path = store / "wsistore-checksums.json"
    path.write_bytes(path.read_bytes().replace(b'"layout": 1', b'"layout": 2'))
    with pytest.raises(StoreCorruptError, match="own checksum"):
        read_checksums(store)
    with pytest.raises(WsistoreError, match="own checksum"):
        wsistore.convert(slide.path, store).raise_for_failures()


def test_a_slide_is_never_replaced_by_its_store(tmp_path):
    slide = write_slide(tmp_path / "a.svs", **SMALL)
    before = slide.path.read_bytes()
    for overwrite in (False, True):
        report = wsistore.convert(slide.path, slide.path, overwrite=overwrite)
        assert report.outcomes[0].code == "WSI100"
    (tmp_path / "link.svs").symlink_to(slide.path)
    report = wsistore.convert(tmp_path / "link.svs", slide.path, overwrite=True)
    assert report.outcomes[0].code == "WSI100"
    assert slide.path.read_bytes() == before


@pytest.mark.parametrize("dry_run", [False, True])
def test_only_stores_are_overwritten(tmp_path, dry_run):
    slide = write_slide(tmp_path / "a.svs", **SMALL)
    (tmp_path / "b.svs").write_bytes(b"a slide that was named last by mistake")
    report = wsistore.convert(slide.path, tmp_path / "b.svs", overwrite=True, dry_run=dry_run)
    assert report.outcomes[0].code == "WSI501"
    assert "no store" in report.outcomes[0].detail
    assert (tmp_path / "b.svs").read_bytes() == b"a slide that was named last by mistake"


def test_a_file_in_the_way_is_not_offered_to_be_overwritten(tmp_path):
    slide = write_slide(tmp_path / "a.svs", **SMALL)
    (tmp_path / "b.svs").write_bytes(b"precious")
    with pytest.raises(StoreExistsError) as raised:
        wsistore.convert(slide.path, tmp_path / "b.svs").raise_for_failures()
    assert "overwritten" not in raised.value.hint


def test_a_store_of_others_is_overwritten_where_asked(tmp_path):
    slide = write_slide(tmp_path / "a.svs", **SMALL)
    store = tmp_path / "a.ome.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    with pytest.raises(StoreExistsError) as raised:
        wsistore.convert(slide.path, store).raise_for_failures()
    assert "overwritten" in raised.value.hint
    wsistore.convert(slide.path, store, overwrite=True).raise_for_failures()
    assert verify(store).ok


def test_nothing_is_written_into_a_finished_store(tmp_path):
    slide = write_slide(tmp_path / "a.svs", **SMALL)
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store).raise_for_failures()
    assert wsistore.convert(store, store / "b.ome.zarr").outcomes[0].code == "WSI100"
    assert wsistore.convert(slide.path, store / "b.ome.zarr").outcomes[0].code == "WSI501"
    assert wsistore.convert(store, store, overwrite=True).outcomes[0].code == "WSI100"
    assert verify(store).ok


@pytest.mark.parametrize("length", [246, 250, 300])
def test_a_name_that_is_too_long_is_one_error(tmp_path, length):
    slide = write_slide(tmp_path / "a.svs", **SMALL)
    report = wsistore.convert(slide.path, tmp_path / ("n" * (length - 9) + ".ome.zarr"))
    assert report.outcomes[0].code == ("" if length == 246 else "WSI505")


def test_a_whole_shard_of_another_place_is_written_again(tmp_path, slide):
    wsistore.convert(slide.path, tmp_path / "whole.ome.zarr", shard=128).raise_for_failures()
    listen, heard = stop_after(5)
    store = tmp_path / "a.ome.zarr"
    with pytest.raises(StopError):
        wsistore.convert(slide.path, store, shard=128, on_event=listen)
    written = [event.key for event in heard if isinstance(event, ShardDone)]
    work = tmp_path / ".a.ome.zarr.partial" / "store"
    shutil.copy(work / written[0], work / written[1])
    report = wsistore.convert(slide.path, store, shard=128)
    assert tree(store) == tree(tmp_path / "whole.ome.zarr")
    assert "4 shards kept from an earlier run" in report.outcomes[0].detail
