"""Decoding in threads and in a forked child."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from wsistore.codecs import decode
from wsistore.codecs.scratch import scratch
from wsistore.geometry import Box

_MIX = ["jpeg_rgb_tables", "jpeg_ycbcr420_tables", "j2k_33003", "j2k_33003_422", "lzw", "webp"]


def test_threads_give_equal_results(tile_of) -> None:
    tiles = [tile_of(name) for name in _MIX]
    box = Box(16, 32, 96, 80)
    expected = [decode(t.block, t.block_format)[32:112, 16:112] for t in tiles]
    batch = np.zeros((120, 80, 96, 3), np.uint8)

    def work(k: int) -> None:
        tile = tiles[k % len(tiles)]
        integrity = "fast" if k % 2 else "strict"
        decode(tile.block, tile.block_format, out=batch[k], region=box, integrity=integrity)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(len(batch))))
    for k in range(len(batch)):
        assert (batch[k] == expected[k % len(tiles)]).all()


def test_scratch_is_kept_and_is_each_threads_own() -> None:
    first = scratch(1000, "test")
    assert np.shares_memory(first, scratch(500, "test"))
    assert not np.shares_memory(first, scratch(1000, "other test"))
    assert scratch(5000, "test").size == 5000
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scratch, 1000, "test").result()
    assert not np.shares_memory(scratch(1000, "test"), other)


_FORK = """
import os, sys
import numpy as np
from wsistore.codecs import BlockFormat, decode, encode
from wsistore.geometry import Box
pixels = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
block = encode(pixels, "jpeg")
form = BlockFormat("jpeg", 64, 64, color="ycbcr")
box = Box(8, 8, 32, 32)
before = decode(block, form, region=box)
child = os.fork()
if child == 0:
    os._exit(0 if (decode(block, form, region=box) == before).all() else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code or not (decode(block, form, region=box) == before).all())
"""


def test_scratch_survives_a_fork() -> None:
    assert subprocess.run([sys.executable, "-c", _FORK], check=False, timeout=60).returncode == 0


_LIGHT = """
import sys
import wsistore.codecs
heavy = {"imagecodecs", "simplejpeg", "cv2", "PIL", "torch", "zarr"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or None)
"""


def test_importing_the_room_imports_no_decoder() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LIGHT], check=False, timeout=60, capture_output=True, text=True
    )
    assert result.stderr == ""
    assert result.returncode == 0
