"""Decoding regions of baseline JPEG tiles with the compiled decoder, where there is one.

`wsistore.codecs._jpegcore` is an optional extension: it is built on installing where there is
a C compiler. It decodes only what is sound and plain, and gives the very pixels of
libjpeg-turbo; whatever it declines is decoded, or refused with a reason, by `JpegDecoder`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs.jpeg_header import JpegHeader
from wsistore.codecs.jpeg_stream import KnownHeader, completer_for
from wsistore.codecs.model import BlockFormat, Integrity, RegionJob
from wsistore.errors import DamagedTileError
from wsistore.geometry import Box, ceil_div

if TYPE_CHECKING:
    from types import ModuleType

SWITCH = "WSISTORE_COMPILED"
"""Environment variable: ``0`` leaves the compiled decoder unused."""

SCALES = (1, 2)
"""Downsamplings that the compiled decoder does."""


def _load() -> tuple[ModuleType | None, str]:
    if os.environ.get(SWITCH) == "0":
        return None, f"switched off ({SWITCH}=0)"
    try:
        from wsistore.codecs import _jpegcore
    except ImportError as error:
        return None, f"not built: {error}"
    return _jpegcore, "ok"


_core, STATE = _load()
# The vector code that pays for whole tiles, too, is that for x86 with AVX2.
_largest_share = 1.0 if _core is not None and _core.VECTORIZED else 0.5


def decode_regions(
    jobs: Sequence[RegionJob],
    block_format: BlockFormat,
    out: NDArray[np.uint8],
    row_bytes: int,
    scale: int,
    integrity: Integrity,
) -> list[int]:
    """Decode regions of many tiles; see `wsistore.codecs.decode_regions`."""
    if _core is None or scale not in SCALES or block_format.color == "white-is-zero":
        return list(range(len(jobs)))
    completer = completer_for(block_format)
    most = _most_px(block_format, scale)
    left: list[int] = []
    chosen: list[int] = []
    calls: list[tuple[Any, ...]] = []
    for index, (block, region, offset) in enumerate(jobs):
        try:
            known = completer.known(block)
        except DamagedTileError:
            left.append(index)
            continue
        header = header_of(known)
        if header is None or region.width * region.height > most:
            left.append(index)
            continue
        chosen.append(index)
        calls.append((header, block, len(known.source), *region, offset))
    done = _core.decode_many(calls, out, row_bytes, scale, integrity == "strict")
    if not all(done):
        left += [index for index, good in zip(chosen, done, strict=True) if not good]
        left.sort()
    return left


def decode_region(
    known: KnownHeader,
    block: bytes | memoryview,
    region: Box,
    out: NDArray[np.uint8],
    scale: int,
    integrity: Integrity,
) -> bool:
    """Decode a region of one tile at 1/`scale`; say whether it was done.

    `region` is in px of the whole tile, its corner on multiples of `scale`; `out` is
    (h, w, 3) uint8 of the region's size at that scale.
    """
    if _core is None or scale not in SCALES or out.strides[1:] != (3, 1):
        return False
    header = header_of(known)
    height, width = out.shape[:2]
    if header is None or height * width > _most_px(known.info, scale):
        return False
    x, y, strict = region.x // scale, region.y // scale, integrity == "strict"
    done: bool = _core.decode(header, block, len(known.source), x, y, out, scale, strict)
    return done


def _most_px(tile: BlockFormat | JpegHeader, scale: int) -> float:
    """Return the largest region, in px at that scale, that is decoded faster this way."""
    return _largest_share * ceil_div(tile.width, scale) * ceil_div(tile.height, scale)


def header_of(known: KnownHeader) -> object | None:
    """Return the tables of a header made ready, None where it is not for this decoder."""
    made = known.made
    if not made:
        # Two threads may both make it: the second one is not kept.
        made.append(None if _core is None else _core.prepare(known.prefix))
    return made[0]
