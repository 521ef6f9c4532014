"""Which sizes are reduced copies of which."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.geometry import Size
from wsistore.slides.tiff.pyramid import is_reduced_copy

SIDES = st.integers(1, 300_000)


@given(
    SIDES,
    SIDES,
    st.sampled_from([2, 3, 4, 8, 16, 32, 64]),
    st.sampled_from(["floor", "ceil", "round"]),
)
def test_rounded_levels_are_copies(width: int, height: int, factor: int, rounding: str) -> None:
    function = {"floor": math.floor, "ceil": math.ceil, "round": round}[rounding]
    full = Size(width, height)
    reduced = Size(max(1, function(width / factor)), max(1, function(height / factor)))
    if reduced != full:
        assert is_reduced_copy(full, reduced)


@given(SIDES, SIDES, SIDES, SIDES)
def test_no_copy_is_larger(width: int, height: int, other: int, another: int) -> None:
    full, reduced = Size(width, height), Size(other, another)
    if is_reduced_copy(full, reduced):
        assert reduced.width <= width
        assert reduced.height <= height
        assert not is_reduced_copy(reduced, full)


@pytest.mark.parametrize(
    ("full", "reduced"),
    [
        ((46000, 32914), (46000, 32914)),
        ((46000, 32914), (32914, 46000)),
        ((46000, 32914), (1024, 1024)),
        ((46000, 32914), (11500, 8000)),
        ((46000, 32914), (50000, 4000)),
        ((46000, 32914), (387, 463)),
        ((46000, 32914), (1280, 431)),
    ],
)
def test_impostors(full: tuple[int, int], reduced: tuple[int, int]) -> None:
    assert not is_reduced_copy(Size(*full), Size(*reduced))


def test_levels_are_sorted_and_impostors_named(tiffs: Any) -> None:
    container = tiffs.open(
        tiffs.tiled_page(400, 300),
        tiffs.tiled_page(50, 37),
        tiffs.tiled_page(200, 150),
        tiffs.tiled_page(200, 150),
        tiffs.tiled_page(300, 300),
        tiffs.striped_page(100, 75, t254=(4, 1)),
    )
    assert [level.size for level in container.levels] == [(400, 300), (200, 150), (50, 37)]
    assert [level.downsample for level in container.levels] == [1, 2, 8]
    assert all(level.tile_size == (32, 32) for level in container.levels)
    notes = "\n".join(container.notes)
    assert "IFD 3 is left out: 200x150 px is no reduced copy of 200x150 px" in notes
    assert "IFD 4 is left out: 300x300 px" in notes
    assert "IFD 5 is left out: a reduced image in strips" in notes
    assert len(container.notes) == 3
