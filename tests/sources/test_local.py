"""Ranged reads from local files."""

import errno
import os
import pickle
import resource
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wsistore import errors
from wsistore.sources import open_source
from wsistore.sources.local import LocalSource
from wsistore.sources.mapping import from_os_error
from wsistore.sources.pool import MOST_FILES, FilePool

DATA = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    return path


def test_reads_exactly_what_is_asked(path):
    source = open_source(path)
    assert source.size == len(DATA)
    assert source.name == str(path)
    assert source.read(3, 10) == DATA[3:13]
    assert source.read(len(DATA) - 1, 1) == DATA[-1:]
    assert source.read(0, 0) == b""
    assert source.read(np.int64(5), np.uint32(2)) == DATA[5:7]
    assert open_source(path.as_uri()).read(0, 5) == DATA[:5]
    assert open_source(str(path)).read(0, 5) == DATA[:5]


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (0, -1), (len(DATA), 1), (0, 2**40)])
def test_a_range_outside_is_an_error(path, offset, count):
    with pytest.raises(errors.SourceRangeError, match=str(len(DATA))):
        open_source(path).read(offset, count)


@pytest.mark.parametrize("n", [1, 4, 50])
def test_read_many_keeps_the_order(path, n):
    rng = np.random.default_rng(n)
    counts = rng.integers(0, 50, n)
    offsets = rng.integers(0, len(DATA) - 50, n)
    views = open_source(path).read_many(offsets, counts)
    assert [bytes(v) for v in views] == [
        DATA[o : o + c] for o, c in zip(offsets, counts, strict=True)
    ]


def test_short_answers_of_the_kernel_are_completed(path, monkeypatch):
    pread = os.pread
    source = open_source(path)
    monkeypatch.setattr(os, "pread", lambda fd, n, at: pread(fd, min(n, 100), at))
    assert source.read(7, 999) == DATA[7:1006]


def test_opening_what_is_no_file(tmp_path):
    fifo, loop, sock = tmp_path / "fifo", tmp_path / "loop", tmp_path / "sock"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        for path, kind, words in [
            (tmp_path / "none", errors.SourceNotFoundError, "no file"),
            (tmp_path, errors.SourceError, "is a folder"),
            (fifo, errors.SourceError, "not a regular file"),
            (loop, errors.SourceError, "symbolic link"),
            (sock, errors.SourceError, str(sock)),
            ("/dev/null", errors.SourceError, "not a regular file"),
            (str(tmp_path) + "/\0", errors.SourceNotFoundError, "named"),
            (str(tmp_path / ("x" * 300)), errors.SourceNotFoundError, "xxx"),
            ("", errors.UsageError, "empty"),
            ("file://elsewhere/a.svs", errors.UsageError, "another host"),
        ]:
            with pytest.raises(kind, match=words):
                open_source(path)
    with pytest.raises(errors.UsageError, match="region"):
        open_source(tmp_path / "a", region="x")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, errors.SourceNotFoundError),
        (errno.EACCES, errors.SourceAccessError),
        (errno.EPERM, errors.SourceAccessError),
        (errno.ESTALE, errors.SourceChangedError),
        (errno.EIO, errors.SourceError),
        (errno.EISDIR, errors.SourceError),
        (errno.EMFILE, errors.SourceError),
        (errno.ENOMEM, errors.SourceError),
    ],
)
def test_errors_of_the_system_are_told_with_the_name(number, kind):
    told = from_os_error(OSError(number, "raw"), "slide.svs")
    assert type(told) is kind
    assert "slide.svs" in told.message


def test_a_failing_read_is_a_source_error(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "io")

    source = open_source(path)
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(errors.SourceError, match="disk"):
        source.read(0, 1)


def test_after_close_reading_is_an_error(path):
    source = open_source(path)
    source.close()
    source.close()
    for read in (lambda: source.read(0, 1), lambda: source.read_many([0], [1])):
        with pytest.raises(errors.SourceError, match="closed"):
            read()


