"""Image files: names, replacing an earlier run, formats, a run that ends in the middle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError, WsistoreError
from wsistore.export.images import ImagePatches, image_name, write_images
from wsistore.geometry import Resolution
from wsistore.slides import open_slide
from wsistore.tiles.batch import read_tiles
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec


@pytest.fixture(scope="module")
def path(slide_factory: Callable[..., Any]) -> Path:
    return Path(slide_factory("jpeg_rgb_tables", size=(400, 300)).path)


def test_names_are_those_of_the_seed_and_any_program_reads_them(path: Path, tmp_path: Path) -> None:
    slide = open_slide(path)
    plan = plan_tiles(slide, TileSpec(100, 80, Resolution.level(0)))
    assert write_images(slide, plan, tmp_path) == len(plan)
    wanted = read_tiles(plan.requests(slide), plan.size, plan.resolution)
    own = tmp_path / slide.name
    names = {f"{slide.name}_x{x}_y{y}.png" for x, y in zip(plan.x, plan.y, strict=True)}
    assert {p.name for p in own.iterdir()} == names | {"plan.json"}
    for pixels, x, y in zip(wanted, plan.x.tolist(), plan.y.tolist(), strict=True):
        with Image.open(own / image_name(slide.name, x, y)) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(("kind", "magic"), [("jpeg", b"\xff\xd8"), ("webp", b"RIFF")])
def test_a_second_run_replaces_the_first(
    path: Path, tmp_path: Path, kind: Any, magic: bytes
) -> None:
    slide = open_slide(path)
    write_images(slide, plan_tiles(slide, TileSpec(100, 50, Resolution.level(0))), tmp_path)
    (tmp_path / slide.name / "mine.txt").write_text("stays")
    plan = plan_tiles(slide, TileSpec(100, 100, Resolution.level(0)))
    write_images(slide, plan, tmp_path, format=kind)
    files = sorted(p.name for p in (tmp_path / slide.name).iterdir())
    assert len(files) == len(plan) + 2
    assert "mine.txt" in files
    with ImagePatches(tmp_path) as store:
        assert len(store) == len(plan)
        assert all(bytes(p.data).startswith(magic) for p in store.of_set())
        assert store.plan(slide.name) == plan


def test_a_run_that_fails_is_not_taken_for_whole(path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.svs"
    bad.write_bytes(path.read_bytes())
    whole = open_slide(bad)
    plan = plan_tiles(whole, TileSpec(100, 100, Resolution.level(0)))
    whole.close()
    data = bytearray(bad.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 4000] = bytes(4000)
    bad.write_bytes(bytes(data))
    slide = open_slide(bad)
    out = tmp_path / "out"
    with pytest.raises(WsistoreError):
        write_images(slide, plan, out)
    with pytest.raises(SourceNotFoundError):
        ImagePatches(out)


def test_arguments_and_broken_stores(path: Path, tmp_path: Path) -> None:
    slide = open_slide(path)
    plan = plan_tiles(slide, TileSpec(100, 100, Resolution.level(0)))
    for wrong in ({"format": "tiff"}, {"quality": 3}, {"threads": 0}):
        with pytest.raises(UsageError):
            write_images(slide, plan, tmp_path / "no", **wrong)  # type: ignore[arg-type]
    texts = plan.with_columns(label=np.array(["a"] * len(plan)))
    with pytest.raises(UsageError, match="label"):
        write_images(slide, texts, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    write_images(slide, plan, tmp_path / "out")
    with ImagePatches(tmp_path / "out") as store:
        first = tmp_path / "out" / slide.name / image_name(slide.name, 0, 0)
        first.unlink()
        with pytest.raises(StoreCorruptError):
            store.patch(slide.name, 0)
    told = tmp_path / "out" / slide.name / "plan.json"
    content = json.loads(told.read_text())
    content["columns"]["x"][1] += 1
    told.write_text(json.dumps(content))
    with pytest.raises(StoreCorruptError, match="changed"):
        ImagePatches(tmp_path / "out")
