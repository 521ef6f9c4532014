"""Records of tiles one by one, for callers that want objects instead of columns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Resolution
from wsistore.tiles.plan import TilePlan
from wsistore.tissue import TissueMask


class MeasurementUnit(StrEnum):
    """What sizes of a `TileSpec` count; equal to its texts."""

    PIXELS = "px"
    UM = "um"


@dataclass(frozen=True, slots=True)
class RegionLocation:
    """Top-left corner in level-0 px of the whole slide (not of its non-empty part)."""

    x: int
    y: int

    def __post_init__(self) -> None:
        """Check that both are whole."""
        if int(self.x) != self.x or int(self.y) != self.y:
            raise UsageError(f"a location is whole level-0 px, got {self.x!r}, {self.y!r}")


@dataclass(frozen=True, slots=True)
class RegionShape:
    """Width and height in px at the resolution of the region."""

    width: int
    height: int

    def __post_init__(self) -> None:
        """Check that both are positive."""
        if min(self.width, self.height) < 1:
            raise UsageError(f"a shape is positive px, got {self.width!r} x {self.height!r}")


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """Which region of a slide: where, how large, how finely.

    Parameters
    ----------
    location : RegionLocation
        Level-0 px.
    shape : RegionShape
        Px at `resolution`.
    resolution : Resolution
        How finely.
    """

    location: RegionLocation
    shape: RegionShape
    resolution: Resolution


@dataclass(frozen=True, slots=True, eq=False)
class RegionMaskSpec(RegionSpec):
    """A region with its tissue.

    Parameters
    ----------
    tissue_ratio : float
        Fraction of its area that is tissue, exactly; 1.0 where there is no mask.
    mask : (h, w) bool or None
        The px of the slide's mask that meet the region, a read-only view; None unless
        asked for.
    """

    tissue_ratio: float = 1.0
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A region that was read.

    Parameters
    ----------
    image : (h, w, 3) uint8
        Its pixels.
    spec : RegionSpec
        Which region.
    """

    image: NDArray[np.uint8]
    spec: RegionSpec


def region_specs(plan: TilePlan, mask: TissueMask | None = None) -> list[RegionMaskSpec]:
    """Return a record for each tile of a plan.

    Parameters
    ----------
    plan : TilePlan
        The plan.
    mask : TissueMask, optional
        Its part goes into each record.
    """
    shape = RegionShape(*plan.size)
    ratios = np.where(np.isnan(plan.tissue_ratio), 1.0, plan.tissue_ratio).tolist()
    places = zip(plan.x.tolist(), plan.y.tolist(), ratios, strict=True)
    return [
        RegionMaskSpec(
            RegionLocation(x, y),
            shape,
            plan.resolution,
            ratio,
            None if mask is None else mask_part(mask, x, y, *plan.size_level0),
        )
        for x, y, ratio in places
    ]


def mask_part(mask: TissueMask, x: int, y: int, width: int, height: int) -> NDArray[np.bool_]:
    """Return the px of a mask that meet a box of level-0 px, a read-only view.

    Empty where the box lies outside of the slide.
    """
    down_x, down_y = mask.downsample
    rows, columns = mask.shape
    left, top = max(0, int(x / down_x)), max(0, int(y / down_y))
    right = min(columns, int(np.ceil((x + width) / down_x)))
    bottom = min(rows, int(np.ceil((y + height) / down_y)))
    return mask.pixels[top : max(top, bottom), left : max(left, right)]


def resolution_tag(resolution: Resolution) -> str:
    """Return the resolution as in file names: ``l_0``, ``mpp_0.25`` or ``mag_40.0x``."""
    if resolution.unit == "level":
        return f"l_{int(resolution.value)}"
    if resolution.unit == "mpp":
        return f"mpp_{float(resolution.value)!r}"
    return f"mag_{float(resolution.value)!r}x"


def region_name(slide_name: str, region: RegionSpec) -> str:
    """Return the name of a region's file, without extension.

    ``{slide}_x{X}_y{Y}_w{W}_h{H}_{res}_{ratio}``: X, Y in level-0 px, W, H in px at the
    resolution, res as `resolution_tag`, ratio the tissue fraction with two decimals.
    """
    where, shape = region.location, region.shape
    ratio = getattr(region, "tissue_ratio", 1.0)
    return (
        f"{slide_name}_x{where.x}_y{where.y}_w{shape.width}_h{shape.height}"
        f"_{resolution_tag(region.resolution)}_{ratio:.2f}"
    )


def region_record(slide_name: str, region: RegionSpec) -> dict[str, Any]:
    """Return a region as JSON-able values, without its mask."""
    return {
        "slide_name": slide_name,
        "location": {"x": region.location.x, "y": region.location.y},
        "shape": {"width": region.shape.width, "height": region.shape.height},
        "resolution": {"unit": region.resolution.unit, "value": region.resolution.value},
        "tissue_ratio": float(getattr(region, "tissue_ratio", 1.0)),
    }
