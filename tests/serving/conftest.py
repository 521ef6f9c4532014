"""Servers, and how to ask them."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

import wsistore
from wsistore.serving import SlideServer
from wsistore.testing import SyntheticSlide


class Got(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """One connection that is kept alive, as a browser's."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port)
        self.connection = http.client.HTTPConnection(*self.address, timeout=20)

    def __call__(self, path: str, method: str = "GET", **headers: str) -> Got:
        self.connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            self.connection.putheader(name.replace("_", "-"), value)
        self.connection.endheaders()
        answer = self.connection.getresponse()
        return Got(answer.status, answer.headers, answer.read())

    def raw(self, request: bytes) -> bytes:
        """Send bytes over a connection of their own, and return all that comes back."""
        with socket.create_connection(self.address, timeout=20) as connection:
            connection.sendall(request)
            pieces = []
            while piece := connection.recv(1 << 16):
                pieces.append(piece)
        return b"".join(pieces)


@pytest.fixture(scope="session")
def slide(slide_factory: Callable[..., SyntheticSlide]) -> SyntheticSlide:
    """A slide of 5 x 4 JPEG tiles with two levels and a missing tile."""
    return slide_factory(missing=[(0, 1, 0)])


@pytest.fixture(scope="session")
def zstd_store(slide: SyntheticSlide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that browsers can read as it is."""
    path = tmp_path_factory.mktemp("stores") / "tissue.ome.zarr"
    wsistore.convert(slide.path, path, codec="zstd")
    return path


@pytest.fixture(scope="session")
def jpeg_store(slide: SyntheticSlide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the slide's own tiles."""
    path = tmp_path_factory.mktemp("stores") / "copied.ome.zarr"
    wsistore.convert(slide.path, path)
    return path


@pytest.fixture
def visit() -> Iterator[Callable[[str], Client]]:
    """``visit(url)`` connects to a server."""
    clients: list[Client] = []

    def connect(url: str) -> Client:
        clients.append(Client(url))
        return clients[-1]

    yield connect
    for client in clients:
        client.connection.close()


@pytest.fixture(scope="module")
def files(zstd_store: Path) -> Iterator[SlideServer]:
    """A server of the store's files."""
    with SlideServer([zstd_store]) as server:
        yield server


@pytest.fixture
def ask(files: SlideServer, visit: Callable[[str], Client]) -> Client:
    """``ask(path, method, **headers)`` of the server of files."""
    return visit(files.url)
