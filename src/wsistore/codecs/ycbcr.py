"""Full-range YCbCr (BT.601, as in JFIF) to RGB, the way libjpeg and OpenSlide round it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# 16-bit fixed point with rounding, as in libjpeg's jdcolor.c and OpenSlide: R and B are
# the nearest integers to the float formula, G is so but for 45 of the 65536 pairs of Cb
# and Cr (ties within 1e-3). With these the result equals OpenSlide's to the bit.
_HALF = 1 << 15


def _fixed(factor: float) -> int:
    return int(factor * 65536 + 0.5)


_CENTRED = np.arange(256, dtype=np.int32) - 128
_RED_CR = ((_fixed(1.402) * _CENTRED + _HALF) >> 16).astype(np.int16)
_BLUE_CB = ((_fixed(1.772) * _CENTRED + _HALF) >> 16).astype(np.int16)
_GREEN_CB = -_fixed(0.34414) * _CENTRED
_GREEN_CR = -_fixed(0.71414) * _CENTRED + _HALF


def ycbcr_to_rgb(ycbcr: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Convert YCbCr samples to RGB, rounded to nearest and clipped.

    Parameters
    ----------
    ycbcr : (h, w, 3) uint8
        Y, Cb and Cr; Cb and Cr are centred at 128.
    out : (h, w, 3) uint8
        Where the RGB pixels go; may be `ycbcr` itself.
    """
    luma, blue, red = (np.ascontiguousarray(ycbcr[..., k]) for k in range(3))
    green = cv2.LUT(blue, _GREEN_CB)
    green += cv2.LUT(red, _GREEN_CR)
    green >>= 16
    # cv2.add of mixed depths saturates into 8 bits.
    out[..., 0] = cv2.add(luma, cv2.LUT(red, _RED_CR), dtype=cv2.CV_8U)
    out[..., 1] = cv2.add(luma, green, dtype=cv2.CV_8U)
    out[..., 2] = cv2.add(luma, cv2.LUT(blue, _BLUE_CB), dtype=cv2.CV_8U)
