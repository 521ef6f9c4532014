"""Slides through OpenSlide."""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import openslide
import pytest

import wsistore
from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    DependencyError,
    UnsupportedSlideError,
    UsageError,
)
from wsistore.slides import openslide as room
from wsistore.slides.openslide import OPENSLIDE, OpenSlideContainer, errors_of
from wsistore.testing import SyntheticSlide

Make = Callable[..., SyntheticSlide]


@pytest.fixture
def path(slide_factory: Make) -> Path:
    return slide_factory("jpeg_rgb_tables", icc_profile=b"x" * 200).path


def test_it_tells_what_openslide_tells(path: Path) -> None:
    with wsistore.open_slide(path, format="openslide") as slide:
        assert slide.format == "openslide:aperio"
        assert slide.mpp == (0.499, 0.499)
        assert slide.mpp.origin == "openslide.mpp-x"
        assert slide.magnification == 20
        assert slide.properties["aperio.AppMag"] == "20"
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]
        assert set(slide.associated) == {"thumbnail", "label", "macro"}
        with wsistore.open_slide(path) as own:
            assert np.array_equal(slide.associated["label"], own.associated["label"])
            x = slide.read((100, 100, 400, 300), "1.5mpp")
            assert np.array_equal(x, own.read((100, 100, 400, 300), "1.5mpp"))


