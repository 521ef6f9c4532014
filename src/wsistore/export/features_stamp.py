"""Reading features of STAMP: places in µm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import StoreCorruptError, UsageError
from wsistore.export.foreign import SOURCE_ROW, positions_plan
from wsistore.export.h5_files import GROUP, own_plan
from wsistore.export.slide_features import SlideFeatures
from wsistore.geometry import Resolution
from wsistore.slides import Slide
from wsistore.tiles.spec import TileSpec


def read_stamp(file: Any, path: Path, slide: Slide | None) -> SlideFeatures:
    """Read an open file with ``feats`` and ``coords`` in µm; see `read_features_h5`."""
    table = np.asarray(file["feats"][:], np.float32)
    places = np.asarray(file["coords"][:], np.float64)
    if table.ndim != 2 or places.shape != (len(table), 2):
        raise StoreCorruptError(f"{path} has {places.shape} coordinates for {table.shape} features")
    name = str(file.attrs.get("extractor", "features")) or "features"
    if GROUP in file:
        plan = own_plan(file, _level0(places, _own_mpp(file, path)), str(path))
        if plan is not None:
            return SlideFeatures(plan, {name: table})
    if slide is None or slide.mpp is None:
        raise UsageError(
            f"{path} says where tiles are in µm", hint="Name its slide, which has a pixel size."
        )
    side = int(file.attrs.get("tile_size_px", 0))
    width = float(file.attrs.get("tile_size_um", 0))
    if side < 1 or not width > 0:
        raise UsageError(f"{path} does not say how large its tiles are")
    rows = _level0(places, (slide.mpp.x, slide.mpp.y))
    spec = TileSpec(side, side, Resolution.mpp(width / side))
    plan = positions_plan(rows[:, 0], rows[:, 1], slide, spec)
    order = plan.extras.get(SOURCE_ROW)
    return SlideFeatures(plan, {name: table if order is None else table[order]})


def _own_mpp(file: Any, path: Path) -> tuple[float, float]:
    try:
        document = json.loads(file[GROUP]["plan"].asstr()[()])
        x, y = document["provenance"]["slide"]["mpp"]
        return float(x), float(y)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorruptError(f"the group {GROUP} of {path} is broken: {error!r}") from error


def _level0(places: NDArray[np.float64], mpp: tuple[float, float]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.rint(places / np.array(mpp)).astype(np.int64)
    return found
