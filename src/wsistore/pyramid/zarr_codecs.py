"""Codecs for zarr-python that read and write image-encoded chunks.

They are registered by entry point under the names of the package imagecodecs, with its
settings, so either package reads what the other has written; on Python 3.11 there are
none but these. Where both are installed, these are preferred, since they are strict: a
damaged chunk raises `wsistore.errors.DamagedTileError` where other decoders give wrong
pixels. Set ``zarr.config`` (``codecs.imagecodecs_jpeg``) to choose otherwise.

``wsistore.jpeg2k_ycbcr`` is a codec of its own: JPEG 2000 codestreams whose components are
Y, Cb and Cr at full resolution (Aperio's compression 33003 without chroma subsampling).
Nothing in such a codestream says so, and other decoders return Y, Cb and Cr as if they were
red, green and blue. Chunks are decoded, then converted by ITU-T T.871 (full range), rounded
to nearest. It takes no settings, and can't encode.

A chunk is of shape (height, width, 3) or (height, width), uint8; leading axes of length 1
are accepted. Before it comes ``transpose`` with order [1, 2, 0] in arrays c, y, x.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec

from wsistore.codecs import BlockFormat, decode, encode
from wsistore.errors import UnsupportedCodecError
from wsistore.geometry import Size
from wsistore.pyramid.image_codecs import IMAGE_CODECS, block_format, check_configuration

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.common import JSON


@dataclass(frozen=True)
class _ImageCodec(ArrayBytesCodec):
    """An image codec; subclasses name it.

    Parameters
    ----------
    **configuration
        Settings as they stand in Zarr's documents.

    Raises
    ------
    UnsupportedCodecError
        If a setting would change pixels in a way that is not offered.
    """

    name: ClassVar[str]
    is_fixed_size = False

    settings: str
    """The configuration as JSON, so that codecs compare, hash and pickle."""

    def __init__(self, **configuration: Any) -> None:
        check_configuration(IMAGE_CODECS[self.name], configuration)
        object.__setattr__(self, "settings", json.dumps(configuration, sort_keys=True))

    @property
    def configuration(self) -> dict[str, Any]:
        """Settings as they stand in Zarr's documents."""
        result: dict[str, Any] = json.loads(self.settings)
        return result

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Return the codec of a Zarr document."""
        found = data.get("name")
        if found != cls.name:
            raise UnsupportedCodecError(f"expected codec {cls.name}, got {found!r}")
        configuration = data.get("configuration") or {}
        if not isinstance(configuration, Mapping):
            raise UnsupportedCodecError(f"configuration of {cls.name} is {configuration!r}")
        return cls(**configuration)

    def to_dict(self) -> dict[str, JSON]:
        """Return what stands in Zarr's documents."""
        configuration = self.configuration
        if not configuration:
            return {"name": self.name}
        return {"name": self.name, "configuration": configuration}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Check the data type."""
        dtype = array_spec.dtype.to_native_dtype()
        if dtype != np.uint8:
            raise UnsupportedCodecError(f"codec {self.name} holds uint8, the array is {dtype}")
        # The shape shows at a chunk alone: zarr hands in that of before the transpose.
        return self

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before encoding."""
        raise NotImplementedError

    def _format(self, shape: tuple[int, ...]) -> BlockFormat:
        height, width, channels = _image_shape(shape, self.name)
        codec = IMAGE_CODECS[self.name]
        return block_format(codec, self.configuration, Size(width, height), channels)

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        form = self._format(chunk_spec.shape)
        pixels = decode(chunk_bytes.as_numpy_array().data, form)
        if form.channels == 1:
            pixels = pixels[..., 0]
        shaped = pixels.reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(shaped)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        height, width, channels = _image_shape(chunk_array.shape, self.name)
        if channels != 3:
            raise UnsupportedCodecError(f"codec {self.name} encodes 3 channels, got {channels}")
        pixels = chunk_array.as_numpy_array().reshape(height, width, channels)
        encoded = self._encode(np.ascontiguousarray(pixels))
        return chunk_spec.prototype.buffer.from_bytes(encoded)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    def _encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """Encode RGB pixels, (h, w, 3); where a codec can."""
        raise UnsupportedCodecError(
            f"codec {self.name} can't encode {pixels.shape[1]}x{pixels.shape[0]} px",
            hint="It is for codestreams that are copied; use imagecodecs_jpeg2k.",
        )


