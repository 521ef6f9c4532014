"""Numbers out of scanners' texts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.slides.metadata import (
    aperio_fields,
    magnification_of_text,
    mpp_of_resolution,
    mpp_of_text,
    parse_number,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.4990", 0.499),
        ("0,4990", 0.499),
        (" 20 ", 20.0),
        ("20.", 20.0),
        (".25", 0.25),
        ("-1", -1.0),
        ("+2.5e-1", 0.25),
        ("2,5E-1", 0.25),
    ],
)
def test_numbers_with_point_or_comma(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "nan", "inf", "-inf", "1e999", "0x10", "1_0", "1.2.3", "1,234.5", "0.5 um", "x",
     "\u0661", "\u00bd", ".", ",", "e5", "--1", "9" * 65],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_numbers_survive_writing(value: float) -> None:
    assert parse_number(repr(value)) == value
    assert parse_number(repr(value).replace(".", ",")) == value


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    value = parse_number(text)
    assert value is None or math.isfinite(value)
    found = mpp_of_text(text, text, "tag")
    assert (found.value is None) == bool(found.notes)
    power = magnification_of_text(text, "tag")
    assert (power.value is None) == bool(power.notes)
    aperio_fields(text)


def test_mpp_of_text_has_an_origin() -> None:
    found = mpp_of_text("0,4990", "0,4990", "aperio.MPP")
    assert found.value == (0.499, 0.499)
    assert found.value is not None
    assert found.value.origin == "aperio.MPP"
    assert found.notes == ()


def test_mpp_of_text_in_another_unit() -> None:
    found = mpp_of_text("250", "500", "ome.PhysicalSizeX", unit=1e-3)
    assert found.value == (0.25, 0.5)


@pytest.mark.parametrize("text", ["0", "-0.5", "0.009", "100.1", "1e300"])
def test_absurd_pixel_sizes_are_left_out_with_a_note(text: str) -> None:
    found = mpp_of_text(text, text, "aperio.MPP")
    assert found.value is None
    (note,) = found.notes
    assert note.startswith(f"aperio.MPP = {text!r} is not used:")
    assert note.endswith("is outside 0.01-100.0 µm/px")


def test_one_absurd_axis_is_enough() -> None:
    found = mpp_of_text("0.5", "0", "ome.PhysicalSizeX")
    assert found.value is None
    assert "'0.5', '0'" in found.notes[0]


@pytest.mark.parametrize("text", ["", "nan", "half"])
def test_what_is_no_number_is_left_out_with_a_note(text: str) -> None:
    assert mpp_of_text(text, text, "aperio.MPP").notes == (
        f"aperio.MPP = {text!r} is not used: not a number",
    )


@pytest.mark.parametrize(
    ("x", "y", "unit", "expected"),
    [
        ((22123, 1), (22123, 1), 3, 10000 / 22123),
        ((50800, 1), (50800, 1), 2, 0.5),
        ((162075, 16), (162075, 16), 3, 0.98719728520746564),
        ((96, 1), (25400, 1), 2, None),  # one axis may well be 96, and is absurd then
    ],
)
def test_mpp_of_resolution(
    x: tuple[int, int], y: tuple[int, int], unit: int, expected: float | None
) -> None:
    found = mpp_of_resolution(x, y, unit)
    if expected is None:
        assert "outside" in found.notes[0]
    else:
        assert found.value == pytest.approx((expected, expected), rel=1e-12)
        assert found.value is not None
        assert found.value.origin == "tiff.XResolution"


@pytest.mark.parametrize(
    ("x", "y", "unit", "note"),
    [
        ((1, 1), (1, 1), 1, "no unit of length"),
        ((40000, 1), (40000, 1), 1, "no unit of length"),
        ((40000, 1), (40000, 1), 77, "no unit of length"),
        ((1, 1), (1, 1), 3, "default"),
        ((1, 1), (1, 1), 2, "default"),
        ((72, 1), (72, 1), 2, "default"),
        ((960, 10), (960, 10), 2, "default"),
        ((0, 1), (0, 1), 3, "not a density"),
        ((1, 0), (1, 0), 3, "not a density"),
        ((3, 1), (3, 1), 3, "outside"),
        ((2**32 - 1, 1), (2**32 - 1, 1), 3, "outside"),
    ],
)
def test_resolutions_that_say_nothing(
    x: tuple[int, int], y: tuple[int, int], unit: int, note: str
) -> None:
    found = mpp_of_resolution(x, y, unit)
    assert found.value is None
    assert note in found.notes[0]


def test_no_resolution_needs_no_note() -> None:
    assert mpp_of_resolution(None, (1, 1), 3) == (None, ())
    assert mpp_of_resolution((1, 1), None, 3) == (None, ())


@pytest.mark.parametrize(("text", "value"), [("20", 20.0), ("40x", 40.0), ("1,25 X", 1.25)])
def test_magnification_of_text(text: str, value: float) -> None:
    found = magnification_of_text(text, "aperio.AppMag")
    assert found.value == value
    assert found.value is not None
    assert found.value.origin == "aperio.AppMag"


@pytest.mark.parametrize(
    ("text", "note"),
    [("0", "outside 0.1-1000"), ("-20", "outside"), ("1001", "outside"), ("high", "not a number")],
)
def test_absurd_magnifications_are_left_out(text: str, note: str) -> None:
    found = magnification_of_text(text, "aperio.AppMag")
    assert found.value is None
    assert f"aperio.AppMag = {text!r} is not used" in found.notes[0]
    assert note in found.notes[0]


def test_aperio_fields() -> None:
    text = "Aperio v1 \r\n100x50 (240x240) Q=30|AppMag = 20|Filename=a=b|W = 1|W = 2|junk| = 3|E ="
    assert aperio_fields(text) == {"AppMag": "20", "Filename": "a=b", "W": "2", "E": ""}
    assert aperio_fields("Aperio, no fields: a = b") == {}
