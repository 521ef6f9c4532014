"""A small, fast HTTP server of files, with a stated latency and scripted faults.

In a thread of a test::

    with FaultServer(folder) as server:
        server.play([Status(503), None, Cut(100)])
        ... open_source(server.url + "/slide.svs") ...
        assert len(server.requests) == 3

or in a process of its own, which prints its URL::

    python -m wsistore.testing.server FOLDER --port 0 --latency-ms 30

or, without a folder, buckets in memory that can be written to (`BucketBackend`).

It answers GET and HEAD of files with single byte ranges, strong ETags and If-Match, and
ListObjectsV2 of S3 (the first folder of a path is the bucket; anybody may read). Requests
that wait for their latency lie side by side. `FaultServer.before` puts the same script in
front of another server, such as one of S3, for faults of uploads.

For tests and benchmarks on the loopback alone: it knows no limits and no rights.
"""

from __future__ import annotations

import argparse
import asyncio
import http
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from wsistore.testing.backends import Backend, FolderBackend, UpstreamBackend
from wsistore.testing.buckets import BucketBackend
from wsistore.testing.faults import (
    UNASKED,
    Answer,
    Chooser,
    Ending,
    Fault,
    Request,
    ResetUpload,
    Script,
)

_PIECE = 1 << 20
"""Bytes that are read and handed to the socket at once."""

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_NO_BODY = frozenset((204, 304))


class Counts(NamedTuple):
    """What a server was asked, and what it sent.

    Parameters
    ----------
    requests : int
        Requests that came.
    bytes_sent : int
        Bytes of bodies that were handed to the network.
    """

    requests: int
    bytes_sent: int


