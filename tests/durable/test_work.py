"""A folder is made whole, resumed, or not there; never half, and never by two runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wsistore import errors
from wsistore.durable import TEMP_SUFFIX, WorkFolder, atomic_write

SETTINGS = {"codec": "copy", "shard": {"x": 4096, "y": 4096}}

# Makes a store of four parts; kills itself where told to, counting the steps that change
# the disk. Every call by which the room changes names is such a step.
CHILD = """
import os, signal, sys
from pathlib import Path
final, step, overwrite = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "overwrite"
count = 0
def counted(function):
    def call(*args, **more):
        global count
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return function(*args, **more)
    return call
for name in ("open", "rename", "unlink", "mkdir", "rmdir", "write"):
    setattr(os, name, counted(getattr(os, name)))
from wsistore.durable import WorkFolder, atomic_write
with WorkFolder(final, {"a": 1}, overwrite=overwrite) as work:
    done = {entry["part"] for entry in work.ledger.entries()}
    for part in range(4):
        if part not in done:
            folder = work.path / "c" / str(part)
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / "0", b"%d" % part * 1000)
            work.ledger.append({"part": part})
    work.commit(keep_ledger="ledger")
print(count, sorted(done))
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def child(final, step=-1, overwrite="no"):
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(final), str(step), overwrite],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def fill(work, *parts):
    for part in parts:
        atomic_write(work.path / part, part.encode())
        work.ledger.append({"part": part})


def test_a_store_appears_whole_and_nothing_else_stays(tmp_path):
    final = tmp_path / "new" / "a.zarr"
    with WorkFolder(final, SETTINGS) as work:
        assert not work.resumed
        assert work.partial == tmp_path / "new" / ".a.zarr.partial"
        fill(work, "x", "y")
        assert not final.exists()
        work.commit(sync=True)
        assert final.exists()
    assert tree(tmp_path) == {"new/a.zarr/x": b"x", "new/a.zarr/y": b"y"}
    assert names(tmp_path / "new") == ["a.zarr"]


def test_the_ledger_may_be_kept(tmp_path):
    with WorkFolder(tmp_path / "a", SETTINGS) as work:
        fill(work, "x")
        kept = work.ledger.read_bytes()
        work.commit(keep_ledger="ledger.jsonl")
    assert tree(tmp_path / "a") == {"x": b"x", "ledger.jsonl": kept}


def test_leaving_by_an_exception_keeps_the_work(tmp_path):
    with pytest.raises(KeyError), WorkFolder(tmp_path / "a", SETTINGS) as work:  # noqa: PT012
        fill(work, "x")
        (work.path / f".0{TEMP_SUFFIX}").write_bytes(b"half")  # as a killed writer leaves
        raise KeyError
    assert names(tmp_path) == [".a.partial"]
    assert not (work.partial / "lock").exists()
    with WorkFolder(tmp_path / "a", dict(reversed(SETTINGS.items()))) as work:
        assert work.resumed
        assert work.ledger.entries() == [{"part": "x"}]
        fill(work, "y")
        work.commit()
    assert tree(tmp_path) == {"a/x": b"x", "a/y": b"y"}


