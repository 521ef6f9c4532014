"""Which level serves a resolution: tables for the rules, properties for the arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import MetadataError, ResolutionError
from wsistore.geometry import Magnification, Mpp, Resolution, Size
from wsistore.slides.model import Level
from wsistore.slides.resolving import TOLERANCE, as_resolution, resolve


def _levels(*downsamples: float) -> list[Level]:
    return [
        Level(i, Size(int(1e5 / d), int(1e5 / d)), d, None, None) for i, d in enumerate(downsamples)
    ]


QUARTER = Mpp(0.25, 0.25, "test")
POWER = Magnification(40, "test")


@pytest.mark.parametrize(
    ("resolution", "level", "downsample", "factor"),
    [
        ("0.25mpp", 0, 1.0, 1.0),
        ("0.252mpp", 0, 1.0, 1.0),  # within 1 %: the level itself
        ("0.248mpp", 0, 1.0, 1.0),
        ("0.2526mpp", 0, 1.0104, 1.0104),  # beyond
        ("0.5mpp", 0, 2.0, 2.0),
        ("0.99mpp", 0, 3.96, 3.96),  # exactly 1 % below level 1 is beyond: 4 / 3.96 > 1.01
        ("0.991mpp", 1, 4.0, 1.0),
        ("1mpp", 1, 4.0, 1.0),
        ("1.01mpp", 1, 4.0, 1.0),
        ("2mpp", 1, 8.0, 2.0),
        ("4mpp", 2, 16.0, 1.0),
        ("100mpp", 2, 400.0, 25.0),
        ("40x", 0, 1.0, 1.0),
        ("20x", 0, 2.0, 2.0),
        ("10x", 1, 4.0, 1.0),
        ("2.5x", 2, 16.0, 1.0),
        ("level:1", 1, 4.0, 1.0),
    ],
)
def test_a_table_of_choices(resolution: str, level: int, downsample: float, factor: float) -> None:
    found = resolve(_levels(1, 4, 16), QUARTER, POWER, Resolution.parse(resolution))
    assert found.level == level
    assert found.downsample == pytest.approx(downsample, rel=1e-12)
    assert found.factor == pytest.approx(factor, rel=1e-12)


@given(
    downsamples=st.lists(st.floats(1.05, 64), max_size=5, unique=True),
    wanted=st.floats(0.02, 500),
    unit=st.sampled_from(["mpp", "magnification"]),
    side=st.floats(0.1, 2),
)
def test_the_deepest_level_that_is_not_coarser_is_taken(
    downsamples: list[float], wanted: float, unit: str, side: float
) -> None:
    levels = _levels(1.0, *sorted(downsamples))
    mpp, power = Mpp(side, side, "test"), Magnification(10 / side, "test")
    asked = (
        Resolution.mpp(wanted * side)
        if unit == "mpp"
        else Resolution.magnification(10 / side / wanted)
    )
    if wanted * (1 + TOLERANCE) < 1 - 1e-9:
        with pytest.raises(ResolutionError, match="no "):
            resolve(levels, mpp, power, asked)
        found = resolve(levels, mpp, power, asked, allow_upsample=True)
        assert found.level == 0
        assert found.factor == pytest.approx(wanted)
        return
    found = resolve(levels, mpp, power, asked)
    assert found.level_downsample == levels[found.level].downsample
    assert found.downsample == pytest.approx(found.level_downsample * found.factor)
    assert found.downsample == pytest.approx(wanted, rel=TOLERANCE * 1.01)
    assert found.level_downsample <= wanted * (1 + TOLERANCE) * (1 + 1e-9)
    deeper = [level for level in levels if level.downsample > found.level_downsample]
    assert all(level.downsample > wanted * (1 + TOLERANCE) * (1 - 1e-9) for level in deeper)
    assert found.factor == 1.0 or found.factor > 1 + TOLERANCE * (1 - 1e-6)


def test_anisotropic_pixels_count_by_their_mean() -> None:
    found = resolve(_levels(1, 2), Mpp(0.2, 0.3, "test"), None, Resolution.mpp(0.5))
    assert (found.level, found.factor) == (1, 1.0)


@pytest.mark.parametrize("unit", ["mpp", "magnification"])
def test_a_slide_without_units_says_what_to_pass(unit: str) -> None:
    with pytest.raises(MetadataError, match=r"open_slide\(path, mpp=\.\.\.\)"):
        resolve(_levels(1), None, None, Resolution(unit, 1.0), name="scan7")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [3, 99])
def test_there_is_no_such_level(index: int) -> None:
    with pytest.raises(ResolutionError, match="levels 0 to 2, there is no"):
        resolve(_levels(1, 2, 4), None, None, Resolution.level(index))


def test_what_is_taken_for_a_resolution() -> None:
    assert as_resolution(2) == Resolution.level(2)
    assert as_resolution("0.5mpp") == Resolution.mpp(0.5)
    assert as_resolution(Resolution.magnification(5)) == Resolution.magnification(5)


@pytest.mark.parametrize("value", [0.5, True, None, "half", "-1x", -1, (1, 2)])
def test_what_is_not_taken_for_a_resolution(value: object) -> None:
    with pytest.raises(ResolutionError):
        as_resolution(value)  # type: ignore[arg-type]
