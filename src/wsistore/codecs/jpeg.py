"""Decoding JPEG tiles with simplejpeg (libjpeg-turbo), strictly."""

from __future__ import annotations

import re

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wsistore.codecs.failures import LIBRARY_ERRORS, damaged
from wsistore.codecs.jpeg_regions import decode_region, decode_regions
from wsistore.codecs.jpeg_stream import completer_for, cut_height
from wsistore.codecs.model import BlockFormat, Integrity
from wsistore.codecs.pixels import crop, is_whole
from wsistore.codecs.scratch import scratch
from wsistore.errors import DamagedTileError
from wsistore.geometry import Box, ceil_div

# What libjpeg says at the end of a stream whose header names fewer rows than it holds.
_LEFT_OVER = re.compile(r"\bextraneous bytes before marker 0xd9\b")


class JpegDecoder:
    """Decodes baseline and progressive JPEG; scales within the DCT.

    Any warning of libjpeg is taken for damage. Bytes after the end-of-image marker are
    not looked at, and damage that leaves a valid stream (a changed quantization step, a
    flipped bit that Huffman decoding survives) can't be seen by any decoder.
    """

    scales: tuple[int, ...] = (1, 2, 4, 8)

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
        known = completer_for(block_format).known(block)
        if decode_region(known, block, region, out, scale, integrity):
            _finish(out, block_format)
            return
        rest = memoryview(block)[len(known.source) :]
        prefix = known.prefix
        if integrity == "fast" and region.bottom < block_format.height:
            prefix = cut_height(known, region.bottom)
        stream = b"".join((prefix, rest))
        at = known.info.frame_at + 5
        rows = int.from_bytes(prefix[at : at + 2], "big")
        shape = (ceil_div(rows, scale), ceil_div(block_format.width, scale), 3)
        if scale == 1 and is_whole(out, region, block_format):
            _decode(stream, out, shape, scale, cut=False)
        else:
            buffer = scratch(shape[0] * shape[1] * 3).reshape(shape)
            _decode(stream, buffer, shape, scale, cut=prefix is not known.prefix)
            out[...] = crop(buffer, region, scale)
        _finish(out, block_format)

    decode_regions = staticmethod(decode_regions)


JPEG = JpegDecoder()


def _finish(out: NDArray[np.uint8], block_format: BlockFormat) -> None:
    if block_format.color == "white-is-zero":
        np.invert(out, out=out)


def _decode(
    stream: bytes, buffer: NDArray[np.uint8], shape: tuple[int, int, int], scale: int, *, cut: bool
) -> None:
    height, width = (0, 0) if scale == 1 else shape[:2]
    try:
        result = simplejpeg.decode_jpeg(
            stream, "RGB", False, False, height, width, scale, buffer, True
        )
    except LIBRARY_ERRORS as error:
        if cut and isinstance(error, ValueError) and _LEFT_OVER.search(str(error)):
            return
        what = f"JPEG tile of {shape[1]}x{shape[0]} px at 1/{scale}"
        raise damaged(error, what, len(stream)) from error
    if result.shape != shape:
        raise DamagedTileError(
            f"JPEG tile decoded at 1/{scale} to {result.shape}, expected {shape}."
        )