class FaultServer:
    """A server on the loopback, in a thread, from ``with`` to its end.

    Parameters
    ----------
    folder : str or os.PathLike or Backend
        What is served.
    latency_s : float
        Seconds by which each answer is held back.
    port : int
        Where it listens; a free one by default.

    Attributes
    ----------
    requests : list of Request
        What came since the last `reset`, in order.
    bytes_sent : int
        Bytes of bodies since then.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | Backend,
        *,
        latency_s: float = 0.0,
        port: int = 0,
    ) -> None:
        self._backend: Backend = (
            FolderBackend(Path(folder)) if isinstance(folder, str | os.PathLike) else folder
        )
        self.latency_s = latency_s
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self._script: Script | None = None
        self._numbers = itertools.count()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Transport] = set()
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)

    @classmethod
    def before(cls, upstream: str, *, latency_s: float = 0.0) -> FaultServer:
        """Return a server that asks the one at a URL, ``http://host:port``, for its answers."""
        return cls(UpstreamBackend(upstream), latency_s=latency_s)

    def play(
        self,
        faults: Iterable[Fault | None] | Chooser,
        where: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        """Set what strikes the requests from now on; see `Script`."""
        self._script = Script(faults, where)

    def reset(self) -> None:
        """Forget the script, and the requests so far."""
        self._script = None
        self.requests = []
        self.bytes_sent = 0
        self._numbers = itertools.count()

    def counts(self) -> Counts:
        """Return how much came and went since the last reset."""
        return Counts(len(self.requests), self.bytes_sent)

    def start(self) -> None:
        """Begin to answer; what connects before waits."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._backend.close()

    def run(self) -> None:
        """Answer in this thread until it is interrupted."""
        self._run()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(
            loop.create_server(lambda: _Connection(self), sock=self._socket)
        )
        try:
            loop.run_forever()
        finally:
            server.close()
            for transport in tuple(self._open):
                transport.abort()
            loop.run_until_complete(server.wait_closed())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.run_until_complete(asyncio.sleep(0))  # in which aborted transports close
            loop.close()
            asyncio.set_event_loop(None)

    def _take(self, head: str) -> tuple[Request, Fault | None]:
        """Return the request that a head tells of, and the fault that strikes it."""
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        request = Request(next(self._numbers), method, path, headers.get("range", ""), headers)
        self.requests.append(request)
        return request, None if self._script is None else self._script.choose(request)


class _Connection(asyncio.Protocol):
    """One connection of a client, which sends its next request after an answer."""

    def __init__(self, server: FaultServer) -> None:
        self._server = server
        self._rest = bytearray()
        self._taken: tuple[Request, Fault | None] | None = None
        self._paused = False
        self._pieces: Callable[[], bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._server._open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the protocol's)
        self._server._open.discard(self._transport)
        self._pieces = None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (taken := self._taken or self._take_head()) is not None:
            request, fault = self._taken = taken
            size = int(request.headers.get("content-length", 0))
            most = fault.after_bytes if isinstance(fault, ResetUpload) else size
            if len(self._rest) < min(size, most):
                return
            body = bytes(self._rest[:size])
            del self._rest[:size]
            self._taken = None
            self._answer(request, body, fault)

    def _take_head(self) -> tuple[Request, Fault | None] | None:
        end = self._rest.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._rest[:end].decode("latin1")
        del self._rest[: end + 4]
        taken = self._server._take(head)
        if taken[0].headers.get("expect") == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return taken

    def _answer(self, request: Request, body: bytes, fault: Fault | None) -> None:
        server = self._server
        if isinstance(fault, UNASKED):
            self._send(request, Answer(200, {}), fault)
        elif not server._backend.waits:
            self._send(request, server._backend.answer(request, body), fault)
        else:
            future = server._loop.run_in_executor(None, server._backend.answer, request, body)
            future.add_done_callback(lambda done: self._send(request, done.result(), fault))

    def _send(self, request: Request, plain: Answer, fault: Fault | None) -> None:
        answer = plain if fault is None else fault.change(plain)
        delay = self._server.latency_s + answer.delay_s
        if delay > 0:
            self._server._loop.call_later(delay, self._begin, request, answer)
        else:
            self._begin(request, answer)

    def _begin(self, request: Request, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        if answer.sent is not None and answer.sent < 0:
            self._end(answer)
            return
        head = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, '-')}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.length is not None and answer.status not in _NO_BODY:
            head.append(f"Content-Length: {answer.length}")
        if answer.ending is Ending.CLOSED:
            head.append("Connection: close")
        told = ("\r\n".join(head) + "\r\n\r\n").encode("latin1")
        total = answer.count if answer.sent is None else answer.sent
        if request.method == "HEAD" or not total:
            self._transport.write(told)
            self._end(answer)
        elif total <= _PIECE:
            self._server.bytes_sent += total
            self._transport.write(told + _piece(answer, 0, total))
            self._end(answer)
        else:
            self._transport.write(told)
            self._stream(answer, total)

    def _stream(self, answer: Answer, total: int) -> None:
        at = 0

        def send() -> bool:
            nonlocal at
            piece = _piece(answer, at, min(at + _PIECE, total))
            at += len(piece)
            self._server.bytes_sent += len(piece)
            self._transport.write(piece)
            if at < total and piece:
                return True
            self._end(answer)
            return False

        self._pieces = send
        self._pump()

    def _pump(self) -> None:
        while self._pieces is not None and not self._paused:
            if not self._pieces():
                self._pieces = None

    def _end(self, answer: Answer) -> None:
        if answer.ending is Ending.CLOSED:
            self._transport.close()
        elif answer.ending is Ending.RESET:
            # Lingering for no second makes the kernel send RST where it would send FIN.
            wire = self._transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def _piece(answer: Answer, start: int, stop: int) -> bytes:
    if answer.body is not None:
        return answer.body[start:stop]
    if answer.content is None:
        return b""
    return answer.content.read(answer.start + start, answer.start + stop)


def main() -> None:
    """Serve a folder, or buckets in memory, until interrupted; see the module."""
    parser = argparse.ArgumentParser(prog="python -m wsistore.testing.server")
    parser.add_argument("folder", type=Path, nargs="?", help="without: buckets in memory")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    told = parser.parse_args()
    if told.folder is not None and not told.folder.is_dir():
        parser.error(f"{told.folder} is no folder")
    served = BucketBackend() if told.folder is None else told.folder
    server = FaultServer(served, latency_s=told.latency_ms / 1000, port=told.port)
    print(server.url, flush=True)  # noqa: T201 (what starts it reads this)
    try:
        server.run()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
