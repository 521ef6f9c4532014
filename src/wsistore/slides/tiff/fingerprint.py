"""A hash of a TIFF's content that does not read all of it.

``wsi1-`` and the hex SHA-256 over, in this order:

1. the file's size (8 bytes, little endian),
2. for each IFD of the main chain, then for each level that lies in a SubIFD: its offset
   (8 bytes), its entries as they lie in the file, and behind them, entry by entry, the
   values that do not fit into the entry, where the field type is known, they lie inside
   the file, and are not longer than 64 KiB, until 64 MiB of them were taken,
3. for each level: the offsets and the byte counts of all tiles (int64, little endian),
4. the first 4 KiB (or all, where shorter) of 16 tiles, spread evenly over the tiles of all
   levels that lie inside the file.

So any change of structure shows, and so does any change that moves bytes; a changed byte
within a tile that is not sampled does not. Name, place and times of the file play no part.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from wsistore.errors import CorruptSlideError
from wsistore.slides.tiff.ifd import Ifd
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.table import TiffTileTable

PREFIX = "wsi1-"
SAMPLES = 16
SAMPLE_BYTES = 4096
MAX_VALUE_BYTES = 64 << 10
MAX_ALL_VALUE_BYTES = 64 << 20


def fingerprint(index: TiffIndex, levels: Sequence[Ifd], tables: Sequence[TiffTileTable]) -> str:
    """Return the hash that the module's docstring describes.

    Parameters
    ----------
    index : TiffIndex
        The IFDs of the file.
    levels : sequence of Ifd
        The IFDs of its levels.
    tables : sequence of TiffTileTable
        The tile tables of its levels.
    """
    digest = hashlib.sha256(struct.pack("<Q", index.source.size))
    subs = [ifd for ifd in levels if ifd not in index.ifds]
    parts = (_structure([*index.ifds, *subs]), _arrays(tables), _samples(index, tables))
    for part in itertools.chain(*parts):
        digest.update(part)
    return PREFIX + digest.hexdigest()


def _structure(ifds: Sequence[Ifd]) -> Iterator[bytes]:
    left = MAX_ALL_VALUE_BYTES
    for ifd in ifds:
        yield struct.pack("<Q", ifd.offset)
        yield ifd.raw
        for value in _values(ifd):
            if len(value) > left:
                left = 0
                break
            left -= len(value)
            yield value


def _values(ifd: Ifd) -> Iterator[bytes]:
    for tag in ifd.tags:
        try:
            entry = ifd.entry(tag)
        except CorruptSlideError:
            continue  # a tag that nobody uses may be broken; its entry is hashed anyway
        if ifd.layout.inline_bytes < entry.bytes <= MAX_VALUE_BYTES:
            yield ifd.data(tag) or b""


def _arrays(tables: Sequence[TiffTileTable]) -> Iterator[bytes]:
    for table in tables:
        for array in table.entries():
            yield array.astype("<i8", copy=False).tobytes()


def _samples(index: TiffIndex, tables: Sequence[TiffTileTable]) -> Iterator[bytes]:
    offsets = np.concatenate([table.entries()[0] for table in tables])
    counts = np.concatenate([table.entries()[1] for table in tables])
    usable = np.flatnonzero(
        ~np.concatenate([table.is_outside() for table in tables]) & (counts > 0)
    )
    if not usable.size:
        return
    chosen = usable[np.linspace(0, usable.size - 1, SAMPLES).astype(np.int64)]
    lengths = np.minimum(counts[chosen], SAMPLE_BYTES)
    yield from map(bytes, index.source.read_many(offsets[chosen].tolist(), lengths.tolist()))
