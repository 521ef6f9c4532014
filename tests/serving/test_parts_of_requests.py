"""What the parts of a request mean: targets, hosts, ranges, tags, origins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.serving.origins import VIEWER_ORIGINS, Origins
from wsistore.serving.ranges import UnsatisfiableError, parse_range
from wsistore.serving.tags import make_tag, tag_is_listed
from wsistore.serving.targets import BadTargetError, host_is_ours, is_loopback, parse_target


@pytest.mark.parametrize(
    ("text", "parts", "is_folder"),
    [
        ("/", (), True),
        ("/slides.json", ("slides.json",), False),
        ("/a.ome.zarr/0/c/0/1/2", ("a.ome.zarr", "0", "c", "0", "1", "2"), False),
        ("/a/", ("a",), True),
        ("/a/b?token=secret#part", ("a", "b"), False),
        ("/?x=/../y", (), True),
        ("/caf%C3%A9%20au%20lait", ("café au lait",), False),
        ("/a/.zgroup", ("a", ".zgroup"), False),
        ("/a/...", ("a", "..."), False),
        ("//a//b", ("a", "b"), False),
        ("/a//", ("a",), True),
        ("//", (), True),
        ("/a%252e", ("a%2e",), False),  # decoded once
    ],
)
def test_targets(text: str, parts: tuple[str, ...], is_folder: bool) -> None:
    assert parse_target(text) == (parts, is_folder)


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "http://elsewhere/a", "*", "/..", "/../a", "/a/..",
        "/a/../b", "/./a", "/a/.", "/a/%2e%2e/b", "/a/%2E./b", "/%2fetc%2fpasswd", "/a%2f..%2fb",
        "/a\\b", "/a%5c..%5cb", "/a%00b", "/a%0d%0ab", "/a%1fb", "/%ff", "/%c0%ae%c0%ae/a",
    ],
)  # fmt: skip
def test_targets_that_lead_elsewhere(text: str) -> None:
    with pytest.raises(BadTargetError):
        parse_target(text)


@given(st.text())
def test_no_target_escapes(text: str) -> None:
    try:
        parts = parse_target("/" + text).parts
    except BadTargetError:
        return
    assert not {"", ".", ".."} & set(parts)
    assert not any(char in part for part in parts for char in "/\\\0\r\n")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
@pytest.mark.parametrize("port", ["", ":80", ":8765"])
def test_hosts_that_are_ours(name: str, port: str) -> None:
    assert host_is_ours(name + port, "127.0.0.1")


@pytest.mark.parametrize(
    "header",
    [
        "", "evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil.example",
        "127.0.0.2", "localhost:80:80", "localhost:", "localhost:x", "::1", "[::1", "[::2]:80",
        "192.168.0.1", "0.0.0.0", "evil@localhost", "localhost,evil", "localhost:\uff18\uff10",
    ],
)  # fmt: skip
def test_hosts_that_are_not(header: str) -> None:
    assert not host_is_ours(header, "127.0.0.1")


def test_the_bound_address_is_ours_too() -> None:
    assert host_is_ours("127.0.0.2:99", "127.0.0.2")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("LocalHost", True), ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False), ("::", False), ("", False),
        ("192.168.0.1", False), ("127.evil.example", False),
    ],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)), ("bytes=0-99", (0, 100)), ("bytes=0-100", (0, 100)),
        ("bytes=99-", (99, 100)), ("bytes=-1", (99, 100)), ("bytes=-1000", (0, 100)),
        ("BYTES = 5 - 6", (5, 7)), ("bytes=0-999999999999999999", (0, 100)),
        # Ignored, as RFC 9110 has it
        ("bytes=-", None), ("bytes=5-4", None), ("bytes=0-1,3-4", None), ("lines=0-1", None),
        ("bytes=a-b", None), ("bytes=0x0-1", None), ("bytes", None), ("", None),
        ("bytes=1-2-3", None), ("bytes=--1", None), ("bytes=٣-٤", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)  # fmt: skip
def test_ranges(header: str, span: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == span


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=100-", 100), ("bytes=200-300", 100), ("bytes=-0", 100), ("bytes=-5", 0),
        ("bytes=0-", 0), ("bytes=0-0", 0),
    ],
)  # fmt: skip
def test_ranges_without_a_byte(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(header, size)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_slices(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    try:
        span = parse_range(f"bytes={first}-{last}", size)
    except UnsatisfiableError:
        assert first >= size
        return
    if last < first:
        assert span is None
    else:
        assert span is not None
        assert data[slice(*span)] == data[first : last + 1] != b""


def test_tags_tell_facts_apart() -> None:
    facts = [("a",), ("b",), ("a", ""), ("", "a"), ("ab",), ("a", "b"), ()]
    assert len({make_tag(*some) for some in facts}) == len(facts)
    assert make_tag("a", "b") == make_tag("a", "b")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"x"', True), ('W/"x"', True), ('"a", "x"', True), ('"a",W/"x" ,"b"', True), ("*", True),
        (" * ", True), ('"y"', False), ("", False), ("x", False), ('"xx"', False),
        ('"a, x"', False),
    ],
)  # fmt: skip
def test_tags_listed(header: str, expected: bool) -> None:
    assert tag_is_listed(header, '"x"') is expected


LOCAL = ["http://localhost", "http://localhost:8080", "http://127.0.0.1:1", "https://[::1]:443"]
STRANGE = ["https://evil.example", "null", "", "http://localhost.evil.example",
           "http://localhost:80@evil.example", "http://neuroglancer-demo.appspot.com",
           "https://neuroglancer-demo.appspot.com.evil.example", "file://"]  # fmt: skip


@pytest.mark.parametrize("origin", [*VIEWER_ORIGINS, *LOCAL])
def test_origins_allowed_by_default(origin: str) -> None:
    told = dict(Origins().headers(origin))
    assert told["Access-Control-Allow-Origin"] == origin
    assert told["Vary"] == "Origin"


@pytest.mark.parametrize("origin", STRANGE)
def test_origins_refused_by_default(origin: str) -> None:
    assert not Origins().allow(origin)
    assert Origins().headers(origin) == [("Vary", "Origin")]


def test_stated_origins_take_the_place_of_the_viewers() -> None:
    origins = Origins(["https://viewer.example"])
    assert origins.allow("https://viewer.example")
    assert origins.allow("http://localhost:3000")
    assert not origins.allow(VIEWER_ORIGINS[0])


def test_all_origins() -> None:
    assert dict(Origins(["*"]).headers("https://any.example"))["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    "text",
    ["viewer.example", "https://viewer.example/", "https://", "https://a b", "a\r\nX: y://z"],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(UsageError, match="is no origin"):
        Origins([text])
