"""A bucket in memory that speaks as much of S3 as obstore asks for.

Faster than servers that know all of S3, so that what a benchmark measures is the client.
Signatures are not looked at, ETags are numbers, and listings come in one piece.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape, unescape

from wsistore.testing.backends import listing, parse_range
from wsistore.testing.faults import Answer, Request

_KEY = re.compile("<Key>(.*?)</Key>", re.DOTALL)


class Stored:
    """An object.

    Parameters
    ----------
    parts : sequence of bytes
        Its bytes as they were uploaded: joining a gigabyte would stop the server meanwhile.
    etag : str
        With its quotes.
    """

    def __init__(self, parts: Sequence[bytes], etag: str) -> None:
        self.etag = etag
        self._parts = [part for part in parts if part]
        self._ends = list(itertools.accumulate(map(len, self._parts)))
        self.size = self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`."""
        found = []
        number = bisect.bisect_right(self._ends, start)
        while start < stop and number < len(self._parts):
            part = self._parts[number]
            begin = self._ends[number] - len(part)
            found.append(part[start - begin : stop - begin])
            start = self._ends[number]
            number += 1
        return found[0] if len(found) == 1 else b"".join(found)


class BucketBackend:
    """Buckets, each there as soon as it is named: objects, uploads in parts, conditions.

    Attributes
    ----------
    objects : dict of str to Stored
        By bucket and key, ``bucket/a/b``.
    """

    waits = False

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = itertools.count(1)

    def answer(self, request: Request, body: bytes) -> Answer:
        """Do what is asked."""
        path, _, text = request.path.partition("?")
        key = unquote(path).strip("/")
        query = {name: values[0] for name, values in parse_qs(text, True).items()}
        if request.method in ("GET", "HEAD"):
            return self._list(key, query) if "list-type" in query else self._get(request, key)
        if request.method == "DELETE":
            self._uploads.pop(query.get("uploadId", ""), None)
            if "uploadId" not in query:
                self.objects.pop(key, None)
            return Answer(204, {})
        if request.method == "PUT":
            return self._put(request, key, query, body)
        if request.method == "POST":
            return self._post(key, query, body)
        return Answer(405, {})

    def close(self) -> None:
        """Forget all objects."""
        self.objects.clear()
        self._uploads.clear()

    def _get(self, request: Request, key: str) -> Answer:
        found = self.objects.get(key)
        if found is None:
            return Answer(404, {})
        headers = {"ETag": found.etag, "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"}
        if request.headers.get("if-match", found.etag) != found.etag:
            return Answer(412, {})
        if not request.range:
            return Answer(200, headers, found, 0, found.size, length=found.size)
        start, stop = parse_range(request.range, found.size)
        if start >= stop:
            return Answer(416, {"Content-Range": f"bytes */{found.size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
        return Answer(206, headers, found, start, stop, length=stop - start)

    def _put(self, request: Request, key: str, query: dict[str, str], body: bytes) -> Answer:
        upload = query.get("uploadId")
        if upload is not None:
            if upload not in self._uploads:
                return Answer(404, {})
            self._uploads[upload][int(query["partNumber"])] = body
            return Answer(200, {"ETag": f'"{next(self._numbers)}"'})
        found = self.objects.get(key)
        wanted = request.headers.get("if-match")
        taken = found is not None and request.headers.get("if-none-match") == "*"
        if taken or (wanted is not None and (found is None or found.etag != wanted)):
            return Answer(412, {})
        return Answer(200, {"ETag": self._store(key, [body])})

    def _post(self, key: str, query: dict[str, str], body: bytes) -> Answer:
        if "delete" in query:
            names = [unescape(name) for name in _KEY.findall(body.decode())]
            for name in names:
                self.objects.pop(f"{key}/{name}", None)
            told = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
            return _xml("DeleteResult", told)
        bucket, _, name = key.partition("/")
        where = f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(name)}</Key>"
        if "uploads" in query:
            upload = f"upload-{next(self._numbers)}"
            self._uploads[upload] = {}
            return _xml("InitiateMultipartUploadResult", f"{where}<UploadId>{upload}</UploadId>")
        parts = self._uploads.pop(query.get("uploadId", ""), None)
        if parts is None:
            return Answer(404, {})
        etag = self._store(key, [data for _, data in sorted(parts.items())])
        return _xml("CompleteMultipartUploadResult", f"{where}<ETag>{escape(etag)}</ETag>")

    def _store(self, key: str, parts: Sequence[bytes]) -> str:
        etag = f'"{next(self._numbers)}"'
        self.objects[key] = Stored(parts, etag)
        return etag

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        start = len(bucket) + 1
        found = {
            key[start:]: (stored.size, stored.etag)
            for key, stored in sorted(self.objects.items())
            if key.startswith(f"{bucket}/")
        }
        return listing(bucket, found, query.get("prefix", ""), query.get("delimiter", ""))


def _xml(name: str, inner: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inner}</{name}>'
    body = text.encode()
    return Answer(200, {"Content-Type": "application/xml"}, body=body, length=len(body))
