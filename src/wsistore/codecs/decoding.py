"""The one call that turns an encoded tile into pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs.jpeg_stream import too_long
from wsistore.codecs.model import BlockFormat, Integrity, ManyDecoder, RegionJob
from wsistore.codecs.registry import decoder_for, scales
from wsistore.errors import MissingTileError, UsageError
from wsistore.geometry import Box, as_box, ceil_div


def decode(
    block: bytes | memoryview,
    block_format: BlockFormat,
    *,
    out: NDArray[np.uint8] | None = None,
    region: Box | None = None,
    scale: int = 1,
    integrity: Integrity = "strict",
) -> NDArray[np.uint8]:
    """Decode one encoded tile, or part of it, to RGB.

    The header of the block is compared with `block_format` before memory is taken, and
    any warning of the decoder is an error. Gray is repeated to three channels,
    white-is-zero inverted; a fourth channel is opacity: dropped where the tile is opaque,
    else the colours are laid over white.

    Parameters
    ----------
    block : bytes or memoryview
        The encoded tile, whole, as it lies in the container.
    block_format : BlockFormat
        What the container says about it; its colour wins over marks inside the block.
    out : (h, w, 3) uint8, optional
        Where the pixels go; may be a strided view of a bigger array. After an error its
        content is undefined. By default a new array.
    region : Box, optional
        Part of the tile, in tile px; with `scale` above 1 all four values are multiples
        of it, but for a width or height that ends at the tile's edge. By default the
        whole tile.
    scale : {1, 2, 4, 8}
        Downsampling within the decoder; see `scales` for what this codec can do.
    integrity : {"strict", "fast"}
        ``"strict"`` reads the block to its end, so that all damage that a decoder can
        see is seen. ``"fast"`` may stop after the last row that is needed: for blocks
        that a checksum vouches for.

    Returns
    -------
    (ceil(region.height / scale), ceil(region.width / scale), 3) uint8
        `out` where it was given.

    Raises
    ------
    UsageError
        If region, scale or `out` don't fit the format.
    MissingTileError
        If the block is empty.
    DamagedTileError
        If the block does not decode to exactly what the format promises.
    UnsupportedCodecError
        If there is no decoder for the codec.
    """
    decoder = decoder_for(block_format.codec)
    box = Box(0, 0, block_format.width, block_format.height)
    if region is not None:
        box = _checked_region(region, box)
    if scale != 1:
        _check_scale(block_format, box, scale)
    if integrity not in ("strict", "fast"):
        raise UsageError(f"integrity is 'strict' or 'fast', got {integrity!r}")
    count = len(block)
    if count == 0:
        raise MissingTileError(f"{block_format.codec} tile of 0 bytes.")
    if count > block_format.max_block_bytes:
        raise too_long(count, block_format)
    shape = (ceil_div(box.height, scale), ceil_div(box.width, scale), 3)
    if out is None:
        target = np.empty(shape, np.uint8)
    else:
        target = out
        _check_out(out, shape)
    decoder.decode_into(block, block_format, target, box, scale, integrity)
    return target


def decode_regions(
    jobs: Sequence[RegionJob],
    block_format: BlockFormat,
    out: NDArray[np.uint8],
    row_bytes: int,
    scale: int,
    integrity: Integrity,
) -> list[int]:
    """Decode regions of many tiles to RGB in one call, the GIL released once.

    Parameters
    ----------
    jobs : sequence of RegionJob
        What to decode, and where to; regions lie inside the tile.
    block_format : BlockFormat
        What the container says about all of the tiles.
    out : ndarray of uint8
        Where the pixels go; C-contiguous. What a job that was not done left there is
        undefined.
    row_bytes : int
        Distance between rows of px in `out`, in bytes.
    scale : {1, 2, 4, 8}
        As in `decode`.
    integrity : {"strict", "fast"}
        As in `decode`.

    Returns
    -------
    list of int
        Indexes of the jobs that were **not** done, ascending: these tiles are missing,
        damaged, or not for this way. Give them to `decode`, which says what is wrong.

    Raises
    ------
    ValueError
        If a region is not inside its tile, or does not fit the output.
    """
    # A protocol's isinstance costs more than the decoding of a small tile.
    many: ManyDecoder | None = getattr(decoder_for(block_format.codec), "decode_regions", None)
    if many is None:
        return list(range(len(jobs)))
    return many(jobs, block_format, out, row_bytes, scale, integrity)


def _checked_region(region: Box, tile: Box) -> Box:
    box = region if type(region) is Box and not region.is_empty else as_box(region)
    if box.x < 0 or box.y < 0 or box.right > tile.width or box.bottom > tile.height:
        raise UsageError(
            f"region {tuple(box)} is not inside the tile of {tile.width}x{tile.height} px"
        )
    return box


def _check_scale(block_format: BlockFormat, box: Box, scale: int) -> None:
    possible = scales(block_format)
    if scale not in possible:
        raise UsageError(
            f"{block_format.codec} tiles of {block_format.width}x{block_format.height} px "
            f"can be decoded at 1/{possible}, not at 1/{scale}",
            hint="Ask wsistore.codecs.scales first.",
        )
    right_fits = box.right % scale == 0 or box.right == block_format.width
    bottom_fits = box.bottom % scale == 0 or box.bottom == block_format.height
    if box.x % scale or box.y % scale or not right_fits or not bottom_fits:
        raise UsageError(f"region {tuple(box)} does not lie on multiples of the scale {scale}")


def _check_out(out: NDArray[np.uint8], shape: tuple[int, int, int]) -> None:
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.writeable:
        kind = "writeable" if out.flags.writeable else "read-only"
        raise UsageError(
            f"out is {kind} {out.dtype} of shape {out.shape}, expected writeable uint8 of {shape}"
        )
