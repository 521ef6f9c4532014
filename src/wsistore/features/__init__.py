"""Feature stores: labelled vectors of tiles, in Zarr, read as xarray.

Public calls: `open_features`, `list_features`, `verify_features`, `FeatureCohort`,
`SlideInfo`, `TileStatus`, `STATUS_MEANINGS`; for multiple-instance learning
`read_slide_table`, `split_patients` and, with torch, `BagDataset` and `collate_bags`. Names
are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsistore.features.cohort import FeatureCohort as FeatureCohort
    from wsistore.features.reading import list_features as list_features
    from wsistore.features.reading import open_features as open_features
    from wsistore.features.records import EncoderRecord as EncoderRecord
    from wsistore.features.records import SlideInfo as SlideInfo
    from wsistore.features.schema import STATUS_MEANINGS as STATUS_MEANINGS
    from wsistore.features.schema import TileStatus as TileStatus
    from wsistore.features.tables import SlideTable as SlideTable
    from wsistore.features.tables import read_slide_table as read_slide_table
    from wsistore.features.tables import split_patients as split_patients
    from wsistore.features.torch_data import BagDataset as BagDataset
    from wsistore.features.torch_data import collate_bags as collate_bags
    from wsistore.features.verifying import VerifyReport as VerifyReport
    from wsistore.features.verifying import verify_features as verify_features

_MODULE_OF = {
    "STATUS_MEANINGS": "schema",
    "BagDataset": "torch_data",
    "EncoderRecord": "records",
    "FeatureCohort": "cohort",
    "SlideInfo": "records",
    "SlideTable": "tables",
    "TileStatus": "schema",
    "VerifyReport": "verifying",
    "collate_bags": "torch_data",
    "list_features": "reading",
    "open_features": "reading",
    "read_slide_table": "tables",
    "split_patients": "tables",
    "verify_features": "verifying",
}
_OF_TORCH = frozenset({"BagDataset", "collate_bags"})

# Without the names of torch: a star import must not need it.
__all__ = sorted(_MODULE_OF.keys() - _OF_TORCH)  # noqa: PLE0605 (they are strings)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'wsistore.features' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wsistore.features.{module}"), name)
    globals()[name] = value
    return value
