"""Rules that look at the pixels of a tile: white, black, std, focus, entropy.

A filter scores a tile and says which scores stay; see `wsistore.tiles.filtering`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Resolution
from wsistore.slides.resolving import as_resolution

Pixels = NDArray[np.uint8]


@runtime_checkable
class PixelFilter(Protocol):
    """Scores tiles by their pixels, and says which scores stay.

    Attributes
    ----------
    name : str
        Of the filter, and of the column of its scores.
    cost : int
        Filters of a small cost run first.
    resolution : Resolution or None
        What it wants to see; None for the plan's own.
    parameters : mapping
        JSON-able; they go into the plan's identity.
    """

    @property
    def name(self) -> str:
        """Name of the filter and of its column."""
        ...

    @property
    def cost(self) -> int:
        """Place in the order of filters."""
        ...

    @property
    def resolution(self) -> Resolution | None:
        """Resolution of the pixels that it wants; None for the plan's."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was told, JSON-able."""
        ...

    def score(self, pixels: Pixels) -> float:
        """Return the score of one tile, (h, w, 3) uint8."""
        ...

    def keeps(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of the scores (n,) stay."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What all filters share.

    Parameters
    ----------
    resolution : Resolution, str or int, optional
        Resolution that tiles are looked at; that of the plan where not said. A coarser one
        is cheaper.
    """

    resolution: Any = None
    name: ClassVar[str]
    cost: ClassVar[int]

    def __post_init__(self) -> None:
        if self.resolution is not None:
            object.__setattr__(self, "resolution", as_resolution(self.resolution))

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the filter was told, JSON-able."""
        told = asdict(self)
        told["resolution"] = None if self.resolution is None else str(self.resolution)
        return told


@dataclass(frozen=True)
class _Below(_Scored):
    """Keeps tiles of which less than `fraction` is as the score counts."""

    fraction: float = 0.7

    def keeps(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which scores are below the fraction."""
        return np.asarray(scores < self.fraction)


@dataclass(frozen=True)
class _Above(_Scored):
    """Keeps tiles that score more than `minimum`; all of them where it is None."""

    minimum: float | None = None

    def keeps(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which scores are above the minimum."""
        if self.minimum is None:
            return np.ones(len(scores), np.bool_)
        return np.asarray(scores > self.minimum)


@dataclass(frozen=True)
class WhiteFilter(_Below):
    """Drops tiles of which `fraction` or more is white.

    A px is white where its HSV saturation (0 to 255) is below `saturation` and its value
    (0 to 255) is `value` or more. The score is the white fraction.

    Parameters
    ----------
    fraction, saturation, value
        As above.
    resolution : Resolution, str or int, optional
        Resolution that tiles are looked at; the plan's own where not said.
    """

    saturation: int = 15
    value: int = 200
    name: ClassVar[str] = "white"
    cost: ClassVar[int] = 3

    def score(self, pixels: Pixels) -> float:
        """Return the white fraction of a tile."""
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        white = (hsv[:, :, 1] < self.saturation) & (hsv[:, :, 2] >= self.value)
        return float(np.count_nonzero(white) / white.size)


@dataclass(frozen=True)
class BlackFilter(_Below):
    """Drops tiles of which `fraction` or more is darker than `grey` (0 to 255).

    The score is the dark fraction; grey is that of ITU-R BT.601.

    Parameters
    ----------
    fraction, grey
        As above.
    resolution : Resolution, str or int, optional
        Resolution that tiles are looked at; the plan's own where not said.
    """

    grey: int = 50
    name: ClassVar[str] = "black"
    cost: ClassVar[int] = 1

    def score(self, pixels: Pixels) -> float:
        """Return the dark fraction of a tile."""
        grey = _grey(pixels)
        return float(np.count_nonzero(grey < self.grey)) / grey.size


@dataclass(frozen=True)
class StdFilter(_Above):
    """Keeps tiles whose samples (all px and channels) deviate by more than `minimum`.

    The score is the standard deviation in grey levels.

    Parameters
    ----------
    minimum : float or None
        None scores without dropping.
    resolution : Resolution, str or int, optional
        Resolution that tiles are looked at; the plan's own where not said.
    """

    minimum: float | None = 8.0
    name: ClassVar[str] = "std"
    cost: ClassVar[int] = 2

    def score(self, pixels: Pixels) -> float:
        """Return the standard deviation of a tile."""
        return _deviation(pixels.reshape(-1, 1))


@dataclass(frozen=True)
class FocusFilter(_Above):
    """Keeps tiles whose Laplacian has a variance of more than `minimum`.

    The variance of the (3 x 3, 4 neighbours) Laplacian of grey is a measure of sharpness;
    it depends on resolution and stain, so there is no default threshold.

    Parameters
    ----------
    minimum : float or None
        None scores without dropping.
    resolution : Resolution, str or int, optional
        Resolution that tiles are looked at; the plan's own where not said.
    """

    name: ClassVar[str] = "focus"
    cost: ClassVar[int] = 4

    def score(self, pixels: Pixels) -> float:
        """Return the variance of the Laplacian of a tile."""
        return float(_deviation(cv2.Laplacian(_grey(pixels), cv2.CV_16S)) ** 2)


@dataclass(frozen=True)
class EntropyFilter(_Above):
    """Keeps tiles whose grey levels have an entropy of more than `minimum` bits.

    Shannon entropy of the histogram of 256 grey levels, 0 to 8 bits.

    Parameters
    ----------
    minimum : float or None
        None scores without dropping.
    resolution : Resolution, str or int, optional
        Resolution that tiles are looked at; the plan's own where not said.
    """

    name: ClassVar[str] = "entropy"
    cost: ClassVar[int] = 5

    def score(self, pixels: Pixels) -> float:
        """Return the entropy of a tile in bits."""
        grey = _grey(pixels)
        share = np.bincount(grey.ravel(), minlength=256) / grey.size
        share = share[share > 0]
        return float(-(share * np.log2(share)).sum()) + 0.0


FILTERS: Mapping[str, Callable[[], PixelFilter]] = {
    kind.name: kind for kind in (BlackFilter, StdFilter, WhiteFilter, FocusFilter, EntropyFilter)
}
"""Filters by name, with their defaults."""


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def _deviation(samples: NDArray[Any]) -> float:
    _, deviation = cv2.meanStdDev(samples)
    return float(deviation[0, 0])
