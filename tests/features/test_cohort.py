"""Many slides: choosing before reading, bags in one read, other processes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import zarr

import wsistore
from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.features import FeatureCohort, list_features
from wsistore.features.records import EncoderRecord
from wsistore.features.writing import UnitWriter, finish_slide, prepare_slide

NAME = "colour-stats"


@pytest.fixture
def store(tmp_path, write_features, make_plan):
    write_features(tmp_path / "c.zarr", "small", plan=make_plan(size=(200, 130)), seed=1)
    write_features(tmp_path / "c.zarr", "large", seed=2)
    write_features(tmp_path / "c.zarr", "half", units=1, seed=3)
    return tmp_path / "c.zarr"


def test_a_cohort_is_a_mapping_of_what_is_finished(store):
    cohort = wsistore.open_features(store)
    assert isinstance(cohort, FeatureCohort)
    assert list(cohort) == ["large", "small"]
    assert cohort.unfinished == ("half",)
    assert {name: data.sizes["tile"] for name, data in cohort.items()} == {"large": 42, "small": 6}
    assert "2 slides, 48 tiles" in repr(cohort)
    with pytest.raises(SourceNotFoundError, match="unfinished or without features of half"):
        cohort["half"]
    assert list(FeatureCohort(store, allow_partial=True)) == ["half", "large", "small"]


def test_slides_are_chosen_before_anything_is_read(store, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("an array was read")

    monkeypatch.setattr(zarr.Array, "__getitem__", refuse)
    cohort = wsistore.open_features(store)
    assert list(cohort.filter(lambda info: info.tiles > 10)) == ["large"]
    assert list(cohort.filter(lambda info: info.mpp == (0.499, 0.499))) == ["large", "small"]
    assert list(cohort.select(["small", "large"])) == ["small", "large"]
    assert [info.done for info in list_features(store)] == [False, True, True]
    with pytest.raises(SourceNotFoundError):
        cohort.select(["none"])


def test_a_bag_is_read_at_once(store, write_features, make_plan):
    cohort = wsistore.open_features(store)
    bag = cohort.bag("large")
    assert bag.shape == (42, 30)
    assert bag.dtype == np.float32
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(bag).any(axis=1)), [3])
    good = cohort.bag("large", NAME, ok_only=True)
    np.testing.assert_array_equal(good, np.delete(bag, 3, axis=0))
    plan = cohort.plan("large")
    np.testing.assert_array_equal(cohort.coordinates("large"), np.stack([plan.x, plan.y], 1))
    np.testing.assert_array_equal(bag, cohort["large"][NAME].values)


def test_several_encoders_must_be_named(store):
    cohort = wsistore.open_features(store)
    place, plan = cohort.place("small"), cohort.plan("small")
    other = EncoderRecord("other", 2, "f")
    info = prepare_slide(place, plan, [other], name="small", fingerprint="print", unit_tiles=1)
    writer = UnitWriter(place, info)
    writer.write("other", 0, np.ones((6, 2), np.float32), np.zeros(6, np.uint8))
    finish_slide(place, ["other"])
    cohort = wsistore.open_features(store)
    with pytest.raises(UsageError, match=r"colour-stats, other: name one"):
        cohort.bag("small")
    assert cohort.bag("small", "other").shape == (6, 2)
    assert list(wsistore.open_features(store, encoders="other")) == ["small"]
    assert wsistore.open_features(store, encoders="other").bag("small").shape == (6, 2)


def test_a_cohort_pickles_and_becomes_a_tree(store):
    cohort = pickle.loads(pickle.dumps(wsistore.open_features(store).select(["large"])))
    assert list(cohort) == ["large"]
    assert cohort.bag("large").shape == (42, 30)
    tree = cohort.to_datatree()
    assert list(tree.children) == ["large"]
    assert tree["large"].attrs["tiles"] == 42
