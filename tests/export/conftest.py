"""Plans to write: of real (synthetic) slides, and of any values at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide, open_slide
from wsistore.testing import SyntheticSlide
from wsistore.tiles.lattice import TileGeometry
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.provenance import Rule, SlideFacts
from wsistore.tiles.spec import TileSpec
from wsistore.tissue import TissueMask, find_contours


@pytest.fixture(scope="session")
def written(aperio: Callable[..., SyntheticSlide]) -> SyntheticSlide:
    """A slide of 40x with levels 1, 4 and 16."""
    return aperio(size=(2300, 1700), levels=(1, 4, 16), magnification="40", mpp="0.25")


@pytest.fixture
def slide(written: SyntheticSlide) -> Iterator[Slide]:
    with open_slide(written.path) as opened:
        yield opened


@pytest.fixture
def mask(slide: Slide) -> TissueMask:
    """Two pieces, one with a hole."""
    pixels = np.zeros((34, 46), np.bool_)
    pixels[4:22, 3:20] = True
    pixels[10:15, 8:13] = False
    pixels[14:30, 26:42] = True
    return TissueMask(pixels, slide.size, method="drawn")


@pytest.fixture
def make_plan(slide: Slide, mask: TissueMask) -> Callable[..., TilePlan]:
    """``make_plan(size, resolution, **spec)``: tiles of both pieces."""

    def make(size: Any = 128, resolution: str = "20x", **spec: Any) -> TilePlan:
        return plan_tiles(
            slide,
            TileSpec(size, spec.pop("stride", None), resolution, **spec),
            mask,
            contours=find_contours(mask),
        )

    return make


def _floats(width: int) -> st.SearchStrategy[float]:
    return st.floats(width=width, allow_nan=True, allow_infinity=True)


_TEXTS = st.text(max_size=6).filter(lambda text: "\0" not in text)
_KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "label": (np.str_, _TEXTS),
    "score": (np.float64, _floats(64)),
    "focus": (np.float32, _floats(32)),
    "chosen": (np.bool_, st.booleans()),
    "code": (np.int16, st.integers(-(2**15), 2**15 - 1)),
    "big": (np.uint64, st.integers(0, 2**64 - 1)),
}


@st.composite
def _plans(draw: st.DrawFn) -> TilePlan:
    count = draw(st.integers(0, 12))
    side = draw(st.integers(1, 700))
    stride = draw(st.integers(1, 900))
    down = draw(st.sampled_from([1.0, 2.0, 4.0, 1.9960079840319362, 40 / 7]))
    level_down = draw(st.sampled_from([1.0, 4.0]))
    level0 = max(1, round(side * down))
    resolution = draw(
        st.sampled_from([Resolution.magnification(20), Resolution.mpp(0.5), Resolution.level(1)])
    )
    slide_size = Size(100_000, 80_000)
    cells = draw(
        st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), max_size=count, unique=True)
    )
    cells = sorted(cells, key=lambda cell: (cell[1], cell[0]))
    n = len(cells)
    grid = np.array(cells, np.int64).reshape(n, 2)
    read = max(1, round(level0 / level_down))
    extras = {
        name: np.array([draw(values) for _ in range(n)], dtype)
        for name, (dtype, values) in _KINDS.items()
        if draw(st.booleans())
    }
    floats = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))
    return TilePlan(
        slide=SlideFacts(
            draw(st.sampled_from(["a", "slide_1", "münchen, 2"])),
            slide_size,
            "wsi1-abc",
            draw(st.sampled_from([None, (0.25, 0.2512)])),
            "aperio.MPP",
            draw(st.sampled_from([40.0, 39.7])),
            "aperio.AppMag",
            "/slides/a.svs",
        ),
        spec=TileSpec(side, stride, resolution),
        geometry=TileGeometry(
            size=Size(side, side),
            stride=Size(stride, stride),
            level=0,
            downsample=down,
            level_downsample=level_down,
            size_level0=Size(level0, level0),
            stride_level0=Size(*[max(1, round(stride * down))] * 2),
            read_size=Size(read, read),
            extent=slide_size,
            mpp=None,
        ),
        x=grid[:, 0] * 1000,
        y=grid[:, 1] * 900,
        column=grid[:, 0].astype(np.int32),
        row=grid[:, 1].astype(np.int32),
        level=np.zeros(n, np.int16),
        read_width=np.full(n, read, np.int32),
        read_height=np.full(n, read, np.int32),
        tissue_ratio=np.array([draw(floats) for _ in range(n)], np.float32),
        contour=np.arange(n, dtype=np.int32) % 3,
        valid_fraction=np.ones(n, np.float32),
        extras=extras,
        rules=(Rule("tissue", {"min_tissue": 0.5, "mask": "abc"}, 40, 40 - n),),
    )


@pytest.fixture(scope="session")
def any_plan() -> st.SearchStrategy[TilePlan]:
    """Strategy of plans with any further columns, NaN and infinities included."""
    return _plans()
