"""Runs from bucket to bucket: plans, masks, pictures and exports as those on a disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import wsistore
from wsistore.engine.exporting import export_store
from wsistore.engine.outlets import open_outlet
from wsistore.engine.planning import PlanningOptions, plan_slides, run_folder
from wsistore.engine.processing import ProcessOptions, process_slides
from wsistore.errors import StoreExistsError, StoreMismatchError, StoreWriteError, UsageError
from wsistore.export import read_plan, read_plans, write_plan
from wsistore.export.features_hdf5 import feature_facts
from wsistore.sources import open_place
from wsistore.sources.copies import local_copy, upload
from wsistore.testing import write_slide
from wsistore.tiles import TileSpec
from wsistore.tissue import load_mask, save_mask, segment_slide

SPEC = TileSpec(64, 64, "20x")


@pytest.fixture
def slides(slide_factory: Callable[..., Any], bucket: str, tmp_path: Path) -> dict[str, list[str]]:
    """Return the same two slides on a disk and in a bucket."""
    found: dict[str, list[str]] = {"near": [], "far": []}
    place = open_place(f"{bucket}/slides")
    for name, size in (("one", (400, 300)), ("two", (320, 260))):
        made = slide_factory("jpeg_rgb_tables", size=size, mpp="0.5", magnification="20")
        data = Path(made.path).read_bytes()
        (tmp_path / f"{name}.svs").write_bytes(data)
        place.put(f"{name}.svs", data)
        found["near"].append(str(tmp_path / f"{name}.svs"))
        found["far"].append(f"{bucket}/slides/{name}.svs")
    return found


def keys(url: str) -> list[str]:
    return sorted(found.key for found in open_place(url).list_tree())


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def options(**more: Any) -> PlanningOptions:
    return PlanningOptions(**{"spec": SPEC, "method": "otsu", "workers": 2, **more})


def test_a_run_in_a_bucket_has_the_files_of_one_on_a_disk(
    slides: dict[str, list[str]], bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(staging))
    wanted = options(pictures=("grids", "mask", "contours"), save_images=True)
    near = plan_slides(slides["near"], tmp_path / "out", wanted)
    far = plan_slides(slides["far"], f"{bucket}/out/", wanted)
    assert [r.tiles for r in far.results] == [r.tiles for r in near.results]
    assert keys(f"{bucket}/out") == files(tmp_path / "out")
    for key in keys(f"{bucket}/out"):
        if key.endswith(".png") and "/" in key:
            assert open_place(f"{bucket}/out").get(key) == (tmp_path / "out" / key).read_bytes()
    assert far.folder == f"{bucket}/out"
    assert f"{bucket}/out/patches/one.h5" in far.results[0].files
    assert far.sheets == (f"{bucket}/out/contact_sheet.png",)
    mine, theirs = (
        read_plan(f"{place}/patches/one.h5") for place in (tmp_path / "out", far.folder)
    )
    np.testing.assert_array_equal(mine.x, theirs.x)
    assert [plan.slide.name for plan in read_plans(f"{far.folder}/patches")] == ["one", "two"]
    assert list(staging.iterdir()) == []


def test_what_is_finished_is_left_alone_and_what_is_missing_is_made(
    slides: dict[str, list[str]], bucket: str
) -> None:
    run = f"{bucket}/out"
    plan_slides(slides["far"], run, options(pictures=("grids",)))
    before = {found.key: found.etag for found in open_place(run).list_tree()}
    place = open_place(run)
    place.put("mark", b"")
    again = plan_slides(slides["far"], run, options(pictures=("grids",)))
    assert [result.status for result in again.results] == ["skipped", "skipped"]
    assert again.results[0].tiles
    after = {found.key: found.etag for found in place.list_tree()}
    assert {key: after[key] for key in before if "sheet" not in key} == {
        key: etag for key, etag in before.items() if "sheet" not in key
    }
    place.delete(["visualization/two.png"])
    mended = plan_slides(slides["far"], run, options(pictures=("grids",)))
    assert [result.status for result in mended.results] == ["skipped", "done"]
    assert place.get("visualization/two.png")
    other = plan_slides(slides["far"], run, options(spec=TileSpec(32, 32, "20x")))
    assert other.exit_code == 1
    assert isinstance(other.results[0].error, StoreMismatchError)
    assert f"{run}/patches/one.h5" in other.results[0].error.message


def test_a_slide_that_changed_between_runs_is_told(
    slides: dict[str, list[str]], bucket: str
) -> None:
    place = open_place(f"{bucket}/slides")
    plan_slides(slides["far"], f"{bucket}/out", options())
    two = place.get("two.svs")
    assert two is not None
    place.put("one.svs", two)
    again = plan_slides(slides["far"], f"{bucket}/out", options())
    assert [result.status for result in again.results] == ["failed", "skipped"]
    assert "fingerprint" in str(again.results[0].error)
    assert again.results[0].path == f"{bucket}/slides/one.svs"


def test_another_state_of_an_object_between_runs_is_told(
    slides: dict[str, list[str]], bucket: str, tmp_path: Path
) -> None:
    made = write_slide(tmp_path / "a.svs", "none", size=(1500, 1200), tile=64, mpp="0.5")
    data = bytearray(Path(made.path).read_bytes())
    place, url = open_place(f"{bucket}/slides"), f"{bucket}/slides/a.svs"
    place.put("a.svs", bytes(data))
    wanted = options(contact_sheet=False)
    plan_slides([url], f"{bucket}/out", wanted)
    # What was made from the object counts for its copy on a disk.
    copied = plan_slides([str(made.path)], f"{bucket}/out", wanted)
    assert copied.results[0].status == "skipped"
    data[len(data) // 2] ^= 1
    place.put("a.svs", bytes(data))
    again = plan_slides([url], f"{bucket}/out", wanted)
    assert again.results[0].status == "failed"
    assert "slide.state" in str(again.results[0].error)
    forced = plan_slides([url], f"{bucket}/out", options(contact_sheet=False, force=True))
    assert forced.results[0].status == "done"


def test_tissue_alone(slides: dict[str, list[str]], bucket: str, tmp_path: Path) -> None:
    wanted = options(spec=None, pictures=("mask", "contours"))
    plan_slides(slides["near"], tmp_path / "out", wanted)
    report = plan_slides(slides["far"], f"{bucket}/out", wanted)
    assert report.exit_code == 0
    assert keys(f"{bucket}/out") == files(tmp_path / "out")
    near = load_mask(tmp_path / "out" / "masks" / "one.png")
    far = load_mask(f"{bucket}/out/masks/one.png")
    np.testing.assert_array_equal(far.pixels, near.pixels)


@pytest.mark.parametrize("name", ["m.png", "m.zarr"])
def test_masks_at_urls(slides: dict[str, list[str]], bucket: str, name: str) -> None:
    with wsistore.open_slide(slides["far"][0]) as slide:
        mask = segment_slide(slide, "otsu")
    url = f"{bucket}/masks/{name}"
    save_mask(mask, url)
    assert load_mask(url).fingerprint == mask.fingerprint
    with pytest.raises(StoreExistsError):
        save_mask(mask, url)
    save_mask(mask, url, overwrite=True)


@pytest.mark.parametrize("name", ["p.csv", "p.json", "p.geojson", "p.h5", "parquet"])
def test_plans_at_urls(slides: dict[str, list[str]], bucket: str, name: str) -> None:
    with wsistore.open_slide(slides["far"][0]) as slide:
        plan = wsistore.plan_tiles(slide, SPEC)
    url = f"{bucket}/plans/{name}"
    kind = "parquet" if name == "parquet" else None
    assert write_plan(plan, url, kind) == url
    assert [found.plan_id for found in read_plans(url)] == [plan.plan_id]
    if kind is None:
        assert read_plan(url).plan_id == plan.plan_id
        assert [found.plan_id for found in read_plans(f"{bucket}/plans/")] == [plan.plan_id]


def test_errors_name_the_object_and_not_its_copy(bucket: str) -> None:
    open_place(bucket).put("broken.h5", b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(wsistore.WsistoreError, match=f"{bucket}/broken.h5"):
        read_plan(f"{bucket}/broken.h5")


def process(slides: list[str], run: object, **more: Any) -> Any:
    told = ProcessOptions(
        options(contact_sheet=False), ("colour-stats",), **{"embedding": {"unit_tiles": 8}, **more}
    )
    return process_slides(slides, str(run), told)


@pytest.mark.slow
def test_process_from_bucket_to_bucket(
    slides: dict[str, list[str]], bucket: str, tmp_path: Path
) -> None:
    formats = ("parquet", "trident", "images", "hdf5-tiles")
    near = process(slides["near"], tmp_path / "out", exports=formats)
    run = str(run_folder(f"{bucket}/out", SPEC))
    far = process(slides["far"], run, exports=formats)
    assert far.exit_code == near.exit_code == 0
    assert [slide.status for slide in far.slides] == ["done", "done"]
    assert far.folder == run == f"{bucket}/out/20x_64px_0px_overlap"
    ours = [key for key in keys(run) if not key.startswith("features.zarr")]
    assert ours == [key for key in files(tmp_path / "out") if not key.startswith("features.zarr")]
    cohort = wsistore.open_features(far.store)
    for name, bag in wsistore.open_features(near.store).items():
        assert cohort[name].equals(bag)
        with (
            local_copy(f"{run}/patches/{name}.h5") as copy,
            h5py.File(copy) as file,
        ):
            np.testing.assert_array_equal(file["features/colour-stats"][:], bag["colour-stats"])
    again = process(slides["far"], run, exports=formats)
    assert [slide.status for slide in again.slides] == ["skipped", "skipped"]
    assert again.embedding.counters.tiles == 0


def test_features_that_a_file_lacks_are_written_into_it(
    slides: dict[str, list[str]], bucket: str, tmp_path: Path
) -> None:
    run = f"{bucket}/out"
    process(slides["far"], run)
    plan_only = tmp_path / "plan"
    plan_slides(slides["far"], f"{bucket}/other", options(contact_sheet=False))
    data = open_place(f"{bucket}/other").get("patches/one.h5")
    assert data is not None
    open_place(run).put("patches/one.h5", data)
    again = process(slides["far"], run)
    assert [slide.status for slide in again.slides] == ["done", "skipped"]
    assert again.embedding.counters.tiles == 0
    with local_copy(f"{run}/patches/one.h5") as copy:
        assert set(feature_facts(copy)) == {"colour-stats"}
    assert not plan_only.exists()


def test_what_is_built_as_a_whole_is_refused(slides: dict[str, list[str]], bucket: str) -> None:
    for kind in ("lmdb", "tar"):
        with pytest.raises(UsageError, match="as a whole"):
            process(slides["far"], f"{bucket}/out", exports=(kind,))
    assert not any(key.startswith("out") for key in keys(bucket))
    store = str(process(slides["far"], f"{bucket}/out").store)
    with pytest.raises(UsageError, match="as a whole"):
        export_store(store, "lmdb", f"{bucket}/lmdb")
    report = export_store(store, "parquet", f"{bucket}/tables", slides=["one"])
    assert report.exit_code == 0
    assert report.files["one"] == (f"{bucket}/tables/one.parquet",)
    assert "tables/one.parquet" in keys(bucket)


def test_the_temporary_folder_ends_with_its_block(bucket: str, tmp_path: Path) -> None:
    with open_outlet(f"{bucket}/x") as outlet:
        (outlet.folder / "a").mkdir()
        (outlet.folder / "a" / "b").write_bytes(b"1" * (9 << 20))
        assert outlet.ship([outlet.folder / "a"]) == (f"{bucket}/x/a",)
        assert not (outlet.folder / "a").exists()
    assert not outlet.folder.exists()
    assert [(f.key, f.size) for f in open_place(bucket).list_tree()] == [("x/a/b", 9 << 20)]


def test_what_says_that_a_slide_is_finished_comes_last(
    slides: dict[str, list[str]], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, wanted = f"{bucket}/out", options(pictures=("grids", "mask"))

    def fails(path: Path, place: Any, key: str) -> None:
        if key == "visualization/one_mask.png":
            raise StoreWriteError("the connection broke")
        upload(path, place, key)

    with monkeypatch.context() as patch:
        patch.setattr("wsistore.engine.outlets.upload", fails)
        report = plan_slides(slides["far"], run, wanted)
    assert [result.status for result in report.results] == ["failed", "done"]
    assert "patches/one.h5" not in keys(run)
    assert {"patches/two.h5", "visualization/one.png"} <= set(keys(run))
    again = plan_slides(slides["far"], run, wanted)
    assert [result.status for result in again.results] == ["done", "skipped"]
    assert {"patches/one.h5", "visualization/one_mask.png"} <= set(keys(run))


def test_the_signature_of_a_url_is_nowhere_to_be_seen(
    slides: dict[str, list[str]], bucket: str, tmp_path: Path, s3_server: str
) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    signed = client.generate_presigned_url(
        "get_object", {"Bucket": bucket.removeprefix("s3://"), "Key": "slides/one.svs"}
    )
    client.close()
    assert "canary-key-id" in signed
    report = process([signed], tmp_path / "out")
    assert report.exit_code == 0
    assert report.slides[0].path == signed.partition("?")[0]
    assert "canary-key" not in repr(report)
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"canary-key" not in path.read_bytes()
    (slide,) = wsistore.list_features(report.store)
    assert slide.path == signed.partition("?")[0]
