"""Where the tissue of a slide is."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.durable import canonical
from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.tissue.integral import IntegralImage

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where the tissue of a slide is: a small picture of yes and no over the whole slide.

    The mask covers the slide from edge to edge. Its px in column j and row i covers the
    level-0 rectangle ``[j * W / w, (j + 1) * W / w) x [i * H / h, (i + 1) * H / h)``, for a
    mask of (h, w) px over a slide of W x H; the bounds need not be whole numbers.

    Immutable: every operation returns a new mask. Two masks are equal where their
    fingerprints are.

    Parameters
    ----------
    pixels : (h, w) array
        Non-zero where there is tissue; copied, kept read-only as bool.
    slide_size : Size or (width, height)
        Level-0 px of the slide.
    mpp : (x, y), optional
        µm per px **of the mask**; None where the slide has no pixel size.
    origin : str
        Who says so of the pixel size (`wsistore.geometry.Mpp.origin`); empty without.
    method : str
        What made it, such as ``"default"`` or ``"otsu"``.
    parameters : mapping
        JSON-able; what the method was told.
    source : str
        Fingerprint of the slide, or the name of the file it was read from; not a part of
        `fingerprint`.

    Raises
    ------
    UsageError
        If the array is not two-dimensional, is empty, or a size or a pixel size is not
        positive.
    """

    pixels: Mask
    slide_size: Size
    mpp: tuple[float, float] | None = None
    origin: str = ""
    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        """Check the values, and take a copy that nobody can change."""
        pixels = np.asarray(self.pixels)
        if pixels.ndim != 2 or pixels.size == 0:
            raise UsageError(f"a mask is a (height, width) array, got shape {pixels.shape}")
        pixels = np.array(pixels != 0, np.bool_, order="C")
        pixels.flags.writeable = False
        size = Size(*(int(side) for side in self.slide_size))
        if min(size) < 1:
            raise UsageError(f"slide_size must be positive, got {tuple(self.slide_size)}")
        if self.mpp is not None and not all(math.isfinite(v) and v > 0 for v in self.mpp):
            raise UsageError(f"mpp of a mask must be positive numbers, got {self.mpp!r}")
        parameters = MappingProxyType(dict(self.parameters))
        canonical(parameters | {})  # raises where it is no JSON
        object.__setattr__(self, "pixels", pixels)
        object.__setattr__(self, "slide_size", size)
        object.__setattr__(self, "parameters", parameters)
        if self.mpp is not None:
            object.__setattr__(self, "mpp", (float(self.mpp[0]), float(self.mpp[1])))

    # Description

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the mask in its own px."""
        return self.pixels.shape

    @property
    def downsample(self) -> tuple[float, float]:
        """Level-0 px per px of the mask, along x and y."""
        height, width = self.shape
        return self.slide_size.width / width, self.slide_size.height / height

    @property
    def is_empty(self) -> bool:
        """Whether there is no tissue at all."""
        return not self.pixels.any()

    @property
    def tissue_fraction(self) -> float:
        """Fraction of the slide's area that is tissue, 0 to 1."""
        return float(np.count_nonzero(self.pixels)) / self.pixels.size

    @property
    def area_mm2(self) -> float:
        """Area of the tissue in mm².

        Raises
        ------
        UsageError
            If the mask has no pixel size.
        """
        x, y = self.need_mpp("the area in mm²")
        return float(np.count_nonzero(self.pixels)) * x * y * 1e-6

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels, geometry, method and parameters, as hexadecimal digits."""
        told = {
            "shape": list(self.shape),
            "slide_size": list(self.slide_size),
            "mpp": None if self.mpp is None else list(self.mpp),
            "method": self.method,
            "parameters": dict(self.parameters),
        }
        digest = hashlib.sha256(canonical(told))
        digest.update(np.packbits(self.pixels).tobytes())
        return digest.hexdigest()

    def need_mpp(self, what: str) -> tuple[float, float]:
        """Return the pixel size (x, y) in µm, or raise `UsageError` saying what needs it."""
        if self.mpp is None:
            raise UsageError(
                f"{what} needs a pixel size, and this mask has none",
                hint="Open the slide with mpp=..., or give lengths in px.",
            )
        return self.mpp

    # Coverage

    def coverage(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Return the fraction of each box's area that is tissue, exactly.

        A px of the mask that a box cuts counts by the part inside. What lies outside of
        the slide is no tissue, and counts in the area of the box all the same: a box half
        outside has a coverage of 0.5 at most.

        Parameters
        ----------
        boxes : (n, 4) int
            x, y, width, height in level-0 px; may reach outside.

        Returns
        -------
        (n,) float64
            0 to 1; exactly 0 without tissue and exactly 1 within.

        Raises
        ------
        UsageError
            If the boxes are not (n, 4) integers, or one has no area.
        """
        return self._integral.coverage(as_boxes(boxes))

    @functools.cached_property
    def _integral(self) -> IntegralImage:
        return IntegralImage(self.pixels, self.slide_size)

    # Making others

    def with_pixels(self, pixels: ArrayLike, **changes: Any) -> Self:
        """Return a mask of the same slide with other pixels, and other fields as named.

        The pixel size follows from the shape.
        """
        array = np.asarray(pixels)
        if "mpp" not in changes and self.mpp is not None and array.shape != self.shape:
            (height, width), (old_height, old_width) = array.shape, self.shape
            changes["mpp"] = (self.mpp[0] * old_width / width, self.mpp[1] * old_height / height)
        return replace(self, pixels=array, **changes)

    # Files

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the mask to a file or store; see `wsistore.tissue.save_mask`."""
        from wsistore.tissue.files import save_mask

        save_mask(self, path, overwrite=overwrite)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> TissueMask:
        """Read a mask from a file or store; see `wsistore.tissue.load_mask`."""
        from wsistore.tissue.files import load_mask

        return load_mask(path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TissueMask):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.pixels, self.slide_size, self.mpp, self.origin, self.method)
        return (type(self), (*values, dict(self.parameters), self.source))

    def __repr__(self) -> str:
        height, width = self.shape
        return (
            f"<TissueMask {width}x{height} of {self.slide_size.width}x{self.slide_size.height}, "
            f"{self.method or 'no method'}, {100 * self.tissue_fraction:.1f} % tissue>"
        )


def as_boxes(boxes: ArrayLike) -> NDArray[np.int64]:
    """Return boxes as an array, checked: integers, four to a box, with an area.

    Raises
    ------
    UsageError
        If they are not.
    """
    array = np.asarray(boxes)
    if array.size == 0 and array.ndim < 2:
        array = np.empty((0, 4), np.int64)
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iu":
        raise UsageError(
            f"boxes are (n, 4) integers (x, y, width, height), got {array.dtype} of shape "
            f"{array.shape}"
        )
    array = array.astype(np.int64, copy=False)
    if len(array) and array[:, 2:].min() < 1:
        bad = int(np.flatnonzero((array[:, 2:] < 1).any(axis=1))[0])
        raise UsageError(f"box {bad} has no area: {array[bad].tolist()}")
    return array
