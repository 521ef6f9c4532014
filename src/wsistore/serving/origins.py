"""Which web pages may read: the rules of cross-origin requests (https://fetch.spec.whatwg.org).

A server on the loopback interface can be asked by every page that its user visits. What the
browser lets a page read of the answers is decided by the headers made here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wsistore.errors import UsageError

VIEWER_ORIGINS = (
    "https://neuroglancer-demo.appspot.com",
    "https://hms-dbmi.github.io",  # vizarr
    "https://ome.github.io",  # the NGFF validator
)
"""Viewers that the index page links to; they may read unless other origins are stated."""

_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.ASCII)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://[^/\s,;\"'\\]+", re.ASCII)
_EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag"
_ACCEPTED = "Range, If-Match, If-None-Match, If-Range, Cache-Control, Content-Type"
_REMEMBERED_S = 600


class Origins:
    """The origins that may read.

    Parameters
    ----------
    stated : sequence of str
        Origins such as ``https://viewer.example``, or ``*`` for all. With none stated,
        these are `VIEWER_ORIGINS`. Pages of this machine (``http://localhost:...``) always may.

    Raises
    ------
    UsageError
        If one is no origin.
    """

    def __init__(self, stated: Sequence[str] = ()) -> None:
        self._all = "*" in stated
        self._named = frozenset(_check(origin) for origin in stated or VIEWER_ORIGINS)

    def allow(self, origin: str) -> bool:
        """Return whether a page of this origin may read."""
        return self._all or origin in self._named or _LOOPBACK.fullmatch(origin) is not None

    def headers(self, origin: str | None) -> list[tuple[str, str]]:
        """Return the headers of an answer to a page of this origin, None outside of browsers."""
        if self._all:
            return [
                ("Access-Control-Allow-Origin", "*"),
                ("Access-Control-Expose-Headers", _EXPOSED),
            ]
        if origin is None or not self.allow(origin):
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", "Origin"),
        ]

    def preflight(self, *, private: bool) -> list[tuple[str, str]]:
        """Return what else an allowed origin is told before it asks.

        Parameters
        ----------
        private : bool
            Whether it wants to reach a private network from a public one
            (https://wicg.github.io/private-network-access).
        """
        told = [
            ("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS"),
            ("Access-Control-Allow-Headers", _ACCEPTED),
            ("Access-Control-Max-Age", str(_REMEMBERED_S)),
        ]
        if private:
            told.append(("Access-Control-Allow-Private-Network", "true"))
        return told


def _check(origin: str) -> str:
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"{origin!r} is no origin",
            hint="Write a scheme and a host as in https://viewer.example, or '*' for all.",
        )
    return origin
