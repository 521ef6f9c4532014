"""Which level of a slide is closest to a pixel size."""

from __future__ import annotations

from collections.abc import Sequence

from wsistore.errors import MetadataError, UsageError
from wsistore.slides import Slide


def closest_level(slide: Slide, mpp: float | Sequence[float]) -> int:
    """Return the index of the level whose downsample is nearest to that of a pixel size.

    Unlike `Slide.resolve`, which never takes a level coarser than asked, the nearest one
    may be coarser or finer. To read it in px of the level, use ``slide.read_level(level,
    (x, y, width, height))``; its pixel size is ``slide.levels[level].mpp``.

    Parameters
    ----------
    slide : Slide
        The slide.
    mpp : float or (x, y)
        µm/px wanted; the downsample is the mean of ``mpp / slide.mpp`` over both axes.

    Returns
    -------
    int
        Of two equally near ones, the finer.

    Raises
    ------
    wsistore.errors.MetadataError
        If the slide has no pixel size.
    wsistore.errors.UsageError
        If `mpp` is not positive.
    """
    if slide.mpp is None:
        raise MetadataError(
            f"{slide.name} states no pixel size, so the level closest to {mpp} µm/px is unknown",
            hint="State it on opening: open_slide(path, mpp=...).",
        )
    x, y = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
    if not (x > 0 and y > 0):
        raise UsageError(f"mpp must be positive µm/px, got {mpp!r}")
    wanted = (x / slide.mpp.x + y / slide.mpp.y) / 2
    return min(slide.levels, key=lambda level: abs(level.downsample - wanted)).index
