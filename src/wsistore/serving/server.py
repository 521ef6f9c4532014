"""A small HTTP server that shows slides as OME-Zarr."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from wsistore.errors import NotReadyError, UsageError, WsistoreError
from wsistore.serving.cache import ChunkCache
from wsistore.serving.contents import Resource
from wsistore.serving.exhibits import CODECS, Codec, Exhibit, ServedSlide, name_slides, open_exhibit
from wsistore.serving.listening import Listener, Report
from wsistore.serving.origins import Origins
from wsistore.serving.pages import index_page, listing_page, slides_document
from wsistore.serving.tags import make_tag
from wsistore.serving.targets import Target
from wsistore.slides import Slide

CACHE_BYTES = 256 << 20
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"


def _ignore(path: str, error: WsistoreError) -> None:
    """Report nothing."""


class SlideServer:
    """Shows slides as OME-Zarr (NGFF 0.5, Zarr v3) over HTTP; a context manager.

    Each slide is a folder ``/<stem>.ome.zarr/`` of the server; ``/`` lists them for people,
    ``/slides.json`` for programs. Who runs programs on this machine can read what is served,
    and so can the web pages that `cors` allows.

    Parameters
    ----------
    slides : sequence of str, os.PathLike or Slide
        Slides and stores, local or remote. Those given opened stay the caller's to close.
    host : str
        Name or address to bind. On the loopback interface (the default), requests that name
        another host are refused, which protects from DNS rebinding.
    port : int
        0 takes a free one.
    codec : {"portable", "unchanged"}
        ``"portable"``: tiles are decoded and sent as zstd, which every viewer reads; stores
        in codecs that browsers have are sent as they are. ``"unchanged"``: tiles are sent as
        the slide holds them, for readers with the same decoder.
    cors : str or sequence of str
        Origins of the web pages that may read, or ``"*"`` for all. By default the viewers
        that the index page links to. Pages of this machine always may.
    cache_bytes : int
        Encoded chunks that are held.
    report : callable, optional
        ``report(path, error)``, called for each request that failed, in its thread.

    Raises
    ------
    UsageError
        If there is no slide, an argument is none of those named, or, at `start`, the
        address can't be had.
    WsistoreError
        If a slide can't be opened.
    """

    def __init__(
        self,
        slides: Sequence[str | os.PathLike[str] | Slide],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        codec: Codec = "portable",
        cors: str | Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
        report: Report = _ignore,
    ) -> None:
        if codec not in CODECS:
            raise UsageError(f"codec must be one of {', '.join(CODECS)}, got {codec!r}")
        if isinstance(slides, str | os.PathLike | Slide) or not slides:
            raise UsageError(f"slides must be a list of one at least, got {slides!r}")
        if cache_bytes < 0 or not 0 <= port < 1 << 16:
            raise UsageError(f"cache_bytes and port must fit, got {cache_bytes} and {port}")
        self._origins = Origins([cors] if isinstance(cors, str) else cors)
        self._host, self._port, self._report = host, port, report
        self._listener: Listener | None = None
        self._exhibits = name_slides(_open_all(slides, codec, ChunkCache(cache_bytes)))

    # Life

    def start(self) -> Self:
        """Begin to answer, in threads of its own, and return.

        Raises
        ------
        UsageError
            If the address can't be had, or it was stopped before.
        """
        if not self._exhibits:
            raise UsageError("a server that was stopped doesn't start again")
        if self._listener is None:
            self._listener = Listener(self._host, self._port, self, self._origins, self._report)
        return self

    def stop(self) -> None:
        """Let answers under way end, and give back the address and the slides."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for exhibit in self._exhibits.values():
            exhibit.close()
        self._exhibits = {}

    def __enter__(self) -> Self:
        try:
            return self.start()
        except WsistoreError:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # What is shown

    @property
    def url(self) -> str:
        """Of the index page, with a ``/`` at the end.

        Raises
        ------
        NotReadyError
            If it isn't started.
        """
        if self._listener is None:
            raise NotReadyError("the server isn't started", hint="Call start() before.")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._listener.server_port}/"

    @property
    def slides(self) -> tuple[ServedSlide, ...]:
        """What is shown, in the order given.

        Raises
        ------
        NotReadyError
            If it isn't started.
        """
        return self._slides_at(self.url)

    # What the listener asks

    def known_tag(self, target: Target) -> str | None:
        """Return the entity tag of a target where that needs no reading."""
        exhibit, key = self._split(target)
        if exhibit is None or not key or target.is_folder:
            return None
        return exhibit.contents.known_tag(key)

    def find(self, target: Target, address: str | None) -> tuple[Resource, str] | None:
        """Return what is at a target and its media type, None where there is nothing."""
        if not target.parts:
            return _page(index_page(self._slides_at(address or self.url)), _HTML)
        if target == (("slides.json",), False):
            return _page(slides_document(self._slides_at(address or self.url)), _JSON)
        exhibit, key = self._split(target)
        if exhibit is None:
            return None
        if target.is_folder:
            return _listing(exhibit, "/".join(target.parts), f"{key}/" if key else "")
        found = exhibit.contents.find(key) if key else None
        if found is None:
            return None
        return found, _JSON if key.endswith(".json") else "application/octet-stream"

    def _slides_at(self, address: str) -> tuple[ServedSlide, ...]:
        return tuple(
            exhibit.describe(name, f"{address}{name}/") for name, exhibit in self._exhibits.items()
        )

    def _split(self, target: Target) -> tuple[Exhibit | None, str]:
        if not target.parts:
            return None, ""
        return self._exhibits.get(target.parts[0]), "/".join(target.parts[1:])


def _open_all(
    slides: Iterable[str | os.PathLike[str] | Slide], codec: Codec, cache: ChunkCache
) -> list[Exhibit]:
    opened: list[Exhibit] = []
    try:
        for slide in slides:
            opened.append(open_exhibit(slide, codec, cache))  # noqa: PERF401 (to be closed)
    except BaseException:
        for exhibit in opened:
            exhibit.close()
        raise
    return opened


def _listing(exhibit: Exhibit, title: str, prefix: str) -> tuple[Resource, str] | None:
    names = exhibit.contents.list_names(prefix)
    return _page(listing_page(f"/{title}/", names), _HTML) if names else None


def _page(data: bytes, kind: str) -> tuple[Resource, str]:
    return Resource(data, make_tag(data.decode())), kind
