"""A hash of a store's content, whatever its name, place and time."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from wsistore.errors import SourceNotFoundError, UnsupportedSlideError
from wsistore.geometry import ceil_div
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.sources import Folder

PREFIX = "oz1-"
"""Names the rule below: a change of it makes another prefix."""
SAMPLED_OBJECTS = 64
"""Objects of each array whose size and bytes are looked at."""
SAMPLED_BYTES = 4096
"""Bytes from both ends of each sampled object."""


def store_fingerprint(folder: Folder, documents: Mapping[str, bytes]) -> str:
    """Return the fingerprint of a store.

    A SHA-256 over its metadata documents, and: where the store holds a document with the
    checksums of all its shards, that document; else sizes and first and last bytes of
    objects spread evenly over each array, the same ones for equal documents. So it costs
    the same for a store of a hundred objects and of a million, local or not.

    Parameters
    ----------
    folder : Folder
        The store.
    documents : mapping of str to bytes
        Metadata documents of the group and of the levels, by their names.

    Returns
    -------
    str
        ``"oz1-"`` and 32 hexadecimal digits.

    Raises
    ------
    UnsupportedSlideError
        If the objects of an array can't be told from its document.
    """
    digest = hashlib.sha256()
    for name in sorted(documents):
        _add(digest, name, documents[name])
    checksums = folder.get(CHECKSUMS)
    if checksums is not None:
        _add(digest, CHECKSUMS, checksums)
    else:
        for name in sorted(documents):
            for key in _sample(name, json.loads(documents[name])):
                _add(digest, key, _ends(folder, key))
    return PREFIX + digest.hexdigest()[:32]


def _add(digest: hashlib._Hash, name: str, data: bytes) -> None:
    # With lengths, so that no two contents run together to the same bytes.
    digest.update(f"{len(name)} {name} {len(data)}\n".encode())
    digest.update(data)


def _sample(name: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Yield names of objects of an array, spread evenly; none for a group."""
    shape = document.get("shape")
    if shape is None:
        return
    try:
        chunks, start, separator = _chunks(document)
        counts = [ceil_div(side, chunk) for side, chunk in zip(shape, chunks, strict=True)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UnsupportedSlideError(
            f"the objects of array {name} can't be told from its document: {error}"
        ) from error
    total = math.prod(counts)
    number = min(total, SAMPLED_OBJECTS)
    for step in range(number):
        index = step * (total - 1) // max(1, number - 1)
        place = []
        for count in reversed(counts):
            index, rest = divmod(index, count)
            place.append(str(rest))
        folder = name.rpartition("/")[0]
        key = separator.join([*start, *reversed(place)])
        yield f"{folder}/{key}" if folder else key


def _chunks(document: Mapping[str, Any]) -> tuple[list[int], list[str], str]:
    """Return shape of an object, and what keys begin with and are joined by."""
    if document.get("zarr_format") == 2:
        return document["chunks"], [], document.get("dimension_separator", ".")
    encoding = document.get("chunk_key_encoding", {"name": "default"})
    default = encoding["name"] == "default"
    configuration = encoding.get("configuration") or {}
    separator = configuration.get("separator", "/" if default else ".")
    shape = document["chunk_grid"]["configuration"]["chunk_shape"]
    return shape, ["c"] if default else [], separator


def _ends(folder: Folder, key: str) -> bytes:
    """Return size, first and last bytes of an object; nothing where there is none."""
    try:
        source = folder.source(key)
    except SourceNotFoundError:
        return b""
    try:
        count = min(SAMPLED_BYTES, source.size)
        head, tail = source.read(0, count), source.read(source.size - count, count)
    finally:
        source.close()
    return f"{source.size}\n".encode() + head + tail
