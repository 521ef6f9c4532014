"""Encoded tiles of a slide as chunks of a store: which codec, and what a tile gains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from wsistore.codecs import BlockFormat, JpegCompleter, crc32c, read_jpeg_header
from wsistore.errors import CorruptSlideError, DamagedTileError
from wsistore.pyramid.shardfile import Piece
from wsistore.slides.model import TileTable

_SAMPLED_TILES = 16
"""Tiles whose headers are read to tell how a level's chroma is sampled."""
_CODESTREAM = b"\xff\x4f\xff\x51"
"""SOC and SIZ, the markers that each JPEG 2000 codestream begins with (T.800 A.4, A.5)."""
_SIZ_BYTES = 51
"""SOC and SIZ of three components."""


class Completer(Protocol):
    """Makes an encoded tile complete by itself, and checks its header."""

    def complete(self, block: memoryview) -> tuple[tuple[Piece, ...], int]:
        """Return the pieces of the complete tile, and the crc32c over them.

        Raises
        ------
        wsistore.errors.DamagedTileError
            If the header is not that of a tile of this level.
        """
        ...


def stored_codec(table: TileTable) -> str | None:
    """Return the codec that a level's tiles can be stored with as they are, or None.

    Tiles of three channels in JPEG or JPEG 2000 can. JPEG 2000 in YCbCr needs a codec of
    our own unless its chroma is subsampled, which a sample of its tiles tells.

    Raises
    ------
    wsistore.errors.SourceError
        If bytes of the sample can't be had.
    """
    form = table.block_format
    if form.channels != 3 or form.color not in ("rgb", "ycbcr", "stream"):
        return None
    if form.codec == "jpeg":
        # Chunks of a Zarr array that lean on tables in its metadata would lose them.
        return None if form.color == "stream" and form.tables else "jpeg"
    if form.codec != "jpeg2000":
        return None
    headers = list(_sample(table))
    if any(not header.startswith(_CODESTREAM) for header in headers):
        return None
    if form.color != "ycbcr":
        return "jpeg2000"
    subsampled = bool(headers) and all(map(_is_subsampled, headers))
    return "jpeg2000" if subsampled else "jpeg2000-ycbcr"


def _sample(table: TileTable) -> Iterable[bytes]:
    """Yield the headers of some tiles, spread over the level."""
    refs = table.locate_all()
    present = np.flatnonzero(refs.counts >= _SIZ_BYTES)
    steps = np.unique(np.linspace(0, max(0, len(present) - 1), _SAMPLED_TILES).astype(int))
    for number in present[steps] if len(present) else ():
        source = table.source(int(refs.parts.flat[number]))
        yield source.read(int(refs.offsets.flat[number]), _SIZ_BYTES)


def _is_subsampled(header: bytes) -> bool:
    """Return whether chroma is coarser than luma (XRsiz, YRsiz of the components)."""
    return header[46:48] != header[43:45] or header[49:51] != header[43:45]


def completer(table: TileTable, codec: str) -> Completer:
    """Return what makes the tiles of a level complete chunks of a stored codec."""
    if codec == "jpeg":
        form = table.block_format
        return _JpegAsIs(form) if form.color == "stream" else _Jpeg(form)
    return _Jpeg2000(table.block_format, must_be_subsampled=_must_be_subsampled(table, codec))


def _must_be_subsampled(table: TileTable, codec: str) -> bool:
    return codec == "jpeg2000" and table.block_format.color == "ycbcr"


class _Jpeg:
    """Puts the tables and the colour mark before the tile."""

    def __init__(self, block_format: BlockFormat) -> None:
        self._parts = JpegCompleter(block_format).parts
        # Tiles of a level share their header, so its checksum is computed once. A pair, so
        # that threads never see one half of another's.
        self._last: tuple[bytes, int] = (b"", 0)

    def complete(self, block: memoryview) -> tuple[tuple[Piece, ...], int]:
        prefix, body = self._parts(block)
        last = self._last
        if prefix is not last[0]:
            self._last = last = (prefix, crc32c(prefix))
        return (prefix, body), crc32c(body, last[1])


class _JpegAsIs:
    """Leaves a JPEG that speaks for itself as it is (a chunk of a Zarr array)."""

    def __init__(self, block_format: BlockFormat) -> None:
        self._form = block_format

    def complete(self, block: memoryview) -> tuple[tuple[Piece, ...], int]:
        header, form = read_jpeg_header(block), self._form
        found = (header.width, header.height, header.components)
        if found != (form.width, form.height, form.channels):
            raise DamagedTileError(_unlike(found, form))
        return (block,), crc32c(block)


def _unlike(found: tuple[int, int, int], form: BlockFormat) -> str:
    return (
        f"its header says {found[0]}x{found[1]} px of {found[2]} channels, expected "
        f"{form.width}x{form.height} of {form.channels}"
    )


class _Jpeg2000:
    """Leaves the tile as it is."""

    def __init__(self, block_format: BlockFormat, *, must_be_subsampled: bool) -> None:
        self._form = block_format
        self._must_be_subsampled = must_be_subsampled

    def complete(self, block: memoryview) -> tuple[tuple[Piece, ...], int]:
        header = bytes(block[:_SIZ_BYTES])
        form = self._form
        if len(header) < _SIZ_BYTES or not header.startswith(_CODESTREAM):
            raise DamagedTileError("it is no JPEG 2000 codestream")
        x1, y1, x0, y0 = (int.from_bytes(header[i : i + 4], "big") for i in (8, 12, 16, 20))
        found = (x1 - x0, y1 - y0, int.from_bytes(header[40:42], "big"))
        if found != (form.width, form.height, form.channels):
            raise DamagedTileError(_unlike(found, form))
        if self._must_be_subsampled and not _is_subsampled(header):
            raise CorruptSlideError(
                "chroma of a JPEG 2000 tile is not subsampled, as that of others of its level is",
                hint="Use codec zstd, or another that encodes.",
            )
        return (block,), crc32c(block)
