"""Runs over many slides: jobs, schedulers, reports. The one door to dask.

Public calls: `convert`, `embed`, `process_slides` with its `ProcessOptions` and
`PlanningOptions`, `plan_slides`, `export_store`; and their reports.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wsistore.engine.conversions import ConvertReport, convert

if TYPE_CHECKING:
    from wsistore.engine.embedding import EmbedCounters as EmbedCounters
    from wsistore.engine.embedding import EmbedReport as EmbedReport
    from wsistore.engine.embedding import embed as embed
    from wsistore.engine.exporting import ExportReport as ExportReport
    from wsistore.engine.exporting import PatchOptions as PatchOptions
    from wsistore.engine.exporting import export_store as export_store
    from wsistore.engine.planning import PlanningOptions as PlanningOptions
    from wsistore.engine.planning import PlanningReport as PlanningReport
    from wsistore.engine.planning import plan_slides as plan_slides
    from wsistore.engine.processing import ProcessOptions as ProcessOptions
    from wsistore.engine.processing import ProcessReport as ProcessReport
    from wsistore.engine.processing import process_slides as process_slides

_MODULE_OF = {
    "EmbedCounters": "embedding",
    "EmbedReport": "embedding",
    "ExportReport": "exporting",
    "PatchOptions": "exporting",
    "PlanningOptions": "planning",
    "PlanningReport": "planning",
    "ProcessOptions": "processing",
    "ProcessReport": "processing",
    "embed": "embedding",
    "export_store": "exporting",
    "plan_slides": "planning",
    "process_slides": "processing",
}

__all__ = ["ConvertReport", "convert", *sorted(_MODULE_OF)]  # noqa: PLE0604 (they are strings)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'wsistore.engine' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wsistore.engine.{module}"), name)
    globals()[name] = value
    return value
