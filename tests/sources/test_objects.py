"""Ranged reads from objects: in memory, and from a small HTTP server on this machine."""

import http.server
import os
import pickle
import re
import subprocess
import sys
import threading
from datetime import timedelta
from types import SimpleNamespace

import obstore
import obstore.exceptions
import pytest
from obstore.store import MemoryStore

from wsistore import errors
from wsistore.sources import open_folder, open_source
from wsistore.sources.object_errors import CLASSES, from_object_error, secrets_of

DATA = bytes(range(256)) * 4000
ONCE = {
    "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
    "client_options": {"timeout": "5s"},
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        state = self.server.state
        wanted = self.headers.get("Range")
        state.requests.append((self.command, self.path, wanted, self.headers.get("Authorization")))
        status = state.status
        part = DATA if status == 200 else f"<E><Key>{state.leak}</Key></E>".encode()
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
        if status == 200 and found and state.ranges:
            start, stop = int(found[1]), int(found[2]) + 1
            part, status = DATA[start:stop], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(DATA)}")
        if state.etag:
            self.send_header("ETag", state.etag)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.state = SimpleNamespace(
            requests=[], status=200, ranges=True, etag='W/"1"', leak="LEAK"
        )
        server.state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.state
        server.shutdown()
        thread.join()


@pytest.fixture
def store():
    store = MemoryStore()
    obstore.put(store, "a/b.bin", DATA)
    obstore.put(store, "zarr.json", b"{}")
    obstore.put(store, "empty", b"")
    return store


def test_an_object_is_read_in_ranges(store):
    folder = open_folder("memory:///", store=store)
    source = folder.source("a/b.bin")
    assert source.size == len(DATA)
    assert source.read(1000, 10) == DATA[1000:1010]
    offsets, counts = [900_000, 5, 0, 7, 5], [10, 3, 0, 9, 3]
    views = source.read_many(offsets, counts)
    assert [bytes(v) for v in views] == [
        DATA[o : o + c] for o, c in zip(offsets, counts, strict=True)
    ]
    assert folder.source("empty").size == 0
    with pytest.raises(errors.SourceRangeError, match=str(len(DATA))):
        source.read(len(DATA), 1)
    source.check()
    source.close()
    with pytest.raises(errors.SourceError, match="closed"):
        source.read(0, 1)


def test_a_folder_of_objects(store):
    folder = open_folder("memory:///", store=store)
    assert folder.get("zarr.json") == b"{}"
    assert folder.get("none") is None
    assert folder.list_names() == ["a/", "empty", "zarr.json"]
    assert folder.list_names("a/") == ["b.bin"]
    with pytest.raises(errors.SourceNotFoundError, match="none"):
        folder.source("none")
    with pytest.raises(errors.UsageError, match="not the key"):
        folder.get("../x")


def test_a_changed_object_is_noticed(store):
    source = open_folder("memory:///", store=store).source("a/b.bin")
    obstore.put(store, "a/b.bin", DATA[::-1])
    for look in (lambda: source.read(100_000, 5), source.check):
        with pytest.raises(errors.SourceChangedError, match="not the object that was opened"):
            look()


def test_http_neighbours_come_in_one_request(server):
    source = open_source(f"{server.url}/x%20y/s.svs", **ONCE)
    server.requests.clear()
    offsets, counts = [0, 50_000, 700_000], [1000, 1000, 2000]
    views = source.read_many(offsets, counts)
    assert [bytes(v) for v in views] == [
        DATA[o : o + c] for o, c in zip(offsets, counts, strict=True)
    ]
    assert sorted(r[:3] for r in server.requests) == [
        ("GET", "/x%20y/s.svs", "bytes=0-50999"),
        ("GET", "/x%20y/s.svs", "bytes=700000-701999"),
    ]
    again = pickle.loads(pickle.dumps(source))
    assert again.read(3, 4) == DATA[3:7]
    assert again.size == source.size


