"""Which level serves a resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from wsistore.errors import MetadataError, ResolutionError
from wsistore.geometry import Magnification, Mpp, Resolution

TOLERANCE = 0.01
"""Relative difference up to which a level is taken as it is. Scanners state 0.2520 µm/px
and call it 0.25; resampling by 1 % blurs more than it puts right."""

ResolutionLike = Resolution | str | int


class Shrunk(Protocol):
    """What is asked of a level here: a `Level` or a `LevelShape`."""

    @property
    def downsample(self) -> float:
        """Level-0 px per px of it."""
        ...


L = TypeVar("L", bound=Shrunk)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Which level serves a resolution, and by how much it must still be shrunk.

    ``downsample = level_downsample * factor`` holds up to rounding.

    Parameters
    ----------
    level : int
        Index of the level that is read.
    downsample : float
        Level-0 px per px of the result.
    level_downsample : float
        Level-0 px per px of that level.
    factor : float
        Px of that level per px of the result: exactly 1.0 where the level is taken as it
        is, above 1 where it is shrunk, below 1 where it is enlarged.
    """

    level: int
    downsample: float
    level_downsample: float
    factor: float


def as_resolution(value: ResolutionLike) -> Resolution:
    """Return the resolution that the value means.

    Parameters
    ----------
    value : Resolution, str or int
        A `Resolution`; a text such as ``"0.5mpp"``, ``"20x"`` or ``"level:1"``; or a level
        index. A bare float is refused: it could be µm/px as well as a magnification.

    Raises
    ------
    ResolutionError
        If the value is none of these.
    """
    if isinstance(value, Resolution):
        return value
    if isinstance(value, str):
        return Resolution.parse(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ResolutionError(
            f"{value!r} is not a resolution",
            hint="Use Resolution.mpp(0.5), '0.5mpp', '20x', 'level:1' or a level index.",
        )
    return Resolution.level(int(value))


def resolve(
    levels: Sequence[Shrunk],
    mpp: Mpp | None,
    magnification: Magnification | None,
    resolution: Resolution,
    *,
    allow_upsample: bool = False,
    name: str = "the slide",
) -> Resolved:
    """Return the level that serves a resolution; see `Slide.resolve`.

    Parameters
    ----------
    levels : sequence of Level or LevelShape
        Levels of the slide, at least one.
    mpp, magnification : Mpp or None, Magnification or None
        What the slide is calibrated with, at level 0.
    resolution : Resolution
        How finely.
    allow_upsample : bool
        Whether level 0 may be enlarged.
    name : str
        Name of the slide, for messages.

    Raises
    ------
    ResolutionError
        If there is no such level, or the resolution is finer than level 0 and
        `allow_upsample` is false.
    MetadataError
        If the slide lacks what the unit needs.
    """
    if resolution.unit == "level":
        index = int(resolution.value)
        downsample = level_at(levels, index, name).downsample
        return Resolved(index, downsample, downsample, 1.0)
    wanted = _wanted_downsample(mpp, magnification, resolution, name)
    downsamples = [level.downsample for level in levels]
    fitting = [found for found in downsamples if found <= wanted * (1 + TOLERANCE)]
    if not fitting:
        if not allow_upsample:
            raise ResolutionError(
                f"{name} has no {resolution}: its finest level is "
                f"{_finest(mpp, magnification, resolution)}",
                hint="Ask for a coarser one, or pass allow_upsample=True to enlarge.",
            )
        return Resolved(0, wanted, downsamples[0], wanted / downsamples[0])
    best = max(fitting)
    index = downsamples.index(best)
    if wanted <= best * (1 + TOLERANCE):
        return Resolved(index, best, best, 1.0)
    return Resolved(index, wanted, best, wanted / best)


def level_at(levels: Sequence[L], index: int, name: str) -> L:
    """Return the level with this index.

    Raises
    ------
    ResolutionError
        If there is none.
    """
    if not 0 <= index < len(levels):
        raise ResolutionError(f"{name} has levels 0 to {len(levels) - 1}, there is no {index}")
    return levels[index]


def _wanted_downsample(
    mpp: Mpp | None, magnification: Magnification | None, resolution: Resolution, name: str
) -> float:
    """Return level-0 px per wanted px; anisotropic pixels count by their mean side."""
    if resolution.unit == "mpp":
        if mpp is not None:
            return resolution.value / mpp.mean
    elif magnification is not None:
        return magnification / resolution.value
    raise MetadataError(
        f"{name} states no pixel size (mpp) and no magnification, so {resolution} can't be found",
        hint="State the pixel size on opening: open_slide(path, mpp=...) (--mpp).",
    )


def _finest(mpp: Mpp | None, magnification: Magnification | None, resolution: Resolution) -> str:
    if resolution.unit == "mpp" and mpp is not None:
        return f"{mpp.mean:g} µm/px"
    return f"{magnification:g}x"
