"""Feature stores in buckets, from slides in buckets: as local ones, resumed after any death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import wsistore
from wsistore.encoders import load_encoder
from wsistore.engine.embed_events import SlideResumed, UnitDone
from wsistore.errors import SourceChangedError, StoreMismatchError, StoreUnfinishedError
from wsistore.sources import open_place
from wsistore.testing import write_slide
from wsistore.tiles import TileSpec, plan_tiles

NAME = "colour-stats"
UNITS = 9
"""Of the plan of 42 tiles in units of 5."""

CHILD = """
import os, signal, sys
import wsistore
from wsistore.encoders import load_encoder
from wsistore.engine.embed_events import UnitDone
from wsistore.tiles import TileSpec, plan_tiles

path, store, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
done = 0

def listen(event):
    global done
    if isinstance(event, UnitDone):
        done += 1
        if done == most:
            os.kill(os.getpid(), signal.SIGKILL)

plan = plan_tiles(wsistore.open_slide(path), TileSpec(64, 64, "20x"))
wsistore.embed(plan, "colour-stats", store, unit_tiles=5, batch_size=4, on_event=listen)
"""


@pytest.fixture
def remote_plan(bucket, make_plan):
    """Plan the same slide as `make_plan` does, but in the bucket."""
    path = Path(make_plan().slide.path)
    url = f"{bucket}/slides/{path.name}"
    open_place(f"{bucket}/slides").put(path.name, path.read_bytes())
    return plan_tiles(wsistore.open_slide(url), TileSpec(64, 64, "20x"))


def go(plan, store, encoder=NAME, **options):
    heard = []
    options = {"unit_tiles": 5, "batch_size": 4} | options
    report = wsistore.embed(plan, encoder, store, on_event=heard.append, **options)
    return report, heard


def keys(url):
    return sorted(found.key for found in open_place(url).list_tree())


@pytest.fixture
def local(tmp_path, make_plan):
    """Return the features of the local slide in a local store."""
    plan = make_plan()
    go(plan, tmp_path / "local.zarr")[0].raise_for_failures()
    return wsistore.open_features(tmp_path / "local.zarr", plan.slide.name).load()


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_features_in_a_bucket_are_those_on_a_disk(bucket, remote_plan, local, scheduler):
    url = f"{bucket}/c.zarr"
    report, _ = go(remote_plan, url, scheduler=scheduler, workers=2)
    report.raise_for_failures()
    assert report.counters.units_computed == UNITS
    found = wsistore.open_features(url, remote_plan.slide.name)
    assert found.equals(local)
    again, _ = go(remote_plan, url)
    assert [outcome.status for outcome in again.outcomes] == ["skipped"]
    assert again.counters.tiles == 0
    assert {key.split("/")[0] for key in keys(bucket)} == {"slides", "c.zarr"}


def test_a_killed_run_resumes_with_what_is_missing(bucket, remote_plan, local):
    url = f"{bucket}/c.zarr"
    command = [sys.executable, "-c", CHILD, remote_plan.slide.path, url, "4"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    receipts = [key for key in keys(bucket) if "/done/" in key]
    assert len(receipts) == 4
    with pytest.raises(StoreUnfinishedError):
        wsistore.open_features(url, remote_plan.slide.name)
    report, heard = go(remote_plan, url)
    report.raise_for_failures()
    assert (report.counters.units_kept, report.counters.units_computed) == (4, UNITS - 4)
    assert [(e.kept, e.redone) for e in heard if isinstance(e, SlideResumed)] == [(4, 0)]
    assert sum(isinstance(event, UnitDone) for event in heard) == UNITS - 4
    assert wsistore.open_features(url, remote_plan.slide.name).equals(local)
    assert not any(".work" in key for key in keys(bucket))


def test_units_that_are_lost_meanwhile_are_computed_again(bucket, remote_plan, local):
    url = f"{bucket}/c.zarr"
    slide = remote_plan.slide.name

    done = []

    def listen(event):
        done.append(event)
        if sum(isinstance(event, UnitDone) for event in done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wsistore.embed(
            remote_plan, NAME, url, unit_tiles=5, batch_size=4, workers=1, on_event=listen
        )
    place = open_place(url)
    place.delete([f"{slide}/{NAME}/c/0/0"])
    place.put(f"{slide}/status_{NAME}/c/1", b"x" * 20)
    report, heard = go(remote_plan, url)
    report.raise_for_failures()
    (resumed,) = [event for event in heard if isinstance(event, SlideResumed)]
    assert resumed.redone == 2
    assert resumed.kept + report.counters.units_computed == UNITS
    assert wsistore.open_features(url, slide).equals(local)


def test_a_further_encoder_costs_only_itself(bucket, remote_plan, local):
    url = f"{bucket}/c.zarr"
    go(remote_plan, url)
    report, _ = go(remote_plan, url, [NAME, "null"])
    report.raise_for_failures()
    assert report.counters.bytes_read == 0  # the null encoder looks at no pixel
    found = wsistore.open_features(url, remote_plan.slide.name)
    assert {NAME, "null"} <= set(found.data_vars)
    np.testing.assert_array_equal(found[NAME], local[NAME])


def test_stores_of_single_slides_and_overwriting(bucket, remote_plan, local):
    folder = f"{bucket}/one by one"
    for overwrite in (False, True):
        report, _ = go(remote_plan, folder, layout="slides", overwrite=overwrite)
        report.raise_for_failures()
        assert report.counters.units_computed == UNITS
    (found,) = wsistore.open_features(folder).values()
    assert found.equals(local)


def test_a_slide_that_changed_under_its_plan_is_told_by_name(
    bucket, remote_plan, tmp_path, make_plan
):
    url = f"{bucket}/c.zarr"
    go(remote_plan, url)
    shutil.copyfile(make_plan(seed=1).slide.path, tmp_path / "other.svs")
    name = remote_plan.slide.path.rpartition("/")[2]
    open_place(f"{bucket}/slides").put(name, (tmp_path / "other.svs").read_bytes())
    for store in (url, f"{bucket}/new.zarr"):
        report, _ = go(remote_plan, store)
        assert report.exit_code == 1
        with pytest.raises(StoreMismatchError, match=Path(name).stem):
            report.raise_for_failures()
    assert not any(key.startswith("new.zarr/" + remote_plan.slide.name) for key in keys(bucket))


def touched(data):
    """Return the bytes of a slide with one bit of its last tile turned: no structure shows it."""
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def test_another_state_of_an_object_under_its_plan_is_told_by_name(bucket, tmp_path):
    made = write_slide(tmp_path / "a.svs", "none", size=(1500, 1200), tile=64, seed=1)
    data = Path(made.path).read_bytes()
    place = open_place(f"{bucket}/slides")
    place.put("a.svs", data)
    slide = wsistore.open_slide(f"{bucket}/slides/a.svs")
    plan = plan_tiles(slide, TileSpec(64, 64, "20x"))
    go(plan, f"{bucket}/c.zarr", "null", unit_tiles=500)[0].raise_for_failures()
    place.put("a.svs", touched(data))
    again = wsistore.open_slide(f"{bucket}/slides/a.svs")
    assert again.fingerprint == slide.fingerprint  # a changed byte that it doesn't sample
    for store in ("c.zarr", "new.zarr"):
        report, _ = go(plan, f"{bucket}/{store}", "null", unit_tiles=500)
        with pytest.raises(SourceChangedError, match=r"a\.svs is not the object that was planned"):
            report.raise_for_failures()
    place.put("a.svs", data)  # the same bytes have the same ETag
    assert go(plan, f"{bucket}/c.zarr", "null", unit_tiles=500)[0].exit_code == 0
    moved = (str(made.path), plan)
    assert go(moved, f"{bucket}/c.zarr", "null", unit_tiles=500)[0].exit_code == 0


def test_a_slide_that_changes_while_it_is_read_ends_as_failed(bucket, tmp_path):
    made = write_slide(tmp_path / "a.svs", size=(1500, 1200), tile=64, seed=1)
    again = write_slide(tmp_path / "b.svs", size=(1500, 1200), tile=64, seed=2)
    place = open_place(f"{bucket}/slides")
    place.put("a.svs", Path(made.path).read_bytes())
    plan = plan_tiles(wsistore.open_slide(f"{bucket}/slides/a.svs"), TileSpec(64, 64, "20x"))
    swapped = []

    def swap(event):
        if isinstance(event, UnitDone) and not swapped:
            swapped.append(place.put("a.svs", Path(again.path).read_bytes()))

    report = wsistore.embed(
        plan, NAME, f"{bucket}/c.zarr", unit_tiles=20, batch_size=4, workers=1, on_event=swap
    )
    (outcome,) = report.outcomes
    assert outcome.status == "failed"
    assert "slides/a.svs is not the object that was opened" in outcome.detail
    with pytest.raises(StoreUnfinishedError):
        wsistore.open_features(f"{bucket}/c.zarr", "a")


def test_verifying_features_in_a_bucket(bucket, remote_plan):
    url = f"{bucket}/c.zarr"
    go(remote_plan, url)
    assert wsistore.verify_features(url, 5, encoders=load_encoder(NAME)).ok


def test_two_runs_at_once_write_the_same(bucket, remote_plan, local):
    url = f"{bucket}/c.zarr"
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(go, remote_plan, url, workers=1) for _ in range(2)]
        for run in runs:
            run.result()[0].raise_for_failures()
    assert wsistore.open_features(url, remote_plan.slide.name).equals(local)
    assert not any(".work" in key for key in keys(bucket))


def test_no_secret_is_written(bucket, remote_plan, capsys):
    go(remote_plan, f"{bucket}/c.zarr")
    repr(wsistore.open_features(f"{bucket}/c.zarr"))
    store = open_place(f"{bucket}/c.zarr")
    for found in store.list_tree():
        assert b"canary" not in store.get(found.key)
    assert "canary" not in capsys.readouterr().err
