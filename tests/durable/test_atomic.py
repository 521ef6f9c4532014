"""A file appears whole or not at all."""

import errno
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsistore import errors
from wsistore.durable import TEMP_SUFFIX, Ledger, WorkFolder, atomic_write, free_bytes, write_error
from wsistore.durable.atomic import Leftovers, sweep, temporary_name


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        bytearray(b"abc"),
        memoryview(np.arange(6, dtype=np.uint16)),
        [b"ab", b"", bytearray(b"c"), memoryview(np.arange(6, dtype=np.uint16))],
        [bytes([i % 256]) * (i % 7) for i in range(2000)],
        [],
    ],
)
def test_what_is_written_is_there(tmp_path, data, sync):
    path = tmp_path / "a"
    path.write_bytes(b"former")
    atomic_write(path, data, sync=sync)
    pieces = data if isinstance(data, list) else [data]
    assert path.read_bytes() == b"".join(bytes(p) for p in pieces)
    assert names(tmp_path) == ["a"]


def test_short_writes_are_completed(tmp_path, monkeypatch):
    write, writev = os.write, os.writev
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    monkeypatch.setattr(os, "writev", lambda fd, views: writev(fd, [views[0][:4], views[1][:0]]))
    atomic_write(tmp_path / "a", [b"0123456789", b"abc", b"defghijk"])
    assert (tmp_path / "a").read_bytes() == b"0123456789abcdefghijk"


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path, monkeypatch, call, number):
    def fail(*_):
        raise OSError(number, "raw")

    path = tmp_path / "a"
    path.write_bytes(b"former")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(errors.StoreWriteError) as caught:
        atomic_write(path, b"new", sync=True)
    assert str(path) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert "GB free" in caught.value.message
    assert path.read_bytes() == b"former"
    assert names(tmp_path) == ["a"]


def test_the_name_may_be_as_long_as_names_get(tmp_path):
    atomic_write(tmp_path / ("x" * 255), b"1")
    with pytest.raises(errors.StoreWriteError, match="shorter"):
        atomic_write(tmp_path / ("x" * 256), b"1")
    with pytest.raises(errors.StoreWriteError, match="none"):
        atomic_write(tmp_path / "none" / "a", b"1")
    assert len(names(tmp_path)) == 1


def test_threads_may_write_one_name(tmp_path):
    path = tmp_path / "a"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: atomic_write(path, bytes([i]) * 5000), range(40)))
    data = path.read_bytes()
    assert len(data) == 5000
    assert len(set(data)) == 1
    assert names(tmp_path) == ["a"]


def test_leftovers_are_swept(tmp_path):
    (tmp_path / "b").mkdir()
    for name in (f"x{TEMP_SUFFIX}", f"b/y{TEMP_SUFFIX}", "b/keep"):
        (tmp_path / name).write_bytes(b"")
    assert sweep(tmp_path) == 2
    assert names(tmp_path / "b") == ["keep"]


def test_free_space_is_known_for_names_that_are_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0
    assert free_bytes("/proc/x") is None
    assert "free" not in str(write_error(OSError(errno.ENOENT, "x"), "/proc/x"))


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of 64 KiB, where mounting is permitted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(full_disk):
    final = full_disk / "a"
    with (  # noqa: PT012
        pytest.raises(errors.StoreWriteError, match="Free some space"),
        WorkFolder(final) as work,
    ):
        for part in range(100):
            atomic_write(work.path / str(part), bytes(8192))
            work.ledger.append({"part": part})
    assert not final.exists()
    done = [entry["part"] for entry in Ledger(work.ledger.path).entries()]
    assert done == list(range(len(done)))
    assert names(work.path) == sorted(map(str, done))


def test_what_a_killed_writer_left_of_a_file_is_swept(tmp_path):
    for name in ("a.h5", "b.h5", "a.h5"):
        (tmp_path / temporary_name(name)).write_bytes(b"half")
    found = Leftovers([tmp_path, tmp_path / "none"])
    later = tmp_path / temporary_name("a.h5")  # of a run that began since
    later.write_bytes(b"half")
    assert found.sweep(tmp_path / "a.h5") == 2
    assert found.sweep(tmp_path / "a.h5") == 0
    assert found.sweep(tmp_path / "c.h5") == 0
    assert later.exists()
    assert len(list(tmp_path.iterdir())) == 2
    assert Leftovers([tmp_path]).sweep(tmp_path / "b.h5") == 1
