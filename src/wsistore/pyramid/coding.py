"""Which Zarr codecs a stored codec means, and what it costs."""

from __future__ import annotations

from typing import Any

ZSTD_LEVEL = 3
GZIP_LEVEL = 5
BLOSC = {"cname": "zstd", "clevel": 3, "blocksize": 0}
JPEGXL_EFFORT = 3
"""Lossless: 5 % larger than the library's default of 5, several times faster."""

COPIED = frozenset({"jpeg", "jpeg2000", "jpeg2000-ycbcr"})
"""Stored codecs whose chunks can be the very tiles of a slide."""

RATIO = {
    "zstd": 0.90,
    "blosc": 0.80,
    "gzip": 0.88,
    "jpegxl": 0.55,
    "jpeg": 0.10,
    "jpeg2000": 0.15,
}
"""Encoded bytes per raw byte of stained tissue: rough, for estimates only."""

_CHANNELS_LAST = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
_IMAGE_CODECS = {
    "jpeg": "imagecodecs_jpeg",
    "jpeg2000": "imagecodecs_jpeg2k",
    # Upstream's codec gives YCbCr instead of RGB where chroma is not subsampled.
    "jpeg2000-ycbcr": "wsistore.jpeg2k_ycbcr",
    "jpegxl": "imagecodecs_jpegxl",
}


def is_image_codec(codec: str) -> bool:
    """Return whether a chunk is a whole encoded image, channels last."""
    return codec in _IMAGE_CODECS


def inner_codecs(codec: str, quality: int | None = None) -> list[dict[str, Any]]:
    """Return the Zarr v3 codecs of an inner chunk of shape (3, h, w), crc32c last.

    Parameters
    ----------
    codec : str
        ``"jpeg"``, ``"jpeg2000"``, ``"jpeg2000-ycbcr"``, ``"jpegxl"``, ``"zstd"``,
        ``"blosc"`` or ``"gzip"``.
    quality : int, optional
        Recorded for encoded (not copied) lossy chunks.
    """
    checksum = {"name": "crc32c"}
    if codec in _IMAGE_CODECS:
        return [_CHANNELS_LAST, _image_codec(codec, quality), checksum]
    configurations: dict[str, dict[str, Any]] = {
        "zstd": {"level": ZSTD_LEVEL, "checksum": False},
        "blosc": {**BLOSC, "typesize": 1, "shuffle": "bitshuffle"},
        "gzip": {"level": GZIP_LEVEL},
    }
    return [
        {"name": "bytes"},
        {"name": codec, "configuration": configurations[codec]},
        checksum,
    ]


def _image_codec(codec: str, quality: int | None) -> dict[str, Any]:
    configuration: dict[str, Any] = {}
    if codec == "jpegxl":
        configuration = {"lossless": True, "effort": JPEGXL_EFFORT}
    elif quality is not None:
        configuration = {"level": quality}
    return {"name": _IMAGE_CODECS[codec], "configuration": configuration}


def compressor(codec: str) -> dict[str, Any]:
    """Return the Zarr v2 compressor of ``"zstd"``, ``"blosc"`` or ``"gzip"``."""
    documents: dict[str, dict[str, Any]] = {
        "zstd": {"id": "zstd", "level": ZSTD_LEVEL},
        "blosc": {"id": "blosc", **BLOSC, "shuffle": 2},
        "gzip": {"id": "gzip", "level": GZIP_LEVEL},
    }
    return documents[codec]
