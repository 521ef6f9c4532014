"""The peers that `benchmarks/tiles.py` compares with, each behind the same few calls.

Install them with ``pip install -r benchmarks/requirements-peers.txt`` and
``pip install --no-deps cucim-cu12`` (cuCIM reads without a GPU). Peers that don't import are
left out and named.
"""

from __future__ import annotations

import importlib
from typing import Any

import cv2
import numpy as np


class Peer:
    """One library: open a slide, read a box of a level."""

    name = ""
    module = ""

    def __init__(self) -> None:
        self.library = importlib.import_module(self.module)
        self.version = getattr(self.library, "__version__", "?")

    def open(self, path: str) -> Any:
        raise NotImplementedError

    def read(self, slide: Any, x: int, y: int, level: int, factor: int, size: int) -> Any:
        """Read a square: x, y in level-0 px, `factor` the level's downsample, size in px of it."""
        raise NotImplementedError

    def shrunk(self, slide: Any, x: int, y: int, size: int, factor: int) -> Any:
        """Read level 0 and shrink it by an integer factor; cv2 where the peer can't."""
        pixels = self.read(slide, x, y, 0, 1, size * factor)
        return cv2.resize(np.ascontiguousarray(pixels), (size, size), interpolation=cv2.INTER_AREA)


class OpenSlide(Peer):
    name, module = "OpenSlide", "openslide"

    def open(self, path):
        return self.library.OpenSlide(path)

    def read(self, slide, x, y, level, factor, size):
        return np.asarray(slide.read_region((x, y), level, (size, size)))[..., :3]


class CuCim(Peer):
    name, module = "cuCIM", "cucim"

    def open(self, path):
        return self.library.CuImage(path)

    def read(self, slide, x, y, level, factor, size):
        return np.asarray(slide.read_region((x, y), (size, size), level))


class SlideIO(Peer):
    name, module = "slideio", "slideio"

    def open(self, path):
        slide = self.library.open_slide(path, "SVS")
        return slide, slide.get_scene(0)

    def read(self, slide, x, y, level, factor, size):
        side = size * factor
        return slide[1].read_block((x, y, side, side), size=(size, size))

    def shrunk(self, slide, x, y, size, factor):
        return slide[1].read_block((x, y, size * factor, size * factor), size=(size, size))


class TiffSlide(Peer):
    name, module = "tiffslide", "tiffslide"

    def open(self, path):
        return self.library.TiffSlide(path)

    def read(self, slide, x, y, level, factor, size):
        return slide.read_region((x, y), level, (size, size), as_array=True)


class FastSlide(Peer):
    name, module = "fastslide", "fastslide"

    def open(self, path):
        return self.library.FastSlide.from_file_path(path)

    def read(self, slide, x, y, level, factor, size):
        return slide.read_region((x // factor, y // factor), level, (size, size)).numpy()


class PyVips(Peer):
    name, module = "pyvips", "pyvips"

    def __init__(self):
        super().__init__()
        # libvips would hand out the same open image, and its cached tiles, again and again.
        self.library.cache_set_max(0)

    def open(self, path):
        return path, {}

    def read(self, slide, x, y, level, factor, size):
        path, regions = slide
        if level not in regions:
            page = level + 1 if level else 0  # Aperio's second page is the thumbnail
            image = self.library.Image.tiffload(path, page=page)
            regions[level] = self.library.Region.new(image), image.bands
        region, bands = regions[level]
        block = region.fetch(x // factor, y // factor, size, size)
        return np.frombuffer(block, np.uint8).reshape(size, size, bands)[..., :3]


ALL = (CuCim, OpenSlide, SlideIO, TiffSlide, FastSlide, PyVips)


def available(names: list[str] | None = None) -> tuple[list[Peer], list[str]]:
    """Return the peers that import here, and why the others don't."""
    found, missing = [], []
    for kind in ALL:
        if names and kind.name.lower() not in names:
            continue
        try:
            found.append(kind())
        except (ImportError, OSError, AttributeError) as error:
            missing.append(f"{kind.name}: {error}")
    return found, missing
