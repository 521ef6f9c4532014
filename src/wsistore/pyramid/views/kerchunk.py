"""References as a file in kerchunk's JSON form (version 1), as fsspec reads it.

https://fsspec.github.io/kerchunk/spec.html: a key leads to text (``base64:`` before what
is none), to ``[url]``, or to ``[url, offset, length]``. Templates and generated keys are
neither written nor read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.pyramid.groups import parse_json
from wsistore.pyramid.views.references import References

MAX_BYTES = 1 << 30
"""Largest file of references that is believed: some 10 million tiles."""


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a file or object.

    Parameters
    ----------
    place : str
        Path or URL, as it stands in the file of references.
    offset : int
        First byte.
    length : int or None
        Bytes; None to the end of the file.
    """

    place: str
    offset: int
    length: int | None


Entries = Mapping[str, bytes | Range]


def encode(references: References, place: str) -> Iterator[bytes]:
    """Yield the pieces of a file of references.

    Parameters
    ----------
    references : References
        What it holds.
    place : str
        Path or URL of the slide, as it shall stand in the file.
    """
    yield b'{"version": 1, "refs": {\n'
    lines = (
        f"{json.dumps(key)}: {json.dumps(data.decode('ascii'))}"
        for key, data in sorted(references.documents.items())
    )
    yield ",\n".join(lines).encode()
    url = json.dumps(place)
    for level in references.levels:
        start = f'"{level.path}/c/0/'
        for row, column, offset, count in level.items():
            yield f',\n{start}{row}/{column}": [{url}, {offset}, {count}]'.encode()
    yield b"\n}}\n"


def decode(data: bytes, name: str) -> Entries:
    """Return what the keys of a file of references lead to.

    Raises
    ------
    CorruptSlideError
        If it is no JSON, or an entry is none.
    UnsupportedSlideError
        If it has templates or generated keys, or is no file of references.
    """
    document = parse_json(data, name)
    if "refs" not in document:
        raise UnsupportedSlideError(f"{name} is JSON, but holds no references of kerchunk")
    if document.get("version") != 1:
        raise UnsupportedSlideError(
            f"{name} holds references of version {document.get('version')!r}, 1 is read"
        )
    for key in ("templates", "gen"):
        if document.get(key):
            raise UnsupportedSlideError(f"{name} has {key}, which are not read here")
    refs = document["refs"]
    if not isinstance(refs, Mapping):
        raise CorruptSlideError(f"{name}: 'refs' is no object")
    return {key: _entry(value, f"{name}: {key}") for key, value in refs.items()}


def _entry(value: Any, name: str) -> bytes | Range:
    if isinstance(value, Mapping):  # kerchunk allows documents as they are
        return json.dumps(value).encode()
    if isinstance(value, str):
        return _inline(value, name)
    if isinstance(value, list) and len(value) in (1, 3) and isinstance(value[0], str):
        numbers = value[1:]
        if all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
            return Range(value[0], *numbers) if numbers else Range(value[0], 0, None)
    raise CorruptSlideError(
        f"{name} leads to {json.dumps(value)[:80]}, expected text or [url, offset, length]"
    )


def _inline(value: str, name: str) -> bytes:
    if not value.startswith("base64:"):
        return value.encode()
    try:
        return base64.b64decode(value.removeprefix("base64:"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CorruptSlideError(f"{name} is no base64: {error}") from error