@dataclass(frozen=True, init=False)
class Jpeg(_ImageCodec):
    """``imagecodecs_jpeg``: baseline and progressive JPEG, 8 bits.

    Settings for encoding: ``level`` (quality, 1 to 100), ``colorspace_jpeg`` (``"YCBCR"``
    or ``"RGB"``), ``subsampling`` (``"444"``, ``"422"``, ``"420"``). Chunks written here
    are complete streams that tell their colours.
    """

    name = "imagecodecs_jpeg"

    def _encode(self, pixels: NDArray[np.uint8]) -> bytes:
        settings = self.configuration
        rgb = settings.get("colorspace_jpeg") == "RGB"
        return encode(
            pixels,
            "jpeg",
            quality=settings.get("level"),
            color="rgb" if rgb else "ycbcr",
            subsampling=_subsampling(settings.get("subsampling")),
        )


@dataclass(frozen=True, init=False)
class Jpeg2k(_ImageCodec):
    """``imagecodecs_jpeg2k``: JPEG 2000 in RGB, or in YCbCr with subsampled chroma.

    Setting for encoding: ``level``, the peak signal-to-noise ratio in dB; lossless
    without it.
    """

    name = "imagecodecs_jpeg2k"

    def _encode(self, pixels: NDArray[np.uint8]) -> bytes:
        return encode(pixels, "jpeg2000", quality=self.configuration.get("level") or None)


@dataclass(frozen=True, init=False)
class Jpegxl(_ImageCodec):
    """``imagecodecs_jpegxl``: JPEG XL, written without loss.

    Setting for encoding: ``effort``, 1 to 9.
    """

    name = "imagecodecs_jpegxl"

    def _encode(self, pixels: NDArray[np.uint8]) -> bytes:
        settings = self.configuration
        lossy = settings.get("lossless") is False or settings.get("distance")
        if lossy or settings.get("level") is not None:
            raise UnsupportedCodecError(f"codec {self.name} is written here without loss only")
        return encode(pixels, "jpegxl", level=settings.get("effort"))


@dataclass(frozen=True, init=False)
class Jpeg2kYcbcr(_ImageCodec):
    """``wsistore.jpeg2k_ycbcr``: see the description of the module."""

    name = "wsistore.jpeg2k_ycbcr"


def _image_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """Return height, width and channels of a chunk of shape ([1, ...,] h, w[, channels])."""
    lead = 0
    while len(shape) - lead > 3 and shape[lead] == 1:
        lead += 1
    rest = shape[lead:]
    if len(rest) == 2:
        return rest[0], rest[1], 1
    if len(rest) == 3 and rest[2] in (1, 3):
        return rest[0], rest[1], rest[2]
    if len(rest) == 3 and rest[0] == 1:
        return rest[1], rest[2], 1
    raise UnsupportedCodecError(
        f"codec {name} holds chunks of shape (height, width, 3), got {shape}",
        hint="Put a transpose codec with order [1, 2, 0] before it.",
    )


def _subsampling(value: object) -> Literal["444", "422", "420"] | None:
    """Return chroma subsampling from ``"422"``, ``"4:2:2"`` or ``[2, 1]``."""
    if value is None:
        return None
    text = "".join(str(value).split(":"))
    if isinstance(value, (list, tuple)):
        text = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}.get(tuple(value), text)
    for word in get_args(Literal["444", "422", "420"]):
        if text == word:
            return word  # type: ignore[no-any-return]
    raise UnsupportedCodecError(f"chroma subsampling {value!r} is not written here")


def _prefer_these() -> None:
    """Choose these codecs where other packages have registered some of the same names.

    As a default, so that a choice of the user's own wins, and ``zarr.config.reset`` keeps it.
    Runs when zarr loads the entry point, which is before it makes its choice.
    """
    classes = (Jpeg, Jpeg2k, Jpegxl)
    names = {cls.name: f"{cls.__module__}.{cls.__qualname__}" for cls in classes}
    zarr.config.update_defaults({"codecs": names})


_prefer_these()
