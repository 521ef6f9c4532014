"""Feature stores in buckets: read as local ones, written without locks, resumed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr

import wsistore
from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    StoreUnfinishedError,
)
from wsistore.features.object_store import ObjectStore
from wsistore.features.places import SlidePlace
from wsistore.features.progress import RemoteProgress, begin_work
from wsistore.features.records import EncoderRecord
from wsistore.features.remote import change_states
from wsistore.features.writing import (
    UnitWriter,
    discard_slide,
    finish_slide,
    prepare_cohort,
    prepare_slide,
)
from wsistore.sources import open_place

NAME = "colour-stats"


def keys(url):
    return [found.key for found in open_place(url).list_tree()]


def other(record, name="other", fingerprint="f2"):
    return EncoderRecord(name, record.dim, fingerprint)


# The Zarr store


def test_zarr_reads_what_it_wrote(bucket):
    store = ObjectStore(f"{bucket}/a.zarr")
    values = np.arange(10_000, dtype="i4").reshape(100, 100)
    group = zarr.create_group(store, zarr_format=3)
    array = group.create_array(
        "x", shape=values.shape, dtype="i4", chunks=(10, 10), shards=(50, 50)
    )
    array[:] = values
    again = zarr.open_group(pickle.loads(pickle.dumps(store)), mode="r")
    np.testing.assert_array_equal(again["x"][:], values)
    np.testing.assert_array_equal(again["x"][13:17, 95:], values[13:17, 95:])  # ranges of shards
    assert list(again.array_keys()) == ["x"]
    below = ObjectStore(f"{bucket}/a.zarr", "x", read_only=True)
    np.testing.assert_array_equal(zarr.open_array(below, mode="r")[0], values[0])
    assert str(below) == f"{bucket}/a.zarr/x"
    assert below != store
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_array(below, mode="r+")[0] = 1
    del group["x"]
    assert keys(bucket) == ["a.zarr/zarr.json"]


# Reading


def test_a_cohort_in_a_bucket_reads_as_a_local_one(bucket, tmp_path, write_features):
    url = f"{bucket}/study/c.zarr"
    for store in (url, tmp_path / "c.zarr"):
        for name in ("a", "b/c", "ü %2F"):
            write_features(store, name, seed=len(name))
    far, near = wsistore.open_features(url), wsistore.open_features(tmp_path / "c.zarr")
    assert sorted(far) == sorted(near) == ["a", "b/c", "ü %2F"]
    assert repr(far).endswith("3 slides, 126 tiles>")
    for name in near:
        np.testing.assert_array_equal(far.bag(name), near.bag(name))
        assert far.plan(name).plan_id == near.plan(name).plan_id
        assert far[name].load().equals(near[name].load())
    one = wsistore.open_features(url, "b/c")
    assert not one[NAME].variable._in_memory
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again[NAME][5:9], near["b/c"][NAME][5:9])
    assert [info.name for info in wsistore.list_features(url)] == [
        info.name for info in wsistore.list_features(tmp_path / "c.zarr")
    ]
    with pytest.raises(SourceNotFoundError, match="no features of x"):
        wsistore.open_features(url, "x")
    with pytest.raises(SourceNotFoundError, match="no feature store"):
        wsistore.open_features(f"{bucket}/none.zarr")


def test_stores_of_single_slides_in_a_folder(bucket, write_features):
    made = write_features(f"{bucket}/slides", "a b", alone=True)
    write_features(f"{bucket}/slides", "c", alone=True)
    assert made.place.store == f"{bucket}/slides/a%20b.zarr"
    cohort = wsistore.open_features(f"{bucket}/slides/")
    assert sorted(cohort) == ["a b", "c"]
    np.testing.assert_array_equal(cohort.bag("a b"), made.features)
    alone = wsistore.open_features(made.place.store)
    np.testing.assert_array_equal(alone[NAME], made.features)


def test_a_slide_under_way_is_not_there_before_its_columns_are(
    bucket, write_features, make_plan, record, monkeypatch
):
    url = f"{bucket}/c.zarr"
    write_features(url, "a")
    place = SlidePlace.in_cohort(url, "b")
    with monkeypatch.context() as patch:
        patch.setattr("wsistore.features.remote.write_columns", _killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(place, make_plan(), [record])
    assert [info.name for info in wsistore.list_features(url)] == ["a"]
    with pytest.raises(StoreMismatchError, match="slide_fingerprint"):  # its settings stand
        prepare(place, make_plan(), [record], fingerprint="another")
    assert prepare(place, make_plan(), [record], unit_tiles=7).unit_rows == 10
    with pytest.raises(StoreUnfinishedError):
        wsistore.open_features(url, "b")


def _killed(*_):
    raise KeyboardInterrupt


# Writing


def prepare(place, plan, records, *, fingerprint="print", unit_tiles=10):
    return prepare_slide(
        place, plan, records, name="b", fingerprint=fingerprint, unit_tiles=unit_tiles
    )


def write_all(place, info, encoder, values):
    writer = UnitWriter(place, info)
    for unit in range(5):
        rows = writer.rows(unit)
        status = np.zeros(rows.stop - rows.start, np.uint8)
        summary = writer.write(encoder, unit, values[rows], status)
        assert [key.split("/")[1] for key, _, _ in summary.objects] == [
            encoder,
            f"status_{encoder}",
        ]


def test_what_was_made_otherwise_is_refused(bucket, write_features, make_plan, record):
    made = write_features(f"{bucket}/c.zarr", "b", units=2)
    with pytest.raises(StoreMismatchError, match="slide_fingerprint"):
        prepare(made.place, made.plan, [record], fingerprint="another")
    with pytest.raises(StoreMismatchError, match="plan_id"):
        prepare(made.place, make_plan(stride=32), [record])
    with pytest.raises(StoreMismatchError, match=NAME):
        prepare(made.place, made.plan, [other(record, NAME)])
    labelled = made.plan.with_columns(label=np.zeros(len(made.plan), np.int16))
    with pytest.raises(StoreMismatchError, match="label"):
        prepare(made.place, labelled, [record])
    with pytest.raises(StoreExistsError, match="single slide"):
        prepare_cohort(write_features(f"{bucket}/alone", alone=True).place.store)
    open_place(f"{bucket}/strange").put("file", b"")
    with pytest.raises(StoreExistsError, match="no feature store"):
        prepare_cohort(f"{bucket}/strange")


def test_two_runs_of_different_encoders_keep_what_the_other_has_said(bucket, make_plan, record):
    url = f"{bucket}/c.zarr"
    prepare_cohort(url)
    place, plan = SlidePlace.in_cohort(url, "b"), make_plan()
    second = other(record)
    values = np.zeros((len(plan), record.dim), np.float32)
    first = prepare(place, plan, [record])
    both = prepare(place, plan, [second])
    assert set(both.encoders) == {NAME, "other"}
    write_all(place, first, NAME, values)
    write_all(place, both, "other", values)
    between = []

    def finish(info):
        if not between:  # while one changes the document, the other one has finished
            between.append(finish_slide(place, ["other"]))
        return dict(info.encoders)

    told = change_states(place, finish)
    assert told.finished == ("other",)
    assert set(finish_slide(place, [NAME]).finished) == {NAME, "other"}
    np.testing.assert_array_equal(wsistore.open_features(url, "b")["status"], 0)


def test_preparing_again_takes_nothing_away(bucket, write_features, record):
    made = write_features(f"{bucket}/c.zarr", "b", units=2)
    before = keys(bucket)
    info = prepare(made.place, made.plan, [record])
    assert keys(bucket) == before
    features = zarr.open_group(ObjectStore(made.place.store), path="b", mode="r")[NAME]
    np.testing.assert_array_equal(features[:20], made.features[:20])
    assert not info.done


def test_discarding_leaves_the_others(bucket, write_features):
    url = f"{bucket}/c.zarr"
    write_features(url, "b")
    made = write_features(url, "bb")
    discard_slide(SlidePlace.in_cohort(url, "b"))
    assert list(wsistore.open_features(url)) == ["bb"]
    np.testing.assert_array_equal(wsistore.open_features(url).bag("bb"), made.features)
    assert not any(key.startswith("c.zarr/b/") for key in keys(bucket))


# Progress


def test_receipts_count_while_their_objects_are_those_that_were_written(
    bucket, write_features, record
):
    made = write_features(f"{bucket}/c.zarr", "b", units=1)
    info = prepare(made.place, made.plan, [record])
    writer = UnitWriter(made.place, info)
    rows = writer.rows(1)
    written = writer.write(NAME, 1, made.features[rows], made.status[rows])
    entry = {"encoder": NAME, "unit": 1, "objects": [list(told) for told in written.objects]}
    with begin_work(made.place) as progress:
        progress.note(entry)
    (noted,) = RemoteProgress(made.place).entries()
    assert noted == entry
    assert RemoteProgress(made.place).is_whole(noted) is True
    tagless = {**entry, "objects": [[k, size, None] for k, size, _ in written.objects]}
    assert RemoteProgress(made.place).is_whole(tagless) is None
    assert RemoteProgress(made.place).is_whole({**entry, "objects": []}) is False
    open_place(made.place.store).put(written.objects[0][0], b"x" * written.objects[0][1])
    assert RemoteProgress(made.place).is_whole(noted) is False
    RemoteProgress(made.place).forget()
    assert not any(".work" in key for key in keys(bucket))


def test_a_run_that_was_killed_before_it_made_arrays_goes_on(
    bucket, make_plan, record, monkeypatch
):
    url, plan = f"{bucket}/c.zarr", make_plan()
    prepare_cohort(url)
    place = SlidePlace.in_cohort(url, "b")
    with monkeypatch.context() as patch:
        patch.setattr("wsistore.features.remote.make_encoder", _killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(place, plan, [record])
    info = prepare(place, plan, [record])
    write_all(place, info, NAME, np.ones((len(plan), record.dim), np.float32))
    assert finish_slide(place, [NAME]).done
    assert (wsistore.open_features(url).bag("b") == 1).all()


def test_features_that_were_not_computed_are_not_finished(bucket, write_features, record):
    made = write_features(f"{bucket}/c.zarr", "b", units=2)
    with pytest.raises(StoreCorruptError, match=f"tile 20 of {NAME} was not computed"):
        finish_slide(made.place, [NAME])
    assert not wsistore.list_features(f"{bucket}/c.zarr")[0].done


def test_bags_for_training_and_imports(bucket, tmp_path, write_features):
    pytest.importorskip("torch")
    from wsistore.export.features_hdf5 import read_features_h5, write_features_h5
    from wsistore.export.store_features import import_features, stored_features
    from wsistore.features import BagDataset

    url = f"{bucket}/c.zarr"
    made = write_features(url, "a")
    bag = BagDataset(wsistore.open_features(url))[0]
    np.testing.assert_array_equal(bag["features"], made.features[made.status == 0])
    data = stored_features(wsistore.open_features(url), "a")
    write_features_h5(data, tmp_path / "a.h5", layout="slideprocessor")
    again = f"{bucket}/again.zarr"
    place = import_features(read_features_h5(tmp_path / "a.h5"), again)
    assert str(place) == f"{again}/{data.name}"
    np.testing.assert_array_equal(wsistore.open_features(again).bag(data.name), made.features)
    with pytest.raises(StoreExistsError):
        import_features(read_features_h5(tmp_path / "a.h5"), again)
    import_features(read_features_h5(tmp_path / "a.h5"), again, overwrite=True)
    assert not any(".again.zarr.work" in key for key in keys(bucket))
