from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsistore
from wsistore.durable import FileLock
from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    StoreLockedError,
    UsageError,
)
from wsistore.tissue import (
    TissueMask,
    load_mask,
    read_label,
    save_mask,
    segment_slide,
    write_label,
)


def example(**changes):
    pixels = np.random.default_rng(1).random((37, 53)) > 0.5
    fields = {"mpp": (8.0, 8.1), "origin": "tag", "method": "otsu", "parameters": {"a": [1, 2]}}
    return TissueMask(pixels, (1700, 1200), **{**fields, "source": "abc", **changes})


@pytest.mark.parametrize("name", ["mask.zarr", "mask.png"])
@pytest.mark.parametrize("mpp", [None, (8.0, 8.1)])
def test_files_give_the_mask_back(tmp_path, name, mpp):
    mask = example(mpp=mpp)
    mask.save(tmp_path / name)
    again = TissueMask.load(tmp_path / name)
    assert again == mask
    assert (again.pixels == mask.pixels).all()
    assert (again.mpp, again.origin, again.source) == (mask.mpp, "tag", "abc")
    assert dict(again.parameters) == {"a": [1, 2]}


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.sampled_from(["zarr", "png"]))
def test_every_shape_comes_back(tmp_path_factory, height, width, seed, kind):
    pixels = np.random.default_rng(seed).random((height, width)) > 0.5
    mask = TissueMask(pixels, (999, 777))
    path = tmp_path_factory.mktemp("m") / f"a.{kind}"
    save_mask(mask, path)
    assert load_mask(path) == mask


@pytest.mark.parametrize("name", ["mask.zarr", "mask.png"])
def test_nothing_is_replaced_unasked(tmp_path, name):
    save_mask(example(), tmp_path / name)
    other = example(method="other")
    with pytest.raises(StoreExistsError):
        save_mask(other, tmp_path / name)
    assert load_mask(tmp_path / name) == example()
    save_mask(other, tmp_path / name, overwrite=True)
    assert load_mask(tmp_path / name) == other
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_picture_changed_afterwards_is_found_out(tmp_path):
    save_mask(example(), tmp_path / "a.png")
    save_mask(example(parameters={}), tmp_path / "b.png")
    shutil.copy(tmp_path / "b.json", tmp_path / "a.json")
    assert load_mask(tmp_path / "b.png") == example(parameters={})
    save_mask(example().with_pixels(~example().pixels), tmp_path / "c.png")
    shutil.copy(tmp_path / "c.png", tmp_path / "b.png")
    with pytest.raises(StoreCorruptError, match="not the one"):
        load_mask(tmp_path / "b.png")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"wsistore": {"kind": "x"}}', '{"wsistore": 3}'])
def test_damaged_records_are_refused(tmp_path, text):
    save_mask(example(), tmp_path / "a.png")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreCorruptError):
        load_mask(tmp_path / "a.png")


def test_what_is_no_mask_is_refused(tmp_path):
    with pytest.raises(SourceNotFoundError):
        load_mask(tmp_path / "none.png")
    with pytest.raises(UsageError):
        load_mask(tmp_path / "none.npy")
    with pytest.raises(UsageError):
        save_mask(example(), tmp_path / "a.npy")
    save_mask(example(), tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(StoreCorruptError, match="no PNG"):
        load_mask(tmp_path / "a.png")
    (tmp_path / "a.json").unlink()
    with pytest.raises(SourceNotFoundError, match=r"a\.json"):
        load_mask(tmp_path / "a.png")
    (tmp_path / "z.zarr").mkdir()
    with pytest.raises(StoreCorruptError):
        load_mask(tmp_path / "z.zarr")


# ------------------------------------------------------------------ NGFF labels


@pytest.fixture(scope="module")
def converted(tmp_path_factory, aperio):
    folder = tmp_path_factory.mktemp("converted")
    written = aperio("jpeg_rgb_tables", size=(700, 500), levels=(1, 2, 4))
    wsistore.convert(written.path, folder / "a.ome.zarr")
    return folder / "a.ome.zarr"


@pytest.fixture
def store(converted, tmp_path):
    shutil.copytree(converted, tmp_path / "a.ome.zarr")
    return tmp_path / "a.ome.zarr"


def test_labels_come_back_and_are_replaced(store):
    with wsistore.open_slide(store) as slide:
        mask, fingerprint = segment_slide(slide), slide.fingerprint
    write_label(mask, store)
    assert read_label(store) == mask
    other = mask.with_pixels(~mask.pixels)
    write_label(other, store)
    write_label(mask, store, "second")
    assert read_label(store) == other
    assert read_label(store, "second") == mask
    listed = json.loads((store / "labels" / "zarr.json").read_text())["attributes"]["ome"]
    assert listed == {"version": "0.5", "labels": ["tissue", "second"]}
    assert not list(store.rglob(".*"))
    with wsistore.open_slide(store) as slide:
        assert slide.fingerprint == fingerprint


def test_labels_are_ngff(store):
    models = pytest.importorskip("ome_zarr_models.v05")
    zarr = pytest.importorskip("zarr")
    mask = TissueMask(np.ones((37, 53)), (700, 500), (6.6, 6.7))
    write_label(mask, store)
    group = zarr.open_group(str(store / "labels" / "tissue"), mode="r")
    attributes = models.ImageLabel.from_zarr(group).attributes.ome
    image = models.Image.from_zarr(zarr.open_group(str(store), mode="r")).attributes.ome
    assert attributes.image_label.source.image == "../../"
    ours, theirs = attributes.multiscales[0], image.multiscales[0]
    # the label must have as many levels as the image
    assert len(ours.datasets) == len(theirs.datasets) == 3
    assert [axis.name for axis in ours.axes] == ["y", "x"]
    # and cover the same ground
    full = theirs.datasets[0].coordinateTransformations[0].scale
    for dataset in ours.datasets:
        shape = group[dataset.path].shape
        scale = dataset.coordinateTransformations[0].scale
        assert shape[0] * scale[0] == pytest.approx(500 * full[1])
        assert shape[1] * scale[1] == pytest.approx(700 * full[2])
        assert group[dataset.path].dtype == np.uint8


def test_labels_of_other_slides_and_stores_are_refused(store, tmp_path):
    mask = TissueMask(np.ones((5, 7)), (700, 500))
    with pytest.raises(UsageError, match="700"):
        write_label(TissueMask(np.ones((5, 7)), (701, 500)), store)
    for name in ("", ".x", "a/b", "__x", "zarr.json"):
        with pytest.raises(UsageError, match="name"):
            write_label(mask, store, name)
    with pytest.raises(SourceNotFoundError):
        write_label(mask, tmp_path)
    save_mask(mask, tmp_path / "m.zarr")
    with pytest.raises(UsageError, match="OME-Zarr"):
        write_label(mask, tmp_path / "m.zarr")
    with pytest.raises(SourceNotFoundError):
        read_label(store, "absent")


def test_two_writers_of_labels_don_t_meet(store):
    lock = FileLock(store / ".labels.lock", "labels")
    lock.acquire()
    try:
        with pytest.raises(StoreLockedError):
            write_label(TissueMask(np.ones((5, 7)), (700, 500)), store)
    finally:
        lock.release()
    assert not (store / "labels" / "tissue").exists()
