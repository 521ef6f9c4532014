"""wsistore: whole-slide images made cloud-ready and trainable.

The public names are offered lazily (PEP 562), so that ``import wsistore`` costs
milliseconds and pulls in none of zarr, dask, torch or xarray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wsistore._version import __version__

if TYPE_CHECKING:
    from wsistore.engine import convert as convert
    from wsistore.engine import embed as embed
    from wsistore.engine import export_store as export_store
    from wsistore.engine import process_slides as process_slides
    from wsistore.engine.lazy_arrays import as_xarray as as_xarray
    from wsistore.errors import WsistoreError as WsistoreError
    from wsistore.export import open_patches as open_patches
    from wsistore.features import FeatureCohort as FeatureCohort
    from wsistore.features import list_features as list_features
    from wsistore.features import open_features as open_features
    from wsistore.features import verify_features as verify_features
    from wsistore.geometry import Box as Box
    from wsistore.geometry import Resolution as Resolution
    from wsistore.geometry import Size as Size
    from wsistore.pyramid.views.zarr_store import as_zarr as as_zarr
    from wsistore.slides import Level as Level
    from wsistore.slides import Slide as Slide
    from wsistore.slides import open_slide as open_slide
    from wsistore.tiles import SlideCache as SlideCache
    from wsistore.tiles import TileDataset as TileDataset
    from wsistore.tiles import TileExtractor as TileExtractor
    from wsistore.tiles import TileIndex as TileIndex
    from wsistore.tiles import TileLoader as TileLoader
    from wsistore.tiles import TilePlan as TilePlan
    from wsistore.tiles import TileSampler as TileSampler
    from wsistore.tiles import TileSpec as TileSpec
    from wsistore.tiles import TileStream as TileStream
    from wsistore.tiles import grid_tiles as grid_tiles
    from wsistore.tiles import iter_tiles as iter_tiles
    from wsistore.tiles import plan_tiles as plan_tiles
    from wsistore.tiles import read_context as read_context
    from wsistore.tiles import read_tile as read_tile
    from wsistore.tiles import read_tiles as read_tiles

_ROOM_OF = {
    "Box": "wsistore.geometry",
    "FeatureCohort": "wsistore.features",
    "Level": "wsistore.slides",
    "Resolution": "wsistore.geometry",
    "Size": "wsistore.geometry",
    "Slide": "wsistore.slides",
    "SlideCache": "wsistore.tiles",
    "TileDataset": "wsistore.tiles",
    "TileExtractor": "wsistore.tiles",
    "TileIndex": "wsistore.tiles",
    "TileLoader": "wsistore.tiles",
    "TilePlan": "wsistore.tiles",
    "TileSampler": "wsistore.tiles",
    "TileSpec": "wsistore.tiles",
    "TileStream": "wsistore.tiles",
    "WsistoreError": "wsistore.errors",
    "as_xarray": "wsistore.engine.lazy_arrays",
    "as_zarr": "wsistore.pyramid.views.zarr_store",
    "convert": "wsistore.engine",
    "embed": "wsistore.engine",
    "export_store": "wsistore.engine",
    "grid_tiles": "wsistore.tiles",
    "iter_tiles": "wsistore.tiles",
    "list_features": "wsistore.features",
    "open_features": "wsistore.features",
    "open_patches": "wsistore.export",
    "open_slide": "wsistore.slides",
    "plan_tiles": "wsistore.tiles",
    "process_slides": "wsistore.engine",
    "read_context": "wsistore.tiles",
    "read_tile": "wsistore.tiles",
    "read_tiles": "wsistore.tiles",
    "verify_features": "wsistore.features",
}
_OF_TORCH = frozenset({"TileDataset", "TileStream"})

# Without the names of torch: a star import must not need it.
__all__ = ["__version__", *sorted(_ROOM_OF.keys() - _OF_TORCH)]  # noqa: PLE0604 (they are strings)


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'wsistore' has no attribute {name!r}")
    value = getattr(importlib.import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_OF_TORCH])
