"""Segmenters of the textbooks: thresholds on saturation, grey and local entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.tissue.morphology import closed, opened, with_few_holes, without_small
from wsistore.tissue.segmenter import Classical, Mask, Thumbnail
from wsistore.tissue.thresholds import multi_otsu, otsu

Channel = Literal["saturation", "grey", "green"]

_LEVELS = 32
"""Grey levels that local entropy tells apart."""


@dataclass(frozen=True)
class OtsuSegmenter(Classical):
    """Otsu's threshold on the saturation of HSV.

    Parameters
    ----------
    median_px : int
        Side of the median blur, odd, px; 0 or 1 for none.
    close_px : float
        Radius of the closing, px.
    least_fraction : float
        Pieces below this fraction of the thumbnail's area are dropped, 0 to 1.
    most_holes : int
        So many of the largest holes stay, over the whole slide; the others are filled.
    least_hole_px : int
        Smaller holes are filled, px.
    least_contrast : float
        Difference of the mean saturations (0-255) of tissue and background from which the
        threshold is believed; below it the mask is empty, since Otsu's method splits
        even noise.
    """

    name = "otsu"

    median_px: int = 7
    close_px: float = 4.0
    least_fraction: float = 0.0
    most_holes: int = 10
    least_hole_px: int = 16
    least_contrast: float = 15.0

    def __post_init__(self) -> None:
        """Check what OpenCV and the arithmetic would not tell clearly."""
        if self.median_px < 0 or (self.median_px > 1 and self.median_px % 2 == 0):
            raise UsageError(f"median_px must be odd, or 0 for none, got {self.median_px}")
        if not 0 <= self.least_fraction <= 1:
            raise UsageError(f"least_fraction must be within 0-1, got {self.least_fraction}")

    def _segment(self, pixels: Thumbnail, mpp: float) -> Mask:
        del mpp
        values = saturation(pixels)
        if self.median_px > 1:
            values = cv2.medianBlur(values, self.median_px)
        limit, contrast = otsu(np.bincount(values.ravel(), minlength=256))
        if contrast < self.least_contrast:
            return np.zeros(values.shape, np.bool_)
        mask = closed(values > limit, self.close_px)
        mask = without_small(mask, self.least_fraction * mask.size)
        return with_few_holes(mask, self.most_holes, self.least_hole_px)


@dataclass(frozen=True)
class ThresholdSegmenter(Classical):
    """A fixed threshold on one channel.

    Parameters
    ----------
    channel : {"saturation", "grey", "green"}
        Of 0-255. Tissue is above the value in saturation, and below it in the others.
    value : float
        The threshold.
    close_um, open_um : float
        Radii of closing and opening, µm.
    """

    name = "threshold"

    channel: Channel = "saturation"
    value: float = 20.0
    close_um: float = 24.0
    open_um: float = 8.0

    def __post_init__(self) -> None:
        """Check the channel."""
        if self.channel not in get_args(Channel):
            raise UsageError(f"channel is one of {get_args(Channel)}, got {self.channel!r}")

    def _segment(self, pixels: Thumbnail, mpp: float) -> Mask:
        if self.channel == "saturation":
            mask = saturation(pixels) > self.value
        elif self.channel == "grey":
            mask = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) < self.value
        else:
            mask = pixels[..., 1] < self.value
        return opened(closed(mask, self.close_um / mpp), self.open_um / mpp)


@dataclass(frozen=True)
class MultiOtsuSegmenter(Classical):
    """Otsu's thresholds between several classes of grey; all but the brightest is tissue.

    Parameters
    ----------
    classes : int
        Number of classes, 2 to 5.
    close_um, open_um : float
        Radii of closing and opening, µm.
    least_contrast : float
        Difference of the mean greys (0-255) of tissue and background from which the
        thresholds are believed.
    """

    name = "multi-otsu"

    classes: int = 4
    close_um: float = 10.0
    open_um: float = 10.0
    least_contrast: float = 15.0

    def __post_init__(self) -> None:
        """Check the number of classes."""
        if not 2 <= self.classes <= 5:
            raise UsageError(f"classes must be within 2-5, got {self.classes}")

    def _segment(self, pixels: Thumbnail, mpp: float) -> Mask:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        limit = multi_otsu(np.bincount(grey.ravel(), minlength=256), self.classes)[-1]
        mask = grey <= limit
        count = np.count_nonzero(mask)
        if count in (0, mask.size):
            return np.zeros_like(mask)
        if float(grey[~mask].mean()) - float(grey[mask].mean()) < self.least_contrast:
            return np.zeros_like(mask)
        return opened(closed(mask, self.close_um / mpp), self.open_um / mpp)


@dataclass(frozen=True)
class EntropySegmenter(Classical):
    """Tissue is where grey varies: the entropy of the greys around each px.

    Parameters
    ----------
    window_px : int
        Side of the square around a px, odd, px.
    value : float or None
        Entropy in bits (of 32 greys) from which there is tissue; None: Otsu's threshold,
        kept within 1.5 to 2 bits.
    close_um, open_um : float
        Radii of closing and opening, µm.
    """

    name = "entropy"

    window_px: int = 9
    value: float | None = None
    close_um: float = 24.0
    open_um: float = 24.0

    def __post_init__(self) -> None:
        """Check the window."""
        if self.window_px < 3 or self.window_px % 2 == 0:
            raise UsageError(f"window_px must be odd and at least 3, got {self.window_px}")

    def _segment(self, pixels: Thumbnail, mpp: float) -> Mask:
        entropy = local_entropy(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), self.window_px)
        limit = self.value
        if limit is None:
            steps = np.minimum(entropy * 50, 255).astype(np.uint8)
            found = otsu(np.bincount(steps.ravel(), minlength=256))[0] / 50
            limit = min(max(found, 1.5), 2.0)
        return opened(closed(entropy > limit, self.close_um / mpp), self.open_um / mpp)


def saturation(pixels: Thumbnail) -> NDArray[np.uint8]:
    """Return the saturation of HSV, (h, w) uint8."""
    values: NDArray[np.uint8] = np.ascontiguousarray(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)[..., 1]
    )
    return values


def local_entropy(grey: NDArray[np.uint8], window: int) -> NDArray[np.float32]:
    """Return the entropy of the greys in the square around each px, in bits.

    Parameters
    ----------
    grey : (h, w) uint8
        Grey values, taken in 32 steps.
    window : int
        Side of the square, px.

    Returns
    -------
    (h, w) float32
        0 to 5.
    """
    steps = grey // (256 // _LEVELS)
    total = np.zeros(grey.shape, np.float32)
    for step in np.unique(steps):
        share = cv2.blur((steps == step).astype(np.float32), (window, window))
        total -= share * np.log2(np.maximum(share, 1e-6))
    return np.maximum(total, 0)
