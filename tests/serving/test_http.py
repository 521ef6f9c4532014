"""The server as HTTP clients see it; its store's files are what it must send."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wsistore.serving import SlideServer
from wsistore.serving.answering import LONGEST_LINE, Request

ROOT = "/tissue.ome.zarr"
DOCUMENT = f"{ROOT}/zarr.json"
SHARD = "0/c/0/0/0"
VIEWER = "https://neuroglancer-demo.appspot.com"


@pytest.fixture
def shard(zstd_store: Path) -> bytes:
    return (zstd_store / SHARD).read_bytes()


def test_get_sends_the_file(ask: Any, zstd_store: Path, shard: bytes) -> None:
    got = ask(f"{ROOT}/{SHARD}")
    assert (got.status, got.body) == (200, shard)
    assert got.headers["Content-Length"] == str(len(shard))
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Accept-Ranges"] == "bytes"
    document = ask(DOCUMENT)
    assert document.body == (zstd_store / "zarr.json").read_bytes()
    assert document.headers["Content-Type"] == "application/json"


def test_all_answers_carry_what_protects(ask: Any) -> None:
    for path, status in [("/", 200), (DOCUMENT, 200), ("/none", 404), ("/a/../b", 400)]:
        got = ask(path)
        assert got.status == status
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert got.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert got.headers["Referrer-Policy"] == "no-referrer"
        assert "Python" not in got.headers["Server"]
        assert got.headers["Date"]


def test_head_is_get_without_its_body(ask: Any) -> None:
    for path in (f"{ROOT}/{SHARD}", DOCUMENT, "/", "/slides.json", "/none", "/a/../b"):
        got, head = ask(path), ask(path, "HEAD")
        assert (head.status, head.body) == (got.status, b"")
        ours, theirs = dict(head.headers), dict(got.headers)
        assert ours.pop("Date")
        assert theirs.pop("Date")
        assert ours == theirs


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=50-", 50, None),
        ("bytes=-16", -16, None),
    ],
)
def test_ranges(ask: Any, shard: bytes, header: str, start: int, stop: int | None) -> None:
    expected = shard[start:stop]
    first = start % len(shard)
    for method, body in (("GET", expected), ("HEAD", b"")):
        got = ask(f"{ROOT}/{SHARD}", method, Range=header)
        assert (got.status, got.body) == (206, body)
        assert got.headers["Content-Length"] == str(len(expected))
        last = first + len(expected) - 1
        assert got.headers["Content-Range"] == f"bytes {first}-{last}/{len(shard)}"


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "lines=1-2", "bytes=9-2", "nonsense"])
def test_ranges_that_are_ignored(ask: Any, shard: bytes, header: str) -> None:
    got = ask(f"{ROOT}/{SHARD}", Range=header)
    assert (got.status, got.body) == (200, shard)


def test_a_range_behind_the_end(ask: Any, shard: bytes) -> None:
    got = ask(f"{ROOT}/{SHARD}", Range=f"bytes={len(shard)}-")
    assert got.status == 416
    assert got.headers["Content-Range"] == f"bytes */{len(shard)}"
    assert ask(DOCUMENT).status == 200  # the connection goes on


def test_a_large_file_goes_in_pieces(
    tmp_path: Path, zstd_store: Path, visit: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.serving.answering._PIECE", 1000)
    with SlideServer([zstd_store]) as server:
        assert visit(server.url)(f"{ROOT}/{SHARD}").body == (zstd_store / SHARD).read_bytes()


def test_entity_tags(ask: Any, shard: bytes) -> None:
    tag = ask(f"{ROOT}/{SHARD}").headers["ETag"]
    assert tag.startswith('"')
    assert tag != ask(DOCUMENT).headers["ETag"]
    for method in ("GET", "HEAD"):
        unchanged = ask(f"{ROOT}/{SHARD}", method, If_None_Match=f'"other", W/{tag}')
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert unchanged.headers["ETag"] == tag
        assert unchanged.headers["Content-Length"] is None
    assert ask(f"{ROOT}/{SHARD}", If_None_Match="*").status == 304
    assert ask(f"{ROOT}/{SHARD}", If_None_Match='"other"').body == shard
    assert ask(f"{ROOT}/none", If_None_Match="*").status == 404


def test_a_range_of_a_state_that_is_gone_gives_the_whole(ask: Any, shard: bytes) -> None:
    tag = ask(f"{ROOT}/{SHARD}").headers["ETag"]
    assert ask(f"{ROOT}/{SHARD}", Range="bytes=0-4", If_Range=tag).status == 206
    for stale in ('"other"', f"W/{tag}", "Sat, 29 Oct 1994 19:43:31 GMT"):
        got = ask(f"{ROOT}/{SHARD}", Range="bytes=0-4", If_Range=stale)
        assert (got.status, got.body) == (200, shard)
    assert ask(f"{ROOT}/{SHARD}", If_Match=tag).status == 200
    assert ask(f"{ROOT}/{SHARD}", If_Match='"other"').status == 412


@pytest.mark.parametrize(
    "path",
    [
        "/none", "/none/zarr.json", ROOT, f"{ROOT}/9/zarr.json", f"{ROOT}/0/c/0/99/99", f"{ROOT}/0",
        f"{ROOT}/0/c/0/0/0/0", f"{ROOT}/{'x' * 300}", "/none/", f"{ROOT}/none/", "/slides.json/",
    ],
)  # fmt: skip
def test_what_is_not_there(ask: Any, path: str) -> None:
    got = ask(path)
    assert got.status == 404
    assert b"tissue" not in got.body  # it tells nothing


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd", f"{ROOT}/../../etc/passwd", f"{ROOT}/..%2f..%2fetc%2fpasswd",
        f"{ROOT}/%2e%2e/%2e%2e/etc/passwd", f"{ROOT}/a%00", f"{ROOT}/..\\x", "/%ff",
    ],
)  # fmt: skip
def test_paths_that_lead_out(ask: Any, path: str) -> None:
    assert ask(path).status == 400


def test_absolute_targets_are_refused(ask: Any) -> None:
    answer = ask.raw(b"GET http://localhost/slides.json HTTP/1.1\r\nHost: localhost\r\n"
                     b"Connection: close\r\n\r\n")  # fmt: skip
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"])
def test_methods_that_are_not_allowed(ask: Any, method: str) -> None:
    got = ask(DOCUMENT, method)
    assert got.status == 405
    assert got.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert got.headers["Connection"] == "close"


def test_unknown_methods(ask: Any) -> None:
    assert ask(DOCUMENT, "BREW").status == 501


def test_the_connection_is_kept(ask: Any) -> None:
    assert ask("/").status == 200
    first = ask.connection.sock.getsockname()
    assert [ask(path).status for path in (DOCUMENT, "/none", f"{ROOT}/../x")] == [200, 404, 400]
    assert ask.connection.sock.getsockname() == first


def test_pipelined_requests_are_answered_in_order(ask: Any) -> None:
    line = b" HTTP/1.1\r\nHost: localhost\r\n"
    answer = ask.raw(
        b"GET /none" + line + b"\r\n" + b"GET /slides.json" + line + b"Connection: close\r\n\r\n"
    )
    assert answer.index(b"HTTP/1.1 404 ") == 0 < answer.index(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: 5", 400), (b"Transfer-Encoding: chunked", 400),
        (b"Content-Length: 0", 200), (b"Content-Length: 0\r\nContent-Length: 44", 400),
    ],
)  # fmt: skip
def test_bodies_are_not_taken_for_requests(ask: Any, header: bytes, status: int) -> None:
    """A smuggled request behind a body that a proxy has read would be another's answer."""
    smuggled = b"GET /slides.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = ask.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n" + smuggled)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == (2 if status == 200 else 1)


