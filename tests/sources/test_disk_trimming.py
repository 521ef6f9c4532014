"""The bound of the cache on disk: the longest unused goes, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from wsistore import errors
from wsistore.sources import disk_blocks, open_source
from wsistore.sources.disk_blocks import DiskBlocks
from wsistore.sources.disk_trimming import trim
from wsistore.testing.server import FaultServer

BLOCK = bytes(60_000)
ON_DISK = 16 * 4096
"""Bytes that a state of one such block takes: its file, and its folder."""
PLENTY = 1 << 40


def keep(folder, name, *, used_at, most_bytes=PLENTY):
    """Keep a block of an object, as if it had been used at a time."""
    blocks = DiskBlocks(folder, name, '60000 "etag"', most_bytes)
    blocks.put(0, BLOCK)
    os.utime(blocks._folder, (used_at, used_at))
    return blocks


def kept(folder, *names):
    return [
        name for name in names if DiskBlocks(folder, name, '60000 "etag"', PLENTY).get(0, 60_000)
    ]


def on_disk(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


@pytest.mark.parametrize(
    ("most", "left"),
    [
        (3 * ON_DISK, ["a", "b", "c"]),
        (3 * ON_DISK - 1, ["b", "c"]),  # down to three quarters
        (2 * ON_DISK, ["c"]),
        (ON_DISK - 1, []),
    ],
)
def test_the_longest_unused_go_first(tmp_path, most, left):
    for used_at, name in enumerate("abc"):
        keep(tmp_path, name, used_at=1000 + used_at)
    trim(str(tmp_path), most)
    assert kept(tmp_path, "a", "b", "c") == left


def test_reading_is_using(tmp_path):
    for used_at, name in enumerate("abc"):
        keep(tmp_path, name, used_at=1000 + used_at)
    assert kept(tmp_path, "a") == ["a"]
    trim(str(tmp_path), 2 * ON_DISK)
    assert kept(tmp_path, "a", "b", "c") == ["a"]


def test_a_state_that_is_long_in_use_says_so_again(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(disk_blocks.time, "monotonic", lambda: clock[0])
    blocks = keep(tmp_path, "a", used_at=1)
    blocks.get(0, 60_000)  # said when it was put, a moment ago
    assert blocks._folder.stat().st_mtime == 1
    clock[0] += 61
    blocks.get(0, 60_000)
    assert blocks._folder.stat().st_mtime > 1


def test_what_a_process_writes_is_trimmed_while_it_writes(tmp_path):
    most = 20 * ON_DISK
    largest = 0
    for number in range(60):
        keep(tmp_path, str(number), used_at=1000 + number, most_bytes=most)
        largest = max(largest, on_disk(tmp_path))
    assert largest <= most + most / 16
    assert kept(tmp_path, "59") == ["59"]


def test_what_others_have_left_is_trimmed_by_the_first_block_of_a_process(tmp_path):
    for number in range(10):
        keep(tmp_path, str(number), used_at=1000 + number)
    keep(tmp_path, "new", used_at=2000, most_bytes=4 * ON_DISK)
    assert on_disk(tmp_path) <= 3 * ON_DISK
    assert kept(tmp_path, "new") == ["new"]


def test_what_is_not_of_the_cache_stays(tmp_path):
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    name = keep(cache, "a", used_at=1000)._folder.name
    (cache / "notes").mkdir()
    (cache / "notes" / "big").write_bytes(BLOCK)
    (cache / "file").write_bytes(BLOCK)
    elsewhere.mkdir()
    (elsewhere / "0").write_bytes(BLOCK)
    (cache / f"{name[:-1]}_").mkdir()
    link = cache / ("1-" + "0" * 32 + "-" + "1" * 32)
    link.symlink_to(elsewhere)
    trim(str(cache), 1)
    left = {path.name for path in cache.iterdir()}
    assert left == {"notes", "file", link.name, f"{name[:-1]}_"}
    assert (elsewhere / "0").read_bytes() == (cache / "notes" / "big").read_bytes() == BLOCK


def test_folders_without_blocks_count_too(tmp_path):
    for number in range(10):
        DiskBlocks(tmp_path, str(number), '9 "etag"')
    trim(str(tmp_path), 5 * 4096)
    assert len(list(tmp_path.iterdir())) == 3


def test_blocks_are_kept_again_after_their_folder_went(tmp_path):
    blocks = keep(tmp_path, "a", used_at=1000)
    trim(str(tmp_path), 1)
    assert not any(tmp_path.iterdir())
    assert blocks.get(0, 60_000) is None
    blocks.put(0, BLOCK)
    assert blocks.get(0, 60_000) == BLOCK


@pytest.mark.parametrize("most", [0, -1, 1.5, "1GB", True, None])
def test_bounds_that_are_none(tmp_path, most):
    with pytest.raises(errors.UsageError, match="index_cache_bytes"):
        DiskBlocks(tmp_path, "a", '9 "etag"', most)


def test_the_bound_is_an_option_of_storage(tmp_path):
    folder, cache = tmp_path / "served", tmp_path / "cache"
    folder.mkdir()
    data = np.random.default_rng(1).bytes(500_000)
    for number in range(6):
        (folder / f"{number}.bin").write_bytes(data)
    with FaultServer(folder) as server:
        for number in range(6):
            source = open_source(
                f"{server.url}/{number}.bin", index_cache=cache, index_cache_bytes=600_000
            )
            assert source.read(100_000, 300_000) == data[100_000:400_000]
            assert 0 < on_disk(cache) <= 600_000 * (1 + 1 / 16)
        with pytest.raises(errors.UsageError, match="index_cache_bytes"):
            open_source(f"{server.url}/0.bin", index_cache=cache, index_cache_bytes="many")


WRITER = """
import sys
from wsistore.sources.disk_blocks import DiskBlocks
folder, seed = sys.argv[1], int(sys.argv[2])
block = bytes([seed]) * 60_000
for number in range(80):
    name = str(number % 25)
    blocks = DiskBlocks(folder, name, '60000 "etag"', 600_000)
    found = blocks.get(0, 60_000)
    assert found is None or len(set(found)) == 1, "mixed"
    blocks.put(0, block)
    blocks.put(1, block)
"""


def test_processes_that_write_and_trim_at_once(tmp_path):
    calls = [[sys.executable, "-c", WRITER, str(tmp_path), str(seed)] for seed in range(3)]
    running = [subprocess.Popen(call, stderr=subprocess.PIPE, text=True) for call in calls]
    for process in running:
        _, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (0, "")
    assert 0 < on_disk(tmp_path) <= 600_000 * (1 + 3 / 16)


def test_threads_that_write_and_trim_at_once(tmp_path):
    def write():
        for number in range(50):
            DiskBlocks(tmp_path, f"{number}", '60000 "etag"', 5 * ON_DISK).put(0, BLOCK)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert on_disk(tmp_path) <= 5 * ON_DISK * (1 + 1 / 16) + 4 * ON_DISK
