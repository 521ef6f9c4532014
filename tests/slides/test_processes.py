"""Slides in threads, forks, spawned workers and pickles."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import wsistore
from wsistore.errors import SourceChangedError, SourceNotFoundError, UsageError
from wsistore.slides import Slide
from wsistore.testing import SyntheticSlide

Make = Callable[..., SyntheticSlide]
METHODS = ["spawn", "fork"] if sys.platform == "linux" else ["spawn"]


def test_threads_read_the_same(slide_factory: Make) -> None:
    written = slide_factory()
    truth = written.level_pixels(0)
    boxes = [(i * 37 % 900, i * 53 % 600, 300, 250) for i in range(24)]
    with wsistore.open_slide(written.path) as slide, ThreadPoolExecutor(6) as pool:
        for (x, y, w, h), got in zip(
            boxes, pool.map(lambda b: slide.read_region(b[:2], 0, b[2:]), boxes), strict=True
        ):
            assert np.array_equal(got, truth[y : y + h, x : x + w])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_workers_read_the_same(method: str, slide_factory: Make) -> None:
    written = slide_factory()
    with wsistore.open_slide(written.path, mpp=0.3) as slide:
        slide.read_region((0, 0), 0, slide.size)  # by threads, which must not outlive the call
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            whole = pool.submit(Slide.read_region, slide, (0, 0), 0, slide.size).result(60)
            half = pool.submit(Slide.read, slide, (0, 0, 600, 600), "0.6mpp").result(60)
        assert np.array_equal(whole, written.level_pixels(0))
        assert np.array_equal(half, slide.read((0, 0, 600, 600), "0.6mpp"))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_child_reads_with_the_parents_slide(slide_factory: Make) -> None:
    written = slide_factory()
    slide = wsistore.open_slide(written.path)
    before = slide.read_region((0, 0), 0, slide.size)
    child = os.fork()
    if child == 0:
        same = np.array_equal(slide.read_region((0, 0), 0, slide.size), before)
        os._exit(0 if same else 1)
    assert np.array_equal(slide.read_region((0, 0), 0, slide.size), before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_pickle_holds_the_way_it_was_opened(
    slide_factory: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = slide_factory(missing=[(0, 0, 0)])
    monkeypatch.chdir(written.path.parent)
    slide = wsistore.open_slide(
        written.path.name, mpp=(0.3, 0.4), magnification=33, on_bad_tile="fill", fill=(1, 2, 3)
    )
    text = pickle.dumps(slide)
    assert len(text) < 1000
    monkeypatch.chdir(tmp_path)  # workers may have another working directory
    other = pickle.loads(text)
    assert other.mpp == (0.3, 0.4)
    assert other.magnification == 33
    assert other.fingerprint == slide.fingerprint
    assert other.read_region((0, 0), 0, (1, 1)).tolist() == [[[1, 2, 3]]]
    assert other.bad_tiles[0].reason == "missing"


def test_a_closed_slide_stays_closed(slide_factory: Make) -> None:
    slide = wsistore.open_slide(slide_factory().path)
    slide.close()
    with pytest.raises(UsageError, match="closed"):
        pickle.loads(pickle.dumps(slide)).thumbnail(5)


def test_a_file_that_changed_is_refused(slide_factory: Make, tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    shutil.copy(slide_factory().path, path)
    text = pickle.dumps(wsistore.open_slide(path))
    os.utime(path, ns=(0, 0))
    with pytest.raises(SourceChangedError, match=r"slide\.svs"):
        pickle.loads(text)
    path.unlink()
    with pytest.raises(SourceNotFoundError):
        pickle.loads(text)


def test_a_slide_of_unknown_origin_does_not_travel(slide_factory: Make) -> None:
    slide = wsistore.open_slide(slide_factory().path)
    with pytest.raises(UsageError, match="can't be pickled"):
        pickle.dumps(Slide(slide._container, slide.path))


def test_hundreds_of_slides_need_few_files(slide_factory: Make) -> None:
    path = slide_factory().path
    slides = [wsistore.open_slide(path) for _ in range(300)]
    expected = slides[0].read_region((0, 0), 1, (64, 64))
    assert all(np.array_equal(s.read_region((0, 0), 1, (64, 64)), expected) for s in slides)
    if sys.platform == "linux":
        target = os.path.realpath(path)
        links = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
        assert links.count(target) < len(slides)
