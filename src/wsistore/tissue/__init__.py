"""Tissue: masks, segmenters, contours and annotations.

Public calls: `segment_slide`, `segment_slides`, `make_segmenter`, `segmenter_names`,
`find_contours`, `contour_ids`, `contours_mask`, `contours_of`, `to_geojson`,
`from_geojson`, `load_annotations`, `label_boxes`, `save_mask`, `load_mask`, `write_label`,
`read_label`, `mask_from_picture`, and those on masks: `resized`, `union`, `intersection`,
`difference`,
`opened`, `closed`, `dilated`, `holes_filled`, `small_removed`.
"""

from __future__ import annotations

from wsistore.tissue.annotation_json import contours_of, from_geojson, to_geojson
from wsistore.tissue.annotations import Annotation, Annotations, load_annotations
from wsistore.tissue.combining import (
    closed,
    difference,
    dilated,
    holes_filled,
    intersection,
    opened,
    resized,
    small_removed,
    union,
)
from wsistore.tissue.contours import Contour, Rule, contour_ids, contours_mask, find_contours
from wsistore.tissue.files import load_mask, save_mask
from wsistore.tissue.labelling import BoxLabels, LabelRule, label_boxes
from wsistore.tissue.labels import read_label, write_label
from wsistore.tissue.mask import TissueMask, as_boxes
from wsistore.tissue.pictures import mask_from_picture
from wsistore.tissue.polygons import Polygon, polygon_coverage
from wsistore.tissue.segmenter import Segmenter, make_segmenter, segmenter_names
from wsistore.tissue.segmenting import segment_slide, segment_slides

__all__ = [
    "Annotation",
    "Annotations",
    "BoxLabels",
    "Contour",
    "LabelRule",
    "Polygon",
    "Rule",
    "Segmenter",
    "TissueMask",
    "as_boxes",
    "closed",
    "contour_ids",
    "contours_mask",
    "contours_of",
    "difference",
    "dilated",
    "find_contours",
    "from_geojson",
    "holes_filled",
    "intersection",
    "label_boxes",
    "load_annotations",
    "load_mask",
    "make_segmenter",
    "mask_from_picture",
    "opened",
    "polygon_coverage",
    "read_label",
    "resized",
    "save_mask",
    "segment_slide",
    "segment_slides",
    "segmenter_names",
    "small_removed",
    "to_geojson",
    "union",
    "write_label",
]
