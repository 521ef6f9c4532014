"""HDF5 of SlideProcessor, AtlasPatch, CLAM and TRIDENT, against schemas written by hand."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export import read_plan, sniff_format, write_plan
from wsistore.export.h5_files import write_h5
from wsistore.slides import Slide
from wsistore.tiles.batch import read_tiles
from wsistore.tiles.plan import TilePlan

h5py = pytest.importorskip("h5py")

MakePlan = Callable[..., TilePlan]

COMMON = {
    "patch_size": 128,
    "patch_size_level0": 256,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 32,
    "level0_width": 2300,
    "level0_height": 1700,
}


@pytest.fixture
def plan(make_plan: MakePlan) -> TilePlan:
    return make_plan(128, "20x", stride=96)


def attributes(item: Any) -> dict[str, Any]:
    return {name: value for name, value in item.attrs.items() if not name.startswith("wsistore")}


def is_like(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
        if isinstance(value, int):
            assert isinstance(found[name], np.integer), name


def test_slideprocessor_as_the_seed_describes_it(plan: TilePlan, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path / "patches" / "s.h5", "slideprocessor", write_batch=10)
    with h5py.File(path, "r") as file:
        assert set(file) == {"coords", "coords_ext", "wsistore"}
        coords, ext = file["coords"], file["coords_ext"]
        assert (coords.dtype, coords.shape) == (np.int32, (len(plan), 2))
        assert (ext.dtype, ext.shape) == (np.int32, (len(plan), 5))
        assert coords.maxshape == (None, 2)
        assert coords.chunks == (10, 2)
        assert np.array_equal(coords[:], plan.boxes[:, :2])
        assert np.array_equal(ext[:, :2], coords[:])
        assert (ext[:, 2:] == [256, 256, 0]).all()
        expected = {**COMMON, "wsi_path": plan.slide.path, "num_patches": len(plan)}
        is_like(attributes(file), {**expected, "feature_sets": "[]"})
        more = {"description": "(x, y) coordinates at level 0", "name": plan.slide.name}
        is_like(attributes(coords), {**COMMON, **more, "savetodir": str(path.parent)})
        assert list(ext.attrs) == ["description"]


def test_atlaspatch_as_it_is_today(plan: TilePlan, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path / "s.h5", "atlaspatch", extras=False)
    with h5py.File(path, "r") as file:
        assert set(file) == {"coords", "passports"}
        coords, passports = file["coords"], file["passports"]
        assert (coords.dtype, coords.shape) == (np.int32, (len(plan), 5))
        assert (passports.dtype, passports.shape) == (np.dtype("S160"), (len(plan),))
        assert np.array_equal(coords[:, :2], plan.boxes[:, :2])
        assert (coords[:, 2:] == [256, 256, 0]).all()
        stem, x, y = plan.slide.name, plan.x[0], plan.y[0]
        assert passports[0].decode() == (
            f"{stem}__x{x}_y{y}_rw256_rh256_lv0_mag40_tmag20_total{len(plan)}"
        )
        assert len(set(passports[:].tolist())) == len(plan)
        found = attributes(file)
        created = dt.datetime.fromisoformat(found.pop("creation_date"))
        assert created.utcoffset() == dt.timedelta(0)
        is_like(
            found,
            {
                **COMMON,
                "wsi_path": plan.slide.path,
                "passport_format": "{stem}__x{X}_y{Y}_rw{RW}_rh{RH}_lv{LV}_mag{MAG}_tmag{TMAG}"
                "_total{TOTAL}",
                "passport_version": 2,
                "filename": Path(plan.slide.path).name,
                "num_patches": len(plan),
                "mpp": 0.25,
                "magnification": 40,
            },
        )


def test_clam(make_plan: MakePlan, tmp_path: Path) -> None:
    plan = make_plan(64, "10x")
    path = write_plan(plan, tmp_path / "s.h5", "clam", extras=False)
    with h5py.File(path, "r") as file:
        assert set(file) == {"coords"}
        coords = file["coords"]
        assert coords.shape == (len(plan), 2)
        assert coords.dtype.kind == "i"
        is_like(
            attributes(coords),
            {
                "patch_size": 64,
                "patch_level": 1,
                "downsample": (4.0, 4.0),
                "downsampled_level_dim": (575, 425),
                "level_dim": (575, 425),
                "name": plan.slide.name,
                "save_path": str(tmp_path),
            },
        )


def test_trident(plan: TilePlan, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path / "s_patches.h5", "trident", extras=False)
    with h5py.File(path, "r") as file:
        assert set(file) == {"coords"}
        expected = {**COMMON, "name": plan.slide.name, "savetodir": str(tmp_path)}
        is_like(attributes(file["coords"]), expected)
        assert np.array_equal(file["coords"][:], plan.boxes[:, :2])


# Read as the tools read


def true_pixels(plan: TilePlan, slide: Slide) -> np.ndarray[Any, Any]:
    return read_tiles(plan.requests(slide), plan.size, plan.resolution, exact=True)


def resized(pixels: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


RESOLUTIONS = pytest.mark.parametrize(
    ("resolution", "level"), [("40x", 0), ("20x", 0), ("10x", 1), ("5x", 1), ("2.5x", 2)]
)


@RESOLUTIONS
@pytest.mark.parametrize("name", ["slideprocessor", "atlaspatch"])
def test_reading_each_row_gives_the_pixels_of_its_tile(
    name: str, resolution: str, level: int, make_plan: MakePlan, slide: Slide, tmp_path: Path
) -> None:
    plan = make_plan(32, resolution)
    path = write_plan(plan, tmp_path / "s.h5", name)
    with h5py.File(path, "r") as file:
        rows = file["coords_ext" if name == "slideprocessor" else "coords"][:]
    assert set(rows[:, 4]) == {level}
    for row, expected in zip(rows[::7], true_pixels(plan, slide)[::7], strict=True):
        x, y, width, height, at = row.tolist()
        found = slide.read_region((x, y), at, (width, height))
        assert np.abs(resized(found, 32).astype(int) - expected).max() <= 1


@RESOLUTIONS
def test_clam_reads_the_pixels_of_the_plan(
    resolution: str, level: int, make_plan: MakePlan, slide: Slide, tmp_path: Path
) -> None:
    plan = make_plan(32, resolution)
    path = write_plan(plan, tmp_path / "s.h5", "clam")
    with h5py.File(path, "r") as file:
        coords, told = file["coords"][:], dict(file["coords"].attrs)
    assert told["patch_level"] == level
    for coord, expected in zip(coords[::7], true_pixels(plan, slide)[::7], strict=True):
        side = int(told["patch_size"])
        found = slide.read_region(tuple(coord), int(told["patch_level"]), (side, side))
        assert np.abs(resized(found, 32).astype(int) - expected).max() <= 1


@RESOLUTIONS
def test_trident_reads_the_pixels_of_the_plan(
    resolution: str, level: int, make_plan: MakePlan, slide: Slide, tmp_path: Path
) -> None:
    plan = make_plan(32, resolution)
    path = write_plan(plan, tmp_path / "s.h5", "trident")
    with h5py.File(path, "r") as file:
        coords, told = file["coords"][:], dict(file["coords"].attrs)
    downsample = told["level0_magnification"] / told["target_magnification"]
    fitting = [item for item in slide.levels if item.downsample <= downsample * 1.01]
    best = fitting[-1]
    assert best.index == level
    side = round(told["patch_size"] * downsample / best.downsample)
    assert told["patch_size_level0"] == round(told["patch_size"] * downsample)
    for coord, expected in zip(coords[::7], true_pixels(plan, slide)[::7], strict=True):
        found = slide.read_region(tuple(coord), best.index, (side, side))
        assert np.abs(resized(found, 32).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("patch", "power"), [(256, 15.0), (256, 7.0), (100, 13.3)])
def test_read_size_and_size_at_level_0_agree_for_odd_powers(
    patch: int, power: float, make_plan: MakePlan, tmp_path: Path
) -> None:
    """40 -> 15 gave 683 px read and 682 in the attribute; 40 -> 7 gave 1463 and 1462."""
    plan = make_plan(patch, f"{power}x")
    path = write_plan(plan, tmp_path / "s.h5", "slideprocessor")
    with h5py.File(path, "r") as file:
        level0 = file.attrs["patch_size_level0"]
        width, level = file["coords_ext"][0, 2], file["coords_ext"][0, 4]
        assert file.attrs["target_magnification"] == pytest.approx(power)
    assert level0 == round(patch * 40 / power)
    assert width == round(level0 / (1, 4, 16)[level])


# Of other tools


def foreign(path: Path, coords: list[list[int]], on: str, **values: Any) -> Path:
    def fill(file: Any) -> None:
        dataset = file.create_dataset("coords", data=np.array(coords, np.int32))
        target = file if on == "file" else dataset
        for name, value in values.items():
            target.attrs[name] = value

    write_h5(path, fill)
    return path


ATTRIBUTES = {
    "patch_size": 128,
    "patch_size_level0": 256,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 0,
    "level0_width": 2300,
    "level0_height": 1700,
}


@pytest.mark.parametrize("give_slide", [True, False])
def test_a_file_of_trident_becomes_a_plan(give_slide: bool, slide: Slide, tmp_path: Path) -> None:
    path = foreign(
        tmp_path / "a_patches.h5", [[512, 0], [0, 0], [0, 512]], "coords", **ATTRIBUTES, name="a"
    )
    assert sniff_format(path).name == "trident"
    plan = read_plan(path, slide if give_slide else None)
    assert plan.boxes.tolist() == [[0, 0, 256, 256], [512, 0, 256, 256], [0, 512, 256, 256]]
    assert plan.extras["source_row"].tolist() == [1, 0, 2]
    assert plan.size == (128, 128)
    assert plan.geometry.downsample == 2
    assert plan.slide.name == (slide.name if give_slide else "a")
    assert (plan.slide.fingerprint == slide.fingerprint) is give_slide
    assert read_tiles(plan.requests(slide), plan.size, plan.resolution).shape == (3, 128, 128, 3)


def test_a_file_of_atlaspatch_becomes_a_plan(slide: Slide, tmp_path: Path) -> None:
    path = foreign(
        tmp_path / "a.h5", [[0, 0, 256, 256, 0], [256, 0, 256, 256, 0]], "file", **ATTRIBUTES
    )
    assert sniff_format(path).name == "atlaspatch"
    plan = read_plan(path, slide)
    assert plan.x.tolist() == [0, 256]
    assert plan.read_width.tolist() == [256, 256]
    assert "source_row" not in plan.extras


@pytest.mark.parametrize(("level", "down"), [(0, 1.0), (1, 4.0)])
def test_a_file_of_clam_becomes_a_plan(
    level: int, down: float, slide: Slide, tmp_path: Path
) -> None:
    size = slide.levels[level].size
    path = foreign(
        tmp_path / "a.h5", [[0, 0], [1024, 0]], "coords", patch_size=64, patch_level=level,
        downsample=(down, down), level_dim=tuple(size), downsampled_level_dim=tuple(size), name="a",
    )  # fmt: skip
    assert sniff_format(path).name == "clam"
    plan = read_plan(path, slide)
    assert plan.level.tolist() == [level, level]
    assert plan.size_level0 == (64 * down, 64 * down)
    pixels = read_tiles(plan.requests(slide), plan.size, plan.resolution)
    assert np.array_equal(pixels[1], slide.read_region((1024, 0), level, (64, 64)))
    assert read_plan(path).boxes.tolist() == plan.boxes.tolist()


def test_a_file_of_another_slide_is_refused(slide: Slide, tmp_path: Path) -> None:
    told = {**ATTRIBUTES, "level0_width": 9999}
    path = foreign(tmp_path / "a.h5", [[0, 0]], "coords", **told)
    with pytest.raises(UsageError, match="9999x1700"):
        read_plan(path, slide)


def test_coordinates_edited_with_h5py_are_told(plan: TilePlan, tmp_path: Path) -> None:
    path = write_plan(plan, tmp_path / "s.h5", "slideprocessor")
    with h5py.File(path, "a") as file:
        file["coords"].resize((len(plan) - 1, 2))
    with pytest.raises(StoreCorruptError, match="was changed"):
        read_plan(path)
    with h5py.File(path, "a") as file:
        file["coords"].resize((len(plan), 2))
        file["coords"][0] = (1, 1)
    with pytest.raises(StoreCorruptError, match="was changed"):
        read_plan(path)


def test_a_missing_attribute_is_named(tmp_path: Path) -> None:
    told = {name: value for name, value in ATTRIBUTES.items() if name != "target_magnification"}
    path = foreign(tmp_path / "a.h5", [[0, 0]], "coords", **told)
    with pytest.raises(UsageError, match="target_magnification"):
        read_plan(path)


# What does not fit


@pytest.mark.parametrize("name", ["slideprocessor", "atlaspatch", "clam", "trident"])
def test_tiles_that_are_not_square_are_refused(
    name: str, make_plan: MakePlan, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="square"):
        write_plan(make_plan((128, 64)), tmp_path / "s.h5", name)


@pytest.mark.parametrize("name", ["clam", "trident"])
def test_tiles_cut_at_the_edge_are_refused(name: str, slide: Slide, tmp_path: Path) -> None:
    from wsistore.tiles.planning import plan_tiles
    from wsistore.tiles.spec import TileSpec

    plan = plan_tiles(slide, TileSpec(128, None, "20x", edge="keep"))
    with pytest.raises(UsageError, match="cut at the edge"):
        write_plan(plan, tmp_path / "s.h5", name)
    path = write_plan(plan, tmp_path / "s.h5", "slideprocessor")
    assert read_plan(path, slide) == plan


def test_a_name_too_long_for_a_passport_is_told(plan: TilePlan, tmp_path: Path) -> None:
    from dataclasses import replace

    long = replace(plan, slide=replace(plan.slide, name="x" * 150))
    with pytest.raises(UsageError, match="160"):
        write_plan(long, tmp_path / "s.h5", "atlaspatch")


def test_a_slide_without_a_power_is_written_as_today_does(plan: TilePlan, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = replace(plan, slide=replace(plan.slide, magnification=None))
    with h5py.File(write_plan(bare, tmp_path / "a.h5", "atlaspatch"), "r") as file:
        assert file.attrs["level0_magnification"] == "None"
    with h5py.File(write_plan(bare, tmp_path / "s.h5", "slideprocessor"), "r") as file:
        assert "level0_magnification" not in file.attrs
        assert json.loads(file.attrs["feature_sets"]) == []
    with pytest.raises(UsageError, match="magnification"):
        write_plan(bare, tmp_path / "t.h5", "trident")
