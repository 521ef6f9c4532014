"""``wsistore.convert``: many slides, every scheduler, reports."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

import wsistore
from wsistore.cli.app import app
from wsistore.engine import ConvertReport
from wsistore.errors import DamagedTileError, DependencyError, UsageError, WsistoreError
from wsistore.pyramid.events import ShardDone, SlideFailed, SlideFinished
from wsistore.testing import write_slide

SMALL = {"size": (400, 300), "tile": 64, "levels": (1, 4), "distinct_tiles": 4}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_slide(tmp_path / f"in/{name}.svs", **SMALL)
    return tmp_path


def tree(root):
    return {
        os.path.relpath(path, root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(root).rglob("*"))
        if path.is_file()
    }


def test_bad_slides_end_nothing(folder):
    (folder / "in/bad.svs").write_bytes(b"")
    (folder / "in/text.tif").write_text("not a slide at all")
    heard = []
    report = wsistore.convert(folder / "in", folder / "out", on_event=heard.append)
    assert [(Path(o.unit).name, o.status) for o in report.outcomes] == [
        ("a.svs", "done"),
        ("b.svs", "done"),
        ("bad.svs", "failed"),
        ("text.tif", "failed"),
    ]
    assert report.exit_code == 3
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.ome.zarr", "b.ome.zarr"]
    failed = [event for event in heard if isinstance(event, SlideFailed)]
    assert [event.code for event in failed] == [o.code for o in report.outcomes[2:]]
    with pytest.raises(WsistoreError) as raised:
        report.raise_for_failures()
    assert len(raised.value.__notes__) == 1


def test_all_bad_is_exit_code_1(folder):
    (folder / "bad.svs").write_bytes(b"II*\0")
    report = wsistore.convert(folder / "bad.svs", folder / "x.ome.zarr")
    assert report.exit_code == 1
    assert not (folder / "x.ome.zarr").exists()


def test_dry_run_plans_and_writes_nothing(folder):
    report = wsistore.convert(folder / "in", folder / "out", dry_run=True)
    assert sorted(path.name for path in folder.iterdir()) == ["in"]
    assert [Path(source).name for source in report.plans] == ["a.svs", "b.svs"]
    plan = report.plans[str(folder / "in/a.svs")]
    assert plan.levels[0].shape == (3, 300, 400)
    wsistore.convert(folder / "in/a.svs", folder / "a.ome.zarr").raise_for_failures()
    assert plan.object_count == len(tree(folder / "a.ome.zarr"))


def test_events_tell_every_byte(folder):
    heard = []
    wsistore.convert(folder / "in/a.svs", folder / "a.ome.zarr", on_event=heard.append, shard=128)
    shards = [event for event in heard if isinstance(event, ShardDone)]
    assert sum(event.tiles for event in shards) == 7 * 5 + 2 * 2
    (finished,) = [event for event in heard if isinstance(event, SlideFinished)]
    on_disk = sum(path.stat().st_size for path in (folder / "a.ome.zarr").glob("[01]/c/*/*/*"))
    assert finished.bytes_out == sum(event.bytes_out for event in shards) == on_disk


def test_a_thumbnail_that_is_left_out_is_told(tmp_path, monkeypatch):
    path = write_slide(tmp_path / "s.svs", size=(200, 150), tile=64).path

    def broken(self, name):
        raise DamagedTileError("a strip does not decode")

    monkeypatch.setattr(type(wsistore.open_slide(path).associated), "__getitem__", broken)
    note = "thumbnail left out, it can't be read (WSI402)"
    events = []
    report = wsistore.convert(path, tmp_path / "s.ome.zarr", on_event=events.append)
    assert report.outcomes[0].detail.endswith(f" bytes, {note}")
    assert [event.notes for event in events if isinstance(event, SlideFinished)] == [(note,)]
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "t.ome.zarr")])
    assert note in " ".join(done.output.split())


@pytest.mark.parametrize("options", [{}, {"codec": "blosc"}], ids=["copy", "blosc"])
def test_every_scheduler_gives_the_same_bytes(folder, options):
    source = folder / "in/a.svs"
    options = {**options, "shard": 128}
    wsistore.convert(source, folder / "1.ome.zarr", workers=1, **options).raise_for_failures()
    expected = tree(folder / "1.ome.zarr")
    wsistore.convert(source, folder / "2.ome.zarr", workers=4, **options).raise_for_failures()
    assert tree(folder / "2.ome.zarr") == expected
    wsistore.convert(
        source, folder / "3.ome.zarr", scheduler="processes", workers=1, **options
    ).raise_for_failures()
    assert tree(folder / "3.ome.zarr") == expected


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dask's own making
        with distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address=None,
            protocol="tcp://",
            host="127.0.0.1",
        ) as cluster:
            yield cluster


def test_dask_scheduler_gives_the_same_bytes(folder, cluster):
    source = folder / "in/a.svs"
    wsistore.convert(source, folder / "1.ome.zarr", shard=128).raise_for_failures()
    wsistore.convert(
        source, folder / "2.ome.zarr", shard=128, scheduler=cluster.scheduler_address
    ).raise_for_failures()
    assert tree(folder / "2.ome.zarr") == tree(folder / "1.ome.zarr")
    (folder / "bad.svs").write_bytes((folder / "in/a.svs").read_bytes()[:-2000])
    report = wsistore.convert(
        folder / "bad.svs", folder / "3.ome.zarr", scheduler=cluster.scheduler_address
    )
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"scheduler": "ray"}, "unknown scheduler"),
        ({"workers": 0}, "workers"),
        ({"codec": "lzma"}, "codec"),
        ({"mpp": (0.5, 0.5, 0.5)}, "mpp"),
    ],
)
def test_wrong_calls_are_refused(folder, options, told):
    with pytest.raises(UsageError, match=told):
        wsistore.convert(folder / "in", folder / "out", **options)
    assert not (folder / "out").exists()


def test_absurd_pixel_size_fails_the_slide(folder):
    report = wsistore.convert(folder / "in/a.svs", folder / "a.ome.zarr", mpp=1e9)
    assert report.outcomes[0].code == "WSI303"


def test_dask_that_is_missing_is_told(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(DependencyError, match="dask"):
        wsistore.convert(folder / "in", folder / "out", scheduler="tcp://127.0.0.1:1")


def test_empty_report_raises_nothing():
    ConvertReport(()).raise_for_failures()


KILLED = """
import os, signal
from wsistore.engine.schedulers import runner

def worker(task):
    return os.getpid()

if __name__ == "__main__":
    with runner("processes", 1) as run:
        print(*run(worker, [0]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_the_run_that_was_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    # The workers hold the pipe: it ends, and with it this call, when the last of them has.
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == -signal.SIGKILL
    assert int(run.stdout) > 0
