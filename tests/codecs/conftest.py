"""Encoded tiles of every form, and what they say of themselves."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from wsistore.codecs import BlockFormat
from wsistore.testing import VARIANTS, Variant, texture
from wsistore.testing.encode import encode
from wsistore.testing.reference import decode as reference_decode

TILE = 256


class Tile(NamedTuple):
    block: bytes
    block_format: BlockFormat
    pixels: NDArray[np.uint8]  # as decoded by other means


def meaning(variant: Variant) -> str:
    if variant.compression in (33003, 33005):
        return "ycbcr" if variant.compression == 33003 else "rgb"
    return {0: "white-is-zero", 1: "gray", 2: "rgb", 6: "ycbcr"}[variant.photometric]


@cache
def build(name: str) -> Tile:
    variant = VARIANTS[name]
    block, tables = encode(texture(TILE, TILE, x=600, y=600), variant, 75)
    color = meaning(variant)
    channels = 1 if color in ("gray", "white-is-zero") else 3
    form = BlockFormat(
        variant.codec,
        TILE,
        TILE,
        channels,
        color,
        tables=tables,
        predictor=variant.predictor,
    )
    pixels = reference_decode(block, variant, (TILE, TILE), tables)
    return Tile(block, form, pixels)


@pytest.fixture(params=sorted(VARIANTS))
def any_tile(request: pytest.FixtureRequest) -> Tile:
    return build(request.param)


@pytest.fixture(params=sorted(name for name, v in VARIANTS.items() if v.codec == "jpeg"))
def any_jpeg(request: pytest.FixtureRequest) -> Tile:
    return build(request.param)


@pytest.fixture(
    scope="session",
    params=["jpeg_rgb_tables", "j2k_33005", "j2k_33003_422", "webp", "lzw", "deflate"],
)
def any_mutable(request: pytest.FixtureRequest) -> Tile:
    return build(request.param)


@pytest.fixture(scope="session")
def tile_of() -> Callable[[str], Tile]:
    return build


@cache
def _picture(width: int, height: int) -> NDArray[np.uint8]:
    return texture(width, height, x=600, y=600)


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Pixels to encode: ``picture(width, height)``."""
    return _picture


@cache
def _pillow_jpeg(width: int, height: int, mode: str, options: tuple[tuple[str, Any], ...]) -> Tile:
    image = Image.fromarray(_picture(width, height)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, "JPEG", **dict(options))
    color = "gray" if mode == "L" else "ycbcr"
    form = BlockFormat("jpeg", width, height, 1 if mode == "L" else 3, color)
    pixels = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    return Tile(stream.getvalue(), form, pixels)


@pytest.fixture(scope="session")
def pillow_jpeg() -> Callable[..., Tile]:
    """JPEG tiles by another encoder and decoder: ``pillow_jpeg(w, h, mode, **options)``.

    Options are Pillow's: quality, subsampling (0 is 4:4:4, 1 4:2:2, 2 4:2:0), progressive,
    restart_marker_rows, ...
    """

    def make(width: int = 256, height: int = 256, mode: str = "RGB", **options: Any) -> Tile:
        options.setdefault("quality", 75)
        return _pillow_jpeg(width, height, mode, tuple(sorted(options.items())))

    return make
