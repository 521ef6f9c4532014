"""An append-only list of what was done, that survives being cut anywhere.

Each entry is one line of JSON, ``{"crc32":"89abcdef","entry":{...}}``, where the checksum
is that of the bytes of the entry. A line that was torn by a crash, or damaged later,
doesn't match its checksum and is dropped; all others still count. Nothing is ever
rewritten: after a torn line the next entry starts on a new one.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Mapping
from json import loads
from pathlib import Path
from typing import Any, NamedTuple

from wsistore.durable.failures import write_error
from wsistore.durable.settings import canonical
from wsistore.errors import StoreCorruptError

_LINE = re.compile(rb'\{"crc32":"([0-9a-f]{8})","entry":(\{.*\})\}')


class LedgerScan(NamedTuple):
    """What a ledger holds.

    Parameters
    ----------
    entries : list of dict
        Those whose checksum is right, in the order they were appended.
    damaged : list of int
        Numbers of the lines that were dropped; the first line is 1.
    """

    entries: list[dict[str, Any]]
    damaged: list[int]


class Ledger:
    """Append-only JSON lines with a checksum each; safe in threads and forks.

    Parameters
    ----------
    path : path
        The file; made with the first entry.
    sync : bool
        Whether each entry waits until it is on the disk.
    """

    def __init__(self, path: str | os.PathLike[str], *, sync: bool = False) -> None:
        self.path = Path(path)
        self._sync = sync
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._torn = False

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry; it is in the file when this returns.

        Raises
        ------
        UsageError
            If the entry can't be told in JSON.
        StoreWriteError
            If it could not be written.
        """
        body = canonical(entry)
        line = b'{"crc32":"%08x","entry":%s}\n' % (zlib.crc32(body), body)
        with self._lock:
            try:
                self._write(line)
            except OSError as error:
                raise write_error(error, self.path) from error

    def scan(self) -> LedgerScan:
        """Return all entries that are whole, and which lines are not.

        Raises
        ------
        StoreCorruptError
            If the file is there and can't be read.
        """
        entries, damaged = [], []
        for number, line in enumerate(self.read_bytes().split(b"\n"), start=1):
            if not line:
                continue
            found = _LINE.fullmatch(line)
            if found is None or zlib.crc32(found[2]) != int(found[1], 16):
                damaged.append(number)
            else:
                entries.append(loads(found[2]))
        return LedgerScan(entries, damaged)

    def read_bytes(self) -> bytes:
        """Return the whole file as it is; empty where there is none.

        Raises
        ------
        StoreCorruptError
            If the file is there and can't be read.
        """
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StoreCorruptError(f"ledger {self.path} can't be read: {error}") from error

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries that are whole; see `scan` for the others."""
        return self.scan().entries

    def close(self) -> None:
        """Give back the file; the next entry opens it again."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _write(self, line: bytes) -> None:
        fd = self._fd if self._fd is not None else self._open()
        if self._torn:
            line = b"\n" + line
        # One call: lines of several processes never mix, and a crash tears the last only.
        self._torn = True
        while line:
            line = line[os.write(fd, line) :]
        self._torn = False
        if self._sync:
            os.fsync(fd)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd = fd = os.open(self.path, flags, 0o666)
        size = os.fstat(fd).st_size
        self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
        return fd
