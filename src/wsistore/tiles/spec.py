"""What tiles are wanted: size, stride, resolution, and what happens at the edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from wsistore.errors import UsageError
from wsistore.geometry import Resolution, Size
from wsistore.slides.resolving import ResolutionLike, as_resolution

Unit = Literal["px", "um"]
Edge = Literal["drop", "keep", "shift", "pad"]
Layout = Literal["rectangular", "hexagonal"]
Origin = Literal["slide", "region"]
Align = Literal["none", "tiles"]

_CHOICES = {
    "unit": ("px", "um"),
    "edge": ("drop", "keep", "shift", "pad"),
    "layout": ("rectangular", "hexagonal"),
    "origin": ("slide", "region"),
    "align": ("none", "tiles"),
}


@dataclass(frozen=True, slots=True, init=False)
class TileSpec:
    """What tiles are wanted of any slide.

    "Target px" are px at `resolution`.

    Parameters
    ----------
    size : number or (width, height)
        Of a tile, in `unit`; whole numbers for px.
    stride : number or (x, y), optional
        Distance between tiles in `unit`; `size` where not said.
    resolution : Resolution, str or int
        How finely: ``Resolution.mpp(0.5)``, ``"0.5mpp"``, ``"20x"``, ``"level:1"`` or a level
        index. Must be said.
    unit : {"px", "um"}
        What `size` and `stride` count: target px or µm. µm are rounded once, half up, to
        target px, at least 1; see `to_px`.
    edge : {"drop", "keep", "shift", "pad"}
        What becomes of a tile that reaches over the right or bottom edge. ``drop``: left
        out. ``shift``: moved back until it ends with the slide. ``keep``: kept, with a read
        size cut off at the edge. ``pad``: kept, with its whole read size, of which the part
        outside is `fill`. A slide smaller than a tile gives no tile with ``drop``, and one
        that reaches outside with the others.
    layout : {"rectangular", "hexagonal"}
        Hexagonal: odd rows are shifted right by half a tile.
    origin : {"slide", "region"}
        Where the lattice starts: in the slide's top-left corner, or anew in that of each
        contour's box.
    align : {"none", "tiles"}
        ``tiles``: only lattices on which every tile lies in one encoded tile of the file, so
        that reading it costs one decode; others are refused.
    fill : int
        Grey level of what lies outside of the slide, 0 to 255.

    Raises
    ------
    wsistore.errors.UsageError
        If a value makes no sense.
    wsistore.errors.ResolutionError
        If the resolution is none.
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    resolution: Resolution
    unit: Unit
    edge: Edge
    layout: Layout
    origin: Origin
    align: Align
    fill: int

    def __init__(
        self,
        size: float | Sequence[float],
        stride: float | Sequence[float] | None = None,
        resolution: ResolutionLike | None = None,
        unit: Unit = "px",
        edge: Edge = "drop",
        *,
        layout: Layout = "rectangular",
        origin: Origin = "slide",
        align: Align = "none",
        fill: int = 255,
    ) -> None:
        if resolution is None:
            raise UsageError(
                "a tile spec needs a resolution", hint="Pass resolution='20x', '0.5mpp' or a level."
            )
        chosen = {"unit": unit, "edge": edge, "layout": layout, "origin": origin, "align": align}
        for name, value in chosen.items():
            if value not in _CHOICES[name]:
                raise UsageError(f"{name} must be {' or '.join(_CHOICES[name])}, got {value!r}")
        if not 0 <= fill <= 255 or int(fill) != fill:
            raise UsageError(f"fill is a grey level from 0 to 255, got {fill!r}")
        extent = _pair("size", size, unit)
        values: dict[str, Any] = {
            "size": extent,
            "stride": extent if stride is None else _pair("stride", stride, unit),
            "resolution": as_resolution(resolution),
            "fill": int(fill),
            **chosen,
        }
        for name, checked in values.items():
            object.__setattr__(self, name, checked)

    @property
    def width(self) -> float:
        """Width of a tile in `unit`."""
        return self.size[0]

    @property
    def height(self) -> float:
        """Height of a tile in `unit`."""
        return self.size[1]

    @property
    def stride_width(self) -> float:
        """Distance between columns in `unit`."""
        return self.stride[0]

    @property
    def stride_height(self) -> float:
        """Distance between rows in `unit`."""
        return self.stride[1]

    @property
    def overlap(self) -> tuple[float, float]:
        """Size less stride along x and y, in `unit`; negative where there are gaps."""
        return self.size[0] - self.stride[0], self.size[1] - self.stride[1]

    def to_px(self, mpp: tuple[float, float] | None = None) -> tuple[Size, Size]:
        """Return size and stride in target px.

        Parameters
        ----------
        mpp : (x, y), optional
            µm per target px; needed for µm.

        Returns
        -------
        size, stride : Size
            µm become ``floor(um / mpp + 1/2)`` px, at least 1.

        Raises
        ------
        wsistore.errors.UsageError
            If the unit is µm and there is no `mpp`.
        """
        if self.unit == "px":
            return Size(*map(int, self.size)), Size(*map(int, self.stride))
        return self._scaled(self._need_mpp(mpp), 1.0)

    def scale_to_reference(
        self, downsample_ratio: float, mpp: float | tuple[float, float] | None = None
    ) -> tuple[Size, Size]:
        """Return size and stride in px of a coarser (or finer) reference level.

        A convenience for masks and thumbnails. Plans don't use it: rounded on a coarse
        level, a lattice drifts.

        Parameters
        ----------
        downsample_ratio : float
            Target px per reference px along one axis; above 1 for a coarser reference.
        mpp : float or (x, y), optional
            µm per **target** px; needed for µm.

        Returns
        -------
        size, stride : Size
            Rounded half up, at least 1.

        Raises
        ------
        wsistore.errors.UsageError
            If the ratio is not a positive number, or the unit is µm and there is no `mpp`.
        """
        if not (math.isfinite(downsample_ratio) and downsample_ratio > 0):
            raise UsageError(f"downsample_ratio {downsample_ratio!r} is not a positive number")
        if self.unit == "px":
            return self._scaled((1.0, 1.0), downsample_ratio)
        pair = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
        return self._scaled(self._need_mpp(pair), downsample_ratio)

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-able values; `from_dict` reads them."""
        return {
            "size": list(self.size),
            "stride": list(self.stride),
            "resolution": {"unit": self.resolution.unit, "value": float(self.resolution.value)},
            "unit": self.unit,
            "edge": self.edge,
            "layout": self.layout,
            "origin": self.origin,
            "align": self.align,
            "fill": self.fill,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec that `to_dict` described.

        Raises
        ------
        wsistore.errors.UsageError
            If a value is missing or makes no sense.
        """
        try:
            told = dict(values)
            found = told.pop("resolution")
            resolution = Resolution(found["unit"], found["value"])
            return cls(resolution=resolution, **told)
        except (KeyError, TypeError) as error:
            raise UsageError(f"these are no values of a tile spec: {values!r}") from error

    def _need_mpp(self, mpp: tuple[float, float] | None) -> tuple[float, float]:
        if mpp is None:
            raise UsageError(
                f"tiles of {self.width:g} x {self.height:g} µm need a pixel size",
                hint="Open the slide with mpp=..., or give sizes in px.",
            )
        return mpp

    def _scaled(self, unit_px: tuple[float, float], ratio: float) -> tuple[Size, Size]:
        """Return size and stride in px that hold `ratio` times `unit_px` of the unit each."""
        per = [side * ratio for side in unit_px]
        found = [
            Size(*(max(1, math.floor(v / p + 0.5)) for v, p in zip(pair, per, strict=True)))
            for pair in (self.size, self.stride)
        ]
        return found[0], found[1]


def _pair(name: str, value: float | Sequence[float], unit: Unit) -> tuple[float, float]:
    """Return a pair of lengths: ints for px, floats for µm."""
    try:
        pair = (value, value) if isinstance(value, (int, float)) else tuple(value)
        numbers = [float(v) for v in pair]
        sound = len(numbers) == 2 and all(math.isfinite(v) and v > 0 for v in numbers)
    except (TypeError, ValueError, OverflowError):
        numbers, sound = [], False
    whole = unit == "um" or all(v == int(v) for v in numbers if sound)
    if not (sound and whole):
        kind = "whole positive px" if unit == "px" else "positive µm"
        raise UsageError(f"{name} must be one length or (x, y) in {kind}, got {value!r}")
    if unit == "px":
        return int(numbers[0]), int(numbers[1])
    return numbers[0], numbers[1]
