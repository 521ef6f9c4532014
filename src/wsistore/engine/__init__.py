"""Runs over many slides: jobs, schedulers, reports. The one door to dask.

Public calls: `convert` and its `ConvertReport`; `embed` and its `EmbedReport`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wsistore.engine.conversions import ConvertReport, convert

if TYPE_CHECKING:
    from wsistore.engine.embedding import EmbedCounters as EmbedCounters
    from wsistore.engine.embedding import EmbedReport as EmbedReport
    from wsistore.engine.embedding import embed as embed

_OF_EMBEDDING = frozenset({"EmbedCounters", "EmbedReport", "embed"})

__all__ = ["ConvertReport", "EmbedCounters", "EmbedReport", "convert", "embed"]


def __getattr__(name: str) -> Any:
    if name not in _OF_EMBEDDING:
        raise AttributeError(f"module 'wsistore.engine' has no attribute {name!r}")
    value = getattr(importlib.import_module("wsistore.engine.embedding"), name)
    globals()[name] = value
    return value
