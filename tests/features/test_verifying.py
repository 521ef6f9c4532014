"""Random tiles are computed again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from wsistore import embed, open_slide, verify_features
from wsistore.encoders import load_encoder
from wsistore.errors import SourceNotFoundError, StoreMismatchError, UsageError, WsistoreError
from wsistore.testing import write_slide

NAME = "colour-stats"


@pytest.fixture
def encoder():
    return load_encoder(NAME)


@pytest.fixture
def store(tmp_path, make_plan):
    plans = {"a": make_plan(seed=1), "b": make_plan(seed=2)}
    embed(plans, NAME, tmp_path / "c.zarr").raise_for_failures()
    return tmp_path / "c.zarr"


def test_features_that_are_right(store, encoder):
    report = verify_features(store, 5, encoders=encoder)
    assert report.ok
    assert [(check.slide, check.difference) for check in report.checks] == [
        *[("a", 0.0)] * 5,
        *[("b", 0.0)] * 5,
    ]
    assert len({check.tile for check in report.checks[:5]}) == 5
    assert verify_features(store, 5, encoders=encoder) == report
    assert verify_features(store, 5, encoders=encoder, seed=1) != report
    assert len(verify_features(store, 999, encoders=[encoder], slides=["b"]).checks) == 42


def test_features_that_are_wrong(store, encoder):
    array = zarr.open_group(store / "a")[NAME]
    array[7] = array[7] * np.float32(1.001)
    report = verify_features(store, 999, encoders=encoder)
    assert [(check.slide, check.tile) for check in report.failed] == [("a", 7)]
    assert report.failed[0].difference == pytest.approx(0.001, rel=0.01)
    assert not report.ok
    assert verify_features(store, 999, encoders=encoder, tolerance=0.01).ok


def test_another_slide_or_encoder_is_refused(store, encoder, tmp_path):
    other = write_slide(tmp_path / "other.svs", size=(500, 400), tile=64, seed=9)
    with pytest.raises(StoreMismatchError, match="not the slide of these features"):
        verify_features(store, encoders=encoder, opener=lambda info: open_slide(other.path))
    encoder.facts = replace(encoder.facts, version="2")
    with pytest.raises(StoreMismatchError, match="were made by colour-stats:builtin"):
        verify_features(store, encoders=encoder)
    with pytest.raises(UsageError, match="k must be"):
        verify_features(store, 0, encoders=encoder)
    with pytest.raises(SourceNotFoundError):
        verify_features(store, encoders=load_encoder("null"), slides=["a"])


def test_a_slide_that_moved_is_told_where_it_is(tmp_path, encoder):
    from wsistore.tiles import TileSpec, plan_tiles

    made = write_slide(tmp_path / "a.svs", size=(300, 200), tile=64)
    plan = plan_tiles(open_slide(made.path, mpp=0.3), TileSpec(64, 64, "0.3mpp"))
    embed(plan, NAME, tmp_path / "c.zarr").raise_for_failures()
    assert verify_features(tmp_path / "c.zarr", 3, encoders=encoder).ok  # mpp is stated again
    moved = shutil.move(made.path, tmp_path / "moved.svs")
    with pytest.raises(WsistoreError):
        verify_features(tmp_path / "c.zarr", 3, encoders=encoder)
    report = verify_features(
        tmp_path / "c.zarr", 3, encoders=encoder, opener=lambda info: open_slide(moved, mpp=0.3)
    )
    assert report.ok
