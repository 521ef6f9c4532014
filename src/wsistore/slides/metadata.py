"""Numbers out of the texts that scanners write, each with its origin or with why not.

Nothing here raises: a value that can't be believed is left out and a note says why, so
that a slide opens all the same and the caller can state the true value.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from wsistore.errors import MetadataError
from wsistore.geometry import (
    MPP_MAX,
    MPP_MIN,
    MPP_TIMES_MAGNIFICATION,
    Magnification,
    Mpp,
)

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)

MAGNIFICATION_MIN = MPP_TIMES_MAGNIFICATION / MPP_MAX
"""Smallest objective power believed: that of the coarsest pixel size believed."""
MAGNIFICATION_MAX = MPP_TIMES_MAGNIFICATION / MPP_MIN
"""Largest objective power believed: that of the finest pixel size believed."""

MICROMETRES = {
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25400.0,
}
"""µm in one unit of length, by the symbols of OME (both signs for micro) and a few more."""

RESOLUTION_UNITS = {2: 25400.0, 3: 10000.0}
"""µm in one unit of TIFF resolution (tag 296): 2 inch, 3 centimetre."""

JUNK_DENSITIES = {1.0, 72.0, 96.0}
"""Pixels per unit that programs write where they know nothing."""


class MppFound(NamedTuple):
    """A pixel size, or why there is none.

    Parameters
    ----------
    value : Mpp or None
        Pixel size at level 0 in µm/px with its origin.
    notes : tuple of str
        Why a value that is stated was not used.
    """

    value: Mpp | None
    notes: tuple[str, ...] = ()


class MagnificationFound(NamedTuple):
    """An objective power, or why there is none.

    Parameters
    ----------
    value : Magnification or None
        Objective power with its origin.
    notes : tuple of str
        Why a value that is stated was not used.
    """

    value: Magnification | None
    notes: tuple[str, ...] = ()


def parse_number(text: str) -> float | None:
    """Return the finite number that a text is; None if it is none.

    A decimal comma is taken as a decimal point. Separators of thousands, units, ``nan``
    and ``inf`` make it no number.

    Parameters
    ----------
    text : str
        Such as ``"0.4990"`` or ``"0,4990"``; blanks around it are ignored.
    """
    text = text.strip()
    if len(text) > 64 or not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", "."))
    return value if math.isfinite(value) else None


def mpp_of_text(x_text: str, y_text: str, origin: str, *, unit: float = 1.0) -> MppFound:
    """Return the pixel size that two texts state.

    Parameters
    ----------
    x_text, y_text : str
        The texts.
    origin : str
        Which tag they are from, such as ``"aperio.MPP"``.
    unit : float
        µm in the unit of the texts.
    """
    stated = f"{x_text!r}" if x_text == y_text else f"{x_text!r}, {y_text!r}"
    x, y = parse_number(x_text), parse_number(y_text)
    if x is None or y is None:
        return MppFound(None, (f"{origin} = {stated} is not used: not a number",))
    return _mpp(x * unit, y * unit, origin, stated)


def mpp_of_resolution(x: tuple[int, int] | None, y: tuple[int, int] | None, unit: int) -> MppFound:
    """Return the pixel size that the resolution tags of a TIFF state.

    Parameters
    ----------
    x, y : pair of int or None
        XResolution and YResolution (tags 282, 283): numerator and denominator of pixels
        per unit; None where absent.
    unit : int
        ResolutionUnit (tag 296): 1 none, 2 inch, 3 centimetre.

    Notes
    -----
    Writers that know no pixel size write 1/1, or 72 or 96 per inch: never believed.
    """
    if x is None or y is None:
        return MppFound(None)
    origin = "tiff.XResolution"
    stated = f"{x[0]}/{x[1]}, {y[0]}/{y[1]} (unit {unit})"
    if unit not in RESOLUTION_UNITS:
        return MppFound(None, (f"{origin} = {stated} is not used: it has no unit of length",))
    if 0 in (*x, *y):
        return MppFound(None, (f"{origin} = {stated} is not used: not a density",))
    density = x[0] / x[1], y[0] / y[1]
    if density[0] in JUNK_DENSITIES and density[1] in JUNK_DENSITIES:
        return MppFound(None, (f"{origin} = {stated} is not used: a writer's default",))
    scale = RESOLUTION_UNITS[unit]
    return _mpp(scale / density[0], scale / density[1], origin, stated)


def _mpp(x: float, y: float, origin: str, stated: str) -> MppFound:
    try:
        return MppFound(Mpp(x, y, origin))
    except MetadataError:
        bounds = f"{MPP_MIN}-{MPP_MAX} µm/px"
        note = f"{origin} = {stated} is not used: {x:g} x {y:g} µm/px is outside {bounds}"
        return MppFound(None, (note,))


def magnification_of_text(text: str, origin: str) -> MagnificationFound:
    """Return the objective power that a text states, ``"20"`` or ``"20x"``.

    Parameters
    ----------
    text : str
        The text.
    origin : str
        Which tag it is from, such as ``"aperio.AppMag"``.
    """
    value = parse_number(text.strip().removesuffix("x").removesuffix("X"))
    if value is None:
        return MagnificationFound(None, (f"{origin} = {text!r} is not used: not a number",))
    if not MAGNIFICATION_MIN <= value <= MAGNIFICATION_MAX:
        bounds = f"{MAGNIFICATION_MIN:g}-{MAGNIFICATION_MAX:g}"
        return MagnificationFound(None, (f"{origin} = {text!r} is not used: outside {bounds}",))
    return MagnificationFound(Magnification(value, origin))


def aperio_fields(description: str) -> dict[str, str]:
    """Return the ``key = value`` fields of an Aperio description.

    The text before the first ``|`` is the scanner's header; of a key that is there twice
    the last one counts, as in OpenSlide.

    Parameters
    ----------
    description : str
        ImageDescription (tag 270) of the first page.
    """
    fields: dict[str, str] = {}
    for field in description.split("|")[1:]:
        key, equals, value = field.partition("=")
        key = key.strip()
        if equals and key:
            fields[key] = value.strip()
    return fields
