"""Writing a shard from pixels: band by band, chunk by chunk, within bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from math import gcd

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import crc32c, encode
from wsistore.geometry import Box, Size
from wsistore.pyramid.coding import (
    BLOSC,
    GZIP_LEVEL,
    JPEGXL_EFFORT,
    ZSTD_LEVEL,
    is_image_codec,
)
from wsistore.pyramid.options import LOSSLESS
from wsistore.pyramid.planning import LevelPlan
from wsistore.pyramid.shardfile import Chunk
from wsistore.slides import resampling

FILL = 255
"""White, as the glass is; also what missing chunks read as."""
BAND_BYTES = 12 << 20
"""Pixels of a shard that are held at a time, if one row of chunks is not more."""

Pixels = NDArray[np.uint8]
ReadPixels = Callable[[Box], Pixels]
EncodeChunk = Callable[[Pixels], bytes]


def transcode(
    plan: LevelPlan,
    shard: Box,
    read: ReadPixels,
    *,
    tile_height: int | None = None,
) -> Iterator[Chunk]:
    """Encode the chunks of one shard from pixels, band by band.

    Chunks that are wholly white are left out by lossless codecs, for they read the same.

    Parameters
    ----------
    plan : LevelPlan
        The level.
    shard : Box
        The shard clipped to the level, in level px.
    read : callable
        ``read(box)`` gives the pixels of a box of the level, (h, w, 3) uint8.
    tile_height : int, optional
        Height of the source's tiles in px of the level, so that bands end between tiles
        where that can be, and each tile is decoded once.

    Yields
    ------
    Chunk
        Row by row.
    """
    encode_chunk = chunk_encoder(plan.codec, plan.quality)
    skips_white = plan.codec in LOSSLESS
    columns = plan.shard_chunks.width
    for band in _bands(plan, shard, tile_height):
        pixels = read(band)
        first = (band.y - shard.y) // plan.chunk.height * columns
        for row, column, chunk in _chunks(pixels, plan.chunk):
            if skips_white and is_white(chunk):
                continue
            encoded = encode_chunk(chunk)
            yield Chunk(first + row * columns + column, (encoded,), crc32c(encoded))


def _bands(plan: LevelPlan, shard: Box, tile_height: int | None) -> Iterator[Box]:
    height = band_height(plan, shard.width, tile_height)
    for y in range(shard.y, shard.bottom, height):
        yield Box(shard.x, y, shard.width, min(height, shard.bottom - y))


def band_height(plan: LevelPlan, width: int, tile_height: int | None = None) -> int:
    """Return the height of a band in px: rows of chunks, and of source tiles if it can be.

    Parameters
    ----------
    plan : LevelPlan
        The level.
    width : int
        Width of the band, px.
    tile_height : int, optional
        Height of the source's tiles in px of the level.
    """
    chunk = plan.chunk.height
    most = max(1, BAND_BYTES // (width * 3 * chunk))
    if tile_height:
        aligned = tile_height // gcd(tile_height, chunk)
        if aligned <= most:
            return aligned * chunk
    return most * chunk


def _chunks(pixels: Pixels, chunk: Size) -> Iterator[tuple[int, int, Pixels]]:
    """Yield (row, column, whole chunk) of a band; what lies beyond the level is white."""
    height, width = pixels.shape[:2]
    for row, y in enumerate(range(0, height, chunk.height)):
        for column, x in enumerate(range(0, width, chunk.width)):
            part = pixels[y : y + chunk.height, x : x + chunk.width]
            if part.shape[:2] != (chunk.height, chunk.width):
                whole = np.full((chunk.height, chunk.width, 3), FILL, np.uint8)
                whole[: part.shape[0], : part.shape[1]] = part
                part = whole
            yield row, column, part


def is_white(chunk: Pixels) -> bool:
    """Return whether all samples are the fill value."""
    if chunk[0, 0, 0] != FILL or chunk[-1, -1, -1] != FILL:
        return False
    return bool((chunk == FILL).all())


def halve(pixels: Pixels) -> Pixels:
    """Return the 2x area average, rounded to nearest (halves to even, so without a bias).

    Parameters
    ----------
    pixels : (h, w, 3) uint8
        Where a side is odd, its last row or column is averaged with itself alone.

    Returns
    -------
    (ceil(h / 2), ceil(w / 2), 3) uint8
    """
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return resampling.halve(pixels)


def chunk_encoder(codec: str, quality: int | None) -> EncodeChunk:
    """Return what turns a chunk, (h, w, 3) uint8, into its bytes in a store.

    Parameters
    ----------
    codec : str
        Stored codec; see `wsistore.pyramid.coding`.
    quality : int or None
        Of lossy codecs.
    """
    if is_image_codec(codec):
        return _image_encoder(codec, quality)
    compress = _compressor(codec)
    return lambda chunk: compress(planar(chunk))


def planar(chunk: Pixels) -> Pixels:
    """Return a chunk as (3, h, w), contiguous."""
    height, width = chunk.shape[:2]
    out = np.empty((3, height, width), np.uint8)
    cv2.split(chunk, list(out))
    return out


def _image_encoder(codec: str, quality: int | None) -> EncodeChunk:
    level = JPEGXL_EFFORT if codec == "jpegxl" else None
    return lambda chunk: encode(chunk, codec, quality=quality, level=level)


def _compressor(codec: str) -> Callable[[Pixels], bytes]:
    if codec == "gzip":
        return lambda pixels: _gzip(pixels.tobytes())
    if codec == "blosc":
        from numcodecs.blosc import Blosc

        blosc = Blosc(shuffle=Blosc.BITSHUFFLE, **BLOSC)
        return lambda pixels: bytes(blosc.encode(pixels))
    from numcodecs.zstd import Zstd

    zstd = Zstd(level=ZSTD_LEVEL)
    return lambda pixels: bytes(zstd.encode(pixels))


def _gzip(data: bytes) -> bytes:
    """Compress without a time in the header, so that equal pixels give equal bytes."""
    worker = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    return worker.compress(data) + worker.flush()
