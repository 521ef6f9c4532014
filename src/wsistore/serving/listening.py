"""The socket that is listened on, and a thread for each connection, up to a number of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any, Protocol

from wsistore.errors import UsageError, WsistoreError
from wsistore.serving.answering import Request
from wsistore.serving.contents import Resource
from wsistore.serving.origins import Origins
from wsistore.serving.targets import Target, is_loopback

MOST_CONNECTIONS = 256
"""A browser opens six to a server; other programs as many as they ask for chunks at once."""
_KEPT = 0.75
"""Share of the connections that may be kept idle; with more, each ends with its answer."""
_WAIT_S = 10.0
"""Seconds that a connection waits until there is room for it."""
_POLL_S = 0.1
_FAREWELL_S = 5.0
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Report = Callable[[str, WsistoreError], None]


class Showroom(Protocol):
    """What a server shows."""

    def known_tag(self, target: Target) -> str | None:
        """Return the entity tag of a target where that needs no reading."""

    def find(self, target: Target, address: str | None) -> tuple[Resource, str] | None:
        """Return what is at a target and its media type, None where there is nothing.

        `address` is that of the server as the client reaches it, None where it says none.
        """


class Listener(ThreadingHTTPServer):
    """Accepts connections and reads requests off them.

    Parameters
    ----------
    host : str
        Name or address to bind.
    port : int
        0 takes a free one.
    showroom : Showroom
        What is shown.
    origins : Origins
        Which web pages may read.
    report : callable
        Called with the path and the error of a request that failed, in its thread.

    Raises
    ------
    UsageError
        If the address can't be had.
    """

    daemon_threads = True
    block_on_close = False  # `close` waits for answers under way, not for idle connections
    request_queue_size = 1024

    def __init__(
        self, host: str, port: int, showroom: Showroom, origins: Origins, report: Report
    ) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.showroom, self.origins, self.report = showroom, origins, report
        self.loopback_name = host.lower() if is_loopback(host) else ""
        self._closing = False
        self._live: set[socket.socket] = set()
        self._changed = threading.Condition()
        try:
            super().__init__((host, port), Request)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"can't listen on {host}, port {port}: {error}",
                hint="Another port may be free; port 0 takes one that is.",
            ) from error
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="wsistore-serve", daemon=True
        )
        self._accepting.start()

    def server_bind(self) -> None:
        """Bind, without asking the name service who this is, as the base class does."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    @property
    def is_crowded(self) -> bool:
        """Whether connections should end with their answers, to make room for others."""
        return self._closing or len(self._live) > _KEPT * MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its thread; those that wait to be accepted wait meanwhile."""
        if not self._admit(request):
            with contextlib.suppress(OSError):
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            self._release(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of a connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release(request)

    def _admit(self, request: socket.socket) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or len(self._live) < MOST_CONNECTIONS, _WAIT_S
            )
            if self._closing or len(self._live) >= MOST_CONNECTIONS:
                return False
            self._live.add(request)
            return True

    def _release(self, request: socket.socket) -> None:
        with self._changed:
            self._live.discard(request)
            self._changed.notify_all()

    def close(self) -> None:
        """Accept no more, let answers under way end, and close all connections."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.shutdown()
        self._accepting.join()
        self.server_close()
        # An idle connection reads the end of its requests; an answer can still be written.
        self._cut(socket.SHUT_RD)
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._live, _FAREWELL_S)
        if not ended:
            self._cut(socket.SHUT_RDWR)
            with self._changed:
                self._changed.wait_for(lambda: not self._live, _FAREWELL_S)

    def _cut(self, how: int) -> None:
        with self._changed:
            for connection in self._live:
                with contextlib.suppress(OSError):  # it has just been closed
                    connection.shutdown(how)
