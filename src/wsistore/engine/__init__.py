"""Runs over many slides: jobs, schedulers, reports. The one door to dask.

Public calls: `convert` and its `ConvertReport`.
"""

from __future__ import annotations

from wsistore.engine.conversions import ConvertReport, convert

__all__ = ["ConvertReport", "convert"]
