"""Settings that a store is made with, in one canonical form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from wsistore.errors import StoreMismatchError, UsageError

_ABSENT = "(absent)"


def canonical(settings: Mapping[str, Any]) -> bytes:
    """Return JSON that is the same for equal settings, whatever the order of their keys.

    Raises
    ------
    UsageError
        If a value can't be told in JSON.
    """
    try:
        text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"settings can't be written as JSON: {error}") from error
    return text.encode()


def check_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], *, name: str) -> None:
    """Raise if a store was made with other settings than are wanted now.

    Parameters
    ----------
    found, wanted : mapping
        JSON-able settings, maybe nested.
    name : str
        What was made with the found ones, for the message.

    Raises
    ------
    StoreMismatchError
        Its message names each key that differs (nested ones as ``a.b``) with its old and
        its new value.
    """
    old = dict(_flat(json.loads(canonical(found))))
    new = dict(_flat(json.loads(canonical(wanted))))
    told = [
        f"{key}: {old.get(key, _ABSENT)} -> {new.get(key, _ABSENT)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if told:
        raise StoreMismatchError(f"{name} was made with other settings: {'; '.join(told)}")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)
