"""The server's life: names, pages, starting and stopping."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest

import wsistore
from wsistore.errors import NotReadyError, SourceError, SourceNotFoundError, UsageError
from wsistore.serving import SlideServer


class Links(HTMLParser):
    """The addresses in a page, by the names of what holds them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value or "") for key, value in attrs if key in ("href", "src")]


@pytest.fixture(scope="module")
def everywhere(zstd_store: Path) -> Iterator[SlideServer]:
    """A server of all interfaces."""
    with SlideServer([zstd_store], host="0.0.0.0") as server:
        yield server


def test_names_are_unique_stems(tmp_path: Path, zstd_store: Path) -> None:
    paths = [tmp_path / name for name in ("a/s.ome.zarr", "b/s.ome.zarr", "c/ß x#%2F.zarr")]
    for path in paths:
        shutil.copytree(zstd_store, path)
    with SlideServer(paths) as server:
        names = [slide.name for slide in server.slides]
        assert names == ["s.ome.zarr", "s-2.ome.zarr", "x-2F.ome.zarr"]
        assert [slide.url for slide in server.slides] == [f"{server.url}{name}/" for name in names]


def test_the_list_for_programs(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    with SlideServer([zstd_store]) as server:
        got = visit(server.url)("/slides.json")
        (record,) = json.loads(got.body)["slides"]
        assert got.headers["Content-Type"] == "application/json"
        assert record.pop("viewers").keys() == {"neuroglancer", "vizarr", "validator"}
        assert record == {
            "name": "tissue.ome.zarr",
            "url": f"{server.url}tissue.ome.zarr/",
            "width": 1200,
            "height": 900,
            "mpp": {"x": 0.499, "y": 0.499},
            "levels": len(wsistore.open_slide(zstd_store).levels),
        }
        assert str(zstd_store.parent).encode() not in got.body


def test_the_index_page(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    with SlideServer([zstd_store]) as server:
        client = visit(server.url)
        page = client("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert b"1200 x 900" in page.body
        assert b"0.499 x 0.499" in page.body
        assert str(zstd_store.parent).encode() not in page.body
        links = Links(page.body).found
        assert {tag for tag, _ in links} == {"a"}  # nothing is loaded
        ours = [link for _, link in links if "://" not in link]
        assert [client(f"/{link}").status for link in ours] == [200, 200]
        theirs = [link for _, link in links if "://" in link]
        assert len(theirs) == 3
        assert all("tissue.ome.zarr" in unquote(link) for link in theirs)
        neuroglancer = next(link for link in theirs if "neuroglancer" in link)
        state = json.loads(unquote(urlsplit(neuroglancer).fragment.removeprefix("!")))
        (layer,) = state["layers"]
        assert layer["source"]["url"] == f"{server.url}tissue.ome.zarr/|zarr3:"
        assert state["position"] == [600, 450]
        assert layer["source"]["transform"]["outputDimensions"]["x"] == [
            pytest.approx(0.499e-6),
            "m",
        ]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost:9000", "http://localhost:9000/"),  # through a tunnel
        ("[::1]:9000", "http://[::1]:9000/"),
        ("slides.hospital.example", "http://slides.hospital.example/"),
        ("<script>", None), ("a/b", None), ("a:b", None), ("a b", None), ("a@b", None), ("", None),
    ],
)  # fmt: skip
def test_links_take_the_address_that_the_client_reached(
    everywhere: SlideServer, visit: Callable[[str], Any], host: str, address: str | None
) -> None:
    client = visit(everywhere.url)
    base = address or everywhere.url
    (record,) = json.loads(client("/slides.json", Host=host).body)["slides"]
    assert record["url"] == f"{base}tissue.ome.zarr/"
    page = client("/", Host=host).body
    assert f"<code>{base}tissue.ome.zarr/</code>".encode() in page
    assert b"<script>" not in page


def test_listings_lead_to_all_files(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    with SlideServer([zstd_store]) as server:
        client = visit(server.url)
        found, folders = set(), ["/tissue.ome.zarr/"]
        while folders:
            folder = folders.pop()
            for _, link in Links(client(folder).body).found:
                path = urljoin(folder, link)
                (folders.append if path.endswith("/") else found.add)(path)
        files = {p.relative_to(zstd_store.parent) for p in zstd_store.rglob("*") if p.is_file()}
        assert found == {f"/{path}" for path in files}
        assert all(client(path, "HEAD").status == 200 for path in found)


def test_it_says_what_it_shows(zstd_store: Path) -> None:
    with wsistore.open_slide(zstd_store) as slide:
        with SlideServer([slide]) as server:
            (shown,) = server.slides
            assert (shown.size, shown.mpp, shown.source) == (slide.size, slide.mpp, slide.path)
        slide.read_region((0, 0), 0, (1, 1))  # it is still open


def test_before_and_after(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    server = SlideServer([zstd_store])
    with pytest.raises(NotReadyError, match="isn't started"):
        _ = server.url
    assert server.start() is server.start()
    url = server.url
    client = visit(url)
    assert client("/").status == 200
    server.stop()
    server.stop()
    with pytest.raises(ConnectionError):
        visit(url)("/")
    assert client.connection.sock.recv(1) == b""  # the idle connection was ended, too
    with pytest.raises(UsageError, match="stopped"):
        server.start()


def test_stopping_ends_its_threads(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    before = set(threading.enumerate())
    with SlideServer([zstd_store]) as server:
        clients = [visit(server.url) for _ in range(3)]
        assert [client("/").status for client in clients] == [200] * 3
        started = set(threading.enumerate()) - before
        assert len(started) == 4
    for thread in started:
        thread.join(5)  # its connection has been given back; a few steps may be left
    assert not [thread for thread in started if thread.is_alive()]


def test_an_address_that_is_taken(zstd_store: Path) -> None:
    with SlideServer([zstd_store]) as server:
        port = int(server.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(UsageError, match=f"can't listen on 127.0.0.1, port {port}"):
            SlideServer([zstd_store], port=port).__enter__()


def test_it_listens_on_the_loopback_interface_alone(zstd_store: Path) -> None:
    with SlideServer([zstd_store]) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server._listener is not None
        assert server._listener.socket.getsockname()[0] == "127.0.0.1"


def test_the_other_internet_protocol(zstd_store: Path, visit: Callable[[str], Any]) -> None:
    try:
        server = SlideServer([zstd_store], host="::1").start()
    except UsageError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        assert server.url.startswith("http://[::1]:")
        client = visit(server.url)
        assert client("/").status == 200
        assert client("/", Host="evil.example").status == 421
    finally:
        server.stop()


@pytest.mark.parametrize(
    "options",
    [{"codec": "webp"}, {"port": -1}, {"port": 1 << 16}, {"cache_bytes": -1}, {"cors": "x"}],
)
def test_options_that_do_not_fit(zstd_store: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SlideServer([zstd_store], **options)


@pytest.mark.parametrize("slides", [[], "slide.svs"])
def test_slides_are_a_list(slides: Any) -> None:
    with pytest.raises(UsageError, match="must be a list"):
        SlideServer(slides)


def test_slides_that_do_not_open(tmp_path: Path, zstd_store: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        SlideServer([zstd_store, tmp_path / "none.svs"])


def test_a_failing_read_is_told_by_its_code_alone(
    zstd_store: Path, visit: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    with SlideServer([zstd_store], report=lambda path, error: told.append((path, str(error)))) as s:
        client = visit(s.url)

        def fail(*args: object) -> bytes:
            raise SourceError("/home/someone/canary can't be read")

        with monkeypatch.context() as patch:
            patch.setattr("wsistore.sources.LocalSource.read", fail)
            got = client("/tissue.ome.zarr/zarr.json?token=canary")
        assert got.status == 500
        assert json.loads(got.body)["error"]["code"] == "WSI200"
        assert b"canary" not in got.body
        assert told == [("/tissue.ome.zarr/zarr.json", "/home/someone/canary can't be read")]
        assert client("/tissue.ome.zarr/zarr.json").status == 200
