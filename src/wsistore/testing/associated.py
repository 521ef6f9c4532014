"""The images beside the pyramid: thumbnail, label and macro."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Size
from wsistore.testing.encode import encode
from wsistore.testing.rawtiff import LONG, SHORT, UNDEFINED, RawTiff, Tag
from wsistore.testing.reference import decode
from wsistore.testing.source import Source
from wsistore.testing.variants import VARIANTS, Variant

Pixels = NDArray[np.uint8]

LABEL_SIZE = Size(190, 230)
MACRO_SIZE = Size(640, 216)
_THUMBNAIL_MAX = Size(1024, 768)

_STRIPS = {
    "thumbnail": (VARIANTS["jpeg_rgb_tables"], 16),
    "label": (VARIANTS["lzw_predictor"], 7),
    "macro": (VARIANTS["jpeg_rgb_tables"], 16),
}
"""Encoding and rows per strip, as in Aperio's files."""


@dataclass(frozen=True, eq=False)
class Associated:
    """An encoded associated image.

    Parameters
    ----------
    pixels : (h, w, 3) uint8
        What a correct reader must give.
    strips : list of bytes
        Encoded, top to bottom.
    tables : bytes
        JPEGTables.
    variant : Variant
        How it is encoded.
    rows : int
        Rows per strip.
    """

    pixels: Pixels
    strips: list[bytes]
    tables: bytes
    variant: Variant
    rows: int


def image_size(name: str, source: Source) -> Size:
    """Return the size of an associated image, px of its own."""
    if name == "label":
        return LABEL_SIZE
    if name == "macro":
        return MACRO_SIZE
    width, height = source.size
    # At most half of the slide, so that it is never mistaken for a level.
    scale = max(2.0, width / _THUMBNAIL_MAX.width, height / _THUMBNAIL_MAX.height)
    return Size(max(1, int(width / scale)), max(1, int(height / scale)))


def build(name: str, source: Source) -> Associated:
    """Draw and encode the image of that name."""
    size = image_size(name, source)
    drawn = {"thumbnail": source.overview, "label": _label, "macro": _macro}[name](*size)
    variant, rows = _STRIPS[name]
    variant = replace(variant)
    strips, parts, tables = [], [], b""
    for top in range(0, size.height, rows):
        strip = np.ascontiguousarray(drawn[top : top + rows])
        block, tables = encode(strip, variant, 75)
        strips.append(block)
        parts.append(decode(block, variant, strip.shape[:2], tables))
    return Associated(np.concatenate(parts), strips, tables, variant, rows)


def write_strips(tiff: RawTiff, image: Associated) -> list[Tag]:
    """Write the strips and return the tags that say where and how they are."""
    height, width = image.pixels.shape[:2]
    offsets = [tiff.add_block(strip) for strip in image.strips]
    tags = [
        Tag(256, LONG, width),
        Tag(257, LONG, height),
        Tag(258, SHORT, (8, 8, 8)),
        Tag(259, SHORT, image.variant.compression),
        Tag(262, SHORT, 2),
        Tag(273, tiff.offset_type, offsets),
        Tag(277, SHORT, 3),
        Tag(278, LONG, image.rows),
        Tag(279, LONG, [len(strip) for strip in image.strips]),
        Tag(284, SHORT, 1),
        Tag(32997, LONG, 1),
    ]
    if image.tables:
        tags += [Tag(347, UNDEFINED, image.tables), Tag(530, SHORT, (2, 2))]
    if image.variant.predictor != 1:
        tags.append(Tag(317, SHORT, image.variant.predictor))
    return tags


def _label(width: int, height: int) -> Pixels:
    """Draw a paper label: a bar code and lines of writing that is none."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = (236, 232, 214)
    pixels[:, :, 0] -= (np.arange(width) // 24).astype(np.uint8)[None, :]
    bars = (np.arange(width - 40) * 7919 // 5 % 11) < 5
    pixels[20 : height // 3, 20 : width - 20][:, bars] = (25, 25, 30)
    for line in range(height // 2, height - 16, 22):
        pixels[line : line + 5, 18 : width - 18 - (line * 13) % 60] = (40, 50, 120)
    return pixels


def _macro(width: int, height: int) -> Pixels:
    """Draw the whole glass: its frosted end at the left, and stained spots."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = (228, 229, 231)
    pixels[:, : width // 4] = (205, 214, 219)
    for cx, cy, radius in ((0.45, 0.5, 0.3), (0.66, 0.42, 0.24), (0.84, 0.6, 0.2)):
        dx, dy = x - cx * width, y - cy * height
        pixels[dx * dx + 2 * dy * dy < (radius * height) ** 2 * 2] = (206, 130, 176)
    return pixels
