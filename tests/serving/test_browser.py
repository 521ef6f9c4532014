"""Neuroglancer in a headless Chromium opens what is served, in the slide's own colours.

``WSISTORE_SCREENSHOTS=folder`` keeps the pictures, to be looked at.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import wsistore
from wsistore.serving import SlideServer
from wsistore.serving.viewers import neuroglancer_state
from wsistore.testing import SyntheticSlide
from wsistore.testing.browser import Browser, find_browser

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("neuroglancer") is None,
        reason="neuroglancer is not installed; the extra 'browser' brings it",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:neuroglancer.*"),
]
SIDE = 800
"""Of the page, px."""


@pytest.fixture(scope="module")
def neuroglancer() -> Iterator[Any]:
    """The package, whose server sends the viewer's own files from this machine."""
    import neuroglancer

    neuroglancer.set_server_bind_address("127.0.0.1")
    yield neuroglancer
    neuroglancer.server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, width=SIDE, height=SIDE) as opened:
        yield opened


@pytest.fixture
def show(
    neuroglancer: Any, browser: Browser, tmp_path: Path
) -> Callable[[dict[str, Any], str], NDArray[np.uint8]]:
    """``show(state, name)`` returns what neuroglancer draws, (h, w, 3) uint8."""

    def draw(state: dict[str, Any], name: str) -> NDArray[np.uint8]:
        viewer = neuroglancer.Viewer()
        with viewer.config_state.txn() as config:
            config.show_ui_controls = False
            config.show_panel_borders = False
        viewer.set_state(neuroglancer.ViewerState(state))
        browser.log.clear()
        browser.open(viewer.get_viewer_url())
        # Ready it is without its state, too, which comes after the page.
        has_state = "viewer.layerManager.managedLayers.length == 1"
        browser.wait_for(f"typeof viewer !== 'undefined' && {has_state} && viewer.isReady()", 60)
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        browser.evaluate(f"{frame}.then(() => true)")
        path = Path(os.environ.get("WSISTORE_SCREENSHOTS", tmp_path)) / f"{name}.png"
        browser.screenshot(path)
        drawn = cv2.imread(str(path))
        assert drawn is not None
        # Failed requests and refused origins show in the console.
        assert not [line for line in browser.log if "rror" in line and "favicon" not in line]
        return np.ascontiguousarray(drawn[..., ::-1])

    return draw


def expected(slide: wsistore.Slide, scale: float) -> NDArray[np.uint8]:
    """Return the slide in the middle of a page, `scale` level-0 px to a px of the page."""
    width, height = (round(side / scale) for side in slide.size)
    thumbnail = cv2.resize(slide.thumbnail(1200), (width, height), interpolation=cv2.INTER_AREA)
    page = np.zeros((SIDE, SIDE, 3), np.uint8)
    x, y = (SIDE - width) // 2, (SIDE - height) // 2
    page[y : y + height, x : x + width] = thumbnail
    return page


def check(drawn: NDArray[np.uint8], slide: wsistore.Slide, scale: float) -> None:
    """Compare a picture with the slide, but for what a shift of a px changes."""
    wanted = expected(slide, scale)
    inside = cv2.erode((wanted.max(axis=2) > 0).astype(np.uint8), np.ones((9, 9))) > 0
    assert inside.mean() > 0.5
    seen, true = (cv2.blur(image, (9, 9))[inside].astype(float) for image in (drawn, wanted))
    assert np.abs(seen.mean(axis=0) - true.mean(axis=0)).max() < 2
    assert np.abs(seen - true).mean() < 4
    for channel in range(3):
        assert np.corrcoef(seen[:, channel], true[:, channel])[0, 1] > 0.97


def fitted(state: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Return the state without what is drawn over the image, and its scale."""
    scale = state["crossSectionScale"] = state["crossSectionScale"] * 1.1
    return {**state, "showScaleBar": False, "showDefaultAnnotations": False}, scale


@pytest.mark.parametrize("variant", ["jpeg_rgb_tables", "j2k_33003_422", "j2k_33005"])
def test_a_slide_is_shown(
    slide_factory: Callable[..., SyntheticSlide], show: Any, variant: str
) -> None:
    path = slide_factory(variant).path
    with SlideServer([path]) as server, wsistore.open_slide(path) as slide:
        state, scale = fitted(neuroglancer_state(server.slides[0]))
        check(show(state, variant), slide, scale)


def test_stores_are_shown(zstd_store: Path, jpeg_store: Path, show: Any) -> None:
    with SlideServer([zstd_store, jpeg_store]) as server:
        for served, path in zip(server.slides, (zstd_store, jpeg_store), strict=True):
            state, scale = fitted(neuroglancer_state(served))
            with wsistore.open_slide(path) as slide:
                check(show(state, served.name), slide, scale)


@pytest.mark.parametrize("name", ["CMU-1-Small-Region", "real-33003-2x2tiles"])
def test_real_slides_are_shown(shared_data: Path, show: Any, name: str) -> None:
    path = shared_data / f"{name}.svs"
    with SlideServer([path]) as server, wsistore.open_slide(path) as slide:
        state, scale = fitted(neuroglancer_state(server.slides[0]))
        check(show(state, name), slide, scale)


def test_other_pages_may_not_read(zstd_store: Path, browser: Browser) -> None:
    """A page of another origin gets no bytes, unless its origin was stated."""
    ask = "fetch('{url}slides.json').then(a => a.status, e => String(e))"
    with SlideServer([zstd_store], host="127.0.0.2") as elsewhere:
        page = f"{elsewhere.url}slides.json"  # pages have a policy that forbids all fetching
        browser.open(page)
        browser.wait_for(f"location.href == '{page}' && document.readyState == 'complete'")
        with SlideServer([zstd_store]) as server:
            assert browser.evaluate(ask.format(url=server.url)) == "TypeError: Failed to fetch"
            assert any("has been blocked by CORS policy" in line for line in browser.log)
        with SlideServer([zstd_store], cors=elsewhere.url.rstrip("/")) as server:
            assert browser.evaluate(ask.format(url=server.url)) == 200
