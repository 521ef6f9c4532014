"""Tissue: masks, segmenters, contours and annotations.

Public calls: `TissueMask`, `segment_slide`, `segment_slides`, `make_segmenter`,
`segmenter_names`.
"""

from __future__ import annotations

from wsistore.tissue.mask import TissueMask, as_boxes
from wsistore.tissue.segmenter import Segmenter, make_segmenter, segmenter_names
from wsistore.tissue.segmenting import segment_slide, segment_slides

__all__ = [
    "Segmenter",
    "TissueMask",
    "as_boxes",
    "make_segmenter",
    "segment_slide",
    "segment_slides",
    "segmenter_names",
]
