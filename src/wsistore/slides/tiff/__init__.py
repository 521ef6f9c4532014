"""TIFF-based slides: Aperio SVS, OME-TIFF, and any tiled TIFF or BigTIFF pyramid.

Public calls: `FORMATS`, `open_tiff`, `open_tiff_source`, `TiffContainer`, `TiffTileTable`.
"""

from __future__ import annotations

from wsistore.slides.model import Format
from wsistore.slides.tiff.container import TiffContainer
from wsistore.slides.tiff.opening import TIFF, open_tiff, open_tiff_source
from wsistore.slides.tiff.table import TiffTileTable

FORMATS: tuple[Format, ...] = (TIFF,)
"""One format for all: the content of the file picks the container on opening."""

__all__ = ["FORMATS", "TiffContainer", "TiffTileTable", "open_tiff", "open_tiff_source"]
