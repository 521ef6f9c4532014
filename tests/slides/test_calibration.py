"""Pixel size and power: precedence, derivation, contradiction, absurd overrides."""

from __future__ import annotations

from typing import Any

import pytest

from wsistore.errors import MetadataError
from wsistore.geometry import Magnification, Mpp
from wsistore.slides.calibration import calibrate

MPP = Mpp(0.5, 0.5, "aperio.MPP")
POWER = Magnification(20, "aperio.AppMag")


@pytest.mark.parametrize(
    ("stated", "given", "mpp", "mpp_origin", "power", "power_origin"),
    [
        ((MPP, POWER), (None, None), 0.5, "aperio.MPP", 20, "aperio.AppMag"),
        ((MPP, None), (None, None), 0.5, "aperio.MPP", 20, "mpp (aperio.MPP)"),
        ((None, POWER), (None, None), 0.5, "magnification (aperio.AppMag)", 20, "aperio.AppMag"),
        ((MPP, POWER), (0.25, None), 0.25, "argument", 40, "mpp (argument)"),
        ((None, None), (0.25, None), 0.25, "argument", 40, "mpp (argument)"),
        ((MPP, POWER), (0.25, 63), 0.25, "argument", 63, "argument"),
        ((MPP, POWER), (None, 22), 0.5, "aperio.MPP", 22, "argument"),
        ((None, POWER), (None, 40), 0.25, "magnification (argument)", 40, "argument"),
        ((None, None), (None, 40), 0.25, "magnification (argument)", 40, "argument"),
    ],
)
def test_precedence_and_derivation(
    stated: tuple[Any, Any],
    given: tuple[Any, Any],
    mpp: float,
    mpp_origin: str,
    power: float,
    power_origin: str,
) -> None:
    found = calibrate(*stated, *given)
    assert found.mpp is not None
    assert found.magnification is not None
    assert (found.mpp, found.mpp.origin) == ((mpp, mpp), mpp_origin)
    assert (found.magnification, found.magnification.origin) == (power, power_origin)


def test_nothing_is_invented() -> None:
    found = calibrate(None, None, None, None)
    assert (found.mpp, found.magnification, found.notes) == (None, None, ())


def test_a_pair_is_kept_and_its_mean_makes_the_power() -> None:
    found = calibrate(None, None, (0.2, 0.3), None)
    assert found.mpp == (0.2, 0.3)
    assert found.magnification == pytest.approx(40)


@pytest.mark.parametrize(
    ("side", "noted"), [(0.5, False), (0.6, False), (0.4, False), (0.64, True), (0.25, True)]
)
def test_a_contradiction_beyond_a_quarter_is_noted_and_both_are_kept(
    side: float, noted: bool
) -> None:
    found = calibrate(Mpp(side, side, "tiff.XResolution"), POWER, None, None)
    assert (found.mpp, found.magnification) == ((side, side), 20)
    assert bool(found.notes) is noted
    assert all("tiff.XResolution" in note and "aperio.AppMag" in note for note in found.notes)


def test_a_stated_power_that_makes_no_pixel_size_is_noted() -> None:
    found = calibrate(None, Magnification(0.01, "tag"), None, None)
    assert found.mpp is None
    assert "no pixel size" in found.notes[0]


@pytest.mark.parametrize(
    "mpp",
    [
        0,
        -1,
        0.001,
        1000,
        float("nan"),
        float("inf"),
        "wide",
        (1, 2, 3),
        (0.5,),
        (0.5, -1),
        {},
        [[1]],
    ],
)
def test_absurd_pixel_sizes_are_refused(mpp: Any) -> None:
    with pytest.raises(MetadataError):
        calibrate(MPP, POWER, mpp, None)


@pytest.mark.parametrize("power", [0, -20, float("nan"), float("inf"), "x", (1, 2), 0.001])
def test_absurd_powers_are_refused(power: Any) -> None:
    with pytest.raises(MetadataError):
        calibrate(None, None, None, power)
