"""A lock that dies with its holder, and is never held twice."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from wsistore import errors
from wsistore.durable import FileLock


def test_one_holder_at_a_time(tmp_path):
    first, second = (FileLock(tmp_path / "lock", "a.zarr") for _ in range(2))
    first.acquire()
    with pytest.raises(errors.StoreLockedError, match=r"a\.zarr"):
        second.acquire()
    first.release()
    first.release()
    assert not (tmp_path / "lock").exists()
    second.acquire()
    second.release()


@pytest.mark.parametrize("remade", [False, True])
def test_a_lock_on_a_file_that_lost_its_name_counts_for_nothing(tmp_path, monkeypatch, remade):
    path = tmp_path / "lock"
    flock, calls = fcntl.flock, []

    def late(fd, operation):
        if not calls:  # between opening and locking, the holder ends and another begins
            path.unlink()
            if remade:
                path.touch()
        calls.append(operation)
        return flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = FileLock(path, "a.zarr")
    lock.acquire()
    assert len(calls) == 2
    with pytest.raises(errors.StoreLockedError):
        FileLock(path, "a.zarr").acquire()
    lock.release()


@pytest.mark.parametrize("gone", ["the folder above", "the folder itself"])
def test_folders_that_a_run_removes_as_it_ends_are_made_again(tmp_path, monkeypatch, gone):
    folder = tmp_path / "a.work" / "slide"
    mkdir, lost = os.mkdir, []

    def late(path, *mode):
        if os.fspath(path) == str(folder) and not lost and folder.parent.exists():
            lost.append(path)
            if gone == "the folder above":
                folder.parent.rmdir()
            else:  # it was there, and is looked at when it is gone
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        mkdir(path, *mode)

    monkeypatch.setattr(os, "mkdir", late)
    lock = FileLock(folder / "lock", "a.zarr")
    lock.acquire()
    assert lost
    lock.release()


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.StoreWriteError, match=r"can't write .*link: File exists"):
        FileLock(tmp_path / "link" / "lock", "a.zarr").acquire()


def test_a_killed_holder_holds_nothing(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from wsistore.durable import FileLock
FileLock(Path(sys.argv[1]), "a").acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "lock"
    run = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert path.exists()
    lock = FileLock(path, "a")
    lock.acquire()
    lock.release()


def test_a_forked_child_can_not_free_the_lock_of_its_parent(tmp_path):
    code = """
import os, sys
from pathlib import Path
from wsistore import errors
from wsistore.durable import FileLock
path = Path(sys.argv[1])
lock = FileLock(path, "a")
lock.acquire()
if os.fork() == 0:
    lock.release()
    os._exit(0)
os.wait()
assert path.exists()
try:
    FileLock(path, "a").acquire()
except errors.StoreLockedError:
    sys.exit(0)
sys.exit("locked twice")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], check=True, timeout=60)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(errors.StoreWriteError, match="no locks"):
        FileLock(tmp_path / "lock", "a").acquire()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.StoreWriteError):
        FileLock(tmp_path / "lock", "a").acquire()
    assert not (tmp_path / "elsewhere").exists()
