"""From decoded samples to RGB: what the container says the samples mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs.model import BlockFormat
from wsistore.codecs.ycbcr import ycbcr_to_rgb
from wsistore.errors import DamagedTileError, UsageError
from wsistore.geometry import Box, ceil_div


def crop(pixels: NDArray[np.uint8], region: Box, scale: int) -> NDArray[np.uint8]:
    """Return a region (in tile px) of a tile that is decoded at ``1 / scale``, as a view."""
    top, left = region.y // scale, region.x // scale
    return pixels[
        top : top + ceil_div(region.height, scale), left : left + ceil_div(region.width, scale)
    ]


def is_whole(out: NDArray[np.uint8], region: Box, block_format: BlockFormat) -> bool:
    """Whether `out` takes the whole tile and lies in one piece of memory."""
    return (
        region.width == block_format.width
        and region.height == block_format.height
        and out.flags.c_contiguous
    )


def check_size(name: str, seen: tuple[int, ...], block_format: BlockFormat) -> None:
    """Check what a header says, ``(width, height, channels)``, against the format.

    Raises
    ------
    DamagedTileError
        If they differ.
    """
    expected = (block_format.width, block_format.height, block_format.channels)
    if seen != expected:
        raise DamagedTileError(
            f"{name} tile of {seen[0]}x{seen[1]} px with {seen[2]} channels, "
            f"expected {expected[0]}x{expected[1]} with {expected[2]}."
        )


def check_channels(block_format: BlockFormat) -> None:
    """Check that the channels of a format go with its colour; raises UsageError."""
    gray = block_format.color in ("gray", "white-is-zero")
    if block_format.channels not in ((1,) if gray else (3, 4)):
        raise UsageError(
            f"{block_format.codec} tiles of colour {block_format.color!r} have "
            f"{'1 channel' if gray else '3 or 4 channels'}, the format says "
            f"{block_format.channels}"
        )


def put_samples(
    samples: NDArray[np.uint8], block_format: BlockFormat, out: NDArray[np.uint8]
) -> None:
    """Write samples as RGB.

    Gray is repeated, white-is-zero inverted, YCbCr converted. A fourth channel is taken
    for the opacity of colours that are not premultiplied: where it is 255 everywhere it
    is dropped, else the colours are laid over white.

    Parameters
    ----------
    samples : (h, w, channels) uint8
        As they come out of the decoder, already cropped.
    block_format : BlockFormat
        Gives the meaning of the channels.
    out : (h, w, 3) uint8
        Where the pixels go; may be `samples` itself.
    """
    if block_format.channels == 1:
        gray = samples[..., :1]
        out[...] = np.invert(gray) if block_format.color == "white-is-zero" else gray
        return
    if block_format.color == "ycbcr":
        ycbcr_to_rgb(samples[..., :3], out)
    elif samples is not out:
        out[...] = samples[..., :3]
    if block_format.channels == 4:
        _over_white(out, samples[..., 3:])


def _over_white(colors: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> None:
    if (opacity == 255).all():
        return
    alpha = opacity.astype(np.uint32)
    # Rounded to nearest: (c a + 255 (255 - a)) / 255, all in integers.
    mixed = colors * alpha + 255 * (255 - alpha)
    colors[...] = (2 * mixed + 255) // 510
