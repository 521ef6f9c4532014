"""Colour, stain, tissue and focus of a tile in 30 named numbers; no download, no torch.

For quality control and as a baseline: it tells pale from dark, pink from blue, glass from
tissue, sharp from blurred, and ink and pen by hue. It knows nothing of cells or disease.

Optical density is ``-log10((value + 1) / 256)`` of a channel, 0 for white. Stains are
unmixed with the vectors for haematoxylin, eosin and a residual of Ruifrok and Johnston,
"Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol.
Histol. 23 (2001), as scikit-image has them, without adapting to the slide: so a shift of
the stain shows. Saturation and value are those of HSV, in 0-1. The focus measures depend
on pixel size and on content: compare tiles of like tissue at the same µm/px.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.encoders.model import BaseEncoder, Facts, Preprocessing, Weights

COLOUR_STATS_FEATURES: tuple[str, ...] = (
    # Mean and standard deviation of a channel, 0-1.
    "red_mean",
    "red_std",
    "green_mean",
    "green_std",
    "blue_mean",
    "blue_std",
    # Of its optical density.
    "od_red_mean",
    "od_red_std",
    "od_green_mean",
    "od_green_std",
    "od_blue_mean",
    "od_blue_std",
    # Of the amount of a stain, in optical density; negative where the colour is beyond it.
    "haematoxylin_mean",
    "haematoxylin_std",
    "eosin_mean",
    "eosin_std",
    "residual_mean",
    "residual_std",
    # Of HSV, 0-1.
    "saturation_mean",
    "saturation_std",
    "value_mean",
    "value_std",
    # Mean direction of hue on the circle, weighted by saturation: (1, 0) is red, and near
    # (0, 0) there is no prevailing hue.
    "hue_cos",
    "hue_sin",
    # Fraction of pixels that are tissue (optical density of green at least 0.06 above that
    # of nothing, and saturation at least 0.06), glass (saturation < 15/255 and value >= 200/255)
    # and black (grey < 50).
    "tissue_fraction",
    "glass_fraction",
    "black_fraction",
    # Entropy of the grey values, bits (0-8).
    "grey_entropy",
    # log10(1 + variance of the Laplacian), and log10(1 + mean squared Sobel gradient), of grey
    # values of 0-255.
    "focus_laplacian",
    "focus_gradient",
)
"""Names of the dimensions, in order."""

_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of haematoxylin, eosin and DAB in red, green and blue; the third serves
as residual."""
_TISSUE_OD = 0.06
_TISSUE_SATURATION = 0.06 * 255
_GLASS_SATURATION = 15
_GLASS_VALUE = 200
_BLACK_GREY = 50


class ColourStats(BaseEncoder):
    """The encoder ``colour-stats``; see the module for what the numbers are."""

    concurrent = True

    def __init__(self) -> None:
        super().__init__(
            Facts(
                name="colour-stats",
                dim=len(COLOUR_STATS_FEATURES),
                input_size=None,
                mpp=None,
                preprocessing=Preprocessing(None, None, None, None, backend="none"),
                weights=Weights("builtin", "wsistore"),
            )
        )

    def _features(self, batch: Any) -> NDArray[np.float32]:
        pixels = np.asarray(batch if isinstance(batch, np.ndarray) else batch.cpu())
        rows = [colour_stats(np.ascontiguousarray(tile.transpose(1, 2, 0))) for tile in pixels]
        return np.stack(rows)

    def _versions(self) -> dict[str, str]:
        return {**super()._versions(), "opencv": cv2.__version__}


def colour_stats(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the numbers named by `COLOUR_STATS_FEATURES` of a tile (h, w, 3) uint8."""
    density = cv2.LUT(tile, _density_table())
    hsv = cv2.cvtColor(tile, cv2.COLOR_RGB2HSV)
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY)
    values = [
        *_moments(tile, 255.0),
        *_moments(density),
        *_moments(cv2.transform(density, _unmixing())),
        *_moments(hsv, 255.0)[2:],
        *_hue(hsv),
        *_fractions(density, hsv, grey),
        _entropy(grey),
        *_focus(grey),
    ]
    return np.array(values, np.float32)


def _moments(planes: NDArray[Any], unit: float = 1.0) -> list[float]:
    """Return mean and standard deviation of each channel, one after the other."""
    mean, deviation = cv2.meanStdDev(planes)
    pairs = np.hstack([mean, deviation]) / unit
    return [float(value) for value in pairs.ravel()]


def _hue(hsv: NDArray[np.uint8]) -> tuple[float, float]:
    angle = np.deg2rad(np.arange(256) * 2.0)  # OpenCV halves degrees to fit a byte
    weight = np.bincount(hsv[..., 0].ravel(), hsv[..., 1].ravel(), minlength=256)
    total = weight.sum()
    if total == 0:
        return 0.0, 0.0
    return float(weight @ np.cos(angle) / total), float(weight @ np.sin(angle) / total)


def _fractions(
    density: NDArray[np.float32], hsv: NDArray[np.uint8], grey: NDArray[np.uint8]
) -> tuple[float, float, float]:
    saturation, value = hsv[..., 1], hsv[..., 2]
    tissue = (density[..., 1] >= _TISSUE_OD) & (saturation >= _TISSUE_SATURATION)
    glass = (saturation < _GLASS_SATURATION) & (value >= _GLASS_VALUE)
    masks = (tissue, glass, grey < _BLACK_GREY)
    tissue_part, glass_part, black_part = (np.count_nonzero(m) / grey.size for m in masks)
    return tissue_part, glass_part, black_part


def _entropy(grey: NDArray[np.uint8]) -> float:
    counts = np.bincount(grey.ravel(), minlength=256)
    parts = counts[counts > 0] / grey.size
    return float(-(parts * np.log2(parts)).sum()) + 0.0  # + 0.0: no negative zero


def _focus(grey: NDArray[np.uint8]) -> tuple[float, float]:
    laplacian = cv2.Laplacian(grey, cv2.CV_16S, ksize=1)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    variance = float(cv2.meanStdDev(laplacian)[1][0, 0]) ** 2
    squared = (cv2.norm(across) ** 2 + cv2.norm(down) ** 2) / grey.size
    return float(np.log10(1 + variance)), float(np.log10(1 + squared))


@cache
def _density_table() -> NDArray[np.float32]:
    table: NDArray[np.float32] = -np.log10((np.arange(256) + 1) / 256)
    return table.astype(np.float32)


@cache
def _unmixing() -> NDArray[np.float32]:
    """Return the matrix (3, 3) from optical density to amounts of stain."""
    unit = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    return np.linalg.inv(unit.T).astype(np.float32)
