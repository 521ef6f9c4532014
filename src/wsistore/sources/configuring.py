"""How remote storage is reached: options by URL, from calls, a file and the environment.

Options of a call win over those of `configure_storage`, which win over those of the file;
what none of them says, obstore reads from the environment (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ALLOW_HTTP``, ...). The file is that named by
``WSISTORE_CONFIG``, else ``~/.config/wsistore/storage.toml``; each of its tables is named
by what its URLs begin with::

    ["s3://slides"]
    endpoint = "https://s3.example.org"
    region = "us-east-1"
    profile = "lab"

What `configure_storage` was told is handed to child processes in the environment variable
``WSISTORE_STORAGE_OPTIONS``, as JSON. So it may hold secrets, as ``AWS_SECRET_ACCESS_KEY``
does; it is never written anywhere else.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wsistore.errors import SourceError, UsageError

VARIABLE = "WSISTORE_STORAGE_OPTIONS"
FILE_VARIABLE = "WSISTORE_CONFIG"
CACHE_VARIABLE = "WSISTORE_INDEX_CACHE"
_FILE = Path(".config") / "wsistore" / "storage.toml"

Options = dict[str, Any]

CACHE_OPTIONS = frozenset(("index_cache", "index_cache_bytes"))
"""Options of what is kept on this machine; no storage knows them."""
_OF_ANY_STORAGE = CACHE_OPTIONS | {
    "retries",
    "deadline_s",
    "timeout_s",
    "client_options",
    "retry_config",
}


def configure_storage(options: Mapping[str, Any], prefix: str = "") -> None:
    """Set options of remote storage for this process and those that it starts.

    Parameters
    ----------
    options : mapping
        ``endpoint``, ``region``, ``anonymous``, ``profile`` (of ``~/.aws``), ``retries``,
        ``deadline_s``, ``timeout_s``, ``index_cache``, ``index_cache_bytes`` (see
        `open_source`), and any option of obstore for the kind of storage. An empty one
        takes back what was set for the prefix.
    prefix : str
        What the URLs begin with that they are for; all URLs by default. Where several
        begin a URL, the options of the longest win, option by option.

    Raises
    ------
    wsistore.errors.UsageError
        If an option can't be told in JSON.
    """
    known = _configured()
    known.pop(prefix, None)
    if options:
        known[prefix] = dict(options)
    try:
        text = json.dumps(known)
    except TypeError as error:
        raise UsageError(f"options of storage are texts, numbers and truths: {error}") from error
    if known:
        os.environ[VARIABLE] = text
    else:
        os.environ.pop(VARIABLE, None)


def parse_storage_options(texts: Iterable[str]) -> Options:
    """Return the options of ``KEY=VALUE`` texts; ``true``, ``false`` and numbers are such.

    Raises
    ------
    wsistore.errors.UsageError
        If a text has no ``=`` or no key. The value is not shown, for it may be secret.
    """
    found: Options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"a storage option is KEY=VALUE, got {key!r} without '='",
                hint="Such as --storage-option endpoint=http://127.0.0.1:9000",
            )
        found[key.strip()] = _as_value(value)
    return found


def options_for(url: str, called_with: Mapping[str, Any]) -> Options:
    """Return the options of a URL: those of the call, of `configure_storage`, of the file.

    Raises
    ------
    wsistore.errors.UsageError
        If the file or the variable is broken.
    wsistore.errors.SourceError
        If the file is there and can't be read.
    """
    if "store" in called_with:  # it is made already
        return dict(called_with)
    found: Options = {}
    cache = os.environ.get(CACHE_VARIABLE)
    if cache:
        found["index_cache"] = cache
    for layer in (_of_file(), _configured()):
        for prefix in sorted(layer, key=len):
            if _begins(url, prefix):
                found.update(layer[prefix] if prefix else _for_any(url, layer[prefix]))
    found.update(called_with)
    return found


def _for_any(url: str, options: Options) -> Options:
    """Return those options for all URLs that this one can take: HTTP knows no region."""
    if not url.lower().startswith(("http://", "https://")):
        return options
    return {key: value for key, value in options.items() if key in _OF_ANY_STORAGE}


def _begins(url: str, prefix: str) -> bool:
    """Whether a prefix ends with a whole part of the URL: ``s3://a`` begins no ``s3://ab``."""
    bare = prefix.rstrip("/")
    return not bare or (url.startswith(bare) and url[len(bare) : len(bare) + 1] in ("", "/"))


def _configured() -> dict[str, Options]:
    text = os.environ.get(VARIABLE)
    if not text:
        return {}
    try:
        return _checked(json.loads(text))
    except ValueError:
        # Not even its beginning is shown: it may hold secrets.
        raise UsageError(f"the environment variable {VARIABLE} holds no JSON") from None


def _of_file() -> dict[str, Options]:
    named = os.environ.get(FILE_VARIABLE)
    path = Path(named) if named else Path.home() / _FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if named:
            raise UsageError(f"{FILE_VARIABLE} names {named}, which is not there") from None
        return {}
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}") from error
    try:
        return _checked(tomllib.loads(data.decode()))
    except ValueError:
        raise UsageError(
            f"{path} is no TOML file of tables of storage options",
            hint='Each table is named by a URL: ["s3://bucket"]',
        ) from None


def _checked(found: Any) -> dict[str, Options]:
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise ValueError("no table of tables")
    return found


def _as_value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
