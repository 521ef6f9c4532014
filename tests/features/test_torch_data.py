"""Bags for torch."""

from __future__ import annotations

import numpy as np
import pytest

from wsistore import open_features
from wsistore.errors import UsageError

torch = pytest.importorskip("torch")

from wsistore.features import BagDataset, collate_bags  # noqa: E402 (needs torch)


@pytest.fixture
def cohort(tmp_path, write_features, make_plan):
    write_features(tmp_path / "c.zarr", "a", seed=1)
    write_features(tmp_path / "c.zarr", "b", plan=make_plan(size=(200, 130)), seed=2)
    write_features(tmp_path / "c.zarr", "empty", plan=make_plan()[:0])
    return open_features(tmp_path / "c.zarr")


def test_a_bag_is_the_good_tiles_of_a_slide(cohort):
    data = BagDataset(cohort, with_coordinates=True)
    assert (len(data), data.slides) == (3, ["a", "b", "empty"])
    bag = data[0]
    np.testing.assert_array_equal(bag["features"].numpy(), cohort.bag("a", ok_only=True))
    assert bag["features"].dtype == torch.float32
    np.testing.assert_array_equal(
        bag["coordinates"].numpy(), np.delete(cohort.coordinates("a"), 3, axis=0)
    )
    assert bag["slide"] == "a"
    assert "label" not in bag
    assert data[2]["features"].shape == (0, 30)


def test_labels_choose_and_number_slides(cohort):
    data = BagDataset(cohort, labels={"b": "high", "a": "low", "other": "high"})
    assert data.classes == ("high", "low")
    assert [data[i]["label"] for i in range(len(data))] == [1, 0]
    fixed = BagDataset(cohort.select(["b"]), labels={"b": "high"}, classes=["low", "high"])
    assert fixed[0]["label"] == 1
    assert BagDataset(cohort, labels={"a": 7})[0]["label"] == 7
    with pytest.raises(UsageError, match="not among the classes: high"):
        BagDataset(cohort, labels={"b": "high"}, classes=["low"])


def test_large_bags_are_drawn_from_by_seed_and_epoch(cohort):
    def draw(seed=0, epoch=0):
        data = BagDataset(cohort, max_tiles=8, seed=seed, with_coordinates=True)
        data.set_epoch(epoch)
        return data[0]["coordinates"].numpy()

    np.testing.assert_array_equal(draw(), draw())
    assert len(np.unique(draw(), axis=0)) == 8
    assert not np.array_equal(draw(), draw(epoch=1))
    assert not np.array_equal(draw(), draw(seed=1))
    assert len(BagDataset(cohort, max_tiles=8)[1]["features"]) == 5
    with pytest.raises(UsageError):
        BagDataset(cohort, max_tiles=0)


def test_batches_are_padded_and_masked(cohort):
    data = BagDataset(cohort, labels={"a": 0, "b": 1, "empty": 0}, with_coordinates=True)
    loader = torch.utils.data.DataLoader(data, batch_size=3, collate_fn=collate_bags)
    (batch,) = list(loader)
    assert batch["features"].shape == (3, 41, 30)
    assert batch["mask"].sum(dim=1).tolist() == [41, 5, 0]
    assert batch["mask"][1].tolist() == [True] * 5 + [False] * 36
    assert (batch["features"][~batch["mask"]] == 0).all()
    assert torch.isfinite(batch["features"]).all()
    assert batch["label"].tolist() == [0, 1, 0]
    assert batch["coordinates"].shape == (3, 41, 2)
    assert batch["slide"] == ["a", "b", "empty"]


def test_workers_give_the_same_bags(cohort):
    data = BagDataset(cohort, max_tiles=8)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=1)
    for told, wanted in zip(loader, data, strict=True):
        assert torch.equal(told["features"], wanted["features"])
