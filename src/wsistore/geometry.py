"""Value objects of space and scale.

Coordinate spaces. "Level-0 px" are pixels of the full-resolution image, x to the right,
y down, origin at the top-left corner of the image. "Level px" are the same at a reduced
level: ``x_level = x_level0 / downsample``. Lengths in µm are ``px * mpp``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from wsistore.errors import MetadataError, ResolutionError, UsageError

MPP_MIN = 0.01
"""Smallest pixel size believed, µm/px (a light microscope resolves about 0.2 µm)."""
MPP_MAX = 100.0
"""Largest pixel size believed at level 0, µm/px."""

MPP_TIMES_MAGNIFICATION = 10.0
"""µm/px x magnification of a scanner: 0.25 µm/px is called 40x, 0.5 is 20x. The usual
convention of the field, used only where a slide states one of the two."""


class Size(NamedTuple):
    """Width and height, in px of the space that the context names."""

    width: int
    height: int


class Box(NamedTuple):
    """Left, top, width and height of an upright rectangle, in px of a named space."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column beyond the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row beyond the box."""
        return self.y + self.height

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no pixel."""
        return self.width <= 0 or self.height <= 0

    def intersect(self, other: Box) -> Box:
        """Return the part common to both; of width or height 0 where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        return Box(
            x,
            y,
            max(0, min(self.right, other.right) - x),
            max(0, min(self.bottom, other.bottom) - y),
        )


class Mpp(tuple[float, float]):
    """Pixel size (x, y) in µm/px at level 0, and which tag or argument said so.

    A plain pair to compute with: ``x, y = slide.mpp``.

    Parameters
    ----------
    x, y : float
        µm/px, within ``[MPP_MIN, MPP_MAX]``.
    origin : str
        Where the value comes from, such as ``"aperio.MPP"`` or ``"argument"``.

    Raises
    ------
    MetadataError
        If a value is not a number, or outside ``[MPP_MIN, MPP_MAX]``.
    """

    origin: str

    def __new__(cls, x: float, y: float, origin: str) -> Self:
        """Check the values and keep their origin."""
        for value in (x, y):
            if not (MPP_MIN <= value <= MPP_MAX):  # also refuses NaN
                raise MetadataError(
                    f"pixel size of {value!r} µm/px (from {origin}) is outside "
                    f"{MPP_MIN}-{MPP_MAX} µm/px",
                    hint="State the true one with mpp=... (--mpp on the command line).",
                )
        pair = super().__new__(cls, (float(x), float(y)))
        pair.origin = origin
        return pair

    @property
    def x(self) -> float:
        """µm/px along x."""
        return self[0]

    @property
    def y(self) -> float:
        """µm/px along y."""
        return self[1]

    @property
    def mean(self) -> float:
        """Mean of x and y, in µm/px."""
        return (self[0] + self[1]) / 2

    def scaled(self, downsample: float) -> Mpp:
        """Return the pixel size of a level with this downsample."""
        pair = tuple.__new__(Mpp, (self[0] * downsample, self[1] * downsample))
        pair.origin = self.origin
        return pair

    def __repr__(self) -> str:
        return f"Mpp(x={self.x!r}, y={self.y!r}, origin={self.origin!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_mpp, (self[0], self[1], self.origin))


def _rebuild_mpp(x: float, y: float, origin: str) -> Mpp:
    pair = tuple.__new__(Mpp, (x, y))
    pair.origin = origin
    return pair


class Magnification(float):
    """Objective power (40.0 for "40x"), and which tag or argument said so.

    Parameters
    ----------
    value : float
        Positive and finite.
    origin : str
        Where the value comes from, such as ``"aperio.AppMag"`` or ``"mpp"``.

    Raises
    ------
    MetadataError
        If the value is not a positive, finite number.
    """

    origin: str

    def __new__(cls, value: float, origin: str) -> Self:
        """Check the value and keep its origin."""
        if not (math.isfinite(value) and value > 0):
            raise MetadataError(
                f"magnification {value!r} (from {origin}) is not a positive number",
                hint="State the true one with magnification=...",
            )
        number = super().__new__(cls, value)
        number.origin = origin
        return number

    def __repr__(self) -> str:
        return f"Magnification({float(self)!r}, origin={self.origin!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (Magnification, (float(self), self.origin))


