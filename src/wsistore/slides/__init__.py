"""Containers opened as slides: levels, tile tables, metadata with origins, regions.

Public calls: `open_slide`, `Slide`; the nouns and contracts of `wsistore.slides.model`.
"""

from __future__ import annotations

from wsistore.slides.model import (
    BadTile,
    Container,
    Format,
    Level,
    LevelShape,
    TileRefs,
    TileTable,
)
from wsistore.slides.opening import open_slide
from wsistore.slides.resolving import Resolved
from wsistore.slides.slide import Slide

__all__ = [
    "BadTile",
    "Container",
    "Format",
    "Level",
    "LevelShape",
    "Resolved",
    "Slide",
    "TileRefs",
    "TileTable",
    "open_slide",
]
