"""Decoding PNG, WebP and JPEG XL tiles with imagecodecs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import imagecodecs as _imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsistore.codecs.failures import LIBRARY_ERRORS, damaged
from wsistore.codecs.image_headers import ImageSize, jpegxl_size, png_size, webp_size
from wsistore.codecs.model import BlockFormat, Integrity
from wsistore.codecs.pixels import check_channels, check_size, crop, is_whole, put_samples
from wsistore.codecs.scratch import scratch
from wsistore.geometry import Box

imagecodecs: Any = _imagecodecs  # its stubs know neither memoryviews nor arrays


class ImageDecoder:
    """Decodes tiles that are image files of their own.

    Parameters
    ----------
    name : str
        Name of the format for messages.
    read_size : callable
        ``read_size(block) -> ImageSize``, from the header alone.
    read : callable
        ``read(block, out=array)``: decodes into an array of exactly the image's shape.
    """

    scales: tuple[int, ...] = (1,)

    def __init__(
        self,
        name: str,
        read_size: Callable[[bytes | memoryview], ImageSize],
        read: Callable[..., Any],
    ) -> None:
        self._name = name
        self._read_size = read_size
        self._read = read

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
        size = self._read_size(block)
        channels = block_format.channels if size.channels is None else size.channels
        check_size(self._name, (size.width, size.height, channels), block_format)
        shape = (size.height, size.width, channels)
        if channels == 3 and is_whole(out, region, block_format):
            buffer = out
        else:
            buffer = scratch(shape[0] * shape[1] * shape[2]).reshape(shape)
        try:
            self._read(block, out=buffer[..., 0] if channels == 1 else buffer)
        except LIBRARY_ERRORS as error:
            what = f"{self._name} tile of {size.width}x{size.height} px, {channels} channels"
            raise damaged(error, what, len(block)) from error
        put_samples(crop(buffer, region, 1), block_format, out)


PNG = ImageDecoder("PNG", png_size, imagecodecs.png_decode)
WEBP = ImageDecoder("WebP", webp_size, imagecodecs.webp_decode)
JPEGXL = ImageDecoder("JPEG XL", jpegxl_size, partial(imagecodecs.jpegxl_decode, numthreads=1))
