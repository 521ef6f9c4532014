"""Pixel size and power of a slide: stated by the container, overridden, derived.

Precedence: an argument wins over the container, and a value that is missing is derived
from the other one by ``mpp x magnification = 10`` (see `MPP_TIMES_MAGNIFICATION`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsistore.errors import MetadataError
from wsistore.geometry import MPP_TIMES_MAGNIFICATION, Magnification, Mpp

ARGUMENT = "argument"
"""Origin of a value that the caller stated."""

CONTRADICTION = 0.25
"""Relative difference of mpp x magnification from 10 beyond which a note is made. Scanners
call 0.23 to 0.28 µm/px "40x", so smaller differences are a matter of names."""

MppLike = float | Sequence[float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the geometry of a slide is computed with.

    Parameters
    ----------
    mpp : Mpp or None
        Pixel size at level 0, with its origin.
    magnification : Magnification or None
        Objective power, with its origin.
    notes : tuple of str
        What was contradictory or not to be believed.
    """

    mpp: Mpp | None
    magnification: Magnification | None
    notes: tuple[str, ...]


def calibrate(
    stated_mpp: Mpp | None,
    stated_magnification: Magnification | None,
    mpp: MppLike | None,
    magnification: float | None,
) -> Calibration:
    """Return the pixel size and power that hold for a slide.

    Parameters
    ----------
    stated_mpp, stated_magnification : Mpp or None, Magnification or None
        What the container says.
    mpp : float or pair of float, optional
        Override of the pixel size at level 0, µm/px. Unless `magnification` is given too,
        it replaces the power as well, so that both ways to ask for a resolution agree.
    magnification : float, optional
        Override of the objective power.

    Raises
    ------
    MetadataError
        If an override can't be a pixel size or power.
    """
    own_mpp = stated_mpp if mpp is None else _as_mpp(mpp)
    own_power = stated_magnification
    if magnification is not None:
        own_power = _as_magnification(magnification)
    elif mpp is not None:
        own_power = None  # derived from the override below
    if own_mpp is None and own_power is not None:
        return _with_derived_mpp(own_power, argued=magnification is not None)
    if own_power is None and own_mpp is not None:
        own_power = Magnification(MPP_TIMES_MAGNIFICATION / own_mpp.mean, f"mpp ({own_mpp.origin})")
    return Calibration(own_mpp, own_power, _contradiction(own_mpp, own_power))


def _with_derived_mpp(power: Magnification, *, argued: bool) -> Calibration:
    try:
        side = MPP_TIMES_MAGNIFICATION / power
        derived = Mpp(side, side, f"magnification ({power.origin})")
    except MetadataError as error:
        if argued:
            raise
        return Calibration(None, power, (f"no pixel size: {error.message}",))
    return Calibration(derived, power, ())


def _contradiction(mpp: Mpp | None, power: Magnification | None) -> tuple[str, ...]:
    if mpp is None or power is None:
        return ()
    product = mpp.mean * power
    if abs(product / MPP_TIMES_MAGNIFICATION - 1) <= CONTRADICTION:
        return ()
    note = (
        f"{mpp.mean:g} µm/px ({mpp.origin}) and {power:g}x ({power.origin}) contradict each "
        f"other: their product is {product:.3g}, not about {MPP_TIMES_MAGNIFICATION:g}; both "
        "are kept, each for resolutions asked in its own unit"
    )
    return (note,)


def _as_mpp(value: MppLike) -> Mpp:
    try:
        pair = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _not_a_number("mpp", value) from error
    if pair.ndim == 0:
        return Mpp(float(pair), float(pair), ARGUMENT)
    if pair.shape != (2,):
        raise _not_a_number("mpp", value)
    return Mpp(float(pair[0]), float(pair[1]), ARGUMENT)


def _as_magnification(value: float) -> Magnification:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise _not_a_number("magnification", value) from error
    return Magnification(number, ARGUMENT)


def _not_a_number(name: str, value: object) -> MetadataError:
    allowed = "a number or a pair (x, y)" if name == "mpp" else "a number"
    return MetadataError(f"{name} must be {allowed}, got {value!r}")
