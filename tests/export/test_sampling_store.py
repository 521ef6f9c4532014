"""Patches in every store: N stored = N read, sets, keys, labels, symmetries, batches."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.export.images import write_all_images
from wsistore.export.lmdb_store import write_lmdb
from wsistore.export.patch_batches import PatchBatches
from wsistore.export.patch_labels import annotation_file, label_plan, load_slide_annotations
from wsistore.export.patch_store import PatchStore, open_patches, symmetries
from wsistore.export.patches import PatchEncoding
from wsistore.export.patches_hdf5 import write_all_h5
from wsistore.export.tar_shards import write_shards
from wsistore.geometry import Resolution
from wsistore.slides import Slide, open_slide
from wsistore.tiles.batch import read_tiles
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec

STEMS = ("a", "a_1", "a-1")
"""Names that contain each other and hold the separators of keys and file names."""
EXACT = PatchEncoding("png")
LABELS = {"Normal": 0, "tumour": 2}

Source = tuple[Slide, TilePlan]
Write = Callable[[list[Source], Path], object]

STORES: dict[str, Write] = {
    "lmdb": lambda sources, path: write_lmdb(sources, path, encoding=EXACT, label_map=LABELS),
    "lmdb-grid": lambda sources, path: write_lmdb(
        sources, path, encoding=EXACT, keys="grid", label_map=LABELS
    ),
    "lmdb-array": lambda sources, path: write_lmdb(
        sources, path, encoding=PatchEncoding("array"), label_map=LABELS
    ),
    "hdf5": lambda sources, path: write_all_h5(sources, path, label_map=LABELS),
    "hdf5-gzip": lambda sources, path: write_all_h5(
        sources, path, compression="gzip", label_map=LABELS
    ),
    "png": lambda sources, path: write_all_images(sources, path, label_map=LABELS),
    "webp": lambda sources, path: write_all_images(sources, path, format="webp", label_map=LABELS),
    "tar": lambda sources, path: write_shards(
        sources, path, encoding=EXACT, shard_patches=17, label_map=LABELS
    ),
}


@pytest.fixture(scope="module")
def folder(slide_factory: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = slide_factory("jpeg_rgb_tables", size=(420, 270), mpp="0.5", magnification="20")
    place = tmp_path_factory.mktemp("named")
    for stem in STEMS:
        (place / f"{stem}.svs").write_bytes(Path(made.path).read_bytes())
    return place


def sources_of(folder: Path, overlap: int, *, labels: bool = True) -> list[Source]:
    found = []
    for number, stem in enumerate(STEMS):
        slide = open_slide(folder / f"{stem}.svs")
        plan = plan_tiles(slide, TileSpec(64, 64 - overlap, Resolution.level(0)))
        if labels:
            plan = plan.with_columns(label=(np.arange(len(plan)) + number) % 3)
        found.append((slide, plan))
    return found


def pixels_of(slide: Slide, plan: TilePlan) -> np.ndarray:
    return read_tiles(plan.requests(slide), plan.size, plan.resolution)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("overlap", [0, 16])
def test_as_many_are_read_as_were_stored(
    kind: str, overlap: int, folder: Path, tmp_path: Path
) -> None:
    sources = sources_of(folder, overlap)
    STORES[kind](sources, tmp_path / "store")
    total = sum(len(plan) for _, plan in sources)
    with open_patches(tmp_path / "store") as store:
        assert store.slides == tuple(sorted(STEMS))
        assert len(store) == total
        assert len({patch.key for patch in store.of_set()}) == total
        assert dict(store.label_map) == LABELS
        for slide, plan in sources:
            wanted = pixels_of(slide, plan)
            got = list(store.of_slide(slide.name))
            assert len(got) == len(plan)
            np.testing.assert_array_equal(np.stack([p.pixels for p in got]), wanted)
            assert [(p.x, p.y) for p in got] == list(
                zip(plan.x.tolist(), plan.y.tolist(), strict=True)
            )
            assert [(p.column, p.row) for p in got] == list(
                zip(plan.column.tolist(), plan.row.tolist(), strict=True)
            )
            assert [p.label for p in got] == plan.extras["label"].tolist()
            last = got[-1]
            assert store.by_key(last.key).label == last.label
            assert store.by_key(last.key).slide == slide.name


@pytest.mark.parametrize("kind", STORES)
def test_without_labels_all_are_minus_one(kind: str, folder: Path, tmp_path: Path) -> None:
    sources = sources_of(folder, 0, labels=False)[:1]
    STORES[kind](sources, tmp_path / "store")
    with open_patches(tmp_path / "store") as store:
        assert {patch.label for patch in store.of_set()} == {-1}
        assert (store.table("a").x == sources[0][1].x).all()


@pytest.mark.parametrize("kind", ["lmdb", "hdf5", "png", "tar"])
def test_stores_travel_to_workers_and_end(kind: str, folder: Path, tmp_path: Path) -> None:
    STORES[kind](sources_of(folder, 0)[:1], tmp_path / "store")
    with open_patches(tmp_path / "store") as store:
        again: PatchStore = pickle.loads(pickle.dumps(store))
        np.testing.assert_array_equal(again.patch("a", 3).pixels, store.patch("a", 3).pixels)
        again.close()
        assert store.patch("a", 3).index == 3
        for wrong in (-1, len(store.table("a"))):
            with pytest.raises(UsageError, match="patches 0 to"):
                store.patch("a", wrong)
        with pytest.raises(UsageError, match="no slide"):
            store.patch("b", 0)
        with pytest.raises(UsageError, match="no patch"):
            store.by_key("a_x1_y1")


def test_sets_deal_out_the_slides(folder: Path, tmp_path: Path) -> None:
    STORES["lmdb"](sources_of(folder, 0), tmp_path / "store")
    with open_patches(tmp_path / "store") as store:
        parts = [store.slides_of_set(number, 2) for number in range(2)]
        assert parts == [("a", "a_1"), ("a-1",)]
        assert {p.slide for p in store.of_set(1, 2)} == {"a-1"}
        assert store.slides_of_set(select=[0, 1, 1]) == ("a-1", "a_1")
        for wrong in ((2, 2), (-1, 2), (0, 0)):
            with pytest.raises(UsageError, match="set_id"):
                store.slides_of_set(*wrong)
        with pytest.raises(UsageError, match="flag"):
            store.slides_of_set(select=[1])


def test_there_are_eight_symmetries_and_they_are_views() -> None:
    patch = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    found = list(symmetries(patch))
    assert len({image.tobytes() for image in found}) == 8
    assert all(np.shares_memory(image, patch) for image in found)
    np.testing.assert_array_equal(found[0], patch)
    # The set is closed: each symmetry of each of them is among them.
    known = {image.tobytes() for image in found}
    assert {again.tobytes() for image in found for again in symmetries(image)} == known


def test_batches_count_epochs_and_come_in_the_seeds_order(folder: Path, tmp_path: Path) -> None:
    STORES["png"](sources_of(folder, 0), tmp_path / "store")
    with open_patches(tmp_path / "store") as store:
        total = len(store)
        one, two = PatchBatches(store, seed=3), PatchBatches(store, seed=3)
        first = one.next_batch(total)
        assert (one.epochs_completed, two.epochs_completed) == (1, 0)
        assert sorted(first.keys) == sorted(p.key for p in store.of_set())
        assert first.keys == two.next_batch(10).keys + two.next_batch(total - 10).keys
        assert first.keys != one.next_batch(total).keys
        assert first.keys != PatchBatches(store, seed=4).next_batch(total).keys
        plain = PatchBatches(store, shuffle=False)
        assert plain.next_batch(total).keys == tuple(p.key for p in store.of_set())
        beyond = PatchBatches(store, shuffle=False)
        batch = beyond.next_batch(2 * total + 1)
        assert beyond.epochs_completed == 2
        assert batch.images.shape == (2 * total + 1, 64, 64, 3)
        assert batch.keys[0] == batch.keys[-1]
        assert batch.one_hot(3).sum() == 2 * total + 1


def test_batches_with_symmetries_hold_eight_of_each(folder: Path, tmp_path: Path) -> None:
    STORES["lmdb"](sources_of(folder, 0)[:1], tmp_path / "store")
    with open_patches(tmp_path / "store") as store:
        walk = PatchBatches(store, augment=True)
        assert len(walk) == 8 * len(store)
        batch = walk.next_batch(len(walk))
        for patch in store.of_set():
            at = [i for i, key in enumerate(batch.keys) if key == patch.key]
            found = {batch.images[i].tobytes() for i in at}
            assert found == {np.ascontiguousarray(s).tobytes() for s in symmetries(patch.pixels)}
            assert {int(batch.labels[i]) for i in at} == {patch.label}


def test_batches_go_on_where_they_stopped_and_leave_sets_out(folder: Path, tmp_path: Path) -> None:
    STORES["png"](sources_of(folder, 0), tmp_path / "store")
    with open_patches(tmp_path / "store") as store:
        walk = PatchBatches(store, total_sets=3, exclude=[1])
        assert walk.slides == ("a", "a_1")
        walk.next_batch(len(walk) + 5)
        state = walk.state()
        rest = walk.next_batch(7).keys
        again = PatchBatches(store, total_sets=3, exclude=[1])
        again.restore(state)
        assert again.next_batch(7).keys == rest
        with pytest.raises(UsageError, match="no patch"):
            PatchBatches(store, select=[0, 0, 0])
        with pytest.raises(UsageError, match="at least one row"):
            walk.next_batch(0)


XML = """<Annotations><Annotation><Attributes/><Regions>
<Region Text="tumour"><Vertices>
<Vertex X="0" Y="0"/><Vertex X="200" Y="0"/><Vertex X="200" Y="200"/><Vertex X="0" Y="200"/>
</Vertices></Region>
<Region Text="necrosis"><Vertices>
<Vertex X="300" Y="0"/><Vertex X="400" Y="0"/><Vertex X="400" Y="100"/><Vertex X="300" Y="100"/>
</Vertices></Region>
</Regions></Annotation></Annotations>"""


@pytest.mark.parametrize(("rule", "tumour"), [("top-left", 16), ("center", 9), ("coverage", 9)])
def test_labels_come_from_annotations(rule: Any, tumour: int, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML)
    annotations = load_slide_annotations(tmp_path, "a")
    assert annotations is not None
    assert load_slide_annotations(tmp_path, "a_1") is None
    plan = sources_of(folder, 0, labels=False)[0][1]
    labelled = label_plan(plan, annotations, LABELS, rule=rule, several=True)
    names = labelled.extras["label_name"]
    codes = labelled.extras["label"]
    assert (names == "tumour").sum() == tumour
    assert (codes == 2).sum() == tumour
    assert set(codes[names == "necrosis"].tolist()) == {-1}  # the map does not name it
    assert set(codes[names == "Normal"].tolist()) == {0}
    np.testing.assert_array_equal(labelled.extras["is_tumour"], names == "tumour")


def test_one_file_of_annotations_a_slide(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(XML)
    (tmp_path / "a-1.xml").write_text(XML)
    assert annotation_file(tmp_path, "a") == tmp_path / "a.xml"
    (tmp_path / "a.geojson").write_text("{}")
    with pytest.raises(UsageError, match="several"):
        annotation_file(tmp_path, "a")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        open_patches(tmp_path / "none")
    with pytest.raises(UsageError, match="no store of patches"):
        open_patches(tmp_path)
