"""The one call of slice-extractor, for its users: path, place, side and magnification."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Resolution, Size
from wsistore.tiles.batch import read_tile
from wsistore.tiles.handles import SlideCache, default_cache
from wsistore.tiles.model import SlideLike, as_size


def load_single_tile(
    fname: SlideLike,
    x: int,
    y: int,
    tile_size: int,
    magnification: float,
    *,
    layout: Literal["hwc", "chw"] = "hwc",
    resize: bool = True,
    cache: SlideCache | None = None,
    **options: Any,
) -> NDArray[np.uint8]:
    """Read one tile at a magnification; the arguments of slice-extractor's function.

    Nothing need be opened, started or freed: slides stay in a bounded cache. For tiles of
    many slides at once use `wsistore.read_tiles`, which is faster.

    Parameters
    ----------
    fname : str, PathLike or Slide
        The slide.
    x, y : int
        Top-left corner in level-0 px; may lie outside.
    tile_size : int
        Side of the tile in px at the magnification.
    magnification : float
        Objective power wanted. A finer one than the slide's own is had by enlarging.
    layout : {"hwc", "chw"}
        Order of the axes, whatever the codec of the slide.
    resize : bool
        False gives the pixels of the level as they are, as slice-extractor did: the same
        area, with sides of ``round(tile_size * level_magnification / magnification)``.
    cache : SlideCache, optional
        Opened slides to use; the process's own where not said.
    **options
        As in `wsistore.read_tiles`.

    Returns
    -------
    (tile_size, tile_size, 3) or (3, tile_size, tile_size) uint8
        RGB; white outside of the slide.

    Raises
    ------
    wsistore.errors.MetadataError
        If the slide states neither magnification nor pixel size.
    wsistore.errors.WsistoreError
        As `wsistore.read_tiles`.

    Notes
    -----
    A slide without magnification but with a pixel size is taken as 10 / mpp;
    ``open_slide(fname).magnification.origin`` tells which one was used.
    """
    cache = default_cache() if cache is None else cache
    slide = cache.get(fname)
    options.setdefault("allow_upsample", True)
    wanted = Resolution.magnification(magnification)
    size = as_size(tile_size)
    if not resize:
        found = slide.resolve(wanted, allow_upsample=options["allow_upsample"])
        wanted = Resolution.level(found.level)
        size = Size(*(max(1, round(side * found.factor)) for side in size))
    return read_tile(slide, x, y, size, wanted, layout=layout, cache=cache, **options)
