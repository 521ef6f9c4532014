"""Slides with plans, and stores made from random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsistore.encoders import load_encoder
from wsistore.features.places import SlidePlace
from wsistore.features.records import EncoderRecord
from wsistore.features.schema import TileStatus, unit_count
from wsistore.features.writing import UnitWriter, finish_slide, prepare_cohort, prepare_slide
from wsistore.slides import open_slide
from wsistore.testing import SyntheticSlide
from wsistore.tiles import TilePlan, TileSpec, plan_tiles


@pytest.fixture
def make_plan(slide_factory: Callable[..., SyntheticSlide]) -> Callable[..., TilePlan]:
    """Plan tiles of 64 px: ``make_plan(seed=0, size=(500, 400), stride=64)``."""

    def make(seed: int = 0, size: tuple[int, int] = (500, 400), stride: int = 64) -> TilePlan:
        made = slide_factory(size=size, tile=64, seed=seed, distinct_tiles=6)
        return plan_tiles(open_slide(made.path), TileSpec(64, stride, "20x"))

    return make


@pytest.fixture(scope="session")
def record() -> EncoderRecord:
    """Return what is known of ``colour-stats``."""
    return EncoderRecord.of(load_encoder("colour-stats"))


@dataclass(frozen=True)
class Written:
    """A slide in a store, and what was written."""

    place: SlidePlace
    plan: TilePlan
    features: NDArray[np.float32]
    status: NDArray[np.uint8]


@pytest.fixture
def write_features(
    make_plan: Callable[..., TilePlan], record: EncoderRecord
) -> Callable[..., Written]:
    """Write random features: ``write_features(store, "name", ...)``; tile 3 is damaged."""

    def write(
        store: Path,
        name: str = "a",
        *,
        plan: TilePlan | None = None,
        unit_tiles: int = 10,
        units: int | None = None,
        alone: bool = False,
        seed: int = 0,
    ) -> Written:
        plan = make_plan() if plan is None else plan
        place = (SlidePlace.alone if alone else SlidePlace.in_cohort)(store, name)
        if not alone:
            prepare_cohort(str(store))
        info = prepare_slide(
            place, plan, [record], name=name, fingerprint="print", unit_tiles=unit_tiles
        )
        generator = np.random.default_rng(seed)
        features = generator.normal(size=(len(plan), record.dim)).astype(np.float32)
        status = np.zeros(len(plan), np.uint8)
        status[3:4] = TileStatus.DAMAGED
        writer = UnitWriter(place, info)
        count = unit_count(info.tiles, info.unit_rows)
        for unit in range(count if units is None else units):
            rows = writer.rows(unit)
            writer.write(record.name, unit, features[rows], status[rows])
        if units is None or units == count:
            finish_slide(place, [record.name])
        features[status != 0] = np.nan
        return Written(place, plan, features, status)

    return write
