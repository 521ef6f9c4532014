"""Masks that other programs made, as pictures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.tissue.mask import TissueMask

MAX_SIDE = 16_384
"""Longest side of a level that is read as a mask, px."""


def mask_from_picture(
    picture: Slide,
    slide_size: Size | tuple[int, int] | None = None,
    *,
    values: Iterable[int] | None = None,
    side: int = 4096,
) -> TissueMask:
    """Return the mask that a picture of labels holds, such as a tiled TIFF of a mask.

    The finest level of at most `side` px is read, or the smallest there is; nothing is
    resampled, since the mean of two labels is a third one.

    Parameters
    ----------
    picture : Slide
        The mask, opened by `wsistore.open_slide`; it covers the whole slide. Its first
        channel holds the labels.
    slide_size : (width, height), optional
        Level-0 px of the slide that it belongs to; by default the picture's own.
    values : iterable of int, optional
        Labels that are tissue; by default all but 0.
    side : int
        Longest side wanted, px.

    Raises
    ------
    UsageError
        If the picture's smallest level is larger than `MAX_SIDE`, or its shape is not the
        slide's.
    WsistoreError
        As `Slide.read_level`.
    """
    size = picture.size if slide_size is None else Size(*slide_size)
    fitting = [level for level in picture.levels if max(level.size) <= side]
    level = fitting[0] if fitting else picture.levels[-1]
    if max(level.size) > MAX_SIDE:
        raise UsageError(f"{picture.name} has no level of {MAX_SIDE} px or less to be a mask")
    if abs(size.width / picture.size.width / (size.height / picture.size.height) - 1) > 0.01:
        raise UsageError(
            f"{picture.name} of {tuple(picture.size)} px has not the shape of a slide of {size}"
        )
    labels = picture.read_level(level.index, (0, 0, *level.size))[..., 0]
    chosen = None if values is None else sorted({int(value) for value in values})
    pixels = labels != 0 if chosen is None else np.isin(labels, chosen)
    mpp, origin = None, ""
    if picture.mpp is not None:
        width, height = level.size
        mpp = (
            picture.mpp.x * picture.size.width / width,
            picture.mpp.y * picture.size.height / height,
        )
        origin = picture.mpp.origin
    told = {"values": chosen, "level": level.index}
    return TissueMask(pixels, size, mpp, origin, "picture", told, picture.fingerprint)