@pytest.mark.parametrize("end", [lambda w: None, lambda w: 1 // 0, lambda w: w.discard()])
def test_nothing_done_leaves_nothing(tmp_path, end):
    try:
        with WorkFolder(tmp_path / "a", SETTINGS) as work:
            (work.path / "unfinished").write_bytes(b"x")
            end(work)
    except ZeroDivisionError:
        pass
    assert names(tmp_path) == []


def test_discard_throws_away_what_was_done(tmp_path):
    with WorkFolder(tmp_path / "a", SETTINGS) as work:
        fill(work, "x")
        work.discard()
        for use in (work.commit, work.discard):
            with pytest.raises(errors.UsageError, match="not being made"):
                use()
    assert names(tmp_path) == []


def unfinished(final):
    with WorkFolder(final, SETTINGS) as work:
        fill(work, "x")
    return work


def test_other_settings_are_refused_by_name(tmp_path):
    work = unfinished(tmp_path / "a")
    other = {"codec": "zstd", "shard": {"x": 4096, "y": 512}, "level": 3}
    before = tree(tmp_path)
    with pytest.raises(errors.StoreMismatchError) as caught, WorkFolder(tmp_path / "a", other):
        pytest.fail("entered")
    told = str(caught.value)
    for words in ('codec: "copy" -> "zstd"', "shard.y: 4096 -> 512", "level: (absent) -> 3"):
        assert words in told
    assert "shard.x" not in told
    assert str(work.partial) in told
    assert tree(tmp_path) == before
    with WorkFolder(tmp_path / "a", other, restart=True) as work:
        assert not work.resumed
        assert work.ledger.entries() == []
        assert names(work.path) == []


def test_damaged_settings_are_told(tmp_path):
    work = unfinished(tmp_path / "a")
    (work.partial / "settings.json").write_bytes(b'{"a":')
    with pytest.raises(errors.StoreCorruptError, match="damaged"), WorkFolder(tmp_path / "a", {}):
        pytest.fail("entered")


def test_settings_that_json_cannot_tell_are_refused(tmp_path):
    for bad in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises(errors.UsageError, match="JSON"):
            WorkFolder(tmp_path / "a", bad)
    with pytest.raises(errors.UsageError, match="name"):
        WorkFolder("/", {})


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda p: p.symlink_to("nowhere")])
def test_a_taken_name_is_refused_and_left_alone(tmp_path, make):
    final = tmp_path / "a"
    make(final)
    with pytest.raises(errors.StoreExistsError, match="exists"), WorkFolder(final, SETTINGS):
        pytest.fail("entered")
    assert names(tmp_path) == ["a"]


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(tmp_path):
    final = tmp_path / "a"
    with pytest.raises(errors.StoreExistsError), WorkFolder(final, SETTINGS) as work:  # noqa: PT012
        fill(work, "x")
        final.mkdir()
        work.commit()
    assert names(tmp_path) == [".a.partial", "a"]
    assert names(final) == []
    with pytest.raises(errors.StoreExistsError), WorkFolder(final, SETTINGS):
        pytest.fail("entered")
    final.rmdir()
    with WorkFolder(final, SETTINGS) as work:
        assert work.ledger.entries() == [{"part": "x"}]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_overwriting_replaces_at_the_end_only(tmp_path, kind):
    final = tmp_path / "a"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_bytes(b"mine")
    if kind == "folder":
        final.mkdir()
        (final / "old").write_bytes(b"old")
    elif kind == "file":
        final.write_bytes(b"old")
    else:
        final.symlink_to(elsewhere)
    with WorkFolder(final, SETTINGS, overwrite=True) as work:
        fill(work, "x")
        assert not (final / "x").exists()
        work.commit()
    assert tree(tmp_path) == {"a/x": b"x", "elsewhere/mine": b"mine"}
    assert not final.is_symlink()


def test_a_failed_rename_puts_the_former_store_back(tmp_path, monkeypatch):
    final = tmp_path / "a"
    final.mkdir()
    (final / "old").write_bytes(b"old")
    rename = Path.rename

    def fail(self, target):
        if self.name == "store":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    work = WorkFolder(final, SETTINGS, overwrite=True)
    with pytest.raises(errors.StoreWriteError, match="Input/output"), work:  # noqa: PT012
        fill(work, "x")
        work.commit()
    assert tree(final) == {"old": b"old"}
    assert tree(work.path) == {"x": b"x"}


