"""Servers that fail: what is repeated, what ends in time, and what opening costs."""

from __future__ import annotations

import http.server
import itertools
import os
import pickle
import re
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from wsistore import errors
from wsistore.sources import open_source
from wsistore.sources.bucket import request_counts
from wsistore.testing.faults import NoETag
from wsistore.testing.server import FaultServer

DATA = np.random.default_rng(0).bytes(1 << 20)
QUICK = {"deadline_s": 2.0, "timeout_s": 1.0, "retries": 1000}
"""Only time ends reading, and opening has enough of it where the machine is slow."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ranges; takes its next fault from a list."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        state = self.server.state
        state.requests.append((self.command, self.headers.get("Range")))
        fault = state.faults.pop(0) if state.faults else state.always
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        data = state.data
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if found and int(found[1]) >= len(data):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, stop = 0, len(data)
        if found and fault != "whole":
            start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
        if fault == "other range":
            start, stop = start + 1, stop + 1
        self.send_response(206 if found and fault != "whole" else 200)
        if found and fault != "whole":
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("ETag", state.etag)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        part = data[start:stop]
        if fault == "cut":
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        elif fault == "stall":
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            state.release.wait(60)
            self.close_connection = True
        else:
            self.wfile.write(part)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.state = SimpleNamespace(
            requests=[], faults=[], always=None, data=DATA, etag='"1"', release=threading.Event()
        )
        server.state.url = f"http://127.0.0.1:{server.server_port}/s.svs"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.state
        server.state.release.set()
        server.shutdown()
        thread.join()


def test_opening_is_one_request_that_brings_the_head_along(server):
    before = request_counts()
    source = open_source(server.url)
    assert source.size == len(DATA)
    assert source.read(0, 8) + source.read(60_000, 5000) == DATA[:8] + DATA[60_000:65_000]
    assert server.requests == [("GET", "bytes=0-65535")]
    after = request_counts()
    assert (after.requests - before.requests, after.bytes_read - before.bytes_read) == (1, 65536)


def test_small_reads_of_a_place_cost_one_request(server):
    source = open_source(server.url)
    server.requests.clear()
    at = 5 * 65536
    for offset in (at + 10, at + 60_000, at + 70_000, at + 131_000):
        assert source.read(offset, 50) == DATA[offset : offset + 50]
    assert source.read(at + 65_530, 20) == DATA[at + 65_530 : at + 65_550]
    assert len(server.requests) == 2
    assert source.read(len(DATA) - 7, 7) == DATA[-7:]


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537])
def test_objects_of_all_sizes_are_opened(server, size):
    server.data = DATA[:size]
    source = open_source(server.url)
    assert source.size == size
    assert source.read(0, size) == DATA[:size]


@pytest.mark.parametrize("fault", [503, 500, 429, "cut"])
def test_what_passes_is_repeated(server, fault):
    source = open_source(server.url)
    server.faults = [fault]
    assert source.read(300_000, 1000) == DATA[300_000:301_000]
    views = None
    server.faults = [fault, fault]
    views = source.read_many([200_000, 800_000], [5000, 5000])
    assert [bytes(view) for view in views] == [DATA[200_000:205_000], DATA[800_000:805_000]]


@pytest.mark.parametrize("fault", [503, "cut", "stall"])
def test_what_does_not_pass_ends_in_time(server, fault):
    source = open_source(server.url, **QUICK)
    server.always = fault
    began = time.monotonic()
    with pytest.raises(errors.SourceError):
        source.read(300_000, 1000)
    assert time.monotonic() - began < 30


def test_a_stalled_body_is_told_as_such(server):
    source = open_source(server.url, **QUICK)
    server.always = "stall"
    with pytest.raises(errors.SourceUnavailableError, match=r"s\.svs was not read in time"):
        source.read(300_000, 1000)


@pytest.mark.parametrize("fault", ["whole", "other range"])
def test_another_range_than_asked_for_is_never_taken(server, fault):
    source = open_source(server.url, **QUICK)
    server.always = fault
    with pytest.raises(errors.SourceError):
        source.read(300_000, 1000)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, errors.SourceAccessError), (404, errors.SourceNotFoundError), (412, errors.SourceError)],
)
def test_what_will_not_pass_is_not_repeated(server, status, kind):
    source = open_source(server.url)
    server.requests.clear()
    server.always = status
    with pytest.raises(kind):
        source.read(300_000, 1000)
    assert len(server.requests) == 1


def test_a_source_in_another_process_sees_that_the_object_changed(server):
    source = open_source(server.url)
    again = pickle.loads(pickle.dumps(source))
    assert again.identity == source.identity
    assert again.read(5, 5) == DATA[5:10]
    server.etag = '"2"'
    with pytest.raises(errors.SourceChangedError):
        pickle.loads(pickle.dumps(source)).read(5, 5)
    assert open_source(server.url).identity != source.identity


def test_a_closed_source_reads_nothing(server):
    source = open_source(server.url)
    source.close()
    with pytest.raises(errors.SourceError, match="closed"):
        source.read(0, 5)


def test_opening_again_with_an_index_cache_costs_one_request(server, tmp_path):
    cache = tmp_path / "cache"

    def look():
        server.requests.clear()
        source = open_source(server.url, index_cache=cache)
        # A long tile table, and a header elsewhere.
        assert source.read(200_000, 300_000) == DATA[200_000:500_000]
        assert source.read(900_000, 9) == DATA[900_000:900_009]
        source.close()
        return len(server.requests)

    assert [look(), look()] == [3, 1]
    for file in list(cache.rglob("*"))[-3:]:
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert look() > 1  # what is damaged is fetched again
    assert look() == 1
    server.etag, server.data = '"2"', DATA[::-1]
    assert open_source(server.url, index_cache=cache).read(200_000, 5) == server.data[200_000:][:5]
    assert not any("127.0.0.1" in str(path.relative_to(tmp_path)) for path in cache.rglob("*"))


def test_an_index_cache_that_can_not_be_written_is_told(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.UsageError, match="index cache"):
        open_source(server.url, index_cache=tmp_path / "file")


def test_without_etags_the_time_of_change_tells(tmp_path):
    path = tmp_path / "s.svs"
    path.write_bytes(DATA)
    os.utime(path, (1e9, 1e9))
    with FaultServer(tmp_path) as server:
        server.play(itertools.repeat(NoETag()))
        source = open_source(f"{server.url}/s.svs")
        assert source.read(300_000, 5) == DATA[300_000:300_005]
        os.utime(path, (2e9, 2e9))
        with pytest.raises(errors.SourceChangedError):
            source.read(600_000, 5)
