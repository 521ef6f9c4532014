"""``wsistore.embed``: features are those of a loop by hand, whatever runs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import wsistore
from wsistore.encoders import load_encoder
from wsistore.engine import unit_reading, units
from wsistore.engine.crews import CrewOptions
from wsistore.engine.embed_events import (
    EmbedStarted,
    SlideFailed,
    SlideFinished,
    SlideStarted,
    UnitDone,
)
from wsistore.engine.embed_jobs import SlideWork
from wsistore.engine.memory import PROCESS_BYTES, fit_memory, parse_bytes
from wsistore.engine.unit_reading import Reading
from wsistore.errors import (
    DependencyError,
    EncoderError,
    ResolutionError,
    StoreMismatchError,
    UsageError,
)
from wsistore.features import TileStatus
from wsistore.testing import damage, write_slide
from wsistore.tiles import CohortPlan, TileSpec, plan_tiles

NAME = "colour-stats"


def by_hand(plan, encoder):
    """Return the features of a plan, a tile at a time."""
    slide = wsistore.open_slide(plan.slide.path)
    rows = []
    for x, y in zip(plan.x.tolist(), plan.y.tolist(), strict=True):
        tile = wsistore.read_tile(slide, x, y, plan.size, plan.resolution, layout="chw")
        rows.append(encoder.encode(tile[None])[0])
    return np.array(rows)


# Right


def test_features_are_those_of_a_loop_by_hand(tmp_path, make_plan):
    plans = [make_plan(seed=1, stride=48), make_plan(seed=2)]
    report = wsistore.embed(plans, NAME, tmp_path / "c.zarr", unit_tiles=16, batch_size=8)
    assert report.exit_code == 0
    cohort = wsistore.open_features(tmp_path / "c.zarr")
    assert sorted(cohort) == sorted(plan.slide.name for plan in plans)
    for plan in plans:
        wanted = by_hand(plan, load_encoder(NAME))
        np.testing.assert_array_equal(cohort.bag(plan.slide.name), wanted)
        assert cohort.plan(plan.slide.name) == plan


def test_reduced_resolutions_and_padding_are_read_as_planned(tmp_path, slide_factory):
    made = slide_factory(size=(500, 400), tile=64, seed=4)
    slide = wsistore.open_slide(made.path)
    plan = plan_tiles(slide, TileSpec(48, 40, "8x", edge="pad", fill=200))
    wsistore.embed((slide, plan), NAME, tmp_path / "c.zarr").raise_for_failures()
    encoder = load_encoder(NAME)
    for row in (0, len(plan) - 1):
        tile = wsistore.read_tile(
            slide, int(plan.x[row]), int(plan.y[row]), 48, "8x", layout="chw", fill=200
        )
        found = wsistore.open_features(tmp_path / "c.zarr").bag(slide.name)[row]
        np.testing.assert_array_equal(found, encoder.encode(tile[None])[0])


def test_several_encoders_share_each_decoded_tile(tmp_path, make_plan, harmful):
    plan = make_plan()
    alone = wsistore.embed(plan, NAME, tmp_path / "alone.zarr")
    both = wsistore.embed(
        plan, [NAME, "means"], tmp_path / "both.zarr", plugins=[harmful], unit_tiles=20
    )
    assert both.outcomes[0].status == "done"
    assert both.counters.tiles_decoded >= alone.counters.tiles_decoded == 7 * 6
    assert both.counters.tiles == 42
    assert both.counters.units_computed == 3
    assert both.counters.bytes_written == 42 * 4 * (30 + 3)
    found = wsistore.open_features(tmp_path / "both.zarr", plan.slide.name)
    wanted = wsistore.open_features(tmp_path / "alone.zarr", plan.slide.name)
    np.testing.assert_array_equal(found[NAME].values, wanted[NAME].values)
    assert found.sizes["feature_means"] == 3
    np.testing.assert_allclose(found["means"].values / 255, found[NAME].values[:, :6:2], atol=1e-6)


def test_a_slide_is_decoded_once_per_unit_and_counted(tmp_path, make_plan):
    plan = make_plan()
    report = wsistore.embed(plan, NAME, tmp_path / "c.zarr", unit_tiles=10, batch_size=4)
    assert report.counters.tiles_decoded == 42  # aligned tiles touch one encoded tile each
    assert report.counters.bytes_read > 42 * 100
    assert report.counters.bytes_sent == 0
    assert report.counters.units_computed == 5


# The same, whatever runs it


@pytest.fixture(scope="module")
def reference():
    return {}


@pytest.mark.parametrize(
    ("scheduler", "workers"),
    [("threads", 1), ("threads", 2), ("threads", 4), ("processes", 2)],
)
def test_bytes_do_not_depend_on_who_computes(
    tmp_path, make_plan, feature_bytes, reference, scheduler, workers
):
    plans = [make_plan(seed=1, stride=48), make_plan(seed=2), make_plan(seed=3, size=(100, 70))]
    order = plans if workers % 2 else plans[::-1]
    report = wsistore.embed(
        order,
        [NAME, "null"],
        tmp_path / "c.zarr",
        scheduler=scheduler,
        workers=workers,
        unit_tiles=16,
        batch_size=8,
    )
    assert report.exit_code == 0
    assert (report.counters.bytes_sent > 0) == (scheduler == "processes")
    found = feature_bytes(tmp_path / "c.zarr"), replace(report.counters, bytes_sent=0)
    assert reference.setdefault("told", found) == found
    assert len(found[0]) > 20


def test_dask_workers_write_the_same(tmp_path, make_plan, feature_bytes, monkeypatch):
    distributed = pytest.importorskip("distributed")
    asked = []
    submit = distributed.Client.submit

    def told(self, function, *args, **options):
        asked.append(options["resources"])
        return submit(self, function, *args, **options)

    monkeypatch.setattr(distributed.Client, "submit", told)
    plans = [make_plan(seed=1, stride=48), make_plan(seed=2)]
    options = {"unit_tiles": 16, "batch_size": 8}
    wsistore.embed(plans, NAME, tmp_path / "threads.zarr", **options).raise_for_failures()
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        resources={"GPU": 1},
    ) as cluster:
        report = wsistore.embed(
            plans,
            NAME,
            tmp_path / "dask.zarr",
            scheduler=cluster.scheduler_address,
            resources={"GPU": 1},
            **options,
        )
    report.raise_for_failures()
    assert feature_bytes(tmp_path / "dask.zarr") == feature_bytes(tmp_path / "threads.zarr")
    assert 0 < report.counters.bytes_sent < 1000 * report.counters.units_computed
    assert asked == [{"GPU": 1}] * (1 + report.counters.units_computed)  # and the description


def test_a_local_dask_cluster_is_for_this_machine_only(tmp_path, make_plan, monkeypatch):
    pytest.importorskip("distributed")
    from wsistore.engine import dask_crew

    told = {}

    class ToldError(Exception):
        pass

    def cluster(**options):
        told.update(options)
        raise ToldError

    monkeypatch.setattr(dask_crew, "LocalCluster", cluster)
    with pytest.raises(ToldError):
        wsistore.embed(
            make_plan(),
            NAME,
            tmp_path / "c.zarr",
            scheduler="dask",
            workers=2,
            memory_limit="6GB",
            resources={"GPU": 1},
        )
    assert told["host"] == "127.0.0.1"
    assert told["dashboard_address"] == "127.0.0.1:0"
    assert told["memory_limit"] == 3_000_000_000
    assert told["resources"] == {"GPU": 1}
    assert told["threads_per_worker"] == 1


def test_slurm_jobs_are_asked_for(tmp_path, make_plan, monkeypatch):
    distributed = pytest.importorskip("distributed")
    import sys
    from types import ModuleType

    told = {}

    class SLURMCluster(distributed.LocalCluster):
        def __init__(self, **options):
            told.update(options)
            super().__init__(
                n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None
            )

        def scale(self, n=None, jobs=None):
            told.setdefault("jobs", jobs)
            return super().scale(1 if n is None else n)

    module = ModuleType("dask_jobqueue")
    module.SLURMCluster = SLURMCluster
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    report = wsistore.embed(
        make_plan(),
        NAME,
        tmp_path / "c.zarr",
        scheduler="slurm",
        workers=3,
        cluster_options={"queue": "gpu", "memory": "32GB"},
    )
    report.raise_for_failures()
    assert told["jobs"] == 3
    assert (told["queue"], told["memory"], told["walltime"]) == ("gpu", "32GB", "12:00:00")
    assert told["job_extra_directives"] == ["--gres=gpu:1"]
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(DependencyError, match="dask-jobqueue"):
        wsistore.embed(make_plan(), NAME, tmp_path / "d.zarr", scheduler="slurm")


# Slides of every kind


def test_every_kind_of_slide_ends_as_the_report_says(tmp_path, make_plan):
    good = make_plan(seed=1)
    corrupt = tmp_path / "corrupt.svs"
    corrupt.write_bytes(b"II*\0" + bytes(100))
    no_mpp = write_slide(
        tmp_path / "plain.svs", size=(300, 200), tile=64, mpp=None, magnification=None
    )
    plain = plan_tiles(wsistore.open_slide(no_mpp.path), TileSpec(64, 64, 0))
    heard = []
    report = wsistore.embed(
        {
            "good": good,
            "corrupt": (corrupt, good),
            "other": (no_mpp.path, good),
            "empty": good[:0],
            "plain": plain,
        },
        NAME,
        tmp_path / "c.zarr",
        unit_tiles=16,
        on_event=heard.append,
    )
    assert [(o.unit, o.status, o.code) for o in report.outcomes] == [
        ("good", "done", ""),
        ("corrupt", "failed", "WSI302"),
        ("other", "failed", "WSI502"),
        ("empty", "done", ""),
        ("plain", "done", ""),
    ]
    assert report.exit_code == 3
    cohort = wsistore.open_features(tmp_path / "c.zarr")
    assert sorted(cohort) == ["empty", "good", "plain"]
    assert cohort.bag("empty").shape == (0, 30)
    assert cohort.infos["plain"].mpp is None
    assert cohort["plain"].attrs["mpp"] is None
    np.testing.assert_array_equal(cohort.bag("plain"), by_hand(plain, load_encoder(NAME)))
    assert isinstance(heard[0], EmbedStarted)
    assert (heard[0].slides, heard[0].tiles) == (5, 42 * 3 + 12)
    assert {e.slide for e in heard if isinstance(e, SlideFailed)} == {"corrupt", "other"}
    assert [e.units for e in heard if isinstance(e, SlideStarted) and e.slide == "good"] == [3]
    assert sum(e.tiles for e in heard if isinstance(e, UnitDone)) == report.counters.tiles == 54
    assert len([e for e in heard if isinstance(e, SlideFinished)]) == 3
    with pytest.raises(wsistore.WsistoreError) as raised:
        report.raise_for_failures()
    assert len(raised.value.__notes__) == 1
    assert not list(tmp_path.glob(".c.zarr.work/**/*"))


def test_longest_slides_come_first(tmp_path, make_plan):
    heard = []
    plans = {"s": make_plan(size=(100, 70)), "l": make_plan(), "m": make_plan(size=(300, 200))}
    wsistore.embed(plans, NAME, tmp_path / "c.zarr", on_event=heard.append)
    started = [event.slide for event in heard if isinstance(event, SlideStarted)]
    assert started == ["l", "m", "s"]


@pytest.fixture
def broken(tmp_path):
    """Return a plan of 30 tiles: tile 7 is damaged, and tile 20 is missing."""
    made = write_slide(
        tmp_path / "broken.svs", size=(384, 320), tile=64, missing=[(0, 2, 3)], levels=(1,)
    )
    damage.overwrite_tile(made.path, 0, 1, 1)
    return plan_tiles(wsistore.open_slide(made.path), TileSpec(64, 64, "20x"))


def test_bad_tiles_are_nan_and_say_why(tmp_path, broken):
    report = wsistore.embed(broken, NAME, tmp_path / "c.zarr", unit_tiles=16, batch_size=4)
    assert report.outcomes[0].detail == "30 tiles, 2 without features"
    assert report.counters.failed_tiles == 2
    found = wsistore.open_features(tmp_path / "c.zarr", "broken")
    wanted = np.zeros(30, np.uint8)
    wanted[[7, 20]] = TileStatus.DAMAGED, TileStatus.MISSING
    np.testing.assert_array_equal(found["status"].values, wanted)
    np.testing.assert_array_equal(np.isnan(found[NAME].values).all(axis=1), wanted > 0)
    good = np.flatnonzero(wanted == 0)
    np.testing.assert_array_equal(
        found[NAME].values[good], by_hand(broken[good], load_encoder(NAME))
    )


@pytest.mark.parametrize(("policy", "code"), [("fill-missing", "WSI402"), ("raise", "WSI402")])
def test_bad_tiles_end_their_slide_where_wished(tmp_path, broken, make_plan, policy, code):
    report = wsistore.embed(
        [broken, make_plan()],
        NAME,
        tmp_path / "c.zarr",
        on_bad_tile=policy,
        unit_tiles=10,
        workers=1,  # so that the damaged tile comes before the missing one
    )
    assert [(o.status, o.code) for o in report.outcomes] == [("failed", code), ("done", "")]
    missing_only = broken[10:]
    report = wsistore.embed(missing_only, NAME, tmp_path / "d.zarr", on_bad_tile=policy)
    assert report.outcomes[0].status == ("done" if policy == "fill-missing" else "failed")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_features_that_are_not_finite_are_no_features(tmp_path, make_plan, harmful, value):
    (harmful.parent / value).touch()
    plan = make_plan()
    report = wsistore.embed(
        plan, ["means", NAME], tmp_path / "c.zarr", plugins=[harmful], batch_size=42
    )
    assert report.counters.failed_tiles == 1
    found = wsistore.open_features(tmp_path / "c.zarr", plan.slide.name)
    assert found["status"].values[:3].tolist() == [0, TileStatus.NOT_FINITE, 0]
    assert found[f"status_{NAME}"].values.sum() == 0
    assert np.isnan(found["means"].values[1]).all()


def test_an_encoder_that_fails_ends_its_slide_only(tmp_path, make_plan, harmful):
    (harmful.parent / "order-raise").touch()
    plans = {"large": make_plan(), "small": make_plan(size=(100, 70))}
    report = wsistore.embed(plans, "means", tmp_path / "c.zarr", plugins=[harmful], workers=1)
    assert [(o.status, o.code) for o in report.outcomes] == [("failed", "WSI600"), ("done", "")]
    assert "as ordered" in report.outcomes[0].detail


def test_slides_without_tile_tables_tell_their_bad_tiles(tmp_path, monkeypatch, broken):
    wsistore.embed(broken, NAME, tmp_path / "c.zarr", batch_size=4).raise_for_failures()
    monkeypatch.setattr(units, "read_batches", unit_reading._read_container)
    wsistore.embed(broken, NAME, tmp_path / "d.zarr", batch_size=4).raise_for_failures()
    first, second = (wsistore.open_features(tmp_path / f"{name}.zarr", "broken") for name in "cd")
    np.testing.assert_array_equal(first[NAME].values, second[NAME].values)
    np.testing.assert_array_equal(first["status"].values, second["status"].values)
    for policy, status in (("fill-missing", "failed"), ("raise", "failed")):
        report = wsistore.embed(broken, NAME, tmp_path / f"{policy}.zarr", on_bad_tile=policy)
        assert (report.outcomes[0].status, report.outcomes[0].code) == (status, "WSI402")


# The call


def test_a_store_per_slide(tmp_path, make_plan):
    plans = {"a": make_plan(seed=1), "b/c": make_plan(seed=2)}
    report = wsistore.embed(plans, NAME, tmp_path / "out", layout="slides")
    report.raise_for_failures()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.zarr", "b%2Fc.zarr"]
    assert sorted(wsistore.open_features(tmp_path / "out")) == ["a", "b/c"]
    assert wsistore.open_features(tmp_path / "out/a.zarr")[NAME].shape == (42, 30)
    again = wsistore.embed(plans, NAME, tmp_path / "out", layout="slides")
    assert [outcome.status for outcome in again.outcomes] == ["skipped", "skipped"]


def test_plans_come_in_many_forms(tmp_path, make_plan):
    plan, other = make_plan(seed=1), make_plan(seed=2)
    slide = wsistore.open_slide(plan.slide.path)
    for index, given in enumerate(
        [
            plan,
            (slide, plan),
            [(plan.slide.path, plan)],
            (plan, other),
            iter([plan]),
            {plan.slide.name: plan},
            CohortPlan((plan, other)),
        ]
    ):
        report = wsistore.embed(given, "null", tmp_path / f"{index}.zarr")
        assert report.outcomes[0].unit == plan.slide.name
        assert report.outcomes[0].status == "done"


def test_calls_that_make_no_sense(tmp_path, make_plan):
    plan = make_plan()
    store = tmp_path / "c.zarr"
    for given, encoders, options, message in [
        ([], NAME, {}, "no slide"),
        ([plan, plan], NAME, {}, "several slides are called"),
        ([5], NAME, {}, "TilePlan"),
        (plan, [], {}, "no encoder"),
        (plan, [NAME, NAME], {}, "named twice"),
        (plan, "nonsense", {}, "nonsense"),
        (plan, NAME, {"scheduler": "nonsense"}, "unknown scheduler"),
        (plan, NAME, {"workers": 0}, "workers"),
        (plan, NAME, {"unit_tiles": 0}, "unit_tiles 0"),
        (plan, NAME, {"batch_size": 0}, "batch_size 0"),
        (plan, NAME, {"prefetch": -1}, "prefetch -1"),
        (plan, NAME, {"layout": "nonsense"}, "layout"),
        (plan, NAME, {"on_bad_tile": "nonsense"}, "on_bad_tile"),
        (plan, NAME, {"memory_limit": "1MB"}, "too small"),
        (plan, NAME, {"memory_limit": "much"}, "as bytes"),
    ]:
        with pytest.raises(UsageError, match=message):
            wsistore.embed(given, encoders, store, **options)
    with pytest.raises(UsageError, match="whole bucket"):
        wsistore.embed(plan, NAME, "s3://bucket")
    assert not store.exists()


def test_an_encoder_that_cannot_be_sent_is_refused(tmp_path, make_plan):
    encoder = load_encoder(NAME)
    encoder.notes = lambda: None
    with pytest.raises(UsageError, match="can't be sent"):
        wsistore.embed(make_plan(), encoder, tmp_path / "c.zarr", scheduler="processes")


def test_an_encoder_that_is_given_stays_open(tmp_path, make_plan):
    with load_encoder(NAME) as encoder:
        wsistore.embed(make_plan(), encoder, tmp_path / "c.zarr").raise_for_failures()
        encoder.encode(np.zeros((1, 3, 8, 8), np.uint8))


def test_an_encoder_that_cannot_be_loaded_ends_the_call(tmp_path, make_plan):
    plugin = tmp_path / "broken.py"
    plugin.write_text("def register_feature_extractors(*_):\n    raise ValueError('no')\n")
    for scheduler in ("threads", "processes"):
        with pytest.raises(EncoderError, match="no"):
            wsistore.embed(
                make_plan(), str(plugin), tmp_path / "c.zarr", scheduler=scheduler, workers=1
            )


def test_a_slide_with_other_pixel_size_is_refused(tmp_path):
    made = write_slide(tmp_path / "a.svs", size=(300, 200), tile=64)
    plan = plan_tiles(wsistore.open_slide(made.path, mpp=0.25), TileSpec(64, 64, "0.5mpp"))
    report = wsistore.embed(
        (wsistore.open_slide(made.path, mpp=0.5), plan), NAME, tmp_path / "c.zarr"
    )
    assert isinstance(report.errors[0], StoreMismatchError)
    report = wsistore.embed(
        (wsistore.open_slide(made.path, mpp=0.9), plan), NAME, tmp_path / "c.zarr"
    )
    assert isinstance(report.errors[0], ResolutionError)
    assert report.exit_code == 1
    # Paths are opened with the pixel size that was stated when planning.
    wsistore.embed((made.path, plan), NAME, tmp_path / "c.zarr").raise_for_failures()


# Memory


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("4GB", 4 * 10**9), ("1.5 GiB", 3 << 29), ("512m", 512 * 10**6), ("100", 100), (7, 7)],
)
def test_bytes_are_read(text, wanted):
    assert parse_bytes(text) == wanted


def test_less_memory_costs_cache_then_reading_ahead_then_workers(make_plan):
    works = [SlideWork("a", make_plan())]

    def fit(limit, scheduler="threads"):
        options, reading = fit_memory(
            CrewOptions(scheduler, 4, limit), Reading(batch_size=4000), works, 1000
        )
        return options.workers, reading.cache_bytes >> 20, reading.prefetch

    assert fit(None) == (4, 128, 1)
    assert fit(10 << 30) == (4, 128, 1)
    need = 4 * (3 * 4000 * 64 * 64 * 3 + (32 << 20) + 2 * 42 * 4 * 4096)
    assert fit(PROCESS_BYTES + need + 4 * (8 << 20)) == (4, 8, 1)
    assert fit(PROCESS_BYTES + need + 4 * (8 << 20) - 1) == (4, 8, 0)
    assert fit(PROCESS_BYTES + need // 2)[0] < 4
    assert fit(1 << 30, "processes")[0] < fit(1 << 30)[0]
