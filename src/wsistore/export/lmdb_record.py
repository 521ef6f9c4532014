r"""The value of one patch in LMDB: a header of fixed size, then the encoded pixels.

Numbers are little-endian. The header has 56 bytes::

    bytes   what
     0- 3   magic: b"WSP\x01" (the last one is the version)
     4- 5   codec: 0 samples (RGB, row by row), 1 JPEG, 2 PNG, 3 WebP
     6- 7   reserved, 0
     8-11   width of the patch in px
    12-15   height
    16-23   x of its top-left corner in level-0 px (signed)
    24-31   y
    32-35   column in the lattice (signed, -1: unknown)
    36-39   row in the lattice
    40-43   label (signed, -1: none)
    44-47   row in the plan
    48-51   bytes that follow the header
    52-55   crc32 of the bytes 0-51 and of those that follow the header
"""

from __future__ import annotations

import struct
import zlib

from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.patches import Patch

MAGIC = b"WSP\x01"
CODECS = ("array", "jpeg", "png", "webp")
_HEADER = struct.Struct("<4sHHIIqqiiiII")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size


def pack(patch: Patch) -> bytes:
    """Return the record of a patch.

    Raises
    ------
    UsageError
        If a number does not fit its field.
    """
    try:
        head = _HEADER.pack(
            MAGIC,
            CODECS.index(patch.codec),
            0,
            patch.width,
            patch.height,
            patch.x,
            patch.y,
            patch.column,
            patch.row,
            patch.label,
            patch.index,
            len(patch.data),
        )
    except struct.error as error:
        raise UsageError(f"patch {patch.key} can't be a record: {error}") from error
    return head + _CRC.pack(zlib.crc32(patch.data, zlib.crc32(head))) + patch.data


def unpack(record: bytes | memoryview, slide: str, where: str) -> Patch:
    """Return the patch of a record, its checksum compared; pixels are a copy of the bytes.

    Parameters
    ----------
    record : bytes-like
        As `pack` made it.
    slide : str
        Name of the slide.
    where : str
        The record, for messages.

    Raises
    ------
    StoreCorruptError
        If it is no whole record.
    """
    view = memoryview(record)
    if len(view) < HEADER_BYTES or bytes(view[:4]) != MAGIC:
        raise StoreCorruptError(
            f"{where} is no record of wsistore: it begins with {bytes(view[:4])!r}"
        )
    fields = _HEADER.unpack(view[: _HEADER.size])
    _, codec, _, width, height, x, y, column, row, label, index, count = fields
    (crc,) = _CRC.unpack(view[_HEADER.size : HEADER_BYTES])
    data = bytes(view[HEADER_BYTES:])
    if len(data) != count or codec >= len(CODECS):
        raise StoreCorruptError(f"{where} is broken: {len(data)} bytes of {count}, codec {codec}")
    if zlib.crc32(data, zlib.crc32(view[: _HEADER.size])) != crc:
        raise StoreCorruptError(f"{where} is damaged: its checksum is not that of its bytes")
    return Patch(slide, index, x, y, column, row, label, CODECS[codec], width, height, data)
