"""Tiles cut from slides: batches over many slides, ordered walks, seeded sampling.

Public calls: `read_tile`, `read_tiles`, `iter_tiles`, `read_context`, `grid_tiles`,
`TileIndex`, `TileSampler`, `TileLoader`, `SlideCache`, `load_single_tile`; for torch,
`TileDataset`, `TileStream` and `collate_tiles`, which are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsistore.tiles.batch import read_context, read_tile, read_tiles
from wsistore.tiles.candidates import TileIndex
from wsistore.tiles.facade import load_single_tile
from wsistore.tiles.grids import grid_array, grid_tiles
from wsistore.tiles.handles import SlideCache
from wsistore.tiles.loading import TileLoader
from wsistore.tiles.model import BatchReport, TileFault
from wsistore.tiles.sampling import Draw, TileSampler
from wsistore.tiles.walking import TileBatch, iter_tiles

if TYPE_CHECKING:
    from wsistore.tiles.torch_data import TileDataset as TileDataset
    from wsistore.tiles.torch_data import TileStream as TileStream
    from wsistore.tiles.torch_data import collate_tiles as collate_tiles

_OF_TORCH = frozenset({"TileDataset", "TileStream", "collate_tiles"})

# Without the names of torch: a star import must not need it.
__all__ = [
    "BatchReport",
    "Draw",
    "SlideCache",
    "TileBatch",
    "TileFault",
    "TileIndex",
    "TileLoader",
    "TileSampler",
    "grid_array",
    "grid_tiles",
    "iter_tiles",
    "load_single_tile",
    "read_context",
    "read_tile",
    "read_tiles",
]


def __getattr__(name: str) -> Any:
    if name not in _OF_TORCH:
        raise AttributeError(f"module 'wsistore.tiles' has no attribute {name!r}")
    from wsistore.tiles import torch_data

    value = getattr(torch_data, name)
    globals()[name] = value
    return value
