"""The checksum document of a store: what it was made with, and what vouches for it.

``wsistore-checksums.json`` lies at the root of each finished store. It is the same for
equal stores, whenever and however they were made, so its hash stands for the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wsistore.codecs import crc32c
from wsistore.errors import StoreCorruptError
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.pyramid.shardfile import ShardSum, read_regular
from wsistore.sources import is_url, open_folder, redact

VERSION = 1


@dataclass(frozen=True, slots=True)
class Checksums:
    """What a store says of its own bytes.

    Parameters
    ----------
    settings : mapping
        What the store was made with, and from.
    shards : mapping of str to ShardSum
        By their names below the root; in NGFF 0.4 blocks of chunk files.
    files : mapping of str to ShardSum
        Size and crc32c of all other files but this document.
    """

    settings: Mapping[str, Any]
    shards: Mapping[str, ShardSum]
    files: Mapping[str, ShardSum]

    def to_bytes(self) -> bytes:
        """Return the document, with a checksum of its own."""
        body = {
            "version": VERSION,
            "settings": self.settings,
            "shards": _rows(self.shards),
            "files": _rows(self.files),
        }
        text = json.dumps(body, sort_keys=True, indent=0, allow_nan=False)
        return f'{{"crc32c": "{crc32c(text.encode()):08x}", "document":\n{text}\n}}\n'.encode()


def file_sums(documents: Mapping[str, bytes]) -> dict[str, ShardSum]:
    """Return size and crc32c of files."""
    return {name: ShardSum(len(data), crc32c(data), 0) for name, data in sorted(documents.items())}


def read_checksums(root: str | os.PathLike[str]) -> Checksums | None:
    """Return the checksum document of a store, local or not; None where it has none.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If it is not what was written.
    wsistore.errors.SourceError
        If an object can't be had.
    """
    path = f"{redact(root).rstrip('/')}/{CHECKSUMS}"
    data = open_folder(root).get(CHECKSUMS) if is_url(root) else _file_bytes(path)
    if data is None:
        return None
    try:
        return _parse(data)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StoreCorruptError(f"{path} is not what was written: {error}") from error


def _file_bytes(path: str) -> bytes | None:
    try:
        return read_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else str(error)
        raise StoreCorruptError(f"{path} can't be read: {said}") from error


def _parse(data: bytes) -> Checksums:
    outer = json.loads(data)
    text = data.split(b'"document":\n', 1)[1].rsplit(b"\n}\n", 1)[0]
    if crc32c(text) != int(outer["crc32c"], 16):
        raise ValueError("it does not match its own checksum")
    body = outer["document"]
    if body["version"] != VERSION:
        raise ValueError(f"its version is {body['version']}, expected {VERSION}")
    return Checksums(body["settings"], _sums(body["shards"]), _sums(body["files"]))


def _rows(sums: Mapping[str, ShardSum]) -> dict[str, list[Any]]:
    return {key: [value.size, f"{value.crc:08x}", value.chunks] for key, value in sums.items()}


def _sums(rows: Mapping[str, Iterable[Any]]) -> dict[str, ShardSum]:
    found = {}
    for key, (size, crc, chunks) in rows.items():
        if key.startswith("/") or not {"", ".", ".."}.isdisjoint(key.split("/")):
            raise ValueError(f"{key!r} is no name of a file below the store's root")
        found[key] = ShardSum(int(size), int(crc, 16), int(chunks))
    return found
