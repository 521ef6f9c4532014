"""Where the answers of a `wsistore.testing.server.FaultServer` come from."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from wsistore.testing.faults import Answer, Request

_OF_THE_CONNECTION = frozenset(
    ("connection", "content-length", "keep-alive", "transfer-encoding", "host")
)
_UPSTREAM_TIMEOUT_S = 60.0


class Backend(Protocol):
    """Gives the right answer to a request.

    Attributes
    ----------
    waits : bool
        Whether it takes so long that it needs a thread.
    """

    waits: bool

    def answer(self, request: Request, body: bytes) -> Answer:
        """Return the right answer."""

    def close(self) -> None:
        """Free what it holds."""


class OpenFile:
    """A file, its size, and the headers that tell of it.

    Parameters
    ----------
    path : Path
        Which one; it must be there.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        found = os.fstat(self._descriptor)
        self.size = found.st_size
        self.etag = f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"'
        self.headers = {
            "ETag": self.etag,
            "Last-Modified": formatdate(found.st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
        }

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`."""
        return os.pread(self._descriptor, stop - start, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class FolderBackend:
    """Files of a folder, kept open; ListObjectsV2 for those who ask for it.

    Parameters
    ----------
    folder : Path
        What is served, and nothing outside of it.
    """

    waits = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._files: dict[str, tuple[int, OpenFile]] = {}

    def answer(self, request: Request, body: bytes) -> Answer:  # noqa: ARG002 (nothing is put)
        """Return a file, a part of it, or a listing."""
        if request.method not in ("GET", "HEAD"):
            return Answer(405, {"Allow": "GET, HEAD"})
        path, _, query = request.path.partition("?")
        if "list-type=2" in query:
            return self._list(unquote(path).strip("/"), query)
        file = self._open(path)
        if file is None:
            return Answer(404, {})
        wanted = request.headers.get("if-match", "*")
        if wanted not in ("*", file.etag):
            return Answer(412, file.headers)
        if not request.range:
            return Answer(200, file.headers, file, 0, file.size, length=file.size)
        start, stop = parse_range(request.range, file.size)
        if start >= stop:
            return Answer(416, {"Content-Range": f"bytes */{file.size}"})
        headers = {**file.headers, "Content-Range": f"bytes {start}-{stop - 1}/{file.size}"}
        return Answer(206, headers, file, start, stop, length=stop - start)

    def close(self) -> None:
        """Close all files."""
        for _, file in self._files.values():
            file.close()
        self._files.clear()

    def _open(self, path: str) -> OpenFile | None:
        place = self._folder / unquote(path).lstrip("/")
        try:
            stamp = place.stat().st_mtime_ns
        except (OSError, ValueError):
            return None
        known = self._files.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        if not place.is_file() or not place.resolve().is_relative_to(self._folder):
            return None
        if known is not None:
            known[1].close()
        file = OpenFile(place)
        self._files[path] = stamp, file
        return file

    def _list(self, bucket: str, query: str) -> Answer:
        asked = parse_qs(query, keep_blank_values=True)
        prefix = asked.get("prefix", [""])[0]
        delimiter = asked.get("delimiter", [""])[0]
        root = self._folder / bucket
        keys = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        found = {}
        for key in keys:
            file = OpenFile(root / key)
            file.close()
            found[key] = (file.size, file.etag)
        return listing(bucket, found, prefix, delimiter)


def listing(
    bucket: str, objects: Mapping[str, tuple[int, str]], prefix: str, delimiter: str
) -> Answer:
    """Return a listing as ListObjectsV2 tells it, in one piece.

    Parameters
    ----------
    bucket : str
        Its name.
    objects : mapping of str to (int, str)
        Size in bytes and ETag of all of its objects, by their keys, in order.
    prefix, delimiter : str
        What was asked for; empty where it was not.
    """
    found, folders = [], []
    for key, (size, etag) in objects.items():
        if not key.startswith(prefix):
            continue
        inner, between, _ = key[len(prefix) :].partition(delimiter or "\0")
        if between:
            folders.append(prefix + inner + delimiter)
            continue
        found.append(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{escape(etag)}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        )
    found += [
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        for name in dict.fromkeys(folders)
    ]
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{escape(bucket)}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(found)}</KeyCount><MaxKeys>{len(found) + 1}</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>"
    ).encode()
    return Answer(200, {"Content-Type": "application/xml"}, body=body, length=len(body))


class UpstreamBackend:
    """Another server's answers, its requests passed on with their bodies.

    Parameters
    ----------
    url : str
        Where it is, ``http://host:port``.
    """

    waits = True

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def answer(self, request: Request, body: bytes) -> Answer:
        """Ask the other server; 502 where it can't be reached."""
        connection = http.client.HTTPConnection(self._address, timeout=_UPSTREAM_TIMEOUT_S)
        try:
            connection.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                connection.putheader(name, value)  # with its host, which is signed
            connection.endheaders(body or None)
            came = connection.getresponse()
            told = came.read()
        except (OSError, http.client.HTTPException):
            return Answer(502, {})
        finally:
            connection.close()
        headers = {k: v for k, v in came.getheaders() if k.lower() not in _OF_THE_CONNECTION}
        length = len(told)
        if request.method == "HEAD":
            length = int(came.getheader("Content-Length") or 0)
        return Answer(came.status, headers, body=told, length=length)

    def close(self) -> None:
        """Hold nothing."""


def parse_range(value: str, size: int) -> tuple[int, int]:
    """Return first byte and the first one beyond, of one range; nothing where it is none."""
    first, _, last = value.partition("=")[2].partition("-")
    if not first:
        return (max(0, size - int(last)), size) if last.isdigit() and int(last) else (0, 0)
    if not first.isdigit():
        return 0, 0
    return int(first), min(int(last) + 1, size) if last.isdigit() else size