def test_pickles_small_without_opening_and_reads_elsewhere(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    data = pickle.dumps(open_source(path.name))
    assert len(data) < 500
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert again.handle is None
    assert again.name == path.name
    assert again.read(1, 3) == DATA[1:4]
    again.close()
    with pytest.raises(errors.SourceError, match="closed"):
        pickle.loads(pickle.dumps(again)).read(0, 1)


def replace(path):
    other = path.with_name("other")
    other.write_bytes(DATA)
    os.utime(other, ns=(1, path.stat().st_mtime_ns))
    other.rename(path)


def touch(path):
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (replace, "inode"),
        (touch, "mtime_ns"),
        (lambda p: p.write_bytes(DATA + b"x"), "size"),
        (lambda p: os.truncate(p, 100), "size"),
    ],
)
def test_a_changed_file_is_noticed_on_reopening_and_by_check(path, change, word):
    pool = FilePool(1)
    source = LocalSource(path, pool=pool)
    travelling = pickle.dumps(source)
    source.check()
    change(path)
    source.handle = None  # as the pool does
    for look in (
        lambda: source.read(0, 10),
        lambda: pickle.loads(travelling).read(0, 10),
        source.check,
    ):
        with pytest.raises(errors.SourceChangedError, match=word):
            look()


def test_a_removed_file_is_noticed(path):
    source = open_source(path)
    path.unlink()
    assert source.read(0, 4) == DATA[:4]  # it is still open
    with pytest.raises(errors.SourceNotFoundError):
        source.check()


def test_a_file_cut_while_open_is_told_as_changed(path):
    source = open_source(path)
    os.truncate(path, 100)
    with pytest.raises(errors.SourceChangedError, match="size"):
        source.read(50, 100)


@pytest.fixture
def many(tmp_path):
    paths = [tmp_path / str(i) for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(f"{i:04d}".encode() * 100)
    return paths


def count_open(folder):
    found = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))  # noqa: PTH208
    return sum(name.startswith(str(folder)) for name in found)


def test_the_pool_keeps_no_more_than_its_capacity(many, tmp_path):
    pool = FilePool(3)
    sources = [LocalSource(path, pool=pool) for path in many]
    assert count_open(tmp_path) == 3
    for i, source in enumerate(sources):
        assert source.read(4, 4) == f"{i:04d}".encode()
        assert count_open(tmp_path) <= 3
    del sources, source
    assert count_open(tmp_path) == 0


def test_a_file_in_use_rests_less_than_others(many):
    pool = FilePool(3)
    busy = LocalSource(many[0], pool=pool)
    handle = busy.handle
    for path in many[1:]:
        busy.read(0, 1)
        LocalSource(path, pool=pool).close()
    assert busy.handle is handle


def test_capacity_follows_the_limit_of_the_process(monkeypatch):
    for soft, capacity in [(64, 16), (2, 1), (10**6, MOST_FILES), (-1, MOST_FILES)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert FilePool().capacity == capacity


def test_an_evicted_file_is_not_closed_under_a_read(path, monkeypatch):
    source = open_source(path)
    pread = os.pread

    def evicting(fd, count, offset):
        source.handle = None  # another thread took the place just now
        return pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", evicting)
    assert source.read(1, 5) == DATA[1:6]


def test_threads_share_a_pool_that_is_too_small(many):
    pool = FilePool(2)
    sources = [LocalSource(path, pool=pool) for path in many]
    start = threading.Barrier(8)

    def work(seed):
        rng = np.random.default_rng(seed)
        start.wait(10)
        for i in rng.integers(0, len(many), 300):
            assert sources[i].read(40, 4) == f"{i:04d}".encode()
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))


def test_a_forked_child_reads_and_leaves_its_parent_alone(many):
    # In a fresh process: forking this one, which has threads, would warn.
    code = """
import os, sys
from wsistore.sources import open_source
paths = sys.argv[1:]
sources = [open_source(p) for p in paths]
def right():
    return all(s.read(40, 4) == f"{i:04d}".encode() for i, s in enumerate(sources))
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        ok = all(right() for _ in range(50))
        sources[0].close()
        os._exit(0 if ok else 1)
    children.append(pid)
assert all(right() for _ in range(50))
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
assert right()
"""
    subprocess.run([sys.executable, "-c", code, *map(str, many)], check=True, timeout=60)


def test_five_hundred_files_under_a_limit_of_sixty_four(tmp_path):
    code = """
import os, resource, sys
from wsistore import errors
from wsistore.sources import open_source
folder = sys.argv[1]
for i in range(500):
    with open(f"{folder}/{i}", "w") as file:
        file.write(f"{i:04d}")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
sources = [open_source(f"{folder}/{i}") for i in range(500)]
assert len(os.listdir("/proc/self/fd")) < 32
for _ in range(2):
    for i, source in enumerate(sources):
        assert source.read(0, 4) == f"{i:04d}".encode()
# Others take all descriptors: the pool gives up its own before it fails.
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for i in range(20):
    assert sources[i].read(0, 4) == f"{i:04d}".encode()
for source in sources:
    source.handle = None
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    sources[0].read(0, 4)
except errors.SourceError as error:
    assert "ulimit" in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)
