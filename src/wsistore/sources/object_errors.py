"""Errors of obstore, told as errors of the source, with nothing secret in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from wsistore.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceNotFoundError,
    SourceUnavailableError,
    StoreWriteError,
    UsageError,
    WsistoreError,
)

_NETWORK = "Check the address and the network, and try again."
_RIGHTS = "Check the credentials, and what they permit."
_BUCKET = (
    "Check its name, and that it is asked for at the right place: storage options endpoint and "
    "region, or AWS_ENDPOINT_URL and AWS_REGION."
)
_TIME = "Try again, or allow more time (storage options deadline_s, timeout_s)."

CLASSES: dict[str, tuple[type[WsistoreError], str, str]] = {
    # name in obstore.exceptions, or of a builtin -> class, what failed, hint
    "AlreadyExistsError": (SourceError, "can't be read", ""),
    "BaseError": (SourceUnavailableError, "can't be read", _NETWORK),
    "FileNotFoundError": (SourceNotFoundError, "does not exist", ""),
    "GenericError": (SourceUnavailableError, "can't be read", _NETWORK),
    "InvalidPathError": (SourceNotFoundError, "can't be the name of an object", ""),
    "JoinError": (SourceUnavailableError, "can't be read", ""),
    "NotFoundError": (SourceNotFoundError, "does not exist", ""),
    "NotModifiedError": (SourceError, "can't be read", ""),
    "NotSupportedError": (
        SourceError,
        "can't be read in ranges",
        "Its server gives whole files only: download it.",
    ),
    "NotImplementedError": (SourceError, "can't be asked for that", ""),
    "PermissionDeniedError": (SourceAccessError, "may not be read", _RIGHTS),
    "PreconditionError": (SourceChangedError, "is not the object that was opened", ""),
    "UnauthenticatedError": (SourceAccessError, "may not be read without signing in", _RIGHTS),
    "UnknownConfigurationKeyError": (UsageError, "does not take these options", ""),
    "PermissionError": (SourceAccessError, "may not be read", _RIGHTS),
    "OSError": (SourceUnavailableError, "can't be read", _NETWORK),
    "ValueError": (SourceNotFoundError, "can't be the name of an object", ""),
}

_TIMED_OUT = re.compile(r"\b(timed out|timeout)\b", re.IGNORECASE)
_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "GCS_")
_STATUS = re.compile(r"status code: (\d{3})\b")
_OF_STATUS: dict[str, tuple[type[WsistoreError], str, str]] = {
    "400": (SourceError, "can't be read", "Check the address, the region and the options."),
    "401": (SourceAccessError, "may not be read without signing in", _RIGHTS),
    "403": (SourceAccessError, "may not be read", _RIGHTS),
    "404": (SourceNotFoundError, "does not exist", "Check the names of the bucket and the object."),
}
_NO_BUCKET = re.compile(
    r"<Code>(NoSuchBucket|ContainerNotFound)</Code>|The specified (bucket|container) does not exist"
)
"""What S3, Google and Azure answer; an answer to HEAD has no text to tell it by."""
_ADDRESS = re.compile(r"https?://[^/\s?]+")
_SECRET_KEY = re.compile(r"key|secret|token|passw|sas|credential|auth|signature", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/\s@]*@")
_QUERY = re.compile(r"\?[^\s\"')]+")
_LONGEST = 300


def from_object_error(error: Exception, name: str, secrets: Iterable[str]) -> WsistoreError:
    """Return the error of the source that an error of obstore means.

    Its text is cut to the first line, before any body that the server sent, and freed of
    user names, passwords, query strings and the given secrets. Raise it ``from None``:
    a traceback would show the original.

    Parameters
    ----------
    error : Exception
        What obstore raised.
    name : str
        The object, for the message; without credentials.
    secrets : iterable of str
        What must not be shown.
    """
    told = _scrub(str(error), secrets)
    if names_no_bucket(error):
        return SourceNotFoundError(_no_bucket(told, name), hint=_BUCKET)
    for base in type(error).__mro__:
        if base.__name__ in CLASSES:
            kind, failed, hint = _by_status(str(error)) or CLASSES[base.__name__]
            if kind is SourceUnavailableError and _TIMED_OUT.search(str(error)):
                return SourceUnavailableError(f"{name} was not read in time: {told}", hint=_TIME)
            return kind(f"{name} {failed}: {told}", hint=hint)
    return SourceError(f"{name} can't be read: {type(error).__name__}")


def names_no_bucket(error: Exception) -> bool:
    """Return whether the server says that there is no such bucket, not just no object."""
    return _NO_BUCKET.search(str(error)) is not None


def means_not_found(error: Exception) -> bool:
    """Return whether an error of obstore is told as `SourceNotFoundError`."""
    return isinstance(from_object_error(error, "", ()), SourceNotFoundError)


def is_without_answer(error: Exception) -> bool:
    """Return whether nobody knows what the server did: it did not say, or not in time."""
    unknown = isinstance(from_object_error(error, "", ()), SourceUnavailableError)
    return unknown and _STATUS.search(str(error)) is None


def _no_bucket(told: str, name: str) -> str:
    """Say which bucket is not there, and who says so; `told` is free of secrets."""
    parts = urlsplit(name)
    server = _ADDRESS.search(told)
    said = f", says {server[0]}" if server else ""
    return f"there is no bucket {parts.scheme}://{parts.netloc}{said}"


def _by_status(text: str) -> tuple[type[WsistoreError], str, str] | None:
    """Return what a status says that obstore has no error of its own for.

    Such as 404 for the listing of a bucket that is not there.
    """
    found = _STATUS.search(text)
    return None if found is None else _OF_STATUS.get(found[1])


def write_failure(error: Exception, name: str, secrets: Iterable[str]) -> WsistoreError:
    """Return the error of a store that an error of obstore while writing means.

    Parameters
    ----------
    error, name, secrets
        As in `from_object_error`.
    """
    told = from_object_error(error, name, secrets)
    said = _scrub(str(error), secrets)
    if names_no_bucket(error):
        return StoreWriteError(f"can't write {name}: {_no_bucket(said, name)}", hint=_BUCKET)
    if isinstance(error, NotImplementedError) or type(error).__name__ == "NotSupportedError":
        return StoreWriteError(
            f"the server of {name} can't write on conditions: {said}",
            hint="Two runs could mix there, so nothing is written: choose another storage.",
        )
    return StoreWriteError(f"can't write {name}: {said}", hint=told.hint)


def _scrub(text: str, secrets: Iterable[str]) -> str:
    line = text.partition("\n")[0].partition("<")[0]
    for secret in secrets:
        line = line.replace(secret, "...")
    return _QUERY.sub("", _USERINFO.sub(r"\1", line))[:_LONGEST].strip()


def secrets_of(url: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of a URL, of options and of the environment that must not be shown.

    The longest come first.
    """
    parts = urlsplit(url)
    found = {parts.query, parts.username or "", parts.password or ""}
    found.update(value for _, value in parse_qsl(parts.query))
    found.update(unquote(text) for text in tuple(found))
    found.update(_secret_values(options))
    found.update(
        value
        for key, value in os.environ.items()
        if key.startswith(_CLOUDS) and _SECRET_KEY.search(key)
    )
    # One or two letters can't be told from the words of a message.
    return tuple(sorted((text for text in found if len(text) > 2), key=len, reverse=True))


def _secret_values(options: Mapping[str, Any], *, hidden: bool = False) -> Iterator[str]:
    for key, value in options.items():
        hide = hidden or bool(_SECRET_KEY.search(str(key)))
        if isinstance(value, Mapping):
            yield from _secret_values(value, hidden=hide or key == "default_headers")
        elif hide and isinstance(value, str):
            yield value
