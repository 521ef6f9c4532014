"""What a slide's results were made with and from, and whether that is what is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsistore.durable import check_settings
from wsistore.errors import MetadataError, StoreCorruptError, StoreMismatchError
from wsistore.export import read_plan
from wsistore.export.h5_files import open_h5
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.provenance import state_of
from wsistore.tissue import Segmenter

if TYPE_CHECKING:
    from wsistore.engine.planning import PlanningOptions

MPP_RANGE = (0.1, 10.0)
"""µm/px at level 0 that are believed of a slide whose tiles are planned."""
SETTINGS = "wsistore_settings"
"""Attribute of HDF5 files, and member of GeoJSON files: what they were made with and from."""


def check_calibration(slide: Slide) -> None:
    """Raise `MetadataError` if a slide has no pixel size, or one that is not believed."""
    if slide.mpp is None:
        if slide.magnification is None:
            raise MetadataError(
                f"{slide.name} states no pixel size",
                hint="State it in a table: --mpp-csv FILE with columns wsi,mpp.",
            )
        return
    check_mpp(slide.name, slide.mpp.mean, slide.mpp.origin)


def check_mpp(name: str, mpp: float, origin: str) -> None:
    """Raise `MetadataError` if a pixel size (µm per level-0 px) is not in `MPP_RANGE`."""
    low, high = MPP_RANGE
    if not low <= mpp <= high:  # also refuses NaN
        raise MetadataError(
            f"{name} would have {mpp:g} µm/px (from {origin}), believed are {low:g} to {high:g}",
            hint="State the true one in a table: --mpp-csv FILE with columns wsi,mpp.",
        )


def settings_of(slide: Slide, options: PlanningOptions, segmenter: Segmenter) -> dict[str, Any]:
    """Return whatever would make another result of the same slide, JSON-able."""
    state = state_of(slide)
    told: dict[str, Any] = {
        "slide": {
            **({"state": state} if state else {}),
            "fingerprint": slide.fingerprint,
            "mpp": None if slide.mpp is None else list(slide.mpp),
            "magnification": None if slide.magnification is None else float(slide.magnification),
        },
        "segmentation": {"method": segmenter.name, "parameters": dict(segmenter.parameters)},
        "tissue_thresh": options.tissue_thresh,
    }
    if options.spec is not None:
        told |= {
            "spec": options.spec.to_dict(),
            "contour_rule": options.contour_rule,
            "filters": {item.name: dict(item.parameters) for item in options.filters},
            "layout": options.layout,
        }
    return told


def finished(
    place: Path, wanted: Mapping[str, Any], options: PlanningOptions
) -> tuple[bool, TilePlan | None]:
    """Return whether an earlier run finished the same as is wanted now, and its plan.

    A broken file is none: it is made anew.

    Raises
    ------
    StoreMismatchError
        If it was made with other settings, or from another slide.
    """
    try:
        found = _found_settings(place, is_h5=options.spec is not None)
        plan = None if options.spec is None else read_plan(place, format=options.layout)
    except StoreCorruptError:
        return False, None
    try:
        check_settings(*_comparable(found, wanted), name=f"{place}")
    except StoreMismatchError as error:
        raise StoreMismatchError(
            error.message, hint="Make it anew with --force, or choose another --output."
        ) from error
    return True, plan


def _comparable(
    found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return settings without the state of the slide's object where one has none.

    What was made from a copy on a disk is as good as what is made from the object.
    """
    both = [dict(told.get("slide") or {}) for told in (found, wanted)]
    if all("state" in slide for slide in both):
        return found, wanted
    for slide in both:
        slide.pop("state", None)
    return dict(found) | {"slide": both[0]}, dict(wanted) | {"slide": both[1]}


def _found_settings(place: Path, *, is_h5: bool) -> Mapping[str, Any]:
    if is_h5:
        with open_h5(place) as file:
            text = file.attrs.get(SETTINGS)
    else:
        try:
            text = json.dumps(json.loads(place.read_bytes()).get(SETTINGS))
        except (ValueError, AttributeError) as error:
            raise StoreCorruptError(f"{place} is no JSON object") from error
    try:
        found = json.loads(text) if text is not None else {}
    except (TypeError, ValueError) as error:
        raise StoreCorruptError(f"the settings in {place} are no JSON") from error
    return found if isinstance(found, dict) else {}
