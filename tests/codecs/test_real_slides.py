"""Tiles of real slides, against OpenSlide."""

from __future__ import annotations

import numpy as np
import pytest

from wsistore.codecs import BlockFormat, decode

_CODECS = {5: "lzw", 7: "jpeg", 33003: "jpeg2000", 33005: "jpeg2000"}
_FILES = [
    ("CMU-1-Small-Region.svs", "rgb", 20),
    ("real-jpegrgb-3x3tiles.svs", "rgb", 9),
    ("real-33003-2x2tiles.svs", "ycbcr", 4),
    ("real-33005-3x3tiles.svs", "rgb", 9),
    ("wsipacker-example.tif", "ycbcr", 2),
    ("gandlf-example_lm.tiff", "rgb", 4),
]


@pytest.mark.parametrize(("name", "color", "count"), _FILES)
def test_tiles_equal_openslide(shared_data, name, color, count) -> None:
    tifffile = pytest.importorskip("tifffile")
    openslide = pytest.importorskip("openslide")
    path = shared_data / name
    with tifffile.TiffFile(path) as tiff, openslide.OpenSlide(str(path)) as slide:
        page = tiff.pages[0]
        width, height = page.tilewidth, page.tilelength
        form = BlockFormat(
            _CODECS[int(page.compression)],
            width,
            height,
            color=color,
            tables=page.jpegtables or b"",
            predictor=int(page.predictor),
        )
        across = -(-page.imagewidth // width)
        for index in range(count):
            x, y = index % across * width, index // across * height
            tiff.filehandle.seek(page.dataoffsets[index])
            got = decode(tiff.filehandle.read(page.databytecounts[index]), form)
            w, h = min(width, page.imagewidth - x), min(height, page.imagelength - y)
            expected = np.asarray(slide.read_region((x, y), 0, (w, h)))[..., :3]
            assert (got[:h, :w] == expected).all()
