"""Containers opened as slides: levels, tile tables, metadata with origins, regions."""

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

__all__ = ["BadTile", "Container", "Format", "Level", "LevelShape", "TileRefs", "TileTable"]
