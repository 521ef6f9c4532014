"""The default segmenter: tissue is what takes colour from the light as a stain does.

Works in optical density, ``-log10(light / light of the glass)`` (Beer and Lambert), since
there a stain keeps the ratio of its channels whatever its amount. Haematoxylin and eosin
take most from green, then red or blue (Ruifrok and Johnston, 2001); glass, dust, scanner
borders, coverslip edges and black ink take alike from all channels; blue and green ink
take more from red than from green, and red ink takes blue as well as green. All limits
are absolute, so a slide without tissue gives an empty mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.tissue.morphology import (
    closed,
    components,
    dilated,
    filled,
    opened,
    without_small,
)
from wsistore.tissue.segmenter import Classical, Mask, Thumbnail

Floats = NDArray[np.float32]
Planes = tuple[Floats, Floats, Floats]

_NEUTRAL = (245.0, 245.0, 245.0)
"""Light of the glass where a slide shows none."""
_LEAST_PIECE = 0.01
_LEAST_GLASS = 0.005
"""Fraction of a thumbnail that must be glass to be measured."""


@dataclass(frozen=True)
class StainSegmenter(Classical):
    """Tissue by its colour in optical density; ink, black borders, dust and glass are none.

    Parameters
    ----------
    least_chroma : float
        Difference between the strongest and the weakest channel, in optical density, from
        which a px may be tissue. Glass that varies more in colour raises it by itself.
    core_chroma : float
        Mean difference within a piece, from which the piece is believed.
    close_um : float
        Radius of the closing, µm.
    open_um : float
        Radius of the opening, µm.
    fill_mm2 : float
        Holes up to this area are filled: lumina of fat cells, small glands and vessels.
    least_mm2 : float
        Pieces below this area are dust; on a very small image, those below 1 % of it.
    reject_ink : bool
        Whether blue, green, red, yellow and black ink is left out. Turn it off for stains
        that are blue or green themselves (Masson's trichrome, Alcian blue).
    """

    name = "stain"

    least_chroma: float = 0.016
    core_chroma: float = 0.022
    close_um: float = 24.0
    open_um: float = 16.0
    fill_mm2: float = 0.02
    least_mm2: float = 0.02
    reject_ink: bool = True

    def _segment(self, pixels: Thumbnail, mpp: float) -> Mask:
        density = optical_density(pixels, glass_light(pixels))
        chroma: Floats = _most(density) - _least(density)
        candidate = chroma > max(self.least_chroma, _noise_limit(chroma))
        written = _is_black(density, pixels)
        if self.reject_ink:
            written |= ink(density, mpp)
        candidate &= ~written
        px_of_mm2 = 1e6 / (mpp * mpp)
        tissue = closed(candidate, self.close_um / mpp)
        tissue = filled(tissue, self.fill_mm2 * px_of_mm2)
        tissue = opened(tissue & ~written, self.open_um / mpp)
        least = min(self.least_mm2 * px_of_mm2, _LEAST_PIECE * tissue.size)
        tissue = without_small(tissue, least)
        return _believed(tissue, chroma * candidate, candidate, self.core_chroma)


def glass_light(pixels: Thumbnail) -> NDArray[np.float32]:
    """Return the colour of the empty glass, (3,) float32.

    It is the most frequent bright and nearly colourless one. Pure white, with which
    viewers and files pad what was not scanned, counts only where there is nothing else.
    """
    planes = cv2.split(pixels)
    brightest, darkest = _most(planes), _least(planes)
    likely = (brightest >= 100) & (brightest - darkest <= brightest // 10)
    scanned = likely & (darkest < 250)
    for chosen, least in ((scanned, 0.1), (likely, _LEAST_GLASS)):
        if np.count_nonzero(chosen) < least * chosen.size:
            continue
        bins = np.bincount(brightest[chosen], minlength=256)
        near = np.convolve(bins, np.ones(7, np.int64), mode="same")
        mode = int(near.argmax())
        if chosen is scanned and near[mode] < 0.5 * bins.sum():
            continue  # no sharp peak: pale tissue rather than glass
        at_mode = chosen & (brightest >= max(0, mode - 3)) & (brightest <= min(255, mode + 3))
        light: NDArray[np.float32] = np.median(pixels[at_mode], axis=0).astype(np.float32)
        return light
    return np.array(_NEUTRAL, np.float32)


def optical_density(pixels: Thumbnail, light: NDArray[np.float32]) -> Planes:
    """Return ``-log10`` of the light that passes, at least 0: red, green, blue, (h, w) float32.

    Slightly smoothed, with a Gaussian of 0.7 px, against the noise of the sensor.
    """
    smooth = cv2.split(cv2.GaussianBlur(pixels, (0, 0), 0.7))
    table = -np.log10((np.arange(256, dtype=np.float32)[:, None] + 1) / (light + 1))
    table = np.maximum(table, 0).astype(np.float32)
    red, green, blue = (cv2.LUT(smooth[c], table[:, c].copy()) for c in range(3))
    return red, green, blue


def _most(planes: Sequence[NDArray[Any]]) -> NDArray[Any]:
    most: NDArray[Any] = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    return most


def _least(planes: Sequence[NDArray[Any]]) -> NDArray[Any]:
    least: NDArray[Any] = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    return least


def _noise_limit(chroma: Floats) -> float:
    """Return the chroma that the noise of the glass does not reach; 0 without glass."""
    quiet = chroma[chroma < 0.03]
    if quiet.size < 0.05 * chroma.size:
        return 0.0
    middle = float(np.median(quiet))
    spread = 1.4826 * float(np.median(np.abs(quiet - middle)))
    return min(middle + 5 * spread, 0.03)


def _is_black(density: Planes, pixels: Thumbnail) -> Mask:
    """Return where hardly any light passes, and it has no colour: borders and bubbles."""
    dark = _most(cv2.split(pixels)) < 40
    if not dark.any():
        return dark
    most = _most(density)
    black: Mask = dark & (most - _least(density) < 0.25 * most)
    return dilated(black, 1)


def ink(density: Planes, mpp: float) -> Mask:
    """Return where a pen has written, (h, w) bool.

    Strokes are found by px that no H&E stain explains, solid over 40 µm, and followed from
    there to where they grow thin.
    """
    red, green, blue = density
    most, least = _most(density), _least(density)
    sure = (red > 0.42) & (red > 1.15 * green)  # blue, green
    sure |= (green > 0.45) & (blue > 0.75 * green) & (red < 0.15 * green)  # red
    sure |= (blue > 0.35) & (green < 0.35 * blue)  # yellow
    sure |= (most > 0.55) & (most - least < 0.22 * most)  # black
    sure = opened(sure, 40.0 / mpp)
    if not sure.any():
        return sure
    maybe = (red > 0.05) & (red > 1.02 * green)
    maybe |= (green > 0.08) & (blue > 0.68 * green) & (red < 0.25 * green)
    maybe |= (blue > 0.06) & (green < 0.45 * blue)
    maybe |= (most > 0.10) & (most - least < 0.32 * most)
    maybe &= dilated(sure, 160.0 / mpp)
    labels, areas = components(maybe | sure)
    touched = np.zeros(len(areas), np.bool_)
    touched[np.unique(labels[sure])] = True
    touched[0] = False
    return dilated(touched[labels], max(1.0, 12.0 / mpp))


def _believed(tissue: Mask, chroma: Floats, candidate: Mask, least: float) -> Mask:
    """Return the pieces in which the mean chroma of the candidates is that of a stain."""
    labels, areas = components(tissue)
    flat = labels.ravel()
    sums = np.bincount(flat, weights=chroma.ravel(), minlength=len(areas))
    counts = np.bincount(flat, weights=candidate.ravel(), minlength=len(areas))
    keep = sums > least * np.maximum(counts, 1)
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)
