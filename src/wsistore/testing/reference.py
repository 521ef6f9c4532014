"""Decoding by other means than wsistore's own codecs: the truth that tests compare with."""

from __future__ import annotations

import io
import zlib
from functools import cache
from importlib import resources

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsistore.testing import jpeg
from wsistore.testing.encode import fixture_block, ycbcr_to_rgb
from wsistore.testing.variants import Variant

Pixels = NDArray[np.uint8]


def decode(block: bytes, variant: Variant, shape: tuple[int, int], tables: bytes = b"") -> Pixels:
    """Decode one block as a correct reader must: the TIFF tag decides the colour.

    Parameters
    ----------
    block : bytes
        As stored in the file.
    variant : Variant
        How it is encoded.
    shape : (int, int)
        Height and width of the tile in px, padding included.
    tables : bytes
        JPEGTables.

    Returns
    -------
    (h, w, 3) uint8
        RGB; gray is repeated three times.
    """
    samples = _samples(block, variant, shape, tables)
    if variant.color == "white-is-zero":
        samples = 255 - samples
    if samples.ndim == 2:
        samples = np.repeat(samples[..., None], 3, axis=2)
    return samples


def _samples(block: bytes, variant: Variant, shape: tuple[int, int], tables: bytes) -> Pixels:
    if variant.codec == "jpeg":
        return decode_jpeg(jpeg.merge_tables(tables, block), variant.color)
    if variant.codec == "jpeg2000":
        return _decode_jpeg2000(block, variant)
    if variant.codec == "webp":
        return np.asarray(Image.open(io.BytesIO(block)).convert("RGB"))
    raw = np.frombuffer(_unpack(block, variant), np.uint8)
    samples = raw.reshape(shape if variant.channels == 1 else (*shape, 3))
    if variant.predictor == 2:
        samples = np.cumsum(samples, axis=1, dtype=np.uint8)
    return samples


def decode_jpeg(stream: bytes, color: str) -> Pixels:
    """Decode a full JPEG stream with Pillow, its colour space forced by a marker.

    Returns
    -------
    (h, w, 3) or (h, w) uint8
    """
    transform = {"rgb": 0, "ycbcr": 1}.get(color)
    marked = jpeg.with_marks(stream, app14=transform, jfif=False)
    with Image.open(io.BytesIO(marked)) as image:
        return np.asarray(image)


def _decode_jpeg2000(block: bytes, variant: Variant) -> Pixels:
    if variant.subsampling != (1, 1):
        if block != fixture_block():
            raise ValueError("this subsampled codestream is not the fixture: its truth is unknown")
        return ycbcr_to_rgb(_fixture_planes())
    samples: Pixels = imagecodecs.jpeg2k_decode(block)
    return ycbcr_to_rgb(samples) if variant.color == "ycbcr" else samples


def _unpack(block: bytes, variant: Variant) -> bytes:
    if variant.codec == "lzw":
        return bytes(imagecodecs.lzw_decode(block))
    if variant.codec == "deflate":
        return zlib.decompress(block)
    if variant.codec == "zstd":
        return bytes(imagecodecs.zstd_decode(block))
    return block


@cache
def _fixture_planes() -> Pixels:
    """Return (256, 256, 3) uint8 YCbCr of the fixture; chroma repeated to full width."""
    path = resources.files("wsistore.testing") / "data" / "ycbcr422.planes.png"
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        side_by_side = np.asarray(image)
    half = side_by_side.shape[1] // 4
    luma, cb, cr = np.split(side_by_side, [2 * half, 3 * half], axis=1)
    return np.stack((luma, cb.repeat(2, axis=1), cr.repeat(2, axis=1)), axis=-1)
