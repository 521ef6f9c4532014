"""One tile of pixels to the bytes of a variant."""

from __future__ import annotations

import zlib
from functools import cache
from importlib import resources
from typing import NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsistore.testing import jpeg
from wsistore.testing.variants import Variant

Pixels = NDArray[np.uint8]

FIXTURE_TILE = 256
"""Tile size of the one tile with subsampled JPEG 2000 chroma, px."""

_SUBSAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}
_TABLES = {"shared": frozenset({jpeg.DQT, jpeg.DHT}), "dqt": frozenset({jpeg.DQT})}


class Encoded(NamedTuple):
    """An encoded tile, and the JPEGTables that it needs (empty where it needs none)."""

    block: bytes
    tables: bytes = b""


def encode(pixels: Pixels, variant: Variant, quality: int) -> Encoded:
    """Encode one tile.

    Parameters
    ----------
    pixels : (h, w, 3) uint8
        RGB; made gray here for variants with one sample a pixel.
    variant : Variant
        How.
    quality : int
        JPEG and WebP quality, 1-100. JPEG 2000 aims at a PSNR of ``25 + quality // 5`` dB.

    Returns
    -------
    Encoded
    """
    samples = to_samples(pixels, variant)
    if variant.codec == "jpeg":
        return _jpeg(samples, variant, quality)
    if variant.codec == "jpeg2000":
        return Encoded(_jpeg2000(samples, variant, quality))
    if variant.codec == "webp":
        return Encoded(bytes(imagecodecs.webp_encode(samples, level=quality, lossless=False)))
    raw = difference(samples) if variant.predictor == 2 else samples
    return Encoded(_pack(raw.tobytes(), variant))


def to_samples(pixels: Pixels, variant: Variant) -> Pixels:
    """Return the samples that the variant's stream holds, before lossy steps.

    JPEG streams stay RGB here, since the encoder converts them.
    """
    if variant.stream == "gray":
        gray = luma(pixels)
        return 255 - gray if variant.photometric == 0 else gray
    if variant.codec == "jpeg2000" and variant.stream == "ycbcr":
        return rgb_to_ycbcr(pixels)
    return np.ascontiguousarray(pixels)


def luma(pixels: Pixels) -> Pixels:
    """Return the rounded luma (ITU-R BT.601) of (h, w, 3) uint8 as (h, w) uint8."""
    weighted = pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
    return ((weighted + 500) // 1000).astype(np.uint8)


def rgb_to_ycbcr(pixels: Pixels) -> Pixels:
    """Return full-range YCbCr (ITU-T T.871) of RGB, rounded; (h, w, 3) uint8 both."""
    r, g, b = np.moveaxis(pixels.astype(np.float64), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return _round(np.stack((y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402), -1))


def ycbcr_to_rgb(planes: Pixels) -> Pixels:
    """Return RGB of full-range YCbCr (ITU-T T.871), rounded; (h, w, 3) uint8 both."""
    y, cb, cr = np.moveaxis(planes.astype(np.float64), -1, 0)
    cb, cr = cb - 128, cr - 128
    g = y - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587
    return _round(np.stack((y + 1.402 * cr, g, y + 1.772 * cb), -1))


def _round(values: NDArray[np.float64]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def difference(samples: Pixels) -> Pixels:
    """Return the horizontal differences (TIFF predictor 2), modulo 256."""
    result = samples.copy()
    result[:, 1:] -= samples[:, :-1]
    return result


def jpeg_stream(samples: Pixels, subsampling: tuple[int, int], quality: int, stream: str) -> bytes:
    """Return a full baseline JPEG stream of (h, w[, 3]) uint8 without application markers."""
    if stream == "gray":
        encoded = imagecodecs.jpeg8_encode(samples, level=quality)
    elif stream == "rgb":
        encoded = imagecodecs.jpeg8_encode(
            samples, level=quality, colorspace="RGB", outcolorspace="RGB"
        )
    else:
        encoded = imagecodecs.jpeg8_encode(
            samples,
            level=quality,
            colorspace="RGB",
            outcolorspace="YCbCr",
            subsampling=_SUBSAMPLING[subsampling],
        )
    return jpeg.with_marks(bytes(encoded), app14=None, jfif=False)


def _jpeg(samples: Pixels, variant: Variant, quality: int) -> Encoded:
    stream = jpeg_stream(samples, variant.subsampling, quality, variant.stream)
    if variant.component_ids is not None:
        stream = jpeg.with_ids(stream, variant.component_ids)
    stream = jpeg.with_marks(stream, app14=variant.app14, jfif=variant.jfif)
    if variant.tables == "inline":
        return Encoded(stream)
    tables, block = jpeg.split_tables(stream, _TABLES[variant.tables])
    return Encoded(block, tables)


def _jpeg2000(samples: Pixels, variant: Variant, quality: int) -> bytes:
    if variant.subsampling != (1, 1):
        if samples.shape[:2] != (FIXTURE_TILE, FIXTURE_TILE):
            raise ValueError(
                f"subsampled JPEG 2000 is one fixture of {FIXTURE_TILE} px, "
                f"got a tile of {samples.shape[1]}x{samples.shape[0]} px"
            )
        return fixture_block()
    rgb = variant.stream == "rgb"
    encoded = imagecodecs.jpeg2k_encode(
        samples,
        level=0 if variant.reversible else 25 + quality // 5,
        codecformat="j2k",
        colorspace="SRGB" if rgb else "UNSPECIFIED",
        mct=rgb,
        reversible=variant.reversible,
    )
    return bytes(encoded)


def _pack(raw: bytes, variant: Variant) -> bytes:
    if variant.codec == "lzw":
        return bytes(imagecodecs.lzw_encode(raw))
    if variant.codec == "deflate":
        return zlib.compress(raw, 6)
    if variant.codec == "zstd":
        return bytes(imagecodecs.zstd_encode(raw))
    return raw


@cache
def fixture_block() -> bytes:
    """Return the codestream with 2 x 1 subsampled chroma (see ``data/README.md``)."""
    return (resources.files("wsistore.testing") / "data" / "ycbcr422.j2k").read_bytes()
