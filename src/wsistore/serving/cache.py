"""Chunks that were encoded before."""

from __future__ import annotations

import threading
from collections import OrderedDict


class ChunkCache:
    """The encoded chunks that were sent last, up to a number of bytes; safe in threads.

    Parameters
    ----------
    limit : int
        Bytes; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._chunks: OrderedDict[tuple[object, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def get(self, owner: object, key: str) -> bytes | None:
        """Return a chunk, and count it as used just now; None where it isn't held."""
        with self._lock:
            data = self._chunks.get((owner, key))
            if data is not None:
                self._chunks.move_to_end((owner, key))
            return data

    def put(self, owner: object, key: str, data: bytes) -> None:
        """Hold a chunk, and drop those used longest ago where there is no room."""
        if len(data) > self._limit:
            return
        with self._lock:
            former = self._chunks.pop((owner, key), b"")
            self._chunks[owner, key] = data
            self._size += len(data) - len(former)
            while self._size > self._limit:
                self._size -= len(self._chunks.popitem(last=False)[1])
