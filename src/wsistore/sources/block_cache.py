"""Blocks of objects that were read lately, for the many small reads of opening a slide."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

BLOCK_BYTES = 64 << 10
"""Where requests cost tens of milliseconds, as much comes in the time of one byte."""
MOST_BYTES = 32 << 20


class BlockCache:
    """Blocks by their source and number, the longest unused dropped first; safe in threads.

    Parameters
    ----------
    most_bytes : int
        Bytes that are kept at most.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, source: int, number: int) -> bytes | None:
        """Return a block, None where it isn't there (any more)."""
        with self._lock:
            block = self._blocks.get((source, number))
            if block is not None:
                self._blocks.move_to_end((source, number))
            return block

    def put(self, source: int, number: int, block: bytes) -> None:
        """Keep a block."""
        with self._lock:
            former = self._blocks.pop((source, number), b"")
            self._blocks[source, number] = block
            self._bytes += len(block) - len(former)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._blocks.popitem(last=False)[1])

    def forget(self, source: int) -> None:
        """Drop all blocks of a source."""
        with self._lock:
            for key in [key for key in self._blocks if key[0] == source]:
                self._bytes -= len(self._blocks.pop(key))

    def renew(self) -> None:
        """Begin anew in a forked child, where another thread may have held the lock."""
        self._lock = threading.Lock()
        self._blocks = OrderedDict()
        self._bytes = 0


CACHE = BlockCache()
os.register_at_fork(after_in_child=CACHE.renew)
