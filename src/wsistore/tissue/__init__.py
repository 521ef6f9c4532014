"""Tissue: masks, segmenters, contours and annotations.

Public calls: `TissueMask`.
"""

from __future__ import annotations

from wsistore.tissue.mask import TissueMask, as_boxes

__all__ = ["TissueMask", "as_boxes"]
