"""Blocks of objects kept on this machine's disk, so that opening a slide again costs little.

A folder holds one folder for each state of an object, named by hashes of its URL (without
its query) and of its identity, and in it one file for each block: the block, and its CRC-32.
Nothing is kept of objects whose server tells neither an ETag, a version nor a time of change:
one of the same size that took the place of another would be read by the other's tile tables.
All of it may be removed at any time. Where it grows beyond its bound, the states that were
used longest ago go by themselves; see `disk_trimming`.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

from wsistore.errors import UsageError
from wsistore.sources.disk_trimming import MOST_BYTES, touch, trimmer_of

_CRC_BYTES = 4
_TOUCH_S = 60.0
"""Seconds after which it is said again that a state is in use."""
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
    most_bytes : int
        Bytes of all objects that are kept at most, but for what lies between two looks.

    Raises
    ------
    wsistore.errors.UsageError
        If the folder can't be made, or the bound is none.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        name: str,
        identity: str,
        most_bytes: Any = MOST_BYTES,
    ) -> None:
        if not isinstance(most_bytes, int) or isinstance(most_bytes, bool) or most_bytes < 1:
            raise UsageError(
                f"index_cache_bytes is a whole number of bytes from 1, got {most_bytes!r}",
                hint=f"By default it is {MOST_BYTES}.",
            )
        self._is_told = identity.partition(" ")[2] not in _UNTOLD
        parts = (sha256(text.encode()).hexdigest()[:32] for text in (name, identity))
        self._folder = Path(folder) / "-".join((_VERSION, *parts))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            pass  # another process has made it, and a third one has trimmed it
        except OSError as error:
            raise UsageError(
                f"the index cache {os.fspath(folder)} can't be written: {error.strerror}",
                hint="Name a folder of your own.",
            ) from error
        self._trimmer = trimmer_of(os.fspath(folder), most_bytes)
        self._touched_at = 0.0

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
        self._touch()
        return block

    def put(self, number: int, block: bytes) -> None:
        """Keep a block; a disk that is full keeps none, which costs a request later."""
        if not self._is_told:
            return
        temporary = self._folder / f".{os.urandom(8).hex()}"
        try:
            self._folder.mkdir(exist_ok=True)  # it may have been trimmed
            temporary.write_bytes(block + zlib.crc32(block).to_bytes(_CRC_BYTES, "little"))
            temporary.rename(self._folder / str(number))
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
        else:
            self._touch()
            self._trimmer.note(len(block))

    def _touch(self) -> None:
        if time.monotonic() - self._touched_at > _TOUCH_S:
            self._touched_at = time.monotonic()
            touch(str(self._folder))
