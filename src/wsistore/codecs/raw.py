"""Decoding tiles whose codec knows bytes only: none, LZW, deflate, gzip, zstd and such."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs as _imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsistore.codecs.failures import LIBRARY_ERRORS, damaged
from wsistore.codecs.model import BlockFormat, Integrity
from wsistore.codecs.pixels import check_channels, crop, put_samples
from wsistore.codecs.scratch import scratch
from wsistore.errors import DamagedTileError, UnsupportedCodecError
from wsistore.geometry import Box

imagecodecs: Any = _imagecodecs  # its stubs know neither memoryviews nor arrays

Unpack = Callable[[bytes | memoryview, memoryview], int]
"""Unpacks a block into memory and returns how many bytes came; stops where it is full."""

_LZW_CLEAR = 256
"""The code that empties the table of an LZW stream (TIFF 6.0, section 13); 257 ends it."""
_BLOSC_HEADER = 16


class RawDecoder:
    """Decodes tiles of plain samples behind a byte compressor.

    The length must be exactly that of the tile. Bytes behind the end of a compressed
    stream (padding that some TIFF writers count in) don't change a sample and are let
    pass where the codec marks its own end (LZW, deflate); a stream that unpacks to more
    or fewer bytes than the tile is refused, and so is ``"none"`` of another length.
    Deflate carries a checksum, zstd may; LZW, packbits and none do not, so that changed
    bytes are not seen there.

    Parameters
    ----------
    unpack : callable
        ``unpack(block, memory) -> count``.
    """

    scales: tuple[int, ...] = (1,)

    def __init__(self, unpack: Unpack) -> None:
        self._unpack = unpack

    def decode_into(
        self,
        block: bytes | memoryview,
        block_format: BlockFormat,
        out: NDArray[np.uint8],
        region: Box,
        scale: int,
        integrity: Integrity,
    ) -> None:
        """Decode a region; see `wsistore.codecs.Decoder`."""
        del integrity, scale
        check_channels(block_format)
        # One byte more than is needed shows streams that unpack to more than the tile.
        memory = scratch(block_format.raw_bytes + 1)
        what = f"{block_format.codec} tile of {block_format.width}x{block_format.height} px"
        try:
            count = self._unpack(block, memory.data)
        except LIBRARY_ERRORS as error:
            raise damaged(error, what, len(block)) from error
        if count != block_format.raw_bytes:
            more = "or more " if count > block_format.raw_bytes else ""
            raise DamagedTileError(
                f"{what} and {block_format.channels} channels holds {count} bytes {more}"
                f"of samples, expected {block_format.raw_bytes}."
            )
        samples = _arranged(memory[:-1], block_format)
        put_samples(crop(samples, region, 1), block_format, out)


def _arranged(memory: NDArray[np.uint8], block_format: BlockFormat) -> NDArray[np.uint8]:
    """Return samples as (h, w, channels), the predictor undone in place."""
    height, width, channels = block_format.height, block_format.width, block_format.channels
    planar = block_format.layout == "cyx"
    shape = (channels, height, width) if planar else (height, width, channels)
    samples = memory.reshape(shape)
    if block_format.predictor == 2:  # differences along each row, per channel, modulo 256
        imagecodecs.delta_decode(samples, axis=2 if planar else 1, out=samples)
    elif block_format.predictor != 1:
        raise UnsupportedCodecError(
            f"TIFF predictor {block_format.predictor} of {block_format.codec} tiles: "
            "only 1 (none) and 2 (horizontal) are read."
        )
    return samples.transpose(1, 2, 0) if planar else samples


def _copy(block: bytes | memoryview, memory: memoryview) -> int:
    count = len(block)
    kept = min(count, len(memory))
    memory[:kept] = memoryview(block)[:kept]
    return count


def _unblosc(block: bytes | memoryview, memory: memoryview) -> int:
    # c-blosc takes a truncated chunk without a word; its header knows both lengths.
    if len(block) < _BLOSC_HEADER:
        raise ValueError(f"a blosc chunk has {_BLOSC_HEADER} bytes of header")
    stated, packed = (int.from_bytes(block[at : at + 4], "little") for at in (4, 12))
    if packed != len(block) or stated >= len(memory):
        raise ValueError(f"the blosc header says {packed} bytes for {stated}")
    return len(imagecodecs.blosc_decode(block, numthreads=1, out=memory))


def _gunzip(block: bytes | memoryview, memory: memoryview) -> int:
    # The standard library's, for imagecodecs reads zlib's own framing alone.
    worker = zlib.decompressobj(wbits=31)  # 16 + 15: a gzip header and the largest window
    try:
        data = worker.decompress(block, len(memory))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not worker.eof and len(data) < len(memory):
        raise ValueError("the gzip stream is cut short")
    return _copy(data, memory)


def _with(decode: Callable[..., Any]) -> Unpack:
    def unpack(block: bytes | memoryview, memory: memoryview) -> int:
        return len(decode(block, out=memory))

    return unpack


def _unlzw(block: bytes | memoryview, memory: memoryview) -> int:
    # imagecodecs ends the process where the codes begin with one that is not there yet.
    old = bytes(block[:1]) == b"\0"  # old streams fill bytes from their lowest bit
    at, code = 0, _LZW_CLEAR
    while code == _LZW_CLEAR and at + 9 <= 8 * len(block):
        both = bytes(block[at // 8 : at // 8 + 2])
        if old:
            code = int.from_bytes(both, "little") >> at % 8 & 511
        else:
            code = int.from_bytes(both, "big") >> (7 - at % 8) & 511
        at += 9
    if code > _LZW_CLEAR + 1:
        raise ValueError(f"the LZW stream begins with the code {code}, of which nothing is known")
    return len(imagecodecs.lzw_decode(block, out=memory))


NONE = RawDecoder(_copy)
LZW = RawDecoder(_unlzw)
DEFLATE = RawDecoder(_with(imagecodecs.deflate_decode))
GZIP = RawDecoder(_gunzip)
PACKBITS = RawDecoder(_with(imagecodecs.packbits_decode))
ZSTD = RawDecoder(_with(imagecodecs.zstd_decode))
BLOSC = RawDecoder(_unblosc)