def test_large_regions_are_read_in_strips(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wsistore.open_slide(path, format="openslide") as slide:
        whole = slide.read_region((0, 0), 0, slide.size)
        monkeypatch.setattr(room, "STRIP_PIXELS", 7 * slide.size.width)
        assert np.array_equal(slide.read_region((0, 0), 0, slide.size), whole)


def test_missing_tiles_are_white(slide_factory: Make) -> None:
    path = slide_factory("jpeg_rgb_tables", missing=[(0, 1, 1)]).path
    with wsistore.open_slide(path, format="openslide") as slide:
        assert np.unique(slide.read_region((256, 256), 0, (256, 256))).tolist() == [255]


def test_the_fingerprint_follows_the_content(
    path: Path, tmp_path: Path, slide_factory: Make
) -> None:
    copy = tmp_path / "other name.svs"
    copy.write_bytes(path.read_bytes())
    prints = []
    for place in (path, copy, slide_factory("jpeg_rgb_tables", seed=3).path):
        with wsistore.open_slide(place, format="openslide") as slide:
            prints.append(slide.fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert prints[0].startswith("os1-")


def test_without_a_quickhash_samples_stand_for_the_file(path: Path, tmp_path: Path) -> None:
    containers = [OpenSlideContainer(str(path)), OpenSlideContainer(str(path))]
    for container in containers:
        container.properties = MappingProxyType({})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    changed = tmp_path / "changed.svs"
    changed.write_bytes(bytes(data))
    containers[1]._path = str(changed)
    assert containers[0].fingerprint() != containers[1].fingerprint()
    containers[1]._path = str(path)
    assert containers[0].fingerprint() == containers[1].fingerprint()


@pytest.mark.parametrize(
    ("properties", "mpp", "notes"),
    [
        ({}, None, 0),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"}, (0.25, 0.26), 0),
        ({"openslide.mpp-x": "0.25"}, (0.25, 0.25), 0),
        ({"openslide.mpp-x": "wide", "openslide.mpp-y": "1"}, None, 1),
        ({"openslide.mpp-x": "0", "openslide.mpp-y": "0"}, None, 1),
    ],
)
def test_pixel_sizes(properties: dict[str, str], mpp: Any, notes: int, path: Path) -> None:
    container = OpenSlideContainer(str(path))
    container.properties = MappingProxyType(properties)
    found: list[str] = []
    assert container._mpp(found) == mpp
    assert len(found) == notes


def test_a_damaged_tile_costs_that_read_alone(slide_factory: Make, tmp_path: Path) -> None:
    written = slide_factory("jpeg_rgb_tables")
    where = written.written[0]
    data = bytearray(written.path.read_bytes())
    start = int(where.offsets[0, 0])
    data[start : start + int(where.counts[0, 0])] = bytes(int(where.counts[0, 0]))
    damaged = tmp_path / "damaged.svs"
    damaged.write_bytes(bytes(data))
    with wsistore.open_slide(damaged, format="openslide") as slide:
        with pytest.raises(DamagedTileError, match=r"level 0, \(0, 0, 64, 64\)"):
            slide.read_region((0, 0), 0, (64, 64))
        good = slide.read_region((600, 300), 0, (64, 64))  # a handle in error says no for ever
        assert np.array_equal(good, written.level_pixels(0)[300:364, 600:664])
        painted = slide.read_region((0, 0), 0, (64, 64), on_bad_tile="fill")
        assert np.unique(painted).tolist() == [255]
        (bad,) = slide.bad_tiles
        assert (bad.level, bad.column, bad.row) == (0, -1, -1)


def test_a_fork_gets_a_handle_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wsistore.open_slide(path, format="openslide") as slide:
        slide.read_region((0, 0), 0, (8, 8))
        container = slide._container
        mine = container._current
        monkeypatch.setattr(os, "getpid", lambda: -1)
        slide.read_region((0, 0), 0, (8, 8))
        assert container._current[1] is not mine[1]
        assert mine[1] in room._inherited  # neither closed nor collected in the child
        room._inherited.remove(mine[1])


def test_threads_read_the_same(path: Path) -> None:
    with wsistore.open_slide(path, format="openslide") as slide:
        expected = slide.read_region((0, 0), 0, (500, 500))
        with ThreadPoolExecutor(4) as pool:
            for got in pool.map(lambda _: slide.read_region((0, 0), 0, (500, 500)), range(12)):
                assert np.array_equal(got, expected)


def test_what_it_does_not_know_and_where_it_is_not_asked(path: Path) -> None:
    with pytest.raises(UnsupportedSlideError, match="does not know"):
        wsistore.open_slide(__file__, format="openslide")
    assert OPENSLIDE.probe(str(path), b"", False)
    assert not OPENSLIDE.probe(__file__, b"", False)
    assert not OPENSLIDE.probe(str(path.parent), b"", True)
    assert not OPENSLIDE.probe("s3://bucket/slide.ndpi", b"", False)
    with pytest.raises(UnsupportedSlideError, match="local files alone"):
        OPENSLIDE.open("s3://bucket/slide.ndpi")


def test_a_slide_that_it_refuses(shared_data: Path) -> None:
    with wsistore.open_slide(shared_data / "osp-unreadable.svs", format="openslide") as slide:
        with pytest.raises(DamagedTileError, match="OpenSlide can't read it"):
            slide.read_region((0, 0), 0, (16, 16))
        with pytest.raises(DamagedTileError):
            slide.associated["thumbnail"]


def test_closed_is_closed(path: Path) -> None:
    container = OpenSlideContainer(str(path))
    container.close()
    with pytest.raises(UsageError):
        container._handle()


EXCEPTIONS = [
    item
    for module in (openslide, openslide.lowlevel)
    for item in vars(module).values()
    if inspect.isclass(item) and issubclass(item, Exception)
]


@pytest.mark.parametrize(
    "error", [*dict.fromkeys(EXCEPTIONS), OSError, MemoryError, ValueError, ctypes.ArgumentError]
)
def test_every_exception_of_openslide_is_mapped(
    error: type[Exception], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert issubclass(error, errors_of(openslide))

    def fail(*args: object) -> None:
        raise error("made up")

    with wsistore.open_slide(path, format="openslide") as slide:
        monkeypatch.setattr(openslide.OpenSlide, "read_region", fail)
        with pytest.raises(DamagedTileError, match="made up"):
            slide.read_region((0, 0), 0, (8, 8))
    monkeypatch.setattr(openslide.OpenSlide, "__init__", fail)
    with pytest.raises((CorruptSlideError, UnsupportedSlideError)):
        wsistore.open_slide(path, format="openslide")


def test_a_library_that_can_not_be_loaded_names_the_extra(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    for load in (room._library, lambda: wsistore.open_slide(path, format="openslide")):
        with pytest.raises(DependencyError) as caught:
            load()
        assert "pip install 'wsistore[openslide]'" in caught.value.hint


def test_an_icc_profile_comes_as_it_lies_in_the_file(path: Path, slide_factory: Make) -> None:
    with wsistore.open_slide(path, format="openslide") as slide:
        assert slide.icc_profile == b"x" * 200
    with wsistore.open_slide(slide_factory().path, format="openslide") as slide:
        assert slide.icc_profile is None
