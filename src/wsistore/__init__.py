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
    from wsistore.errors import WsistoreError as WsistoreError
    from wsistore.geometry import Box as Box
    from wsistore.geometry import Resolution as Resolution
    from wsistore.geometry import Size as Size
    from wsistore.slides import Level as Level
    from wsistore.slides import Slide as Slide
    from wsistore.slides import open_slide as open_slide

_ROOM_OF = {
    "Box": "wsistore.geometry",
    "Level": "wsistore.slides",
    "Resolution": "wsistore.geometry",
    "Size": "wsistore.geometry",
    "Slide": "wsistore.slides",
    "WsistoreError": "wsistore.errors",
    "convert": "wsistore.engine",
    "open_slide": "wsistore.slides",
}

__all__ = ["__version__", *sorted(_ROOM_OF)]  # noqa: PLE0604 (the names are strings)


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'wsistore' has no attribute {name!r}")
    value = getattr(importlib.import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
