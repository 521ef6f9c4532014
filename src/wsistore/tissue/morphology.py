"""Opening, closing, filling and cleaning of masks, in px of the mask.

Tissue is connected through the sides of its px (4 neighbours) and background through
sides and corners (8), here and in `wsistore.tissue.contours`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError

Mask = NDArray[np.bool_]


def opened(mask: Mask, radius: float) -> Mask:
    """Return the mask without what a disc of `radius` px does not fit into."""
    return dilated(eroded(mask, radius), radius)


def closed(mask: Mask, radius: float) -> Mask:
    """Return the mask with gaps filled that a disc of `radius` px does not fit into.

    Beyond the border of the picture lies background, so tissue does not creep along it.
    """
    reach = int(_checked(radius))
    if reach < 1:
        return mask
    # What grows out of the picture must be there still when it shrinks again.
    grown = eroded(dilated(np.pad(mask, 2 * reach), radius), radius)
    return np.ascontiguousarray(grown[2 * reach : -2 * reach, 2 * reach : -2 * reach])


def dilated(mask: Mask, radius: float) -> Mask:
    """Return the px whose centres lie within `radius` px of tissue's."""
    if _checked(radius) < 1 or not mask.any():
        return mask
    return _distance_to_zero(~mask) <= np.float32(radius + 1e-3)


def eroded(mask: Mask, radius: float) -> Mask:
    """Return the px of tissue that lie further than `radius` px from all background.

    Nothing beyond the border of the picture is known, so it eats no tissue.
    """
    if _checked(radius) < 1 or mask.all():
        return mask
    return _distance_to_zero(mask) > np.float32(radius + 1e-3)


def _distance_to_zero(mask: Mask) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = cv2.distanceTransform(
        mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return distances


def _checked(radius: float) -> float:
    if not 0 <= radius < 1e4:
        raise UsageError(f"radius of {radius!r} px is not within 0-10,000 px")
    return radius


def components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the pieces of tissue: labels (h, w), 0 for none, and the px of each label."""
    return _components(mask, 4)


def _components(mask: Mask, connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    areas = stats[:count, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return labels, areas


def without_small(mask: Mask, least: float) -> Mask:
    """Return the mask without pieces of fewer than `least` px."""
    labels, areas = components(mask)
    keep = areas >= max(1.0, least)
    return np.asarray(keep[labels], np.bool_)


def holes(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the holes: labels (h, w), 0 for none, and the px of each label.

    A hole is background that reaches no border of the picture.
    """
    labels, areas = _components(~mask, 8)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    areas[np.unique(border)] = 0
    return np.where(areas[labels] > 0, labels, 0).astype(np.int32), areas


def filled(mask: Mask, most: float = np.inf) -> Mask:
    """Return the mask with holes of at most `most` px filled."""
    labels, areas = holes(mask)
    fill = (areas > 0) & (areas <= most)
    return np.asarray(mask | fill[labels], np.bool_)


def with_few_holes(mask: Mask, count: int, least: float) -> Mask:
    """Return the mask with only the `count` largest holes of at least `least` px left."""
    labels, areas = holes(mask)
    order = np.argsort(-areas, kind="stable")
    keep = order[:count]
    fill = areas > 0
    fill[keep[areas[keep] >= least]] = False
    return np.asarray(mask | fill[labels], np.bool_)
