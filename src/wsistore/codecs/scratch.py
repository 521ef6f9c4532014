"""Working memory that each thread keeps, since glibc gives 200 KB arrays back at once."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

_local = threading.local()


def scratch(count: int, slot: str = "pixels") -> NDArray[np.uint8]:
    """Return `count` bytes of working memory of this thread, content undefined.

    Parameters
    ----------
    count : int
        Number of bytes.
    slot : str
        Each name is memory of its own; asking again for the same name gives the same
        memory again, so it must not outlive the decoding of one block.

    Returns
    -------
    (count,) uint8
        C-contiguous view. A fork keeps the memory of the forking thread (copied on
        write), so nothing needs to be renewed in a child.
    """
    slots: dict[str, NDArray[np.uint8]] = _local.__dict__
    memory = slots.get(slot)
    if memory is None or memory.size < count:
        memory = slots[slot] = np.empty(count, np.uint8)
    return memory[:count]
