"""Slides as lazy arrays of xarray and dask: `wsistore.as_xarray`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import DependencyError, UsageError
from wsistore.geometry import Size
from wsistore.pyramid.views.pixels import SlidePixels
from wsistore.slides import Slide, open_slide
from wsistore.slides.resolving import ResolutionLike

if TYPE_CHECKING:
    import xarray

BLOCK = 2048
"""Side of a block, px of the level that is read: 12 MB, some 100 ms of decoding, against
2 ms that a task costs dask."""

ORIGIN = "the top-left corner of level 0; x to the right, y down; at the centres of pixels"

Chunks = int | Sequence[int] | Mapping[str, int]


def as_xarray(
    slide: Slide | str | os.PathLike[str],
    resolution: ResolutionLike = 0,
    *,
    chunks: Chunks | None = None,
    **options: Any,
) -> xarray.DataArray:
    """Return a slide at a resolution as a lazy array; pixels are read where they are needed.

    Backed by dask, one task for each block. Where a level serves the resolution its px are
    taken as they are; otherwise blocks are averaged by area from the next finer level. The
    size is floored, so each px lies wholly in the slide.

    Parameters
    ----------
    slide : Slide, str or os.PathLike
        A slide or store, opened or by its path or URL.
    resolution : Resolution, str or int
        ``Resolution.mpp(0.5)``, ``"0.5mpp"``, ``"20x"``, ``"level:1"`` or a level index.
    chunks : int, (height, width) or mapping, optional
        Size of the blocks in px of the result; a mapping names ``"y"`` and ``"x"``. By
        default about 2048 px of the level that is read, ending between its tiles.
    **options
        For `wsistore.open_slide`, where a path or URL is given.

    Returns
    -------
    xarray.DataArray
        Of dims c, y, x; uint8. Coordinates: ``c`` is ``"R", "G", "B"``; ``x`` and ``y`` are
        µm from the top-left corner of level 0 to the centre of each px (level-0 px, where
        the slide states no pixel size; their attribute ``units`` tells). Attributes:
        ``slide`` (its name), ``fingerprint``, ``level`` (that is read), ``downsample``
        (level-0 px per px), ``mpp`` (x, y, of the result), ``origin``, ``units``.

    Raises
    ------
    ResolutionError, MetadataError
        As `Slide.resolve`.
    UsageError
        If `chunks` makes no sense, or there are options beside an opened slide.
    DependencyError
        If dask or xarray is not installed.
    WsistoreError
        As `wsistore.open_slide`.
    """
    try:
        import dask.array as da
        import xarray as xr
        from dask.base import tokenize
    except ImportError as error:
        raise DependencyError(
            f"lazy arrays need dask and xarray: {error}", hint="pip install 'wsistore[dask]'."
        ) from error
    if isinstance(slide, Slide):
        if options:
            raise UsageError(f"{slide.name} is open already; options are {', '.join(options)}")
    else:
        slide = open_slide(slide, **options)
    pixels = SlidePixels(slide, resolution)
    blocks = _blocks(pixels, chunks)
    name = tokenize(slide.fingerprint, slide.path, pixels.resolved, blocks, slide.policy)
    data = da.from_array(
        pixels,
        chunks=(3, *blocks),
        name=f"wsistore-{name}",
        asarray=False,
        fancy=False,  # parts are read by slices alone
        meta=np.empty((0, 0, 0), np.uint8),
    )
    return xr.DataArray(
        data,
        dims=("c", "y", "x"),
        coords={"c": ["R", "G", "B"], **_coordinates(pixels)},
        name="image",
        attrs=_attributes(pixels),
    )


def _blocks(pixels: SlidePixels, chunks: Chunks | None) -> tuple[int, int]:
    """Return height and width of a block in px of the result."""
    sides = _default_sides(pixels) if chunks is None else _wanted_sides(pixels, chunks)
    return min(sides[0], pixels.size.height), min(sides[1], pixels.size.width)


def _default_sides(pixels: SlidePixels) -> list[int]:
    tile = pixels.tile_size or Size(BLOCK, BLOCK)
    # A tile is decoded once where the factor divides it, and twice at seams elsewhere.
    wholes = (max(1, round(BLOCK / side)) * side for side in (tile.height, tile.width))
    return [max(1, round(side / pixels.resolved.factor)) for side in wholes]


def _wanted_sides(pixels: SlidePixels, chunks: Chunks) -> list[int]:
    wanted: Any = chunks
    if isinstance(chunks, Mapping):
        unknown = sorted(map(str, set(chunks) - {"y", "x"}))
        if unknown:
            raise UsageError(f"chunks are of y and x, got {', '.join(unknown)}")
        wanted = [chunks.get("y", pixels.size.height), chunks.get("x", pixels.size.width)]
    elif hasattr(chunks, "__index__"):
        wanted = [chunks, chunks]
    try:
        sides = [int(side.__index__()) for side in wanted]
    except (TypeError, AttributeError):
        sides = []
    if len(sides) != 2 or min(sides) < 1:
        raise UsageError(
            f"chunks is {chunks!r}",
            hint="Use a number of px, (height, width) or {'y': ..., 'x': ...}.",
        )
    return sides


def _coordinates(pixels: SlidePixels) -> dict[str, tuple[str, NDArray[Any], dict[str, str]]]:
    mpp, downsample = pixels.slide.mpp, pixels.resolved.downsample
    steps = (downsample, downsample) if mpp is None else (mpp.x * downsample, mpp.y * downsample)
    attributes = {"units": "level-0 px" if mpp is None else "µm", "origin": ORIGIN}
    return {
        name: (name, (np.arange(side) + 0.5) * step, dict(attributes))
        for name, side, step in zip("xy", pixels.size, steps, strict=True)
    }


def _attributes(pixels: SlidePixels) -> dict[str, Any]:
    slide, found = pixels.slide, pixels.resolved
    mpp = slide.mpp
    attributes: dict[str, Any] = {
        "slide": slide.name,
        "fingerprint": slide.fingerprint,
        "level": found.level,
        "downsample": found.downsample,
        "units": "RGB, 0 to 255",
        "origin": ORIGIN,
    }
    if mpp is not None:
        attributes["mpp"] = [mpp.x * found.downsample, mpp.y * found.downsample]
        attributes["mpp_origin"] = mpp.origin
    return attributes
