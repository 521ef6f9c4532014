"""The store of one slide: layout, whole units, done last, other readers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from wsistore import open_features
from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    StoreUnfinishedError,
    StoreWriteError,
    UsageError,
)
from wsistore.features import STATUS_MEANINGS, TileStatus, list_features
from wsistore.features.places import SlidePlace
from wsistore.features.records import EncoderRecord
from wsistore.features.schema import (
    SHARD_ABOVE,
    feature_chunks,
    node_name,
    unit_count,
    unit_rows,
    unit_slice,
)
from wsistore.features.writing import (
    UnitWriter,
    _has_strangers,
    discard_slide,
    finish_slide,
    prepare_cohort,
    prepare_slide,
    read_info,
)

NAME = "colour-stats"


# Layout


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_units_cover_all_rows_once(tiles, wanted):
    rows = unit_rows(tiles, wanted)
    parts = [unit_slice(unit, tiles, rows) for unit in range(unit_count(tiles, rows))]
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(tiles))
    assert all(part.start % rows == 0 for part in parts)
    with pytest.raises(UsageError):
        unit_slice(len(parts), tiles, rows)


@given(st.integers(1, 4096), st.integers(1, 8192))
def test_a_unit_is_one_object(rows, dim):
    chunks, shards = feature_chunks(rows, dim)
    assert (shards or chunks) == (rows, dim)
    assert rows % chunks[0] == 0
    assert shards is None or rows * dim * 4 > SHARD_ABOVE


def test_large_units_are_shards():
    assert feature_chunks(4096, 4096) == ((512, 4096), (4096, 4096))
    assert feature_chunks(1024, 2560) == ((1024, 2560), None)
    assert feature_chunks(4099, 4096) == ((4099, 4096), None)  # a prime has no parts


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("TCGA-01.slide 2", "TCGA-01.slide 2"),
        ("a/b", "a%2Fb"),
        (".hidden", "%2Ehidden"),
        ("..", "%2E."),
        ("__x", "%5F_x"),
        ("50%", "50%25"),
        ("ä µ", "ä µ"),
    ],
)
def test_names_are_kept_but_for_what_zarr_forbids(name, wanted, tmp_path):
    assert node_name(name) == wanted
    zarr.create_group(tmp_path / "x", zarr_format=3).create_group(wanted)
    assert list(zarr.open_group(tmp_path / "x").group_keys()) == [wanted]


def test_names_that_columns_have_are_refused():
    for name in ("x", "status", "tissue_ratio", "status_a", "feature_b", ""):
        with pytest.raises(UsageError):
            EncoderRecord(name, 1, "f")


def test_all_codes_are_explained():
    assert set(STATUS_MEANINGS) == set(TileStatus)
    assert [int(code) for code in TileStatus] == list(range(6))  # only ever added to


# Written and read


def test_plain_xarray_reads_all_of_it(tmp_path, write_features):
    store = tmp_path / "c.zarr"
    made = write_features(store)
    plain = xr.open_zarr(store, group="a", consolidated=False, chunks=None)
    assert plain[NAME].dims == ("tile", f"feature_{NAME}")
    assert plain[NAME].dtype == np.float32
    np.testing.assert_array_equal(plain[NAME].values, made.features)
    np.testing.assert_array_equal(plain["status"].values, made.status)
    for column, values in made.plan.columns.items():
        assert column in plain.coords
        np.testing.assert_array_equal(plain[column].values, values)
    assert {"status", f"status_{NAME}"} <= set(plain.coords)
    assert list(plain.data_vars) == [NAME]
    assert plain.attrs["done"] is True
    assert plain.attrs["mpp"] == [0.499, 0.499]
    assert plain.attrs["mpp_origin"] == made.plan.slide.mpp_origin
    assert plain.attrs["plan_id"] == made.plan.plan_id
    assert plain.attrs["slide_fingerprint"] == "print"
    told = plain[NAME].attrs
    assert told["precision"] == "float32"
    assert told["description"]["weights"]["kind"] == "builtin"
    assert "numpy" in told["description"]["versions"]


def test_plain_zarr_and_json_read_all_of_it(tmp_path, write_features):
    store = tmp_path / "c.zarr"
    made = write_features(store)
    group = zarr.open_group(store, mode="r", path="a")
    np.testing.assert_array_equal(group[NAME][:], made.features)
    assert group[NAME].chunks == (10, 30)
    assert np.isnan(group[NAME].fill_value)
    document = json.loads((store / "a/zarr.json").read_text())
    assert document["attributes"]["done"] is True
    assert json.loads((store / "zarr.json").read_text())["attributes"]["kind"] == "cohort"
    # One object for each unit of each array of an encoder.
    assert sorted(path.name for path in (store / f"a/{NAME}/c").iterdir()) == list("01234")


def test_a_dataset_is_lazy(tmp_path, write_features):
    made = write_features(tmp_path / "c.zarr")
    found = open_features(tmp_path / "c.zarr", "a")
    chunk = made.place.path / NAME / "c/0/0"
    chunk.rename(chunk.with_name("away"))
    assert np.isnan(found[NAME][:10].values).all()  # read only now
    np.testing.assert_array_equal(found[NAME][10:13].values, made.features[10:13])
    assert "dask" not in type(found[NAME].variable._data).__module__


def test_labels_of_any_kind_are_kept(tmp_path, write_features, make_plan):
    plan = make_plan()
    n = len(plan)
    plan = plan.with_columns(
        label=np.where(np.arange(n) % 2, "tumour", "µ"), good=np.arange(n) > 3, score=np.ones(n)
    )
    write_features(tmp_path / "c.zarr", plan=plan)
    cohort = open_features(tmp_path / "c.zarr")
    assert cohort.plan("a") == plan
    assert cohort["a"]["label"].values.tolist() == plan.extras["label"].tolist()
    assert cohort["a"]["good"].dtype == bool


def test_a_slide_alone_in_its_store(tmp_path, write_features):
    made = write_features(tmp_path, alone=True)
    assert (tmp_path / "a.zarr/zarr.json").is_file()
    found = open_features(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found[NAME].values, made.features)
    assert "created" in found.attrs
    assert [info.name for info in list_features(tmp_path)] == ["a"]
    np.testing.assert_array_equal(open_features(tmp_path).bag("a"), made.features)
    with pytest.raises(SourceNotFoundError, match="holds a, not b"):
        open_features(tmp_path / "a.zarr", "b")


def test_a_slide_without_tiles(tmp_path, write_features, make_plan):
    empty = make_plan()[:0]
    write_features(tmp_path / "c.zarr", plan=empty)
    found = open_features(tmp_path / "c.zarr", "a")
    assert found[NAME].shape == (0, 30)
    assert found[NAME].values.shape == (0, 30)
    assert found.attrs["done"] is True
    assert open_features(tmp_path / "c.zarr").plan("a") == empty


def test_the_date_is_in_the_commit_record_only(tmp_path, write_features):
    for name in ("one", "two"):
        write_features(tmp_path / name)
    for path in sorted((tmp_path / "one").rglob("*")):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        if path.is_file() and path.parent.name not in ("one", "a"):
            assert path.read_bytes() == other.read_bytes(), path
    attributes = dict(zarr.open_group(tmp_path / "one/a", mode="r").attrs)
    assert attributes["encoders"][NAME]["finished"].endswith("+00:00")


# Whole units only


def test_nothing_but_a_whole_unit_can_be_written(tmp_path, write_features, record):
    made = write_features(tmp_path / "c.zarr", units=0)
    writer = UnitWriter(made.place, read_info(made.place))
    good = np.zeros((10, record.dim), np.float32), np.zeros(10, np.uint8)
    assert writer.write(NAME, 4, good[0][:2], good[1][:2]).bytes == 2 * 30 * 4  # the last one
    for unit, features, status in [
        (0, good[0][:9], good[1][:9]),
        (0, good[0][:, :29], good[1]),
        (0, good[0].astype(np.float64), good[1]),
        (0, good[0], good[1].astype(np.int64)),
        (0, good[0], good[1][:9]),
        (5, *good),
        (-1, *good),
        (4, *good),
    ]:
        with pytest.raises(UsageError):
            writer.write(NAME, unit, features, status)


def test_rows_that_failed_are_nan_whatever_they_hold(tmp_path, write_features):
    made = write_features(tmp_path / "c.zarr", units=0)
    writer = UnitWriter(made.place, read_info(made.place))
    status = np.array([0, 2, 0, 0, 0, 0, 0, 0, 0, 5], np.uint8)
    told = writer.write(NAME, 0, np.ones((10, 30), np.float32), status)
    assert told.failed_tiles == 2
    assert writer.read(NAME, 0) == told
    assert writer.read(NAME, 1) != told
    found = zarr.open_group(made.place.path, mode="r")[NAME][:10]
    assert np.isnan(found[[1, 9]]).all()
    assert (np.delete(found, [1, 9], axis=0) == 1).all()


def test_damage_to_a_chunk_is_seen(tmp_path, write_features):
    made = write_features(tmp_path / "c.zarr")
    chunk = made.place.path / NAME / "c/1/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreCorruptError, match=NAME):
        open_features(tmp_path / "c.zarr").bag("a")
    assert UnitWriter(made.place, read_info(made.place)).read(NAME, 1) is None


# Done last


def test_unfinished_features_are_refused(tmp_path, write_features):
    store = tmp_path / "c.zarr"
    made = write_features(store, units=2)
    with pytest.raises(StoreUnfinishedError, match="no finished features"):
        open_features(store, "a")
    with pytest.raises(StoreUnfinishedError, match=NAME):
        open_features(store, "a", encoders=NAME)
    assert open_features(store).unfinished == ("a",)
    assert len(open_features(store)) == 0
    partial = open_features(store, "a", allow_partial=True)
    np.testing.assert_array_equal(partial[NAME][:20].values, made.features[:20])
    assert np.isnan(partial[NAME][20:].values).all()
    codes = partial[f"status_{NAME}"].values
    assert (codes[20:] == TileStatus.NOT_COMPUTED).all()
    assert (partial["status"].values == TileStatus.NOT_COMPUTED).all()
    assert partial.attrs["done"] is False


def test_done_is_not_said_of_a_slide_with_holes(tmp_path, write_features):
    made = write_features(tmp_path / "c.zarr", units=2)
    with pytest.raises(StoreCorruptError, match="tile 20 of colour-stats was not computed"):
        finish_slide(made.place, [NAME])
    assert not read_info(made.place).done


def test_an_encoder_under_way_leaves_the_others_be(tmp_path, write_features, record):
    store = tmp_path / "c.zarr"
    made = write_features(store)
    before = read_info(made.place).encoders[NAME]
    other = EncoderRecord("other", 4, "other:1")
    prepare_slide(made.place, made.plan, [other], name="a", fingerprint="print", unit_tiles=99)
    info = read_info(made.place)
    assert (info.done, info.finished, info.unit_rows) == (False, (NAME,), 10)
    found = open_features(store, "a")
    assert list(found.data_vars) == [NAME]
    with pytest.raises(StoreUnfinishedError, match="other"):
        open_features(store, "a", encoders=["other"])
    writer = UnitWriter(made.place, info)
    for unit in range(5):
        rows = writer.rows(unit)
        count = rows.stop - rows.start
        status = np.full(count, TileStatus.MISSING if unit == 4 else 0, np.uint8)
        writer.write("other", unit, np.ones((count, 4), np.float32), status)
    finish_slide(made.place, ["other"])
    info = read_info(made.place)
    assert info.done
    assert info.encoders[NAME] == before
    assert info.encoders["other"].failed_tiles == 2
    both = open_features(store, "a")
    assert both["status"].values.tolist() == [0, 0, 0, 3, *[0] * 36, 2, 2]
    assert both.sizes["feature_other"] == 4


# What is there is respected


def test_other_slides_plans_and_encoders_are_named(tmp_path, write_features, make_plan, record):
    made = write_features(tmp_path / "c.zarr")

    def prepare(plan=made.plan, encoder=record, fingerprint="print"):
        return prepare_slide(
            made.place, plan, [encoder], name="a", fingerprint=fingerprint, unit_tiles=10
        )

    assert prepare() == read_info(made.place)
    with pytest.raises(StoreMismatchError, match='slide_fingerprint: "print" -> "else"'):
        prepare(fingerprint="else")
    with pytest.raises(StoreMismatchError, match=r"plan_id: .*spec\.stride: \[64"):
        prepare(plan=make_plan(stride=32))
    with pytest.raises(StoreMismatchError, match=r"colour-stats\.fingerprint: .* -> \"f2\""):
        prepare(encoder=replace(record, fingerprint="f2"))
    with pytest.raises(StoreMismatchError, match="without the column label"):
        prepare(plan=made.plan.with_columns(label=np.arange(len(made.plan))))


def test_other_values_of_a_label_are_refused(tmp_path, write_features, record):
    store = tmp_path / "c.zarr"
    plan = write_features(tmp_path / "plain").plan
    labelled = plan.with_columns(label=np.arange(len(plan)), text=np.full(len(plan), "x"))
    made = write_features(store, plan=labelled)
    prepare = {"name": "a", "fingerprint": "print", "unit_tiles": 10}
    prepare_slide(made.place, labelled, [record], **prepare)
    prepare_slide(made.place, plan, [record], **prepare)  # none are said: those there stay
    for other in ({"label": np.zeros(len(plan))}, {"text": np.full(len(plan), "y")}):
        with pytest.raises(StoreMismatchError, match="other values in column"):
            prepare_slide(made.place, plan.with_columns(**other), [record], **prepare)


def test_a_beginning_that_was_killed_is_made_anew(tmp_path, write_features):
    store = tmp_path / "c.zarr"
    made = write_features(store)
    zarr.open_group(store, path="a").attrs.put({"wsistore_features": 1, "kind": "slide"})
    (store / "a/left.txt").write_text("by a killed run")
    assert list_features(store) == []
    with pytest.raises(StoreCorruptError):
        read_info(made.place)
    again = write_features(store)
    assert not (store / "a/left.txt").exists()
    np.testing.assert_array_equal(open_features(store).bag("a"), again.features)


def test_what_killed_writers_left_is_swept_away(tmp_path, write_features, record):
    made = write_features(tmp_path / "c.zarr", units=2)
    left = made.place.path / NAME / "c/3" / f"0.{'0a' * 16}.partial"
    left.parent.mkdir()
    left.write_bytes(b"half")
    other = made.place.path / "mine.partial"
    other.touch()
    prepare_slide(made.place, made.plan, [record], name="a", fingerprint="print", unit_tiles=10)
    assert (left.exists(), other.exists()) == (False, True)


def test_finishing_one_encoder_does_not_finish_another(tmp_path, write_features, record):
    made = write_features(tmp_path / "c.zarr", units=0)
    other = EncoderRecord("other", 1, "f")
    info = prepare_slide(
        made.place, made.plan, [other], name="a", fingerprint="print", unit_tiles=10
    )
    writer = UnitWriter(made.place, info)
    for unit in range(5):
        rows = writer.rows(unit)
        count = rows.stop - rows.start
        writer.write("other", unit, np.ones((count, 1), np.float32), np.zeros(count, np.uint8))
    finish_slide(made.place, ["other"])
    info = read_info(made.place)
    assert (info.finished, info.done) == (("other",), False)
    assert open_features(tmp_path / "c.zarr", "a")["status"].values.sum() == 0


def test_another_run_that_was_faster_is_no_stranger(tmp_path, write_features):
    made = write_features(tmp_path / "c.zarr")
    assert not _has_strangers(SlidePlace(made.place.store, ""))
    (tmp_path / "c.zarr/zarr.json").unlink()
    assert _has_strangers(SlidePlace(made.place.store, ""))


@pytest.mark.parametrize("look", ["is_dir", "iterdir"])
def test_another_run_that_begins_at_the_same_time_is_no_stranger(tmp_path, monkeypatch, look):
    store, call = tmp_path / "c.zarr", getattr(Path, look)

    def overtaken(self):
        try:
            found = call(self)
            return iter(list(found)) if look == "iterdir" else found
        finally:
            if self == store:  # right after this run has looked
                monkeypatch.undo()
                prepare_cohort(str(store))

    monkeypatch.setattr(Path, look, overtaken)
    assert not _has_strangers(SlidePlace(str(store), ""))


def test_discarding_a_slide_leaves_the_others(tmp_path, write_features):
    store = tmp_path / "c.zarr"
    first, second = write_features(store, "a"), write_features(store, "b", seed=1)
    discard_slide(first.place)
    discard_slide(first.place)
    cohort = open_features(store)
    assert list(cohort) == ["b"]
    np.testing.assert_array_equal(cohort.bag("b"), second.features)


def test_what_is_no_feature_store_is_refused(tmp_path, write_features):
    with pytest.raises(SourceNotFoundError):
        open_features(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(UsageError, match="no feature store"):
        open_features(tmp_path / "other.zarr")
    with pytest.raises(StoreExistsError):
        prepare_cohort(str(tmp_path / "other.zarr"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("")
    with pytest.raises(StoreExistsError):
        prepare_cohort(str(tmp_path / "folder"))
    made = write_features(tmp_path, alone=True)
    with pytest.raises(StoreExistsError, match="single slide"):
        prepare_cohort(made.place.store)
    with pytest.raises(UsageError, match="whole bucket"):
        SlidePlace.in_cohort("s3://bucket/", "a")
    write_features(tmp_path / "c.zarr")
    with pytest.raises(SourceNotFoundError, match="no features of b"):
        open_features(tmp_path / "c.zarr", "b")
    with pytest.raises(SourceNotFoundError, match=f"no features of x; it has {NAME}"):
        open_features(tmp_path / "c.zarr", "a", encoders="x")


def test_a_later_schema_is_refused(tmp_path, write_features):
    made = write_features(tmp_path / "c.zarr")
    zarr.open_group(made.place.path).attrs["wsistore_features"] = 2
    with pytest.raises(UsageError, match="schema 2"):
        open_features(tmp_path / "c.zarr", "a")


def test_failures_of_the_disk_are_told(tmp_path, write_features, monkeypatch):
    from zarr.storage import LocalStore

    made = write_features(tmp_path / "c.zarr")

    async def full(self, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalStore, "set", full)
    writer = UnitWriter(made.place, read_info(made.place))
    with pytest.raises(StoreWriteError, match="No space left"):
        writer.write(NAME, 0, np.zeros((10, 30), np.float32), np.zeros(10, np.uint8))
