"""Batches in forked and spawned processes, and with few files allowed."""

import multiprocessing
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from wsistore.tiles import SlideCache, read_tiles
from wsistore.tiles.batch import BatchReader
from wsistore.tiles.model import normalize

MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import numpy as np
from wsistore.tiles import read_tiles
folder, count = sys.argv[1], int(sys.argv[2])
paths = [f"{folder}/{i}.svs" for i in range(count)]
for _ in range(2):
    got = read_tiles([(path, 10, 10) for path in paths], 32, 0, threads=4)
assert (got == got[0]).all()
print(len(got), int(got[0].sum()))
"""


def test_five_hundred_slides_with_sixty_four_files(aperio, tmp_path):
    slide = aperio("jpeg_rgb_tables", size=(128, 128), tile=64, levels=(1,))
    first = tmp_path / "0.svs"
    shutil.copy(slide.path, first)
    for number in range(1, 500):
        os.link(first, tmp_path / f"{number}.svs")
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path), "500"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = slide.level_pixels(0)[10:42, 10:42].sum()
    assert done.stdout.split() == ["500", str(expected)]


def _read(reader, path, queue):
    pixels, _ = reader.read(normalize([(path, 5, 7), (path, 60, 50)], reader_resolution()))
    queue.put(pixels)


def reader_resolution():
    from wsistore import Resolution

    return Resolution.level(0)


@pytest.mark.parametrize("threads", [1, 2])
# Python 3.12 warns of any fork in a process that has threads; that the engine survives
# just that is what is tested here.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_what_its_parent_reads(aperio, threads):
    slide = aperio("jpeg_rgb_tables")
    reader = BatchReader(100, threads=threads, cache=SlideCache())
    requests = normalize([(slide.path, 5, 7), (slide.path, 60, 50)], reader_resolution())
    expected, _ = reader.read(requests)  # opens the slide and starts the threads
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read, args=(reader, slide.path, queue))
    child.start()
    got = queue.get(timeout=60)
    child.join()
    assert child.exitcode == 0
    assert np.array_equal(got, expected)
    assert np.array_equal(reader.read(requests)[0], expected)


def test_readers_and_caches_travel(aperio):
    import pickle

    slide = aperio("jpeg_rgb_tables")
    reader = BatchReader(64, threads=1, cache=SlideCache(max_slides=3))
    requests = normalize([(slide.path, 5, 7)], reader_resolution())
    expected, _ = reader.read(requests)
    again = pickle.loads(pickle.dumps(reader))
    assert again.cache.max_slides == 3
    assert len(again.cache) == 0
    assert np.array_equal(again.read(requests)[0], expected)


def test_the_cache_of_slides_is_bounded(aperio, tmp_path):
    slide = aperio("jpeg_rgb_tables", size=(128, 128), tile=64, levels=(1,))
    cache = SlideCache(max_slides=4)
    for number in range(9):
        shutil.copy(slide.path, tmp_path / f"{number}.svs")
        read_tiles([(tmp_path / f"{number}.svs", 0, 0)], 32, 0, cache=cache)
        assert len(cache) <= 4