def test_http_change_is_noticed_by_the_etag(server):
    source = open_source(f"{server.url}/s.svs", **ONCE)
    server.etag = 'W/"2"'
    with pytest.raises(errors.SourceChangedError, match="ETag"):
        source.read(100_000, 5)
    server.etag = ""  # a server that sends none can't be checked
    assert source.read(100_000, 5) == DATA[100_000:100_005]


def test_a_server_without_ranges_is_told(server):
    source = open_source(f"{server.url}/s.svs", **ONCE)
    server.ranges = False
    with pytest.raises(errors.SourceError, match="download"):
        source.read(100_000, 5)
    with pytest.raises(errors.SourceError, match="download"):
        open_source(f"{server.url}/s.svs", **ONCE)


def test_credentials_are_sent_and_never_shown(server, capsys):
    secrets = ["Usr1", "Pw%31", "Pw1", "SIG9", server.leak]
    url = server.url.replace("://", "://Usr1:Pw%31@") + "/s.svs?X-Signature=SIG9"
    source = open_source(url, **ONCE)
    assert source.read(0, 3) == DATA[:3]
    method, path, _, authorization = server.requests[-1]
    assert (method, path) == ("GET", "/s.svs?X-Signature=SIG9")
    assert authorization.startswith("Basic ")
    shown = [source.name, repr(source), repr(source._bucket)]
    for status, kind in [
        (403, errors.SourceAccessError),
        (401, errors.SourceAccessError),
        (404, errors.SourceNotFoundError),
        (418, errors.SourceError),
    ]:
        server.status = status
        with pytest.raises(kind) as caught:
            source.read(900_000, 3)
        shown += [str(caught.value), repr(caught.value)]
        assert caught.value.__context__ is None
        assert caught.value.__cause__ is None
    for text in shown:
        assert not any(secret in text for secret in secrets), text
        assert "/s.svs" in text or "Bucket" in text


def test_secrets_are_found_in_options_too():
    options = {
        "aws_secret_access_key": "abc",
        "region": "eu",
        "client_options": {"default_headers": {"x-any": "hidden"}, "timeout": "5s"},
    }
    assert set(secrets_of("s3://b/k", options)) == {"abc", "hidden"}
    told = from_object_error(
        ValueError("abc://u:p@h/k?q=1 hidden\nmore abc"), "s3://b/k", ["hidden"]
    )
    assert told.message == "s3://b/k can't be the name of an object: abc://h/k ..."


def test_every_error_of_obstore_is_mapped():
    found = {
        name
        for name in dir(obstore.exceptions)
        if isinstance(getattr(obstore.exceptions, name), type)
        and issubclass(getattr(obstore.exceptions, name), Exception)
    }
    assert found
    assert found <= CLASSES.keys()
    for name in found:
        kind = CLASSES[name][0]
        error = getattr(obstore.exceptions, name)("boom")
        assert type(from_object_error(error, "s3://b/k", ())) is kind


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("foo://bucket/key", {}),
        ("s3://bucket/key", {"nonsense": 1}),
        ("memory:///key", {"store": MemoryStore(), "region": "x"}),
        ("s3://bucket/", {"region": "x"}),
    ],
)
def test_a_wrong_call_is_told(url, options):
    with pytest.raises(errors.UsageError):
        open_source(url, **options)


def test_a_forked_child_is_refused_instead_of_waiting_forever():
    code = """
import os
import obstore
from obstore.store import MemoryStore
from wsistore import errors
from wsistore.sources import open_folder
store = MemoryStore()
obstore.put(store, "k", b"123")
source = open_folder("memory:///", store=store).source("k")
pid = os.fork()
if pid == 0:
    try:
        source.read(0, 1)
    except errors.SourceError as error:
        os._exit(0 if "spawn" in str(error) else 2)
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
assert source.read(0, 1) == b"1"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=dict(os.environ))
