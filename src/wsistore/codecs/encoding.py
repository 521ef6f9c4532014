"""Pixels to one encoded tile, for transcoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs.failures import LIBRARY_ERRORS
from wsistore.codecs.jpeg_stream import complete_jpeg
from wsistore.codecs.model import BlockFormat
from wsistore.errors import UsageError

Subsampling = Literal["444", "422", "420"]

JPEG_QUALITY = 80
"""Quality of JPEG where none is asked for: what scanners use lies between 70 and 90."""
JPEG_SUBSAMPLING: Subsampling = "422"
"""Chroma subsampling of JPEG where none is asked for: as Aperio's YCbCr slides have it."""


def encode(
    pixels: Any,
    codec: str,
    *,
    quality: float | None = None,
    level: int | None = None,
    color: Literal["rgb", "ycbcr"] | None = None,
    subsampling: Subsampling | None = None,
) -> bytes:
    """Encode one tile.

    Parameters
    ----------
    pixels : (h, w, 3) uint8, or a contiguous buffer
        RGB pixels for image codecs (any strides). ``"zstd"``, ``"blosc"``,
        ``"deflate"`` and ``"none"`` take any contiguous buffer and keep its order.
    codec : str
        ``"jpeg"``, ``"jpeg2000"``, ``"jpegxl"``, ``"webp"``, ``"png"``, ``"zstd"``,
        ``"blosc"``, ``"deflate"`` or ``"none"``.
    quality : float, optional
        JPEG: 1 to 100, by default 80. WebP and JPEG XL: 0 to 100, lossless by default.
        JPEG 2000: peak signal-to-noise ratio in dB, lossless by default.
    level : int, optional
        Effort: zstd -7 to 22 (default 3), blosc and deflate 0 to 9 (5, 6), PNG 0 to 9
        (6), JPEG XL 1 to 9 (libjxl's own 7).
    color : {"ycbcr", "rgb"}, optional
        JPEG only: colour space inside the stream, by default ``"ycbcr"``.
    subsampling : {"422", "420", "444"}, optional
        JPEG in YCbCr only, by default ``"422"``.

    Returns
    -------
    bytes
        JPEG comes as a complete stream that says its colour by an Adobe segment, JPEG
        2000 as a raw codestream in RGB, JPEG XL as a raw codestream.

    Raises
    ------
    UsageError
        If codec, pixels and options don't go together.
    """
    options = {"quality": quality, "level": level, "color": color, "subsampling": subsampling}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        encoder, accepted, takes_pixels = _ENCODERS[codec]
    except KeyError:
        raise UsageError(
            f"no encoder for codec {codec!r}", hint=f"Known: {', '.join(sorted(_ENCODERS))}."
        ) from None
    if unknown := sorted(given.keys() - accepted):
        raise UsageError(f"codec {codec!r} has no option {', '.join(unknown)}")
    _check_ranges(codec, given)
    source = _as_pixels(pixels) if takes_pixels else _as_bytes(pixels)
    try:
        return bytes(encoder(source, **given))
    except LIBRARY_ERRORS as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"codec {codec!r} can't encode with {given}: {error}") from error


def encoders() -> tuple[str, ...]:
    """Return the names of all codecs that can be encoded, sorted."""
    return tuple(sorted(_ENCODERS))


def _as_pixels(pixels: Any) -> NDArray[np.uint8]:
    array = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise UsageError(f"expected (h, w, 3) uint8 pixels, got {array.dtype} {array.shape}")
    return np.ascontiguousarray(array)


def _as_bytes(data: Any) -> NDArray[np.uint8]:
    try:
        view = memoryview(data)
    except TypeError as error:
        raise UsageError(f"expected a buffer of bytes, got {type(data).__name__}") from error
    if not view.c_contiguous or view.nbytes == 0:
        kind = "an empty" if view.nbytes == 0 else "a strided"
        raise UsageError(f"expected a contiguous buffer of bytes, got {kind} one")
    return np.frombuffer(view, np.uint8)


def _check_ranges(codec: str, given: dict[str, Any]) -> None:
    quality, level = given.get("quality"), given.get("level")
    least, most = (1, 100) if codec == "jpeg" else (0, 100)
    if quality is not None and not (least <= quality <= most):
        raise UsageError(f"quality of {codec!r} is {least} to {most}, got {quality!r}")
    if level is not None and not (_LEVELS[codec][0] <= level <= _LEVELS[codec][1]):
        low, high = _LEVELS[codec]
        raise UsageError(f"level of {codec!r} is {low} to {high}, got {level!r}")
    if given.get("color") not in (None, "rgb", "ycbcr"):
        raise UsageError(f"color is 'rgb' or 'ycbcr', got {given['color']!r}")
    if given.get("subsampling") not in (None, "444", "422", "420"):
        raise UsageError(f"subsampling is '444', '422' or '420', got {given['subsampling']!r}")
    if given.get("color") == "rgb" and given.get("subsampling") not in (None, "444"):
        raise UsageError("JPEG in RGB has no chroma to subsample")


