"""Which places references may lead to: nowhere, but for those that were allowed.

A file of references can name any file or URL; who opens it must not read or ask for
whatever its author liked. All places are checked before a byte is fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from wsistore.errors import SourceAccessError, UsageError
from wsistore.sources import is_url, redact
from wsistore.sources.names import local_path

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Allowed:
    """The places that references of one file may lead to.

    Parameters
    ----------
    references : str
        Path or URL of the file of references; its own folder is allowed.
    allow : iterable of str or os.PathLike
        Further folders, files or URL prefixes.

    Raises
    ------
    UsageError
        If a prefix is none that can be.
    """

    def __init__(self, references: str, allow: Iterable[str | os.PathLike[str]] = ()) -> None:
        if isinstance(allow, str | os.PathLike):
            allow = (allow,)
        self._references = redact(references)
        self._base = folder_of(references)
        self._folders: list[str] = []
        self._urls: list[str] = []
        for place in (self._base, *(os.fspath(other) for other in allow)):
            if is_url(place):
                self._urls.append(_prefix(place))
            else:
                self._folders.append(os.path.realpath(local_path(place)))

    def resolve(self, place: str) -> str:
        """Return the path or URL that a reference leads to; relative ones are joined.

        Local paths are returned with all symbolic links followed, so that what was
        checked is what is opened.

        Raises
        ------
        SourceAccessError
            If it is not allowed.
        """
        if not place or _CONTROL.search(place):
            raise self._refused(place, "it is no name of a file or object")
        if is_url(place):
            return self._url(place)
        if is_url(self._base) and not place.lower().startswith(("file://", "/")):
            return self._url(self._base + place)
        return self._file(place)

    def _file(self, place: str) -> str:
        try:
            path = local_path(place)
        except UsageError as error:
            raise self._refused(place, error.message) from None
        base = "" if is_url(self._base) else self._base
        try:
            real = os.path.realpath(os.path.join(base, path))  # noqa: PTH118
        except (OSError, ValueError) as error:
            raise self._refused(place, str(error)) from None
        for folder in self._folders:
            if real == folder or real.startswith(folder.rstrip("/") + "/"):
                return real
        raise self._refused(place, "it leads out of the folders that are allowed")

    def _url(self, url: str) -> str:
        try:
            plain = _plain(url)
        except UsageError as error:
            raise self._refused(url, error.message) from None
        for prefix in self._urls:
            if plain == prefix or plain.startswith(prefix.rstrip("/") + "/"):
                return url
        raise self._refused(url, "it is below no URL that is allowed")

    def _refused(self, place: str, reason: str) -> SourceAccessError:
        shown = redact(_CONTROL.sub("?", place))[:200]
        return SourceAccessError(
            f"{self._references} has a reference to {shown!r}, which may not be read: {reason}",
            hint="If you trust the file, allow the place: allow=[...] (--allow).",
        )


def folder_of(references: str) -> str:
    """Return the folder of a file of references; a URL ends with ``/``."""
    if is_url(references):
        parts = urlsplit(references)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0] + "/", "", ""))
    return os.path.dirname(os.path.abspath(local_path(references)))  # noqa: PTH100, PTH120


def check_shareable(url: str) -> str:
    """Return a URL that may stand in references, or raise.

    Raises
    ------
    UsageError
        If it carries a user, a password, a query (a signature) or a fragment.
    """
    _plain(url)
    return url


def _prefix(url: str) -> str:
    return _plain(url)


def _plain(url: str) -> str:
    """Return a URL in the one form by which places are compared.

    Raises
    ------
    UsageError
        If it carries credentials or a query, or climbs by ``..``, encoded or not.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{redact(url)} is no URL: {error}") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"{redact(url)} carries credentials, a query or a fragment",
            hint="References hold none: give credentials by configuration or the environment.",
        )
    path = parts.path
    for _ in range(3):  # encoded once more than a server might decode
        if {".", ".."} & set(path.replace("\\", "/").split("/")):
            raise UsageError(f"{redact(url)} climbs by '.' or '..'")
        path = unquote(path)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{port}"
    return f"{scheme}://{host}{PurePosixPath('/' + unquote(parts.path).strip('/'))}"
