"""One request of HTTP/1.1, from its line to its answer (RFC 9110 and 9112)."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from wsistore._version import __version__
from wsistore.errors import WsistoreError
from wsistore.serving.answers import Answer, failed_answer, plain_answer, validators
from wsistore.serving.pages import POLICY
from wsistore.serving.patience import PatientReader
from wsistore.serving.ranges import UnsatisfiableError, parse_range
from wsistore.serving.tags import tag_is_listed
from wsistore.serving.targets import BadTargetError, Target, address_of, host_is_ours, parse_target

if TYPE_CHECKING:
    from wsistore.serving.contents import Resource
    from wsistore.serving.listening import Listener

IDLE_S = 30.0
"""Seconds that a connection may be idle, or a peer may not take what is sent."""
HEADER_S = 10.0
"""Seconds that the header of a request may take to come."""
LONGEST_LINE = 8 << 10
"""Bytes of a request line that is read."""
_PIECE = 1 << 20
"""Bytes of a file that are held at once while it is sent."""
_JOINED = 64 << 10
"""A body up to this size is sent with its header, in one packet where it fits."""
_DRAINED = 256 << 10
_METHODS = ("GET", "HEAD", "OPTIONS")
_ALLOWED = ", ".join(_METHODS)
_REFUSED = frozenset({"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"})


class Request(BaseHTTPRequestHandler):
    """Reads requests of one connection, one after the other, and answers each."""

    server: Listener
    raw_requestline: bytes
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the second packet of an answer waits for an ACK
    timeout = IDLE_S

    def setup(self) -> None:
        """Read through a reader that has no patience with dripping headers."""
        super().setup()
        self.rfile.close()
        self._patient = PatientReader(self.connection, IDLE_S, HEADER_S)
        self.rfile = io.BufferedReader(self._patient)

    def handle_one_request(self) -> None:
        """Answer the next request; one whose sender has left ends the connection."""
        self._patient.rest()
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer with the resource."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the header that GET would have."""
        self._answer(with_body=False)

    def do_OPTIONS(self) -> None:
        """Answer what a browser asks before it lets a page ask."""
        self._send(self._preflight(), with_body=True)

    # Reading

    def parse_request(self) -> bool:
        """Read the header; answer here what is no request to this server."""
        if len(self.raw_requestline) > LONGEST_LINE:
            self.command, self.request_version = "", "HTTP/1.1"
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return False
        if not super().parse_request():
            return False
        refused = self._misdirected() or self._unknown() or self._bodied()
        if refused is not None:
            self._send(refused, with_body=self.command != "HEAD")
        return refused is None

    def _misdirected(self) -> Answer | None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) > 1 or (not hosts and self.request_version > "HTTP/1.0"):
            return plain_answer(HTTPStatus.BAD_REQUEST, ends=True)
        bound = self.server.loopback_name
        if bound and not (hosts and host_is_ours(hosts[0], bound)):
            return plain_answer(HTTPStatus.MISDIRECTED_REQUEST, ends=True)
        return None

    def _unknown(self) -> Answer | None:
        if self.command in _METHODS:
            return None
        if self.command in _REFUSED:
            return plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", _ALLOWED)], ends=True)
        return plain_answer(HTTPStatus.NOT_IMPLEMENTED, ends=True)

    def _bodied(self) -> Answer | None:
        """Refuse a request with a body, which would be taken for the next request."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" not in self.headers and all(text == "0" for text in lengths):
            return None
        return plain_answer(HTTPStatus.BAD_REQUEST, ends=True)

    # Answering

    def _answer(self, *, with_body: bool) -> None:
        try:
            answer = self._find(parse_target(self.path))
        except BadTargetError:
            answer = plain_answer(HTTPStatus.BAD_REQUEST)
        except WsistoreError as error:
            self.server.report(self.path.partition("?")[0], error)
            answer = failed_answer(error)
        self._send(answer, with_body=with_body)

    def _find(self, target: Target) -> Answer:
        showroom = self.server.showroom
        fresh = showroom.known_tag(target)
        wanted = self.headers.get("If-None-Match", "")
        if fresh is not None and wanted.strip() != "*" and tag_is_listed(wanted, fresh):
            return self._unchanged(fresh)
        found = showroom.find(target, address_of(self.headers.get("Host", "")))
        if found is None:
            return plain_answer(HTTPStatus.NOT_FOUND, [("Cache-Control", "no-cache")])
        resource, kind = found
        return self._select(resource, kind)

    def _select(self, resource: Resource, kind: str) -> Answer:
        """Return the part of a resource that the request's conditions and range leave."""
        match, unless = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if match is not None and not tag_is_listed(match, resource.tag):
            return plain_answer(HTTPStatus.PRECONDITION_FAILED)
        if unless is not None and tag_is_listed(unless, resource.tag):
            return self._unchanged(resource.tag)
        headers = [("Content-Type", kind), *validators(resource.tag)]
        if kind.startswith("text/html"):
            headers.append(("Content-Security-Policy", POLICY))
        try:
            span = self._span(resource)
        except UnsatisfiableError:
            told = [("Content-Range", f"bytes */{resource.size}")]
            return plain_answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, told)
        if span is None:
            return Answer(HTTPStatus.OK, headers, resource, (0, resource.size))
        headers.append(("Content-Range", f"bytes {span[0]}-{span[1] - 1}/{resource.size}"))
        return Answer(HTTPStatus.PARTIAL_CONTENT, headers, resource, span)

    def _span(self, resource: Resource) -> tuple[int, int] | None:
        header = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if header is None or (condition is not None and condition.strip() != resource.tag):
            return None
        return parse_range(header, resource.size)

    def _unchanged(self, tag: str) -> Answer:
        return Answer(HTTPStatus.NOT_MODIFIED, validators(tag))

    def _preflight(self) -> Answer:
        origin = self.headers.get("Origin")
        if "Access-Control-Request-Method" not in self.headers:
            return Answer(HTTPStatus.NO_CONTENT, [("Allow", _ALLOWED)])
        if origin is None or not self.server.origins.allow(origin):
            return plain_answer(HTTPStatus.FORBIDDEN)
        private = self.headers.get("Access-Control-Request-Private-Network") == "true"
        return Answer(HTTPStatus.NO_CONTENT, self.server.origins.preflight(private=private))

    # Sending

    def _send(self, answer: Answer, *, with_body: bool = True) -> None:
        if answer.ends or self.server.is_crowded:
            self.close_connection = True
        pieces = self._pieces(answer) if with_body else iter(())
        try:
            first = next(pieces, b"")
        except WsistoreError as error:
            self.server.report(self.path.partition("?")[0], error)
            answer = failed_answer(error)
            first, pieces = next(self._pieces(answer)), iter(())
        self._write(answer, first, pieces)
        if answer.ends:
            self._drain()

    def _write(self, answer: Answer, first: bytes | memoryview, rest: Iterator[Any]) -> None:
        head = self._head(answer)
        if len(first) <= _JOINED:
            self.wfile.write(head + first)
        else:
            self.wfile.write(head)
            self.wfile.write(first)
        try:
            for piece in rest:
                self.wfile.write(piece)
        except WsistoreError as error:
            # The length is promised: only a closed connection tells that the rest fails.
            self.server.report(self.path.partition("?")[0], error)
            self.close_connection = True

    def _pieces(self, answer: Answer) -> Iterator[bytes | memoryview]:
        if answer.resource is None:
            return
        start, stop = answer.span
        for offset in range(start, stop, _PIECE):
            yield answer.resource.read(offset, min(offset + _PIECE, stop))

    def _head(self, answer: Answer) -> bytes:
        headers = [
            ("Date", self.date_time_string()),
            ("Server", f"wsistore/{__version__}"),
            *answer.headers,
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            # Pages elsewhere may read by CORS alone, not through <img> or <script>.
            ("Cross-Origin-Resource-Policy", "same-origin"),
            *self.server.origins.headers(self._origin()),
        ]
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            start, stop = answer.span
            headers.append(("Content-Length", str(stop - start)))
        if self.close_connection:
            headers.append(("Connection", "close"))
        elif self.request_version == "HTTP/1.0":
            headers.append(("Connection", "keep-alive"))
        line = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        return (line + "".join(f"{name}: {value}\r\n" for name, value in headers)).encode(
            "latin-1"
        ) + b"\r\n"

    def _origin(self) -> str | None:
        # A request that could not be parsed has no headers.
        return self.headers.get("Origin") if hasattr(self, "headers") else None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what `http.server` finds wrong with a request, and end the connection."""
        del message, explain  # they quote the request
        self.close_connection = True
        if not hasattr(self, "request_version"):
            self.request_version = "HTTP/1.1"
        answer = plain_answer(HTTPStatus(code), ends=True)
        self._send(answer, with_body=getattr(self, "command", None) != "HEAD")

    def _drain(self) -> None:
        """Read what is still coming, or its sender would meet a reset before the answer."""
        until = time.monotonic() + 1
        left = _DRAINED
        try:
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(0.2)
            while left > 0 and time.monotonic() < until:
                piece = self.connection.recv(min(left, 1 << 16))
                if not piece:
                    return
                left -= len(piece)
        except OSError:  # a timeout is one: nothing more is coming
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: paths and queries of requests are nobody's business."""
