"""Associated images (thumbnail, label, macro): whole small pages, decoded when asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import BlockFormat, decode
from wsistore.errors import TileError
from wsistore.geometry import Box
from wsistore.slides.tiff.page import Page
from wsistore.slides.tiff.table import TiffTileTable
from wsistore.sources import Source

MAX_PIXELS = 1 << 27
"""Largest associated image that is decoded, in px (400 MB as RGB)."""


def read_whole(source: Source, page: Page, name: str) -> NDArray[np.uint8]:
    """Read all pixels of a page in tiles or strips.

    Parameters
    ----------
    source : Source
        The file.
    page : Page
        The page.
    name : str
        What the image is, for messages.

    Returns
    -------
    (h, w, 3) uint8
        White where the file holds no bytes.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If it has more than `MAX_PIXELS`, or its encoding is not read.
    wsistore.errors.CorruptSlideError
        If its tags are broken.
    wsistore.errors.TileError
        If a tile or strip does not decode.
    """
    width, height = page.size
    if width * height > MAX_PIXELS:
        raise page.ifd.unsupported(
            f"{name} image of {width}x{height} px, at most {MAX_PIXELS} px are read"
        )
    block_format = page.block_format()
    table = TiffTileTable(source, page.ifd.layout, page.segments(), page.size, block_format, 0)
    refs = table.locate_all()
    blocks = source.read_many(refs.offsets.ravel().tolist(), refs.counts.ravel().tolist())
    image = np.full((height, width, 3), 255, np.uint8)
    step = page.segment_size
    columns = page.segment_grid.width
    for number, block in enumerate(blocks):
        row, column = divmod(number, columns)
        x, y = column * step.width, row * step.height
        part = image[y : y + step.height, x : x + step.width]
        if len(block):
            segment_format = _format_of(page, block_format, part.shape[0])
            region = Box(0, 0, part.shape[1], part.shape[0])
            try:
                decode(block, segment_format, out=part, region=region)
            except TileError as error:
                what = f"{source.name}: {name}, {'tile' if page.is_tiled else 'strip'} {number}"
                raise type(error)(f"{what}: {error.message}", hint=error.hint) from error
    return image


def _format_of(page: Page, block_format: BlockFormat, rows: int) -> BlockFormat:
    """Return the format of one segment: tiles are always whole, the last strip is shorter."""
    return block_format if page.is_tiled else replace(block_format, height=rows)
