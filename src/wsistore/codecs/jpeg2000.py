"""Decoding JPEG 2000 tiles with imagecodecs (OpenJPEG); colour decided by the container."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import imagecodecs as _imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsistore.codecs.failures import LIBRARY_ERRORS, damaged
from wsistore.codecs.jpeg2000_header import (
    Jpeg2000Header,
    check_tile_parts,
    read_jpeg2000_header,
)
from wsistore.codecs.model import BlockFormat, Integrity
from wsistore.codecs.pixels import check_channels, check_size, crop, is_whole, put_samples
from wsistore.codecs.scratch import scratch
from wsistore.errors import DamagedTileError
from wsistore.geometry import Box

imagecodecs: Any = _imagecodecs  # its stubs know neither memoryviews nor arrays

MAX_TILES = 4096
"""Most tiles inside one codestream that are believed; real slides have one."""


class Jpeg2000Decoder:
    """Decodes JPEG 2000; ``color="ycbcr"`` (Aperio 33003) is converted here.

    OpenJPEG sees truncated streams, but neither flipped bits nor zeroed bytes: only a
    checksum taken earlier does.
    """

    scales: tuple[int, ...] = (1,)

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
        header = read_jpeg2000_header(block)
        _check_header(header, block_format)
        check_tile_parts(block, header)
        if block_format.color == "stream":
            # Only YCbCr is written with subsampled chroma; imagecodecs takes it so, too.
            block_format = replace(block_format, color="ycbcr" if header.subsampled else "rgb")
        codestream = memoryview(block)[header.codestream_at :]
        shape = (block_format.height, block_format.width, block_format.channels)
        if header.subsampled:
            samples = _decode_subsampled(codestream, shape)
        else:
            direct = shape[2] == 3 and is_whole(out, region, block_format)
            buffer = out if direct else scratch(shape[0] * shape[1] * shape[2]).reshape(shape)
            samples = _decode_plain(codestream, buffer)
        put_samples(crop(samples, region, 1), block_format, out)


JPEG2000 = Jpeg2000Decoder()


def _decode_plain(codestream: memoryview, buffer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = buffer.shape
    target = buffer[..., 0] if channels == 1 else buffer
    try:
        imagecodecs.jpeg2k_decode(codestream, out=target, numthreads=1)
    except LIBRARY_ERRORS as error:
        what = f"JPEG 2000 tile of {width}x{height} px"
        raise damaged(error, what, len(codestream)) from error
    return buffer


def _decode_subsampled(codestream: memoryview, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    # imagecodecs converts a subsampled codestream to RGB by itself, and truncates. Inside
    # a JP2 file that calls its samples sRGB, Pillow (the same OpenJPEG) hands them out as
    # they are, chroma repeated as OpenSlide does. It holds the GIL meanwhile.
    height, width = shape[:2]
    try:
        with Image.open(io.BytesIO(_as_srgb_jp2(codestream, shape)), formats=("JPEG2000",)) as im:
            samples = np.asarray(im)
    except LIBRARY_ERRORS as error:
        what = f"JPEG 2000 tile of {width}x{height} px with subsampled chroma"
        raise damaged(error, what, len(codestream)) from error
    if samples.shape != shape or samples.dtype != np.uint8:
        raise DamagedTileError(
            f"JPEG 2000 tile decoded to {samples.dtype} {samples.shape}, expected uint8 {shape}."
        )
    return samples


def _as_srgb_jp2(codestream: memoryview, shape: tuple[int, int, int]) -> bytes:
    # Boxes of T.800 annex I: signature, file type, image header, colour (16 is sRGB).
    height, width, channels = shape
    header = _box(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, 7, 7, 0, 0))
    color = _box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16))
    return b"".join(
        (
            _box(b"jP  ", b"\r\n\x87\n"),
            _box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
            _box(b"jp2h", header + color),
            struct.pack(">I", 8 + len(codestream)),
            b"jp2c",
            codestream,
        )
    )


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _check_header(header: Jpeg2000Header, block_format: BlockFormat) -> None:
    check_size("JPEG 2000", (header.width, header.height, header.components), block_format)
    if header.bits != 8 or header.signed or not header.same_depth:
        kind = "signed" if header.signed else "unsigned"
        raise DamagedTileError(
            f"JPEG 2000 tile of {header.bits} bits {kind}, expected 8 bits unsigned throughout."
        )
    if header.tiles > MAX_TILES:
        raise DamagedTileError(
            f"JPEG 2000 tile of {header.tiles} inner tiles, at most {MAX_TILES} are believed."
        )
