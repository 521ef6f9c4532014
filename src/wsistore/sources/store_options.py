"""Options as people know them, told in the words of obstore."""

from __future__ import annotations

import base64
import configparser
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from wsistore.errors import UsageError
from wsistore.sources.configuring import CACHE_OPTIONS

DEADLINE_S = 120.0
"""Seconds in which one read or write must come to its end, all its repeats included."""
TIMEOUT_S = 60.0
"""Seconds that one request may take: 32 MiB at half a MiB a second, with some to spare."""
RETRIES = 8
_CONNECT_S = 10.0
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0

_CLOUD_OF = {
    "s3": "AWS",
    "s3a": "AWS",
    "gs": "GOOGLE",
    "az": "AZURE",
    "azure": "AZURE",
    "abfs": "AZURE",
    "abfss": "AZURE",
    "adl": "AZURE",
}
_CLIENT_KEYS = (
    "allow_http",
    "allow_invalid_certificates",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "user_agent",
)

_PROFILE_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "region": "region",
    "endpoint_url": "endpoint",
}


def for_obstore(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a URL and options as obstore takes them.

    Plain HTTP must be allowed, a user and password of a URL are sent only as a header, a
    profile is read from ``~/.aws``, and the deadline becomes time-outs of requests.

    Raises
    ------
    UsageError
        If an option makes no sense, or there is no such profile.
    """
    found = {key: value for key, value in options.items() if key not in CACHE_OPTIONS}
    client = dict(found.pop("client_options", None) or {})
    if _is_s3(url):
        found = {**_of_profile(found.pop("profile", None), found), **found}
    if "anonymous" in found:
        found["skip_signature"] = found.pop("anonymous")
    # Among the others obstore meets them with a panic.
    told = {key: found.pop(key) for key in _CLIENT_KEYS if key in found}
    client = {**_of_environment(url), **told, **client}
    endpoint = str(found.get("endpoint", found.get("endpoint_url", _endpoint_of_environment(url))))
    url, client = _for_http(url, client)
    if endpoint.startswith("http://"):
        client.setdefault("allow_http", True)
    deadline = _seconds(found, "deadline_s", DEADLINE_S)
    # Half of it where not said, so that there is time for a second request.
    timeout = min(deadline, _seconds(found, "timeout_s", min(TIMEOUT_S, deadline / 2)))
    client.setdefault("timeout", timedelta(seconds=timeout))
    client.setdefault("connect_timeout", timedelta(seconds=min(_CONNECT_S, timeout)))
    retries = found.pop("retries", RETRIES)
    if not isinstance(retries, int) or retries < 0:
        raise UsageError(f"retries is a whole number from 0, got {retries!r}")
    found.setdefault("retry_config", _retrying(retries, deadline - timeout))
    found["client_options"] = client
    return url, found


def _of_environment(url: str) -> dict[str, Any]:
    """Return what the environment says of the HTTP client, which obstore asks for no more."""
    cloud = _CLOUD_OF.get(url.partition("://")[0].lower())
    found = {key: os.environ.get(f"{cloud}_{key.upper()}") for key in _CLIENT_KEYS}
    return {
        key: value.lower() in ("true", "1", "yes") if key.startswith("allow") else value
        for key, value in found.items()
        if value is not None
    }


def _endpoint_of_environment(url: str) -> str:
    if not _is_s3(url):
        return ""
    return os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""


def _retrying(retries: int, repeats_end_s: float) -> dict[str, Any]:
    """Return how requests are repeated: the last one begins before the given time is over."""
    return {
        "max_retries": retries,
        "retry_timeout": timedelta(seconds=max(0.0, repeats_end_s)),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_WAIT_S),
            "max_backoff": timedelta(seconds=_LONGEST_WAIT_S),
            "base": 2,
        },
    }


def _seconds(options: dict[str, Any], name: str, otherwise: float) -> float:
    value = options.pop(name, None)
    return otherwise if value is None else _positive(name, value)


def _positive(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"{name} is a number of seconds above 0, got {value!r}")
    return float(value)


def _is_s3(url: str) -> bool:
    return _CLOUD_OF.get(url.partition("://")[0].lower()) == "AWS"


def _of_profile(name: str | None, options: Mapping[str, Any]) -> dict[str, str]:
    """Return what a profile of ``~/.aws`` says; an empty dict where none is named.

    The variable ``AWS_PROFILE`` names one only where neither options nor environment have
    keys, as in the tools of AWS.
    """
    told = name or os.environ.get("AWS_PROFILE")
    has_keys = any("access_key_id" in key for key in options) or "AWS_ACCESS_KEY_ID" in os.environ
    if told is None or (name is None and has_keys):
        return {}
    home = Path.home() / ".aws"
    places = {
        os.environ.get("AWS_CONFIG_FILE") or str(home / "config"): (told, f"profile {told}"),
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or str(home / "credentials"): (told,),
    }
    found: dict[str, str] = {}
    known = False
    for path, sections in places.items():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            raise UsageError(f"{path} is no file of profiles") from None
        for section in sections:
            if parser.has_section(section):
                known = True
                pairs = parser.items(section)
                found.update({_PROFILE_KEYS[k]: v for k, v in pairs if k in _PROFILE_KEYS})
    if not known:
        raise UsageError(f"there is no profile {told!r} in {' or '.join(places)}")
    return found


def _for_http(url: str, client: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        return url, client
    if scheme == "http":
        client.setdefault("allow_http", True)
    if parts.username is not None:
        headers = dict(client.get("default_headers", {}))
        headers.setdefault("Authorization", _basic(parts))
        client["default_headers"] = headers
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return url, client


def _basic(parts: SplitResult) -> str:
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
