"""Tiles cut from slides: batches over many slides, ordered walks, seeded sampling, plans.

Public calls: `read_tile`, `read_tiles`, `iter_tiles`, `read_context`, `grid_tiles`,
`TileIndex`, `TileSampler`, `TileLoader`, `SlideCache`, `load_single_tile`; for torch,
`TileDataset`, `TileStream` and `collate_tiles`, which are imported on first use; for plans,
`TileSpec`, `plan_tiles`, `TilePlan`, `CohortPlan`, `TileExtractor`, `MegaTileSpec`,
`MegaTileExtractor` and `closest_level`, likewise.
"""

from __future__ import annotations

import importlib
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
    from wsistore.tiles.cohort import CohortPlan as CohortPlan
    from wsistore.tiles.extractor import TileExtractor as TileExtractor
    from wsistore.tiles.levels import closest_level as closest_level
    from wsistore.tiles.megatiles import MegaTileExtractor as MegaTileExtractor
    from wsistore.tiles.megatiles import MegaTileSpec as MegaTileSpec
    from wsistore.tiles.plan import TilePlan as TilePlan
    from wsistore.tiles.planning import plan_tiles as plan_tiles
    from wsistore.tiles.spec import TileSpec as TileSpec
    from wsistore.tiles.torch_data import TileDataset as TileDataset
    from wsistore.tiles.torch_data import TileStream as TileStream
    from wsistore.tiles.torch_data import collate_tiles as collate_tiles

_OF_TORCH = dict.fromkeys(("TileDataset", "TileStream", "collate_tiles"), "torch_data")
_OF_PLANS = {
    "CohortPlan": "cohort",
    "MegaTileExtractor": "megatiles",
    "MegaTileSpec": "megatiles",
    "TileExtractor": "extractor",
    "TilePlan": "plan",
    "TileSpec": "spec",
    "closest_level": "levels",
    "plan_tiles": "planning",
}
_MODULE_OF = _OF_TORCH | _OF_PLANS  # imported on first use: reading needs no masks, nor torch

# Without the names of torch: a star import must not need it.
__all__ = [
    "BatchReport",
    "CohortPlan",
    "Draw",
    "MegaTileExtractor",
    "MegaTileSpec",
    "SlideCache",
    "TileBatch",
    "TileExtractor",
    "TileFault",
    "TileIndex",
    "TileLoader",
    "TilePlan",
    "TileSampler",
    "TileSpec",
    "closest_level",
    "grid_array",
    "grid_tiles",
    "iter_tiles",
    "load_single_tile",
    "plan_tiles",
    "read_context",
    "read_tile",
    "read_tiles",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'wsistore.tiles' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wsistore.tiles.{module}"), name)
    globals()[name] = value
    return value
