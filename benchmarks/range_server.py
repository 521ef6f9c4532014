"""A small, fast file server with ranges and a stated latency, in a process of its own.

    python benchmarks/range_server.py FOLDER LATENCY_MS

Prints its port. Each answer is held back by the latency, with any number of them under way,
as a bucket far away does it; bandwidth is that of the loopback. For benchmarks alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import unquote

_opened: dict[str, tuple[int, int, str] | None] = {}


def _open(root: Path, path: str) -> tuple[int, int, str] | None:
    """Return descriptor, size and ETag of a file, kept open; None where there is none."""
    if path not in _opened:
        place = root / unquote(path).lstrip("/")
        if not place.is_file():
            return None
        descriptor = os.open(place, os.O_RDONLY)
        found = os.fstat(descriptor)
        _opened[path] = descriptor, found.st_size, f'"{found.st_ino:x}-{found.st_mtime_ns:x}"'
    return _opened[path]


def _range(value: str, size: int) -> tuple[int, int]:
    first, _, last = value.partition("=")[2].partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last or size - 1), size - 1)


class Answers(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, root: Path, latency: float) -> None:
        self.root, self.latency, self.rest = root, latency, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head, self.rest = self.rest[:end].decode("latin1"), self.rest[end + 4 :]
            asyncio.get_running_loop().call_later(self.latency, self.answer, head)

    def answer(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        found = _open(self.root, path.partition("?")[0])
        if found is None:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        descriptor, size, etag = found
        asked = [line for line in lines if line.lower().startswith("range:")]
        common = (
            f"ETag: {etag}\r\nAccept-Ranges: bytes\r\n"
            "Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n"
        )
        if method == "HEAD":
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{common}"
            self.transport.write(head.encode())
            return
        start, last = _range(asked[0], size) if asked else (0, size - 1)
        body = os.pread(descriptor, last - start + 1, start)
        status = "200 OK\r\n"
        if asked:
            status = f"206 Partial Content\r\nContent-Range: bytes {start}-{last}/{size}\r\n"
        told = f"HTTP/1.1 {status}Content-Length: {len(body)}\r\n{common}"
        self.transport.write(told.encode() + body)


async def serve(root: Path, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answers(root, latency), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000))
