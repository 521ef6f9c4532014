"""Looking for slides below the URL of a bucket's prefix."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, unquote, urlsplit

from wsistore.errors import SourceAccessError, SourceNotFoundError, WsistoreError
from wsistore.sources import Folder, is_url, open_folder, open_source

_STORE_MARKS = frozenset({"zarr.json", ".zgroup", ".zattrs"})
_AT_ONCE = 16
"""Prefixes that are listed at the same time."""


def is_prefix(url: str, suffixes: Collection[str]) -> bool:
    """Return whether a URL stands for what lies below it, not for one slide or store.

    It does if it ends with ``/``, names a whole bucket, or is no object. A name with the
    extension of a slide or a store is not looked for: opening it tells. Nor are HTTP URLs
    without the slash, for their servers have no listings.

    Parameters
    ----------
    url : str
        Maybe of a local path, which is none.
    suffixes : collection of str
        Extensions of slides, in lower case.

    Raises
    ------
    wsistore.errors.SourceError
        If it can't be had for another reason than not being there.
    """
    if not is_url(url):
        return False
    parts = urlsplit(url)
    path = parts.path.rstrip("/").lower()
    if path.endswith(".zarr"):
        return False
    if not path or parts.path.endswith("/"):
        return not _STORE_MARKS.intersection(_names(open_folder(url), ""))
    if path.endswith(tuple(suffixes)) or parts.scheme.lower() in ("http", "https"):
        return False
    try:
        open_source(url).close()
    except SourceNotFoundError:
        names = _names(open_folder(url), "")
        if not names:
            raise
        return not _STORE_MARKS.intersection(names)
    return False


def slides_at(
    url: str, *, recursive: bool, suffixes: Collection[str], leave_out: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the slides and stores below a prefix, in the order of their names.

    Hidden ones are left out, and with them what unfinished stores consist of.

    Parameters
    ----------
    url : str
        Where to look.
    recursive : bool
        Whether prefixes within it are searched.
    suffixes : collection of str
        Extensions of slides, in lower case.
    leave_out : str
        A URL that is not searched: that of the results.

    Yields
    ------
    url, folder : str
        URL of a slide, and what lies between the prefix and its name (``"a/b"``).

    Raises
    ------
    wsistore.errors.SourceError
        If it can't be listed.
    """
    root = url.rstrip("/")
    avoided = unquote(leave_out.rstrip("/"))
    start = f"{unquote(root)}/"
    below = avoided[len(start) :] if avoided.startswith(start) else ""
    yield from _among(open_folder(root), "", root, recursive, tuple(suffixes), below)


def _among(
    folder: Folder,
    prefix: str,
    root: str,
    recursive: bool,
    suffixes: tuple[str, ...],
    avoided: str,
) -> Iterator[tuple[str, str]]:
    """Walk one prefix (empty, or ending with ``/``); its folders are listed side by side."""
    names = [name for name in _names(folder, prefix) if not name.startswith(".")]
    deeper = [
        f"{prefix}{name}"
        for name in names
        if name.endswith("/") and f"{prefix}{name}".rstrip("/") != avoided
    ]
    with ThreadPoolExecutor(_AT_ONCE, "wsistore-list") as threads:
        inner = dict(zip(deeper, threads.map(lambda p: _try_names(folder, p), deeper), strict=True))
    place = prefix.rstrip("/")
    for name in names:
        path = f"{prefix}{name}"
        if not name.endswith("/"):
            if name.lower().endswith(suffixes):
                yield f"{root}/{quoted(path)}", place
        elif path in inner:
            found = inner[path]
            if found is None or _STORE_MARKS.intersection(found):
                yield f"{root}/{quoted(path.rstrip('/'))}", place
            elif recursive:
                yield from _among(folder, path, root, recursive, suffixes, avoided)


def _names(folder: Folder, prefix: str) -> list[str]:
    try:
        return folder.list_names(prefix)
    except SourceAccessError as error:
        raise SourceAccessError(
            f"{folder.name}/{prefix} may not be listed: {error.message}",
            hint="Name the slides one by one, or get the right to list.",
        ) from None


def _try_names(folder: Folder, prefix: str) -> list[str] | None:
    """Return names, None where they can't be had: it is a failure of its own."""
    try:
        return folder.list_names(prefix)
    except WsistoreError:
        return None


def stem_source(source: str) -> str:
    """Return the path of a slide as a person would write it: of a URL, without quoting."""
    return unquote(urlsplit(source).path) if is_url(source) else source


def quoted(name: str) -> str:
    """Return the name of an object as a URL has it."""
    return quote(name, safe="/~!$&'()*+,;=:@")
