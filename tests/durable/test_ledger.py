"""A ledger gives back what was appended, whatever became of its end."""

import errno
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore import errors
from wsistore.durable import Ledger

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
entries = st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=6)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def written(folder, items):
    ledger = Ledger(Path(folder) / "ledger")
    for item in items:
        ledger.append(item)
    ledger.close()
    return ledger


@given(entries, st.data())
def test_cut_anywhere_it_holds_a_prefix_and_goes_on(items, data):
    with tempfile.TemporaryDirectory() as folder:
        ledger = written(folder, items)
        assert ledger.scan() == (items, [])
        size = len(ledger.read_bytes())
        cut = data.draw(st.integers(0, size))
        if items:
            os.truncate(ledger.path, cut)
        found, damaged = ledger.scan()
        assert found == items[: len(found)]
        assert len(damaged) <= 1
        ledger.append({"next": 1})
        ledger.close()
        assert ledger.scan() == ([*found, {"next": 1}], damaged)


@given(entries.filter(bool), st.data())
def test_a_changed_byte_costs_no_more_than_its_lines(items, data):
    with tempfile.TemporaryDirectory() as folder:
        ledger = written(folder, items)
        content = bytearray(ledger.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        ledger.path.write_bytes(content)
        found, damaged = ledger.scan()
        assert damaged
        rest = iter(items)
        assert all(item in rest for item in found)  # a subsequence
        assert len(items) - len(found) <= 2


def test_zeros_at_the_end_are_dropped(tmp_path):
    ledger = written(tmp_path, [{"a": 1}])
    with ledger.path.open("ab") as file:
        file.write(bytes(4096))
    assert Ledger(ledger.path).scan() == ([{"a": 1}], [2])


def test_no_file_is_an_empty_ledger_and_none_is_made(tmp_path):
    assert Ledger(tmp_path / "none").entries() == []
    assert names(tmp_path) == []
    with pytest.raises(errors.StoreCorruptError, match="can't be read"):
        Ledger(tmp_path).entries()
    with pytest.raises(errors.StoreWriteError):
        Ledger(tmp_path).append({})


def test_an_append_that_failed_half_way_harms_no_other(tmp_path, monkeypatch):
    ledger = written(tmp_path, [{"a": 1}])
    write, calls = os.write, []

    def full(fd, data):
        if calls:
            raise OSError(errno.ENOSPC, "full")
        calls.append(data)
        return write(fd, data[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(errors.StoreWriteError, match="free"):
            ledger.append({"b": 2})
    ledger.append({"c": 3})
    assert ledger.scan() == ([{"a": 1}, {"c": 3}], [2])


def test_threads_and_processes_append_whole_lines(tmp_path):
    ledger = Ledger(tmp_path / "ledger", sync=True)
    code = """
import sys
from wsistore.durable import Ledger
ledger = Ledger(sys.argv[1])
for i in range(200):
    ledger.append({"who": "child", "i": i, "pad": "x" * (i * 7 % 500)})
"""
    other = subprocess.Popen([sys.executable, "-c", code, str(ledger.path)])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: ledger.append({"who": "me", "i": i}), range(200)))
    assert other.wait(60) == 0
    found, damaged = ledger.scan()
    assert damaged == []
    assert sorted(e["i"] for e in found if e["who"] == "me") == list(range(200))
    assert [e["i"] for e in found if e["who"] == "child"] == list(range(200))


def test_what_json_cannot_tell_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="JSON"):
        Ledger(tmp_path / "a").append({"x": float("inf")})
