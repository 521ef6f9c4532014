"""The server of scripted faults: right answers, each fault as it says, and its speed."""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from wsistore.testing import faults
from wsistore.testing.server import FaultServer

DATA = np.random.default_rng(0).bytes(3_000_000)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "bucket" / "a").mkdir(parents=True)
    (folder / "bucket" / "a" / "x y.svs").write_bytes(DATA)
    (folder / "bucket" / "b&.txt").write_bytes(b"")
    (folder.parent / "secret.txt").write_bytes(b"secret")
    with FaultServer(folder) as server:
        yield server


@pytest.fixture
def server(served):
    served.reset()
    served.latency_s = 0.0
    return served


def ask(server, told="bytes=10-109", path="/bucket/a/x%20y.svs", method="GET", timeout=60, **more):
    """Return status, headers and body; what breaks off is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        headers = {**({"Range": told} if told else {}), **more}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("told", "start", "stop"),
    [
        ("bytes=10-109", 10, 110),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
        ("bytes=2999990-9999999", 2_999_990, 3_000_000),
        ("bytes=0-2999999", 0, 3_000_000),  # more than one piece
    ],
)
def test_ranges_are_answered(server, told, start, stop):
    status, headers, body = ask(server, told)
    assert (status, body) == (206, DATA[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/3000000"
    assert server.counts() == (1, stop - start)
    assert server.requests[0][:4] == (0, "GET", "/bucket/a/x%20y.svs", told)


def test_whole_files_heads_and_refusals(server):
    status, headers, body = ask(server, "")
    assert (status, body) == (200, DATA)
    etag = headers["ETag"]
    assert etag.startswith('"')
    assert headers["Last-Modified"].endswith("GMT")
    status, headers, body = ask(server, "", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "3000000", b"")
    assert ask(server, "", path="/bucket/b%26.txt")[::2] == (200, b"")
    for told, status in (("bytes=3000000-", 416), ("bytes=-0", 416), ("bytes=x-", 416)):
        assert ask(server, told)[0] == status
    assert ask(server, "", path="/bucket/absent")[0] == 404
    assert ask(server, "", path="/../secret.txt")[0] == 404
    assert ask(server, "", method="PUT")[0] == 405
    assert ask(server, **{"If-Match": etag})[0] == 206
    assert ask(server, **{"If-Match": '"other"'})[0] == 412


def test_a_file_that_changes_has_another_etag(server, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    with FaultServer(tmp_path) as own:
        first = ask(own, "", path="/x")
        path.write_bytes(b"three")
        second = ask(own, "", path="/x")
    assert (first[2], second[2]) == (b"one", b"three")
    assert first[1]["ETag"] != second[1]["ETag"]


def test_connections_are_kept(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(3):
        connection.request("GET", "/bucket/b%26.txt")
        connection.getresponse().read()
        assert connection.sock is not None
    connection.close()


def test_objects_are_listed_for_s3(server):
    obstore = pytest.importorskip("obstore")
    from obstore.store import S3Store

    store = S3Store(
        "bucket",
        endpoint=server.url,
        region="us-east-1",
        skip_signature=True,
        client_options={"allow_http": True},
    )
    found = [meta for page in obstore.list(store) for meta in page]
    assert {meta["path"]: meta["size"] for meta in found} == {"a/x y.svs": 3_000_000, "b&.txt": 0}
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["a"]
    part = obstore.get_range(store, "a/x y.svs", start=7, end=9)
    assert bytes(part) == DATA[7:9]
    head = obstore.head(store, "a/x y.svs")
    assert head["e_tag"] == ask(server)[1]["ETag"] == found[0]["e_tag"]


def test_faults_that_are_answers(server):
    wanted = DATA[10:110]
    told = "bytes 10-109/3000000"
    turned = bytes(255 - value for value in wanted)
    table = [
        (faults.Status(503), 503, None, b""),
        (faults.Redirect("http://elsewhere/x"), 307, None, b""),
        (faults.IgnoreRange(), 200, None, DATA),
        (faults.WrongRange(), 206, "bytes 11-110/3000000", DATA[11:111]),
        (faults.WrongRange(3, lying=True), 206, told, DATA[13:113]),
        (faults.ShortBody(), 206, told, wanted[:-1]),
        (faults.Garbage(), 206, told, turned),
        (faults.WrongSize(), 206, "bytes 10-109/3000001", wanted),
        (faults.NoLength(), 206, told, wanted),
        (faults.NoLength(7), 206, told, wanted[:7]),
        (faults.SlowStart(0.01), 206, told, wanted),
        (faults.ChangedETag('"x"'), 206, told, wanted),
        (faults.NoETag(), 206, told, wanted),
        (None, 206, told, wanted),
    ]
    server.play([fault for fault, *_ in table])
    for fault, status, place, body in table:
        found, headers, came = ask(server)
        assert (found, headers.get("Content-Range"), came) == (status, place, body), fault
        assert ("Content-Length" in headers) == (not isinstance(fault, faults.NoLength))
        etag = {faults.ChangedETag: '"x"', faults.NoETag: None}
        if type(fault) in etag:
            assert headers.get("ETag") == etag[type(fault)]
    assert ask(server)[0] == 206  # the script is over
    server.play(itertools.repeat(faults.Status(429, retry_after=2)), lambda r: r.method == "HEAD")
    assert ask(server)[0] == 206
    assert [ask(server, method="HEAD")[1].get("Retry-After") for _ in range(2)] == ["2", "2"]
    server.play(lambda request: faults.Status(418) if request.number == 18 else None)
    assert [ask(server)[0] for _ in range(2)] == [418, 206]


def test_a_moved_range_stays_within_the_file(server):
    server.play([faults.WrongRange()])
    assert ask(server, "bytes=-5")[2] == DATA[-6:-1]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.Cut(), http.client.IncompleteRead),
        (faults.Cut(0), http.client.IncompleteRead),
        (faults.Stall(10), TimeoutError),
        (faults.Reset(), ConnectionResetError),
        (faults.Reset(20), ConnectionResetError),
    ],
)
def test_faults_that_break_off(server, fault, error):
    server.play([fault])
    with pytest.raises(error):
        ask(server, timeout=0.2 if error is TimeoutError else 60)
    assert ask(server)[2] == DATA[10:110]


def test_requests_wait_side_by_side(server):
    wires = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]

    def ask_all():
        began = time.monotonic()
        for wire in wires:
            wire.sendall(b"GET /bucket/a/x%20y.svs HTTP/1.1\r\nRange: bytes=0-0\r\n\r\n")
        for wire in wires:
            assert wire.recv(4096).startswith(b"HTTP/1.1 206")
        return time.monotonic() - began

    at_once = ask_all()
    server.latency_s = 0.1
    late = ask_all()
    for wire in wires:
        wire.close()
    assert 0.1 <= late < 2 + 5 * at_once  # not 50 times as long


def test_a_process_of_its_own(tmp_path):
    (tmp_path / "x").write_bytes(b"hello")
    command = [sys.executable, "-m", "wsistore.testing.server", str(tmp_path), "--latency-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/x", timeout=60) as answer:
            assert answer.read() == b"hello"
        process.terminate()


# In front of another server


@pytest.fixture
def before(s3_server, bucket, monkeypatch):
    with FaultServer.before(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy, bucket


def test_a_proxy_passes_on_what_no_fault_strikes(before):
    from wsistore.sources import open_place

    proxy, bucket = before
    place = open_place(bucket)
    place.put("a/b c", DATA)
    assert place.get("a/b c") == DATA
    assert [found.key for found in place.list_tree()] == ["a/b c"]
    assert {request.method for request in proxy.requests} >= {"GET", "PUT"}


def test_a_proxy_s_uploads_fail_before_and_after_they_arrive(before):
    from wsistore.sources import open_place

    proxy, bucket = before
    place = open_place(bucket, retries=0, deadline_s=2.0)
    for fault, arrives in (
        (faults.Status(503), False),
        (faults.ResetUpload(1000), False),
        (faults.Reset(), True),  # the answer alone is lost
    ):
        name = type(fault).__name__
        proxy.play([fault], lambda request: request.method in ("PUT", "POST"))
        with pytest.raises(OSError, match="can't write"):
            place.put(name, DATA[:100_000])
        proxy.reset()
        assert (name in {found.key for found in place.list_tree()}) is arrives


def test_a_proxy_before_nothing_answers_502(tmp_path):
    with socket.socket() as deaf:  # has a port, so that nobody else takes it, and does not listen
        deaf.bind(("127.0.0.1", 0))
        with FaultServer.before(f"http://127.0.0.1:{deaf.getsockname()[1]}") as proxy:
            assert ask(proxy)[0] == 502
