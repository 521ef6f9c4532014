"""CRC-32C (Castagnoli) of encoded tiles, as Zarr's ``crc32c`` codec lays it out."""

from __future__ import annotations

import google_crc32c
import numpy as np

from wsistore.errors import DamagedTileError

CRC32C_BYTES = 4
"""Length of the checksum behind a block: 4 bytes, little endian."""


def crc32c(data: bytes | bytearray | memoryview, seed: int = 0) -> int:
    """Return the CRC-32C of some bytes, without copying them.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        One contiguous piece of memory. For pieces, pass the result on as `seed`.
    seed : int
        Checksum of what came before.

    Returns
    -------
    int
        Within 0 to 2**32 - 1.
    """
    # google_crc32c refuses memoryviews; an array over the same memory it takes.
    readable = data if isinstance(data, bytes) else np.frombuffer(data, np.uint8)
    result: int = google_crc32c.extend(seed, readable)
    return result


def crc32c_suffix(data: bytes | bytearray | memoryview, seed: int = 0) -> bytes:
    """Return the 4 bytes that Zarr's ``crc32c`` codec puts behind `data`."""
    return crc32c(data, seed).to_bytes(CRC32C_BYTES, "little")


def append_crc32c(data: bytes | bytearray | memoryview) -> bytes:
    """Return `data` with its checksum behind it."""
    return b"".join((data, crc32c_suffix(data)))


def check_crc32c(block: bytes | bytearray | memoryview, what: str) -> memoryview:
    """Check a block against the checksum in its last 4 bytes.

    Parameters
    ----------
    block : bytes, bytearray or memoryview
        Payload and checksum.
    what : str
        Name of the block for the message, such as ``"tile 3, 7 of level 0"``.

    Returns
    -------
    memoryview
        The payload; a view of `block`, not copied.

    Raises
    ------
    DamagedTileError
        If the block is shorter than a checksum, or its bytes are not those that were
        written.
    """
    if len(block) < CRC32C_BYTES:
        raise DamagedTileError(f"{what}: {len(block)} bytes, too short to end with a crc32c.")
    view = memoryview(block)
    payload = view[:-CRC32C_BYTES]
    stored = int.from_bytes(view[-CRC32C_BYTES:], "little")
    seen = crc32c(payload)
    if seen != stored:
        raise DamagedTileError(
            f"{what}: crc32c of its {len(payload)} bytes is {seen:08x}, stored is {stored:08x}."
        )
    return payload
