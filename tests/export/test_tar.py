"""Tar shards: what WebDataset expects, the same bytes each time, shards that are cut."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.export.patches import PatchEncoding
from wsistore.export.tar_reader import TarPatches
from wsistore.export.tar_shards import write_shards
from wsistore.geometry import Resolution
from wsistore.slides import Slide, open_slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec


@pytest.fixture(scope="module")
def source(slide_factory: Callable[..., Any]) -> tuple[Slide, TilePlan]:
    slide = open_slide(slide_factory("jpeg_rgb_tables", size=(400, 300)).path)
    return slide, plan_tiles(slide, TileSpec(64, 64, Resolution.level(0)))


def named(source: tuple[Slide, TilePlan], name: str) -> tuple[Slide, TilePlan]:
    slide, plan = source
    return slide, replace(plan, slide=replace(plan.slide, name=name))


def test_samples_are_pairs_of_one_key_without_dots(
    source: tuple[Slide, TilePlan], tmp_path: Path
) -> None:
    slides = [named(source, "a.b"), named(source, "a%2Eb"), named(source, "ü" * 60)]
    paths = write_shards(slides, tmp_path, shard_patches=10)
    members = []
    for path in paths:
        with tarfile.open(path) as tar:
            members += tar.getnames()
    total = 3 * len(source[1])
    assert len(members) == 2 * total
    keys = [name.split(".", 1) for name in members]  # as WebDataset does
    pairs = list(zip(keys[::2], keys[1::2], strict=True))
    assert all(image[0] == facts[0] for image, facts in pairs)
    assert {(image[1], facts[1]) for image, facts in pairs} == {("jpg", "json")}
    assert len({image[0] for image, _ in pairs}) == total
    with TarPatches(tmp_path) as store:
        assert store.slides == tuple(sorted(["a.b", "a%2Eb", "ü" * 60]))
        assert len(store) == total


def test_shards_hold_what_was_asked_and_are_the_same_each_time(
    source: tuple[Slide, TilePlan], tmp_path: Path
) -> None:
    one = write_shards([source], tmp_path / "one", shard_patches=7)
    two = write_shards([source], tmp_path / "two", shard_patches=7)
    assert [p.name for p in one] == [f"patches-{k:06d}.tar" for k in range(len(one))]
    assert len(one) == -(-len(source[1]) // 7)
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    told = json.loads((tmp_path / "one" / "patches.shards.json").read_text())
    assert [entry["patches"] for entry in told["shards"]][:-1] == [7] * (len(one) - 1)
    assert sum(entry["patches"] for entry in told["shards"]) == len(source[1])
    small = write_shards([source], tmp_path / "small", shard_bytes=1)
    assert len(small) == len(source[1])


def test_a_run_of_fewer_leaves_no_old_shards(
    source: tuple[Slide, TilePlan], tmp_path: Path
) -> None:
    write_shards([source], tmp_path, shard_patches=5)
    few = (source[0], source[1][:8])
    write_shards([few], tmp_path, shard_patches=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "patches-000000.tar",
        "patches-000001.tar",
        "patches.shards.json",
    ]
    with TarPatches(tmp_path) as store:
        assert len(store) == 8


def test_a_run_that_fails_leaves_no_index_and_no_torn_shard(
    source: tuple[Slide, TilePlan], tmp_path: Path
) -> None:
    def sources() -> Any:
        yield source
        raise StoreCorruptError("no more")

    with pytest.raises(StoreCorruptError, match="no more"):
        write_shards(sources(), tmp_path, shard_patches=5)
    assert all(path.suffix == ".tar" for path in tmp_path.iterdir())
    for path in tmp_path.iterdir():
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 10
    with pytest.raises(SourceNotFoundError):
        TarPatches(tmp_path)


def test_shards_that_were_cut_or_lost_are_seen(
    source: tuple[Slide, TilePlan], tmp_path: Path
) -> None:
    paths = write_shards([source], tmp_path, shard_patches=5)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreCorruptError):
        TarPatches(tmp_path)
    paths[1].unlink()
    with pytest.raises(StoreCorruptError, match="missing"):
        TarPatches(tmp_path)
    paths[1].write_bytes(whole)
    with TarPatches(tmp_path) as store:
        assert len(store) == len(source[1])


def test_arguments(source: tuple[Slide, TilePlan], tmp_path: Path) -> None:
    for wrong in (
        {"encoding": PatchEncoding("array")},
        {"prefix": "a.b"},
        {"shard_patches": 0},
    ):
        with pytest.raises(UsageError):
            write_shards([source], tmp_path, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="collide"):
        write_shards([source, source], tmp_path)
    write_shards([source], tmp_path, prefix="a")
    write_shards([source], tmp_path, prefix="b")
    with pytest.raises(UsageError, match="several sets"):
        TarPatches(tmp_path)
    with TarPatches(tmp_path, "b") as store:
        assert len(store) == len(source[1])
