"""Masks made of masks: combined, resized, cleaned."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.tissue import morphology
from wsistore.tissue.mask import Mask, TissueMask

Unit = Literal["um", "px"]


def resized(mask: TissueMask, size: Size | tuple[int, int], *, least: float = 0.5) -> TissueMask:
    """Return the mask with another number of px over the same slide.

    Parameters
    ----------
    mask : TissueMask
        Any mask.
    size : (width, height)
        Px of the result.
    least : float
        A px of the result is tissue where at least this fraction of its area is; 0 means
        any at all.
    """
    width, height = (int(side) for side in size)
    if width < 1 or height < 1:
        raise UsageError(f"size must be positive, got {tuple(size)}")
    if not 0 <= least <= 1:
        raise UsageError(f"least must be within 0-1, got {least!r}")
    if (height, width) == mask.shape:
        return mask
    share = _shares(_shares(mask.pixels.astype(np.float64), height).T, width).T
    # Sums of fractions are off by some 1e-16 where halves meet.
    return mask.with_pixels(share > 1e-12 if least == 0 else share >= least - 1e-12)


def _shares(values: Any, count: int) -> Any:
    """Return area means along the first axis, for `count` px in place of ``len(values)``."""
    length = len(values)
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    scaled = np.arange(count + 1, dtype=np.int64) * length
    whole, rest = np.divmod(scaled, count)
    upper = np.minimum(whole + 1, length)
    part = (rest / count)[:, None]
    at = sums[whole] * (1 - part) + sums[upper] * part
    return np.diff(at, axis=0) * (count / length)


def union(first: TissueMask, *others: TissueMask) -> TissueMask:
    """Return where any of the masks has tissue; see `difference` for sizes and errors."""
    return _combined("union", first, others)


def intersection(first: TissueMask, *others: TissueMask) -> TissueMask:
    """Return where all masks have tissue; see `difference` for sizes and errors."""
    return _combined("intersection", first, others)


def difference(first: TissueMask, *others: TissueMask) -> TissueMask:
    """Return where the first mask has tissue and none of the others.

    Masks of other sizes are resized to the first one's (`resized`).

    Raises
    ------
    UsageError
        If the masks are of slides of different sizes.
    """
    return _combined("difference", first, others)


def _combined(operation: str, first: TissueMask, others: tuple[TissueMask, ...]) -> TissueMask:
    pixels: Mask = first.pixels.copy()
    for other in others:
        if other.slide_size != first.slide_size:
            raise UsageError(
                f"masks of slides of {first.slide_size} and {other.slide_size} px can't be combined"
            )
        fitting = resized(other, (first.shape[1], first.shape[0])).pixels
        if operation == "union":
            pixels |= fitting
        elif operation == "intersection":
            pixels &= fitting
        else:
            pixels &= ~fitting
    told = {"masks": [mask.fingerprint for mask in (first, *others)]}
    return first.with_pixels(pixels, method=operation, parameters=told)


def closed(mask: TissueMask, radius: float, unit: Unit = "um") -> TissueMask:
    """Return the mask with gaps filled that a disc of the radius does not fit into."""
    px = _radius_px(mask, radius, unit)
    return _changed(mask, morphology.closed(mask.pixels, px), "closed", radius=radius, unit=unit)


def opened(mask: TissueMask, radius: float, unit: Unit = "um") -> TissueMask:
    """Return the mask without what a disc of the radius does not fit into."""
    px = _radius_px(mask, radius, unit)
    return _changed(mask, morphology.opened(mask.pixels, px), "opened", radius=radius, unit=unit)


def dilated(mask: TissueMask, radius: float, unit: Unit = "um") -> TissueMask:
    """Return the mask grown by the radius."""
    px = _radius_px(mask, radius, unit)
    return _changed(mask, morphology.dilated(mask.pixels, px), "dilated", radius=radius, unit=unit)


def holes_filled(
    mask: TissueMask, *, most_mm2: float | None = None, most_fraction: float | None = None
) -> TissueMask:
    """Return the mask with holes filled: all, or those up to an area.

    Parameters
    ----------
    mask : TissueMask
        Any mask.
    most_mm2, most_fraction : float, optional
        Largest area that is filled, in mm² or as a fraction of the slide; one of them, or
        neither for all.
    """
    most = np.inf
    if most_mm2 is not None or most_fraction is not None:
        most = _area_px(mask, most_mm2, most_fraction)
    pixels = morphology.filled(mask.pixels, most)
    return _changed(mask, pixels, "holes_filled", most_mm2=most_mm2, most_fraction=most_fraction)


def small_removed(
    mask: TissueMask, *, least_mm2: float | None = None, least_fraction: float | None = None
) -> TissueMask:
    """Return the mask without pieces below an area, in mm² or as a fraction of the slide."""
    least = _area_px(mask, least_mm2, least_fraction)
    pixels = morphology.without_small(mask.pixels, least)
    return _changed(
        mask, pixels, "small_removed", least_mm2=least_mm2, least_fraction=least_fraction
    )


def _changed(mask: TissueMask, pixels: Mask, step: str, **told: Any) -> TissueMask:
    """Return a mask whose parameters tell what was done to it, in order."""
    steps = [*mask.parameters.get("steps", []), {"step": step, **told}]
    return mask.with_pixels(pixels, parameters={**mask.parameters, "steps": steps})


def _radius_px(mask: TissueMask, radius: float, unit: str) -> float:
    if unit == "px":
        return radius
    if unit != "um":
        raise UsageError(f"unit of a radius is 'um' or 'px', got {unit!r}")
    x, y = mask.need_mpp("a radius in µm")
    return radius / ((x + y) / 2)


def _area_px(mask: TissueMask, mm2: float | None, fraction: float | None) -> float:
    if (mm2 is None) == (fraction is None):
        raise UsageError("state an area either in mm² or as a fraction of the slide")
    if fraction is not None:
        if not 0 <= fraction <= 1:
            raise UsageError(f"a fraction is within 0-1, got {fraction!r}")
        return fraction * mask.pixels.size
    x, y = mask.need_mpp("an area in mm²")
    return float(mm2 or 0.0) * 1e6 / (x * y)
