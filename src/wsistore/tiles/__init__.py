"""Tiles cut from slides: batches over many slides, ordered walks, seeded sampling.

Public calls: `read_tile`, `read_tiles`, `iter_tiles`, `read_context`, `TileSampler`,
`SlideCache`; for torch, `TileDataset` and `TileStream` in `wsistore.tiles.torch_data`.
"""

from __future__ import annotations

from wsistore.tiles.batch import read_context, read_tile, read_tiles
from wsistore.tiles.handles import SlideCache
from wsistore.tiles.model import BatchReport, TileFault
from wsistore.tiles.walking import TileBatch, iter_tiles

__all__ = [
    "BatchReport",
    "SlideCache",
    "TileBatch",
    "TileFault",
    "iter_tiles",
    "read_context",
    "read_tile",
    "read_tiles",
]
