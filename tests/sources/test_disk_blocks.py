"""Blocks kept on disk: never those of another state of an object."""

from __future__ import annotations

import http.server
import re
import threading
from types import SimpleNamespace

import pytest

from wsistore.sources import open_source
from wsistore.sources.disk_blocks import DiskBlocks

SIZE = 200_000


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers ranges with no other headers than those it is told to send."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        state = self.server.state
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        start, stop = int(found[1]), min(int(found[2]) + 1, SIZE)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{SIZE}")
        self.send_header("Content-Length", str(stop - start))
        for name, value in state.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(state.data[start:stop])


@pytest.fixture
def server():
    """Serve one object, whose bytes and headers can be set."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state = running.state = SimpleNamespace(data=bytes(SIZE), headers={})
        state.url = f"http://127.0.0.1:{running.server_port}/a.svs"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield state
        running.shutdown()
        thread.join()


def read(server, folder):
    source = open_source(server.url, index_cache=folder)
    try:
        return source.read(100_000, 4)
    finally:
        source.close()


@pytest.mark.parametrize(
    ("headers", "others", "kept"),
    [
        ({}, {}, False),
        ({"ETag": '"1"'}, {"ETag": '"2"'}, True),
        ({"ETag": 'W/"1"'}, {"ETag": 'W/"2"'}, True),
        (
            {"Last-Modified": "Sat, 21 Nov 2026 06:00:00 GMT"},
            {"Last-Modified": "Sat, 21 Nov 2026 07:00:00 GMT"},
            True,
        ),
    ],
    ids=["nothing", "etag", "weak-etag", "time"],
)
def test_bytes_are_those_of_the_object_whatever_the_server_tells(
    server, tmp_path, headers, others, kept
):
    server.headers = headers
    assert read(server, tmp_path) == bytes(4)
    assert any(path.is_file() for path in tmp_path.rglob("*")) is kept
    server.headers, server.data = others, b"\1" * SIZE  # the same size, another content
    assert read(server, tmp_path) == b"\1" * 4


@pytest.mark.parametrize("identity", ["9 ", "9", "9 1970-01-01 00:00:00+00:00"])
def test_a_state_that_can_not_be_told_from_others_is_not_kept(tmp_path, identity):
    blocks = DiskBlocks(tmp_path, "http://host/a", identity)
    blocks.put(0, b"123456789")
    assert blocks.get(0, 9) is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_block_is_given_back(tmp_path):
    DiskBlocks(tmp_path, "http://host/a", '9 "etag"').put(0, b"123456789")
    assert DiskBlocks(tmp_path, "http://host/a", '9 "etag"').get(0, 9) == b"123456789"
    assert DiskBlocks(tmp_path, "http://host/a", '9 "other"').get(0, 9) is None
