"""Runs that were cut short: killed callers, dead workers, changed plans, two runs at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import zarr

import wsistore
from wsistore.encoders import load_encoder
from wsistore.engine.embed_events import SlideResumed, SlideStarted, UnitDone, UnitLost
from wsistore.engine.embed_jobs import JobSettings, SlideWork, begin_slide
from wsistore.engine.seats import EncoderSpec, Team, describe_team, leave_seat, take_seat
from wsistore.engine.unit_reading import Reading
from wsistore.engine.units import clear_desks, run_unit
from wsistore.errors import StoreMismatchError, StoreUnfinishedError, UsageError
from wsistore.features.places import SlidePlace

NAME = "colour-stats"
UNITS = 9
"""Of the plan of 42 tiles in units of 5; the last one has 2."""

CHILD = """
import os, signal, sys
import wsistore
from wsistore.engine.embed_events import UnitDone
from wsistore.tiles import TileSpec, plan_tiles

path, store = sys.argv[1:3]
most, number, workers = map(int, sys.argv[3:])
options = {"unit_tiles": 5, "batch_size": 4, "workers": workers}
done = 0

def listen(event):
    global done
    if isinstance(event, UnitDone):
        done += 1
        if done == most:
            os.kill(os.getpid(), number)

plan = plan_tiles(wsistore.open_slide(path), TileSpec(64, 64, "20x"))
try:
    wsistore.embed(plan, "colour-stats", store, on_event=listen, **options)
except KeyboardInterrupt:
    sys.exit(130)
