"""`read_region` against OpenSlide and against the truth of synthetic slides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import wsistore
from wsistore.errors import ResolutionError, UsageError
from wsistore.slides.slide import floor_div
from wsistore.testing import VARIANTS, SyntheticSlide

Pixels = NDArray[np.uint8]

REAL = [
    ("CMU-1-Small-Region.svs", 0),
    ("osp-small.svs", 0),
    ("real-33003-2x2tiles.svs", 1),
    ("real-33005-3x3tiles.svs", 0),
    ("real-jpegrgb-3x3tiles.svs", 0),
    ("panimg-no_dzi.tif", 0),  # with missing tiles
    ("wsipacker-example.tif", 0),
]
BARE = {"thumbnail": False, "label": False, "macro": False}
OPENED_BY_OPENSLIDE = [name for name, variant in VARIANTS.items() if variant.openslide]


def _by_openslide(
    slide: openslide.OpenSlide, location: tuple[int, int], level: int, size: tuple[int, int]
) -> Pixels:
    rgba = np.asarray(slide.read_region(location, level, size)).astype(np.int64)
    alpha = rgba[..., 3:]
    return np.rint((rgba[..., :3] * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)


def _difference(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    assert one.dtype == np.uint8
    return int(np.abs(one.astype(int) - other).max())


def _boxes(size: tuple[int, int], downsample: int, count: int) -> list[tuple[int, int, int, int]]:
    """Return boxes at multiples of the downsample: random ones, and across every edge."""
    random = np.random.default_rng(11)
    width, height = size
    found = [
        (int(x), int(y), int(w), int(h))
        for x, y, w, h in zip(
            random.integers(-300, width + 100, count),
            random.integers(-300, height + 100, count),
            random.integers(1, 400, count),
            random.integers(1, 400, count),
            strict=True,
        )
    ]
    found += [
        (-50, -60, 120, 130), (width - 50, -10, 120, 40), (-50, height - 40, 90, 90),
        (width - 20, height - 30, 100, 100), (-500, 10, 100, 100), (10, -500, 64, 64),
        (width, 0, 10, 10), (0, height, 10, 10), (width + 1000, height + 1000, 5, 5), (0, 0, 1, 1),
    ]  # fmt: skip
    return [
        (x // downsample * downsample, y // downsample * downsample, w, h) for x, y, w, h in found
    ]


@pytest.mark.parametrize("name", OPENED_BY_OPENSLIDE)
def test_levels_and_boxes_equal_openslides(
    name: str, slide_factory: Callable[..., SyntheticSlide]
) -> None:
    written = slide_factory(name, size=(560, 432), **BARE)
    peer = openslide.OpenSlide(written.path)
    tolerance = 1 if name.startswith("j2k_33003") else 0
    with wsistore.open_slide(written.path) as slide:
        assert [level.size for level in slide.levels] == list(peer.level_dimensions)
        for level, downsample in enumerate(written.levels):
            whole = slide.read_region((0, 0), level, slide.levels[level].size)
            expected = _by_openslide(peer, (0, 0), level, slide.levels[level].size)
            assert _difference(whole, expected) <= tolerance
            for x, y, w, h in _boxes(written.size, downsample, 5):
                got = slide.read_region((x, y), level, (w, h))
                assert _difference(got, _by_openslide(peer, (x, y), level, (w, h))) <= tolerance
    peer.close()


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in OPENED_BY_OPENSLIDE])
def test_what_openslide_does_not_open_has_its_true_pixels(
    name: str, slide_factory: Callable[..., SyntheticSlide]
) -> None:
    written = slide_factory(name, size=(560, 432), **BARE)
    with wsistore.open_slide(written.path) as slide:
        for level in range(slide.level_count):
            whole = slide.read_region((0, 0), level, slide.levels[level].size)
            assert _difference(whole, written.level_pixels(level)) <= written.variant.tolerance


@pytest.mark.parametrize("kind", ["generic", "ome-tiff"])
@pytest.mark.parametrize("tile", [240, 512])
def test_other_containers_and_tile_sizes_have_their_true_pixels(
    kind: str, tile: int, slide_factory: Callable[..., SyntheticSlide]
) -> None:
    written = slide_factory("jpeg_ycbcr420_tables", kind=kind, tile=tile)
    with wsistore.open_slide(written.path) as slide:
        assert slide.format == {"generic": "generic-tiff"}.get(kind, kind)
        for level in range(slide.level_count):
            whole = slide.read_region((0, 0), level, slide.levels[level].size)
            assert _difference(whole, written.level_pixels(level)) == 0


@pytest.mark.parametrize(("name", "tolerance"), REAL)
def test_real_slides_equal_openslides(name: str, tolerance: int, shared_data: Path) -> None:
    peer = openslide.OpenSlide(shared_data / name)
    with wsistore.open_slide(shared_data / name) as slide:
        assert slide.level_count == peer.level_count
        for level in range(slide.level_count):
            size = slide.levels[level].size
            expected = _by_openslide(peer, (0, 0), level, size)
            assert _difference(slide.read_region((0, 0), level, size), expected) <= tolerance
        for x, y, w, h in _boxes(slide.size, 1, 12):
            got = slide.read_region((x, y), 0, (w, h))
            assert _difference(got, _by_openslide(peer, (x, y), 0, (w, h))) <= tolerance
    peer.close()


@given(
    x=st.integers(-600, 1400),
    y=st.integers(-600, 1200),
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    level=st.integers(0, 1),
)
def test_any_region_is_a_window_of_the_whole_level(
    x: int,
    y: int,
    width: int,
    height: int,
    level: int,
    slide_factory: Callable[..., SyntheticSlide],
) -> None:
    written = slide_factory("jpeg_rgb_tables", size=(1003, 777))
    with wsistore.open_slide(written.path) as slide:
        got = slide.read_region((x, y), level, (width, height))
    truth = written.level_pixels(level)
    left, top = x // written.levels[level], y // written.levels[level]
    margin = 1300
    framed = np.full((truth.shape[0] + 2 * margin, truth.shape[1] + 2 * margin, 3), 255, np.uint8)
    framed[margin:-margin, margin:-margin] = truth
    window = framed[top + margin : top + margin + height, left + margin : left + margin + width]
    expected = np.full((height, width, 3), 255, np.uint8)
    expected[: window.shape[0], : window.shape[1]] = window
    assert np.array_equal(got, expected)


@given(position=st.integers(-(10**12), 10**12), downsample=st.integers(1, 64))
def test_whole_downsamples_are_divided_in_integers(position: int, downsample: int) -> None:
    assert floor_div(position, float(downsample)) == position // downsample


@pytest.mark.parametrize(
    ("position", "downsample", "px"), [(0, 2.5, 0), (4, 2.5, 1), (5, 2.5, 2), (-1, 2.5, -1)]
)
def test_other_downsamples_are_floored(position: int, downsample: float, px: int) -> None:
    assert floor_div(position, downsample) == px


@pytest.mark.parametrize(
    ("location", "level", "size", "error"),
    [
        ((0, 0), 2, (10, 10), ResolutionError),
        ((0, 0), -1, (10, 10), ResolutionError),
        ((0, 0), 0, (0, 10), UsageError),
        ((0, 0), 0, (10, -1), UsageError),
        ((0.5, 0), 0, (10, 10), UsageError),
        ((0,), 0, (10, 10), UsageError),
        (None, 0, (10, 10), UsageError),
        ((0, 0), 0, ("a", 10), UsageError),
        ((0, float("nan")), 0, (10, 10), UsageError),
    ],
)
def test_calls_that_make_no_sense(
    location: tuple[int, int],
    level: int,
    size: tuple[int, int],
    error: type[Exception],
    slide_factory: Callable[..., SyntheticSlide],
) -> None:
    with wsistore.open_slide(slide_factory().path) as slide, pytest.raises(error):
        slide.read_region(location, level, size)