def _imagecodecs() -> Any:
    # Imported when needed, since it takes 0.1 s; its stubs know no arrays as buffers.
    import imagecodecs

    return imagecodecs


def _jpeg(
    pixels: NDArray[np.uint8],
    quality: float = JPEG_QUALITY,
    color: Literal["rgb", "ycbcr"] = "ycbcr",
    subsampling: Subsampling = JPEG_SUBSAMPLING,
) -> bytes:
    in_stream = {"outcolorspace": "RGB"}
    if color == "ycbcr":
        in_stream = {"outcolorspace": "YCbCr", "subsampling": subsampling}
    stream = _imagecodecs().jpeg8_encode(
        pixels, level=round(quality), colorspace="RGB", **in_stream
    )
    height, width = pixels.shape[:2]
    return complete_jpeg(stream, BlockFormat("jpeg", width, height, color=color))


def _jpeg2000(pixels: NDArray[np.uint8], quality: float | None = None) -> bytes:
    result: bytes = _imagecodecs().jpeg2k_encode(
        pixels,
        level=0 if quality is None else quality,
        codecformat="j2k",
        colorspace="SRGB",
        mct=True,
        reversible=quality is None,
        numthreads=1,
    )
    return result


def _jpegxl(
    pixels: NDArray[np.uint8], quality: float | None = None, level: int | None = None
) -> bytes:
    distance = None if quality is None else _jxl_distance(quality)
    lossless = quality is None
    result: bytes = _imagecodecs().jpegxl_encode(
        pixels, effort=level, distance=distance, lossless=lossless, usecontainer=False, numthreads=1
    )
    return result


def _jxl_distance(quality: float) -> float:
    # libjxl's JxlEncoderDistanceFromQuality, so that numbers mean what cjxl means by them.
    if quality >= 100:
        return 0.01  # the least that is lossy
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality * quality - 23 / 20 * quality + 25


def _webp(pixels: NDArray[np.uint8], quality: float | None = None) -> bytes:
    lossless = quality is None
    result: bytes = _imagecodecs().webp_encode(
        pixels, level=quality, lossless=lossless, numthreads=1
    )
    return result


def _png(pixels: NDArray[np.uint8], level: int = 6) -> bytes:
    result: bytes = _imagecodecs().png_encode(pixels, level=level)
    return result


def _zstd(data: NDArray[np.uint8], level: int = 3) -> bytes:
    result: bytes = _imagecodecs().zstd_encode(data, level=level)
    return result


def _blosc(data: NDArray[np.uint8], level: int = 5) -> bytes:
    # Samples of one byte: there is nothing for a byte shuffle to part.
    result: bytes = _imagecodecs().blosc_encode(
        data, level=level, compressor="zstd", shuffle="bitshuffle", typesize=1, numthreads=1
    )
    return result


def _deflate(data: NDArray[np.uint8], level: int = 6) -> bytes:
    result: bytes = _imagecodecs().deflate_encode(data, level=level)
    return result


def _none(data: NDArray[np.uint8]) -> bytes:
    return data.tobytes()


# Name: encoder, the options that it has, whether it takes pixels (or plain bytes).
_ENCODERS: dict[str, tuple[Callable[..., bytes], frozenset[str], bool]] = {
    "jpeg": (_jpeg, frozenset({"quality", "color", "subsampling"}), True),
    "jpeg2000": (_jpeg2000, frozenset({"quality"}), True),
    "jpegxl": (_jpegxl, frozenset({"quality", "level"}), True),
    "webp": (_webp, frozenset({"quality"}), True),
    "png": (_png, frozenset({"level"}), True),
    "zstd": (_zstd, frozenset({"level"}), False),
    "blosc": (_blosc, frozenset({"level"}), False),
    "deflate": (_deflate, frozenset({"level"}), False),
    "none": (_none, frozenset(), False),
}

_LEVELS = {"zstd": (-7, 22), "blosc": (0, 9), "deflate": (0, 9), "png": (0, 9), "jpegxl": (1, 9)}
