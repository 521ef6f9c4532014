"""Names of files and objects: what is local, and what may be shown."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from wsistore.errors import UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")


def is_url(text: str | os.PathLike[str]) -> bool:
    """Return whether the text is the URL of a remote object; ``file://`` is local."""
    name = os.fspath(text)
    found = _URL.match(name)
    return found is not None and not name.lower().startswith("file://")


def local_path(text: str | os.PathLike[str]) -> str:
    """Return the path that a path or ``file://`` URL names.

    Raises
    ------
    UsageError
        If a ``file://`` URL names another host, or the text is empty.
    """
    name = os.fspath(text)
    if not name:
        raise UsageError("an empty path names no file")
    if not name.lower().startswith("file://"):
        return name
    parts = urlsplit(name)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{redact(name)} names a file on another host",
            hint="A local file has three slashes: file:///folder/file.",
        )
    return unquote(parts.path)


def redact(url: str | os.PathLike[str]) -> str:
    """Return a URL as it may be shown: without user, password, query and fragment.

    Signed URLs carry their signature in the query, so all of it goes. Local paths are
    returned as they are.
    """
    name = os.fspath(url)
    if not _URL.match(name):
        return name
    try:
        parts = urlsplit(name)
    except ValueError:  # such as an unclosed bracket in the host
        return name.partition("://")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