@dataclass(frozen=True, slots=True)
class Resolution:
    """How finely to look: a level, a pixel size or a magnification.

    Build one with `Resolution.level`, `Resolution.mpp` or `Resolution.magnification`.

    Parameters
    ----------
    unit : {"level", "mpp", "magnification"}
        What `value` counts.
    value : float
        Level index (0 is the finest), µm/px, or objective power.

    Raises
    ------
    ResolutionError
        If the value can't be one of its unit.
    """

    unit: Literal["level", "mpp", "magnification"]
    value: float

    def __post_init__(self) -> None:
        """Check that the value can be one of its unit."""
        if self.unit == "level":
            if self.value < 0 or self.value != int(self.value):
                raise ResolutionError(f"level {self.value!r} is not an integer >= 0")
        elif self.unit in ("mpp", "magnification"):
            if not (math.isfinite(self.value) and self.value > 0):
                raise ResolutionError(f"{self.unit} {self.value!r} is not a positive number")
        else:
            raise ResolutionError(
                f"unknown unit of resolution {self.unit!r}",
                hint="Use 'level', 'mpp' or 'magnification'.",
            )

    @classmethod
    def level(cls, index: int) -> Resolution:
        """Return the resolution of a level of the slide's own pyramid (0 is the finest)."""
        return cls("level", index)

    @classmethod
    def mpp(cls, value: float) -> Resolution:
        """Return a resolution of `value` µm/px."""
        return cls("mpp", float(value))

    @classmethod
    def magnification(cls, value: float) -> Resolution:
        """Return the resolution of an objective power, such as 20."""
        return cls("magnification", float(value))

    @classmethod
    def parse(cls, text: str) -> Resolution:
        """Return the resolution that a text names.

        Parameters
        ----------
        text : str
            ``"level:1"``, ``"0.5mpp"`` (also ``"0.5um"``) or ``"20x"``.

        Raises
        ------
        ResolutionError
            If the text is none of these.
        """
        word = text.strip().lower()
        try:
            if word.startswith("level:"):
                return cls.level(int(word[6:]))
            for suffix in ("mpp", "um", "µm"):
                if word.endswith(suffix):
                    return cls.mpp(float(word[: -len(suffix)]))
            if word.endswith("x"):
                return cls.magnification(float(word[:-1]))
        except ValueError as error:
            if isinstance(error, ResolutionError):
                raise
        raise ResolutionError(
            f"can't read {text!r} as a resolution", hint="Write level:1, 0.5mpp or 20x."
        )

    def __str__(self) -> str:
        if self.unit == "level":
            return f"level:{int(self.value)}"
        return f"{self.value:g}mpp" if self.unit == "mpp" else f"{self.value:g}x"


def as_box(box: Box | tuple[int, int, int, int]) -> Box:
    """Return the box, checked: four integers, width and height positive.

    Raises
    ------
    UsageError
        If a value is not an integer, or the box holds no pixel.
    """
    try:
        values = [int(v) for v in box]
        whole = all(v == w for v, w in zip(values, box, strict=True))
    except (TypeError, ValueError, OverflowError):
        values, whole = [], False
    if len(values) != 4 or not whole:
        raise UsageError(f"a box is four integers (x, y, width, height), got {box!r}")
    result = Box(*values)
    if result.is_empty:
        raise UsageError(f"width and height of a box must be positive, got {result!r}")
    return result


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient of two integers, rounded up."""
    return -(-numerator // denominator)


def snap_downsample(full: Size, reduced: Size) -> float:
    """Return the downsample of a reduced level, snapped to the integer that was meant.

    Scanners write ``floor(size / downsample)`` (some round or take the ceiling), so the
    ratio of sizes is a little off (4.0002). Any integer ``d`` with
    ``|full / d - reduced| < 1`` on both axes explains the sizes; the one next to the
    measured ratio is taken.

    Parameters
    ----------
    full, reduced : Size
        Sizes of level 0 and of the reduced level, in px of their levels.

    Returns
    -------
    float
        An integer value where one explains the sizes, otherwise the mean of the two
        ratios, as OpenSlide has it.
    """
    ratio = (full.width / reduced.width + full.height / reduced.height) / 2
    nominal = round(ratio)
    if (
        nominal >= 1
        and abs(full.width / nominal - reduced.width) < 1
        and abs(full.height / nominal - reduced.height) < 1
    ):
        return float(nominal)
    return ratio
