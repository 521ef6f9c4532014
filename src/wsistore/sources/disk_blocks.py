"""Blocks of objects kept on this machine's disk, so that opening a slide again costs little.

A folder holds one folder for each state of an object, named by hashes of its URL (without
its query) and of its identity, and in it one file for each block: the block, and its CRC-32.
Nothing is kept of objects whose server tells neither an ETag, a version nor a time of change:
one of the same size that took the place of another would be read by the other's tile tables.
All of it may be removed at any time; nothing removes it by itself.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from hashlib import sha256
from pathlib import Path

from wsistore.errors import UsageError

_CRC_BYTES = 4
_VERSION = "1"

_UNTOLD = ("", "1970-01-01 00:00:00+00:00")
"""What stands behind the size in an identity where the server tells nothing of the state:
object_store takes the epoch for a time of change that is missing."""


class DiskBlocks:
    """The blocks of one state of one object.

    Parameters
    ----------
    folder : path
        That of all objects; made where missing.
    name : str
        URL of the object, without anything secret.
    identity : str
        Of the state: its size, a space, and its ETag, version or time of change; see
        `wsistore.sources.Source.identity`. Where there is no more than the size, no block
        is kept or found.

    Raises
    ------
    wsistore.errors.UsageError
        If the folder can't be made.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, identity: str) -> None:
        self._is_told = identity.partition(" ")[2] not in _UNTOLD
        parts = (sha256(text.encode()).hexdigest()[:32] for text in (name, identity))
        self._folder = Path(folder) / "-".join((_VERSION, *parts))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the index cache {os.fspath(folder)} can't be written: {error.strerror}",
                hint="Name a folder of your own.",
            ) from error

    def get(self, number: int, count: int) -> bytes | None:
        """Return a block of so many bytes; None where it isn't there, or not whole."""
        if not self._is_told:
            return None
        try:
            data = (self._folder / str(number)).read_bytes()
        except OSError:
            return None
        block, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
        if len(block) != count or zlib.crc32(block).to_bytes(_CRC_BYTES, "little") != crc:
            return None
        return block

    def put(self, number: int, block: bytes) -> None:
        """Keep a block; a disk that is full keeps none, which costs a request later."""
        if not self._is_told:
            return
        temporary = self._folder / f".{os.urandom(8).hex()}"
        try:
            temporary.write_bytes(block + zlib.crc32(block).to_bytes(_CRC_BYTES, "little"))
            temporary.rename(self._folder / str(number))
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