def test_request_lines_are_bounded(ask: Any) -> None:
    long = b"GET /" + b"a" * (LONGEST_LINE + 1) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert ask.raw(long).startswith(b"HTTP/1.1 414 ")
    longer = b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert ask.raw(longer).startswith(b"HTTP/1.1 414 ")


def test_headers_are_bounded(ask: Any) -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    answer = ask.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET / HTTP/1.1 more\r\nHost: localhost\r\n\r\n", b"GET / FTP/1.1\r\n\r\n", b"\0" * 100,
    ],
)  # fmt: skip
def test_noise_does_not_end_the_server(ask: Any, request_bytes: bytes) -> None:
    answer = ask.raw(request_bytes + b"\r\n")
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert ask("/").status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "192.168.1.1"])
def test_rebound_names_are_refused(ask: Any, host: str) -> None:
    got = ask(DOCUMENT, Host=host)
    assert got.status == 421
    assert b"zarr" not in got.body


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        (b"GET /tissue.ome.zarr/zarr.json", b"evil.example", 421),
        (b"POST /tissue.ome.zarr/zarr.json", b"localhost", 405),
        (b"BREW /tissue.ome.zarr/zarr.json", b"localhost", 501),
    ],
)
def test_what_is_refused_is_answered_once(ask: Any, line: bytes, host: bytes, status: int) -> None:
    answer = ask.raw(line + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"multiscales" not in answer


def test_a_request_names_one_host(ask: Any) -> None:
    for hosts in (b"", b"Host: localhost\r\nHost: localhost\r\n"):
        answer = ask.raw(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
    assert ask.raw(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421 ")
    assert ask.raw(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_other_interfaces_take_any_host(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    with SlideServer([zstd_store], host="0.0.0.0") as server:
        assert visit(server.url)(DOCUMENT, Host="slides.hospital.example").status == 200


def test_pages_that_may_read(ask: Any) -> None:
    for path in (DOCUMENT, "/none", "/a/../b"):  # a viewer must see that a chunk is absent
        got = ask(path, Origin=VIEWER)
        assert got.headers["Access-Control-Allow-Origin"] == VIEWER
        exposed = got.headers["Access-Control-Expose-Headers"]
        assert {"Content-Range", "ETag", "Accept-Ranges"} <= set(exposed.split(", "))
        assert got.headers["Vary"] == "Origin"


def test_pages_that_may_not_read(ask: Any) -> None:
    got = ask(DOCUMENT, Origin="https://evil.example")
    assert got.headers["Access-Control-Allow-Origin"] is None
    assert got.headers["Vary"] == "Origin"


def test_preflights(ask: Any) -> None:
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range"}
    got = ask(f"{ROOT}/{SHARD}", "OPTIONS", Origin=VIEWER, **asked)
    assert (got.status, got.body) == (204, b"")
    assert got.headers["Access-Control-Allow-Origin"] == VIEWER
    assert "GET" in got.headers["Access-Control-Allow-Methods"]
    assert "Range" in got.headers["Access-Control-Allow-Headers"]
    assert got.headers["Access-Control-Allow-Private-Network"] is None
    private = {"Access_Control_Request_Private_Network": "true"}
    got = ask("/", "OPTIONS", Origin=VIEWER, **asked, **private)
    assert got.headers["Access-Control-Allow-Private-Network"] == "true"
    refused = ask("/", "OPTIONS", Origin="https://evil.example", **asked, **private)
    assert refused.status == 403
    assert refused.headers["Access-Control-Allow-Origin"] is None
    assert refused.headers["Access-Control-Allow-Private-Network"] is None
    assert ask("/", "OPTIONS").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_headers_that_drip_are_cut_off(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsistore.serving.answering.HEADER_S", 0.0)
    assert ask.raw(b"GET / HTTP/1.1\r\nHost: loc") == b""


def test_each_header_has_its_own_time(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsistore.serving.answering.HEADER_S", 0.0)  # it comes in one piece
    assert [ask(DOCUMENT).headers["Connection"] for _ in range(3)] == [None] * 3


def test_idle_connections_are_cut_off(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsistore.serving.answering.IDLE_S", 0.05)
    monkeypatch.setattr(Request, "timeout", 0.05)
    assert ask.raw(b"") == b""


def test_crowded_connections_end_with_their_answers(
    zstd_store: Path, visit: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that hundreds of requests at once, as of node, are answered by a few threads."""
    monkeypatch.setattr("wsistore.serving.listening.MOST_CONNECTIONS", 4)
    with SlideServer([zstd_store]) as server:
        kept = [visit(server.url) for _ in range(3)]
        assert [client("/").headers["Connection"] for client in kept] == [None] * 3
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: visit(server.url)("/"), range(60)))
        assert {answer.status for answer in answers} == {200}
        assert {answer.headers["Connection"] for answer in answers} == {"close"}
        assert {client("/").status for client in kept} == {200}


def test_connections_are_bounded(
    zstd_store: Path, visit: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.serving.listening.MOST_CONNECTIONS", 2)
    monkeypatch.setattr("wsistore.serving.listening._KEPT", 1.0)
    monkeypatch.setattr("wsistore.serving.listening._WAIT_S", 0.01)
    with SlideServer([zstd_store]) as server:
        first, second = visit(server.url), visit(server.url)
        assert (first("/").status, second("/").status) == (200, 200)
        assert visit(server.url)("/").status == 503
        assert first("/").status == 200


def test_a_file_that_was_replaced_has_another_tag(
    tmp_path: Path, zstd_store: Path, visit: Callable[[str], Any]
) -> None:
    import shutil

    copy = tmp_path / "tissue.ome.zarr"
    shutil.copytree(zstd_store, copy)
    with SlideServer([copy]) as server:
        client = visit(server.url)
        tag = client(DOCUMENT).headers["ETag"]
        document = json.loads((copy / "zarr.json").read_bytes())
        (copy / "new").write_text(json.dumps(document))
        (copy / "new").rename(copy / "zarr.json")
        got = client(DOCUMENT, If_None_Match=tag)
        assert got.status == 200
        assert got.headers["ETag"] != tag


def test_links_out_of_a_store_are_not_followed(
    tmp_path: Path, zstd_store: Path, visit: Callable[[str], Any]
) -> None:
    import shutil

    copy = tmp_path / "tissue.ome.zarr"
    shutil.copytree(zstd_store, copy)
    (tmp_path / "secret").write_text("canary")
    (copy / "file").symlink_to(tmp_path / "secret")
    (copy / "folder").symlink_to(tmp_path)
    (copy / "inside").symlink_to("zarr.json")
    with SlideServer([copy]) as server:
        client = visit(server.url)
        for path in ("file", "folder/secret", "folder/"):
            got = client(f"{ROOT}/{path}")
            assert (got.status, b"canary" in got.body) == (404, False)
        assert client(f"{ROOT}/inside").status == 200
