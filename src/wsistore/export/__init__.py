"""Finished plans as files of other tools, and as pictures.

Public calls: `write_plan`, `read_plan`, `read_plans`, `plan_format` and `PLAN_FORMATS`;
`open_patches`; `draw_grid`, `draw_mask`, `draw_contours`, `contact_sheets` and
`save_picture`.
"""

from __future__ import annotations

from wsistore.export.contact_sheet import Cell, contact_sheets
from wsistore.export.drawing import save_picture
from wsistore.export.formats import (
    PLAN_FORMATS,
    PlanFormat,
    plan_format,
    read_plan,
    read_plans,
    sniff_format,
    write_plan,
)
from wsistore.export.overlays import OVERLAY_SIDE, draw_contours, draw_grid, draw_mask
from wsistore.export.patch_store import open_patches

__all__ = [
    "OVERLAY_SIDE",
    "PLAN_FORMATS",
    "Cell",
    "PlanFormat",
    "contact_sheets",
    "draw_contours",
    "draw_grid",
    "draw_mask",
    "open_patches",
    "plan_format",
    "read_plan",
    "read_plans",
    "save_picture",
    "sniff_format",
    "write_plan",
]