"""


def run_child(plan, store, after, number=signal.SIGKILL, workers=2):
    """Run in a child that gets a signal when a number of units is noted.

    With one worker these are the first ones.
    """
    told = [plan.slide.path, store, *(str(int(value)) for value in (after, number, workers))]
    command = [sys.executable, "-c", CHILD, *told]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def go(plan, store, **options):
    heard = []
    report = wsistore.embed(
        plan, NAME, store, unit_tiles=5, batch_size=4, on_event=heard.append, **options
    )
    return report, heard


def events(heard, kind):
    return [event for event in heard if isinstance(event, kind)]


@pytest.fixture
def whole(tmp_path, make_plan, feature_bytes):
    """Return the bytes of a run that nothing cut short."""
    go(make_plan(), tmp_path / "whole.zarr")[0].raise_for_failures()
    return feature_bytes(tmp_path / "whole.zarr")


# The caller dies


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_killed_run_resumes_with_what_is_missing(
    tmp_path, make_plan, feature_bytes, whole, after
):
    plan, store = make_plan(), tmp_path / "c.zarr"
    assert run_child(plan, store, after).returncode == -signal.SIGKILL
    with pytest.raises(StoreUnfinishedError):
        wsistore.open_features(store, plan.slide.name)
    report, heard = go(plan, store)
    report.raise_for_failures()
    assert report.counters.units_kept == after
    assert report.counters.units_computed == UNITS - after
    assert [(e.kept, e.redone) for e in events(heard, SlideResumed)] == [(after, 0)]
    assert len(events(heard, UnitDone)) == UNITS - after
    assert feature_bytes(store) == whole
    assert [path.name for path in tmp_path.iterdir() if "work" in path.name] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_by_itself_and_resumes(
    tmp_path, make_plan, feature_bytes, whole, number
):
    plan, store = make_plan(), tmp_path / "c.zarr"
    ended = run_child(plan, store, 3, number)
    assert (ended.returncode, ended.stderr) == (130, "")
    report, _ = go(plan, store)
    assert report.counters.units_kept == 3
    assert feature_bytes(store) == whole


def test_units_that_are_damaged_meanwhile_are_computed_again(
    tmp_path, make_plan, feature_bytes, whole
):
    plan, store = make_plan(), tmp_path / "c.zarr"
    run_child(plan, store, 4, workers=1)
    folder = store / plan.slide.name
    (folder / NAME / "c/0/0").unlink()  # reads as NaN, as if it were never written
    chunk = folder / f"status_{NAME}" / "c/1"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    report, heard = go(plan, store)
    assert [(e.kept, e.redone) for e in events(heard, SlideResumed)] == [(2, 2)]
    assert report.counters.units_computed == UNITS - 2
    assert feature_bytes(store) == whole


def test_leftovers_nobody_noted_are_overwritten(tmp_path, make_plan, feature_bytes, whole):
    plan, store = make_plan(), tmp_path / "c.zarr"
    run_child(plan, store, 2)
    array = zarr.open_group(store / plan.slide.name)[NAME]
    array[:] = 5.0
    report, _ = go(plan, store)
    assert report.counters.units_kept == 0
    assert feature_bytes(store) == whole


def test_without_its_ledger_a_slide_is_computed_anew(tmp_path, make_plan, feature_bytes, whole):
    plan, store = make_plan(), tmp_path / "c.zarr"
    run_child(plan, store, 2)
    (tmp_path / f".c.zarr.work/{plan.slide.name}/ledger.jsonl").unlink()
    assert go(plan, store)[0].counters.units_computed == UNITS
    assert feature_bytes(store) == whole


def test_overwriting_forgets_what_was_noted(tmp_path, make_plan):
    plan, store = make_plan(), tmp_path / "c.zarr"
    run_child(plan, store, 2)
    ledger = tmp_path / f".c.zarr.work/{plan.slide.name}/ledger.jsonl"
    kept = ledger.read_bytes()
    go(plan, store)
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(kept)
    other = make_plan(seed=5)
    report = wsistore.embed({plan.slide.name: other}, NAME, store, overwrite=True, unit_tiles=5)
    assert report.counters.units_kept == 0


def test_units_stop_between_batches(tmp_path, make_plan):
    place = SlidePlace.in_cohort(tmp_path / "c.zarr", "a")
    team = Team("token", (EncoderSpec(NAME),))
    seat = take_seat(team)
    try:
        settings = JobSettings("token", tuple(describe_team("token")), Reading(4), 5)
        job = begin_slide(SlideWork("a", make_plan()), place, settings)
        seat.stopped.set()
        receipt = run_unit(job.tasks[0])
        job.close()
    finally:
        leave_seat("token")
        clear_desks("token")
    assert isinstance(receipt.error, StoreUnfinishedError)
    assert not list(tmp_path.glob(f"c.zarr/a/{NAME}/c/*"))
    assert isinstance(run_unit(job.tasks[0]).error, UsageError)  # nobody has a seat any more


# Workers die


def test_a_dead_worker_costs_one_unit(tmp_path, make_plan, harmful):
    plan = make_plan()
    (harmful.parent / "order-kill").touch()
    heard = []
    report = wsistore.embed(
        plan,
        "means",
        tmp_path / "c.zarr",
        plugins=[harmful],
        scheduler="processes",
        workers=1,
        unit_tiles=10,
        batch_size=10,
        on_event=heard.append,
    )
    report.raise_for_failures()
    assert [(e.unit, e.reason) for e in events(heard, UnitLost)] == [(0, "killed by SIGKILL")]
    assert (report.counters.units_lost, report.counters.units_computed) == (1, 5)
    assert len((harmful.parent / "batches").read_text()) == 6
    assert np.isfinite(wsistore.open_features(tmp_path / "c.zarr").bag(plan.slide.name)).all()


def test_a_unit_that_kills_every_worker_ends_its_slide(tmp_path, make_plan, harmful):
    plans = {"deadly": make_plan(), "fine": make_plan(size=(100, 70))}

    def listen(event):
        lost.append(event)
        if isinstance(event, SlideStarted) and event.slide == "fine":
            (harmful.parent / "always-kill").unlink()

    (harmful.parent / "always-kill").touch()
    lost = []
    report = wsistore.embed(
        plans,
        "means",
        tmp_path / "c.zarr",
        plugins=[harmful],
        scheduler="processes",
        workers=1,
        unit_tiles=64,
        on_event=listen,
    )
    assert [(o.status, o.code) for o in report.outcomes] == [("failed", "WSI505"), ("done", "")]
    assert "lost with its worker 3 times (killed by SIGKILL)" in report.outcomes[0].detail
    assert len(events(lost, UnitLost)) == 2


@pytest.mark.slow
def test_a_worker_killed_at_each_unit_of_forty(tmp_path, make_plan, harmful, feature_bytes):
    plan = make_plan()[:40]
    options = {"plugins": [harmful], "unit_tiles": 1}
    wsistore.embed(plan, "means", tmp_path / "whole.zarr", **options).raise_for_failures()
    (harmful.parent / "order-kill").touch()

    def listen(event):
        if isinstance(event, UnitDone) and event.unit < 39:
            (harmful.parent / "order-kill").touch()  # for the next unit

    report = wsistore.embed(
        plan,
        "means",
        tmp_path / "c.zarr",
        scheduler="processes",
        workers=1,
        on_event=listen,
        **options,
    )
    report.raise_for_failures()
    assert (report.counters.units_lost, report.counters.units_computed) == (40, 40)
    assert feature_bytes(tmp_path / "c.zarr") == feature_bytes(tmp_path / "whole.zarr")


# What is there is respected


def test_a_finished_slide_is_skipped(tmp_path, make_plan):
    plan, store = make_plan(), tmp_path / "c.zarr"
    go(plan, store)
    times = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    report, heard = go(plan, store)
    assert report.outcomes[0].status == "skipped"
    assert report.exit_code == 0
    assert not events(heard, SlideStarted)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == times


def test_an_encoder_that_is_added_is_all_that_is_computed(tmp_path, make_plan, harmful):
    plan, store = make_plan(), tmp_path / "c.zarr"
    go(plan, store)
    times = {p: p.stat().st_mtime_ns for p in (store / plan.slide.name / NAME).rglob("*")}
    report = wsistore.embed(plan, [NAME, "means"], store, plugins=[harmful], unit_tiles=7)
    assert report.outcomes[0].status == "done"
    assert report.counters.units_computed == UNITS  # the units that the store has
    assert report.counters.bytes_written == 42 * 3 * 4
    assert {p: p.stat().st_mtime_ns for p in (store / plan.slide.name / NAME).rglob("*")} == times
    both = wsistore.open_features(store, plan.slide.name)
    assert sorted(both.data_vars) == [NAME, "means"]
    again = wsistore.embed(plan, "means", store, plugins=[harmful])
    assert again.outcomes[0].status == "skipped"


def test_changes_are_errors_that_name_the_difference(tmp_path, make_plan):
    plan, store = make_plan(), tmp_path / "c.zarr"
    name = plan.slide.name
    go(plan, store)
    changed = load_encoder(NAME)
    changed.facts = type(changed.facts)(
        **{k: getattr(changed.facts, k) for k in changed.facts.__slots__ if k != "version"},
        version="2",
    )
    for given, encoder, difference in [
        ({name: make_plan(stride=32)}, NAME, "plan_id"),
        ({name: make_plan(seed=7)}, NAME, "slide_fingerprint"),
        ({name: plan}, changed, "colour-stats.fingerprint"),
    ]:
        report = wsistore.embed(given, encoder, store)
        (error,) = report.errors
        assert isinstance(error, StoreMismatchError)
        assert difference in str(error)
        assert report.exit_code == 1
    assert wsistore.open_features(store).bag(name).shape == (42, 30)
    report = wsistore.embed({name: make_plan(stride=32)}, NAME, store, overwrite=True)
    report.raise_for_failures()
    assert len(wsistore.open_features(store).bag(name)) > 100


def test_a_slide_that_another_run_writes_is_skipped(tmp_path, make_plan):
    plan, store = make_plan(), tmp_path / "c.zarr"
    other = {}

    def listen(event):
        if isinstance(event, UnitDone) and not other:
            other["report"] = go(plan, store)[0]

    report = wsistore.embed(plan, NAME, store, unit_tiles=5, on_event=listen)
    assert report.outcomes[0].status == "done"
    (outcome,) = other["report"].outcomes
    assert (outcome.status, outcome.code) == ("skipped", "WSI503")
    assert f"process {os.getpid()}" in outcome.detail


def test_runs_on_one_store_do_each_slide_once(tmp_path, make_plan):
    plans = {f"s{i}": make_plan(size=(300, 200)) for i in range(6)}
    reports = []

    def work():
        reports.append(wsistore.embed(plans, NAME, tmp_path / "c.zarr", unit_tiles=4))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.counters.units_computed for report in reports) == 6 * 3
    assert {outcome.status for report in reports for outcome in report.outcomes} <= {
        "done",
        "skipped",
    }
    assert len(wsistore.open_features(tmp_path / "c.zarr")) == 6


def test_what_a_listener_raises_ends_the_run_cleanly(tmp_path, make_plan, feature_bytes, whole):
    plan, store = make_plan(), tmp_path / "c.zarr"

    def listen(event):
        if isinstance(event, UnitDone) and event.unit == 2:
            raise UsageError("enough")

    for scheduler in ("threads", "processes"):
        with pytest.raises(UsageError, match="enough"):
            wsistore.embed(
                plan,
                NAME,
                store,
                unit_tiles=5,
                batch_size=4,
                on_event=listen,
                scheduler=scheduler,
                workers=1,
                overwrite=True,
            )
    report, _ = go(plan, store)
    assert report.counters.units_kept == 3
    assert feature_bytes(store) == whole