def test_a_second_run_is_refused_at_once(tmp_path):
    with WorkFolder(tmp_path / "a", SETTINGS) as work:
        fill(work, "x")
        with pytest.raises(errors.StoreLockedError) as caught, WorkFolder(work.final, SETTINGS):
            pytest.fail("entered")
        assert f"process {os.getpid()}" in str(caught.value)
        second = child(work.final)
        assert second.returncode != 0
        assert "StoreLockedError" in second.stderr
        assert tree(work.path) == {"x": b"x"}
        work.commit()
    assert tree(tmp_path) == {"a/x": b"x"}


def test_of_racing_processes_one_makes_the_store(tmp_path):
    final = tmp_path / "a"
    command = [sys.executable, "-c", CHILD, str(final), "-1", "no"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [run.communicate(timeout=60)[1] for run in runs]
    assert sum(run.returncode == 0 for run in runs) == 1
    for run, text in zip(runs, told, strict=True):
        assert run.returncode == 0 or "StoreLocked" in text or "StoreExists" in text, text
    assert len(tree(final)) == 5
    assert names(tmp_path) == ["a"]


def test_a_forked_child_leaves_the_work_to_its_parent(tmp_path):
    code = """
import os, sys
from wsistore.durable import WorkFolder
with WorkFolder(sys.argv[1], {}) as work:
    if os.fork() == 0:
        sys.exit(0)  # leaves through the with statement
    assert os.wait()[1] == 0
    assert (work.partial / "lock").exists()
    assert work.path.is_dir()
    work.commit()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True, timeout=60)
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_former_store_that_a_kill_left_aside_comes_back(tmp_path, overwrite):
    work = unfinished(tmp_path / "a")
    put_former(work.partial / "replaced")
    try:
        with WorkFolder(work.final, SETTINGS, overwrite=overwrite) as again:
            assert again.resumed
    except errors.StoreExistsError:
        assert not overwrite
    assert tree(work.final) == {"old": b"old"}
    assert tree(work.path) == {"x": b"x"}


def put_former(final):
    final.mkdir()
    (final / "old").write_bytes(b"old")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its files, and how many steps it has without and with overwrite."""
    steps = {}
    for overwrite in ("no", "overwrite"):
        final = tmp_path_factory.mktemp("whole") / "a"
        if overwrite == "overwrite":
            put_former(final)
        run = child(final, overwrite=overwrite)
        assert run.returncode == 0, run.stderr
        steps[overwrite] = int(run.stdout.split()[0])
    return tree(final), steps


@pytest.mark.parametrize("share", range(8))
@pytest.mark.parametrize("overwrite", ["no", "overwrite"])
def test_killed_at_any_step_it_resumes_to_the_same_bytes(tmp_path, whole, overwrite, share):
    files, steps = whole
    # The last steps, the commit, matter most: half of the kills are spread over them.
    total = steps[overwrite]
    step = share * (total - 12) // 4 if share < 4 else total - 12 + 3 * (share - 4)
    final = tmp_path / "a"
    if overwrite == "overwrite":
        put_former(final)
    killed = child(final, step, overwrite)
    assert killed.returncode == -signal.SIGKILL, (killed.stderr, step)
    if final.exists():
        assert tree(final) in (files, {"old": b"old"})
    again = child(final, overwrite=overwrite)
    if again.returncode:
        assert overwrite == "no"
        assert "StoreExistsError" in again.stderr  # the kill came after the commit
    assert tree(final) == files
    assert names(tmp_path) == ["a"]


def test_what_is_on_the_disk_while_working(tmp_path):
    with WorkFolder(tmp_path / "a", SETTINGS) as work:
        fill(work, "x")
        assert names(work.partial) == [
            "ledger.jsonl",
            "lock",
            "settings.json",
            "store",
        ]
        assert json.loads((work.partial / "settings.json").read_bytes()) == SETTINGS


@pytest.mark.parametrize("above", ["file", "loop"])
def test_a_place_that_can_hold_no_folder_is_told(tmp_path, above):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with (
        pytest.raises(errors.StoreWriteError, match=above),
        WorkFolder(tmp_path / above / "a", SETTINGS),
    ):
        pytest.fail("entered")
