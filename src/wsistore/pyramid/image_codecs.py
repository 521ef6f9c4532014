"""What the image codecs of Zarr arrays mean: their names, and which settings they take.

The names and settings are those of the package imagecodecs (2026.5.10 and later), whose
codecs hand settings for encoding and decoding to its functions of the same names. Most of
them matter to encoding only. Of those that matter to decoding, the ones that would give
other pixels than the plain ones are refused rather than ignored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsistore.codecs import BlockFormat
from wsistore.codecs.model import Color
from wsistore.errors import UnsupportedCodecError
from wsistore.geometry import Size

PLAIN: tuple[object, ...] = (None,)
"""What a setting is where it is not set."""


@dataclass(frozen=True, slots=True)
class ImageCodec:
    """An image codec as Zarr documents name it.

    Parameters
    ----------
    name : str
        Name in a Zarr document.
    codec : str
        Name in `BlockFormat.codec`.
    color : {"stream", "ycbcr"}
        What tells the colours of a chunk of three channels.
    encoding : frozenset of str
        Settings that don't matter to decoding.
    decoding : mapping of str to tuple
        Settings that matter, and the values of them that are understood.
    """

    name: str
    codec: str
    color: Color
    encoding: frozenset[str]
    decoding: Mapping[str, tuple[object, ...]]


_JPEG = ImageCodec(
    name="imagecodecs_jpeg",
    codec="jpeg",
    color="stream",
    encoding=frozenset({"level", "subsampling", "optimize", "smoothing", "predictor"}),
    decoding={
        "bitspersample": (None, 8),
        "header": PLAIN,
        "colorspace_data": (None, "RGB", "GRAYSCALE"),
        "colorspace_jpeg": (None, "RGB", "YCBCR", "GRAYSCALE"),
        "lossless": (None, False),
        "fancyupsampling": (None, True),
    },
)
_JPEG2K = ImageCodec(
    name="imagecodecs_jpeg2k",
    codec="jpeg2000",
    color="stream",
    encoding=frozenset(
        {"level", "codecformat", "colorspace", "tile", "resolutions", "reversible", "mct"}
        | {"verbose", "numthreads"}
    ),
    decoding={"bitspersample": (None, 8), "planar": (None, False), "skipres": (None, 0)},
)
_JPEGXL = ImageCodec(
    name="imagecodecs_jpegxl",
    codec="jpegxl",
    color="stream",
    encoding=frozenset(
        {"level", "effort", "distance", "lossless", "decodingspeed", "photometric"}
        | {"primaries", "transfer", "perceptualheuristics", "usecontainer", "numthreads"}
    ),
    decoding={
        "bitspersample": (None, 8),
        "planar": (None, False),
        "index": (None, 0),
        "keeporientation": (None, False),
    },
)
_JPEG2K_YCBCR = ImageCodec(
    name="wsistore.jpeg2k_ycbcr",
    codec="jpeg2000",
    color="ycbcr",
    encoding=frozenset({"level"}),
    decoding={},
)

IMAGE_CODECS: Mapping[str, ImageCodec] = {
    codec.name: codec for codec in (_JPEG, _JPEG2K, _JPEGXL, _JPEG2K_YCBCR)
}
"""By their names in Zarr documents."""


def check_configuration(codec: ImageCodec, configuration: Mapping[str, Any]) -> None:
    """Check that plain decoding gives what a configuration asks for.

    Raises
    ------
    UnsupportedCodecError
        If a setting is unknown, or would change pixels in a way that is not offered.
    """
    for key, value in configuration.items():
        if key in codec.encoding or (key == "tables" and codec.codec == "jpeg"):
            continue
        if key not in codec.decoding:
            raise UnsupportedCodecError(
                f"codec {codec.name} has an unknown setting {key!r} ({value!r})"
            )
        if value not in codec.decoding[key]:
            raise UnsupportedCodecError(f"codec {codec.name} with {key}={value!r} is not read here")


def block_format(
    codec: ImageCodec, configuration: Mapping[str, Any], size: Size, channels: int
) -> BlockFormat:
    """Return how chunks with this codec are encoded.

    Parameters
    ----------
    codec : ImageCodec
        One of `IMAGE_CODECS`.
    configuration : mapping
        Its settings.
    size : Size
        Width and height of a chunk, px.
    channels : {1, 3}
        Samples per pixel.

    Raises
    ------
    UnsupportedCodecError
        As `check_configuration`, or if the number of channels does not fit.
    """
    check_configuration(codec, configuration)
    if channels not in (1, 3):
        raise UnsupportedCodecError(f"codec {codec.name} with {channels} channels is not read here")
    color = codec.color
    if channels == 1:
        color = "gray"
    elif configuration.get("colorspace_jpeg") == "RGB":
        color = "rgb"
    elif configuration.get("colorspace_jpeg") == "YCBCR":
        color = "ycbcr"
    return BlockFormat(
        codec=codec.codec,
        width=size.width,
        height=size.height,
        channels=channels,
        color=color,
        tables=_tables(configuration.get("tables")),
    )


def _tables(value: object) -> bytes:
    """Return JPEG tables from base64, as they stand in a configuration."""
    if value is None:
        return b""
    if not isinstance(value, str):
        raise UnsupportedCodecError("JPEG tables of a codec are base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnsupportedCodecError(f"JPEG tables of a codec are no base64: {error}") from error
