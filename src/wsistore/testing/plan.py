"""What was asked of `write_slide`, checked and put in order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from wsistore.geometry import Size, ceil_div
from wsistore.testing.encode import FIXTURE_TILE
from wsistore.testing.slide import Kind
from wsistore.testing.source import Edge, Source
from wsistore.testing.variants import VARIANTS, Variant

Order = Literal["rows", "shuffled"]


def plan_source(
    size: tuple[int, int], tile: int, seed: int, edge: Edge, distinct: int | None
) -> Source:
    """Return the scene of a slide; ValueError where an argument makes none."""
    period = None
    if distinct is not None:
        if distinct < 1:
            raise ValueError(f"distinct_tiles must be at least 1, got {distinct}")
        across = math.isqrt(distinct)
        period = (across, distinct // across)
    if edge not in get_args(Edge):
        raise ValueError(f"edge must be one of {get_args(Edge)}, got {edge!r}")
    return Source(Size(*size), tile, seed, edge, period)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arguments of `write_slide`, put in order."""

    path: Path
    variant_name: str
    source: Source
    levels: tuple[int, ...]
    quality: int
    magnification: str | None
    mpp: str | None
    wanted: tuple[str, ...]
    big: bool
    gap: int
    missing: frozenset[tuple[int, int, int]]
    icc_profile: bytes | None
    order: Order
    kind: Kind

    @property
    def variant(self) -> Variant:
        """How tiles are encoded."""
        return VARIANTS[self.variant_name]

    def level_size(self, level: int) -> Size:
        """Return the size of a level, in px of that level."""
        size, downsample = self.source.size, self.levels[level]
        return Size(size.width // downsample, size.height // downsample)

    def grid(self, level: int) -> tuple[int, int]:
        """Return the (columns, rows) of tiles of a level."""
        size = self.level_size(level)
        return ceil_div(size.width, self.source.tile), ceil_div(size.height, self.source.tile)

    def check(self) -> None:
        """Raise ValueError on arguments that can't be written."""
        if self.variant_name not in VARIANTS:
            raise ValueError(f"no variant {self.variant_name!r}; see wsistore.testing.VARIANTS")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        if self.order not in get_args(Order):
            raise ValueError(f"order must be one of {get_args(Order)}, got {self.order!r}")
        if self.source.tile < 16 or self.source.tile % 16:
            raise ValueError(f"tile must be a multiple of 16 px, got {self.source.tile}")
        if not self.levels or self.levels[0] != 1 or sorted(set(self.levels)) != list(self.levels):
            raise ValueError(f"levels must ascend from 1, got {self.levels}")
        for level in range(len(self.levels)):
            if min(self.level_size(level)) < 1:
                raise ValueError(f"level {level} of a slide of {self.source.size} has no pixels")
        subsampled = self.variant.codec == "jpeg2000" and self.variant.subsampling != (1, 1)
        if subsampled and self.source.tile != FIXTURE_TILE:
            raise ValueError(f"{self.variant_name} has tiles of {FIXTURE_TILE} px only")
        self._check_missing()

    def _check_missing(self) -> None:
        for level, column, row in self.missing:
            columns, rows = self.grid(level) if 0 <= level < len(self.levels) else (0, 0)
            if not (0 <= column < columns and 0 <= row < rows):
                raise ValueError(f"missing names a tile that isn't there: {(level, column, row)}")
