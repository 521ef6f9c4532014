"""From slides to tissue masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import numpy as np

from wsistore.errors import UsageError
from wsistore.geometry import MPP_TIMES_MAGNIFICATION, Size
from wsistore.slides import Slide
from wsistore.tissue.mask import TissueMask
from wsistore.tissue.segmenter import Segmenter, make_segmenter

Method = str | Segmenter | Callable[..., Any]


def segment_slide(slide: Slide, method: Method = "default", **parameters: Any) -> TissueMask:
    """Return where the tissue of a slide is.

    The segmenter sees a thumbnail of the whole slide at the pixel size it asks for: 8 µm/px
    (1.25x) for those of this package, coarser where the longest side would be beyond 2048
    px (1024 for ``"sam2"``), never finer than level 0. A slide without a pixel size is
    taken by its magnification, and one without either by the longest side alone, its
    thumbnail being treated as if it were at 8 µm/px. Where a reduced level was rounded
    down to whole px, the mask is off by less than one px of that level.

    Parameters
    ----------
    slide : Slide
        An open slide.
    method : str, Segmenter or callable
        ``"default"``, a name of `segmenter_names`, a segmenter, or a function of one
        thumbnail; see `make_segmenter`.
    **parameters
        Of the method, by name.

    Returns
    -------
    TissueMask
        Of the thumbnail's size; empty where there is no tissue.

    Raises
    ------
    UsageError
        If there is no such method, it has no such parameter, or it returns a mask of
        another shape than the thumbnail.
    WsistoreError
        As `Slide.thumbnail`.
    """
    return segment_slides([slide], method, **parameters)[0]


def segment_slides(
    slides: Iterable[Slide], method: Method = "default", *, batch_size: int = 1, **parameters: Any
) -> list[TissueMask]:
    """Return where the tissue of each slide is; see `segment_slide`.

    Parameters
    ----------
    slides : iterable of Slide
        Open slides.
    method : str, Segmenter or callable
        As for `segment_slide`.
    batch_size : int
        Thumbnails given to the segmenter at once.
    **parameters
        Of the method, by name.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    segmenter = make_segmenter(method, **parameters)
    masks: list[TissueMask] = []
    waiting = iter(slides)
    while batch := list(islice(waiting, batch_size)):
        masks.extend(_segment_batch(batch, segmenter))
    return masks


def thumbnail_size(slide: Slide, mpp: float, side: int) -> tuple[Size, float | None]:
    """Return the size of a thumbnail in px, and its µm/px as far as that is known.

    Parameters
    ----------
    slide : Slide
        The slide.
    mpp : float
        µm/px that is wanted.
    side : int
        Longest side in px that is allowed.
    """
    own = None
    if slide.mpp is not None:
        own = slide.mpp.mean
    elif slide.magnification is not None:
        own = MPP_TIMES_MAGNIFICATION / slide.magnification
    shrinkage = max(1.0, max(slide.size) / side, 0.0 if own is None else mpp / own)
    size = Size(*(max(1, round(length / shrinkage)) for length in slide.size))
    return size, None if own is None else own * shrinkage


def _segment_batch(slides: list[Slide], segmenter: Segmenter) -> list[TissueMask]:
    sizes = [thumbnail_size(s, segmenter.thumbnail_mpp, segmenter.thumbnail_side) for s in slides]
    thumbnails = [
        slide.thumbnail((size.width, size.height))
        for slide, (size, _) in zip(slides, sizes, strict=True)
    ]
    found = segmenter.segment(thumbnails, [mpp for _, mpp in sizes])
    for pixels, thumbnail in zip(found, thumbnails, strict=True):
        if np.shape(pixels) != thumbnail.shape[:2]:
            raise UsageError(
                f"the segmenter {segmenter.name!r} made a mask of {np.shape(pixels)} px of a "
                f"thumbnail of {thumbnail.shape[:2]}"
            )
    return [_as_mask(slide, pixels, segmenter) for slide, pixels in zip(slides, found, strict=True)]


def _as_mask(slide: Slide, pixels: Any, segmenter: Segmenter) -> TissueMask:
    height, width = pixels.shape
    mpp, origin = None, ""
    if slide.mpp is not None:
        mpp = (slide.mpp.x * slide.size.width / width, slide.mpp.y * slide.size.height / height)
        origin = slide.mpp.origin
    return TissueMask(
        pixels,
        slide.size,
        mpp,
        origin,
        segmenter.name,
        dict(segmenter.parameters),
        slide.fingerprint,
    )
