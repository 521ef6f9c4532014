"""Mega-tiles: blocks of neighbouring tiles, of which enough are valid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.tiles.model import SlideLike
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import MIN_TISSUE, plan_tiles
from wsistore.tiles.provenance import Rule
from wsistore.tiles.spec import TileSpec
from wsistore.tissue import TissueMask


class GridLayout(StrEnum):
    """How the tiles of a mega-tile lie; equal to the layouts of `TileSpec`."""

    RECTANGULAR = "rectangular"
    HEXAGONAL = "hexagonal"


@dataclass(frozen=True, slots=True)
class MegaTileSpec:
    """Which blocks of tiles are wanted.

    Parameters
    ----------
    megatile_shape : (rows, columns)
        Tiles in a block.
    tile_spec : TileSpec
        Of the tiles; its layout gives way to `grid_layout`.
    grid_layout : {"rectangular", "hexagonal"}
        Hexagonal: odd rows of the slide's lattice are shifted right by half a tile.
    megatile_stride : (rows, columns), optional
        Tiles from block to block; `megatile_shape` where not said.
    min_valid_tiles_ratio : float
        Least fraction of a block's tiles that are valid, 0 to 1.
    max_valid_tiles_ratio : float, optional
        Largest such fraction.

    Raises
    ------
    wsistore.errors.UsageError
        If a value makes no sense.
    """

    megatile_shape: tuple[int, int]
    tile_spec: TileSpec
    grid_layout: GridLayout = GridLayout.RECTANGULAR
    megatile_stride: tuple[int, int] | None = None
    min_valid_tiles_ratio: float = 0.5
    max_valid_tiles_ratio: float | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("megatile_shape", "megatile_stride"):
            pair = getattr(self, name)
            if pair is not None and (len(pair) != 2 or any(int(n) != n or n < 1 for n in pair)):
                raise UsageError(f"{name} is (rows, columns) of at least 1 tile, got {pair!r}")
        most = 1.0 if self.max_valid_tiles_ratio is None else self.max_valid_tiles_ratio
        if not 0 <= self.min_valid_tiles_ratio <= most <= 1:
            raise UsageError(
                "valid tiles ratios must be 0 <= min <= max <= 1, got "
                f"{self.min_valid_tiles_ratio!r} and {self.max_valid_tiles_ratio!r}"
            )
        if self.grid_layout not in set(GridLayout):
            raise UsageError(f"grid_layout is rectangular or hexagonal, got {self.grid_layout!r}")

    @property
    def stride(self) -> tuple[int, int]:
        """Tiles from block to block along rows and columns."""
        return self.megatile_stride or self.megatile_shape

    @property
    def tiles(self) -> TileSpec:
        """Spec of the tiles, in the layout of the blocks."""
        told = self.tile_spec.to_dict() | {"layout": str(self.grid_layout)}
        return TileSpec.from_dict(told)


@dataclass(frozen=True, eq=False)
class MegaTilePlan:
    """Blocks of tiles of a slide, a row each, by rows and then columns.

    Parameters
    ----------
    plan : TilePlan
        The tiles of all blocks, valid or not, each once; column ``valid`` tells which are.
    row, column : (m,) int32
        Place of each block's first tile in the lattice.
    valid_ratio : (m,) float64
        Fraction of the block's tiles that are valid.
    members : (m, rows, columns) int64
        Rows of `plan`; -1 where the lattice has no tile (the end of an odd row of a
        hexagonal layout), which counts as not valid.
    """

    plan: TilePlan
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    valid_ratio: NDArray[np.float64]
    members: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


class MegaTileExtractor:
    """Finds blocks of neighbouring tiles with enough tissue.

    Parameters
    ----------
    spec : MegaTileSpec
        Shape, stride, layout and limits.
    mask : TissueMask or (h, w) array, optional
        Where tissue is; without, every tile is valid.
    mask_threshold : float
        Least fraction of a valid tile's area that is tissue.
    max_megatiles : int, optional
        Most blocks: those with the largest fraction of valid tiles, and of equal ones those
        that come first by rows and columns.

    Raises
    ------
    wsistore.errors.UsageError
        If `max_megatiles` or `mask_threshold` makes no sense.
    """

    def __init__(
        self,
        spec: MegaTileSpec,
        mask: TissueMask | NDArray[Any] | None = None,
        *,
        mask_threshold: float = MIN_TISSUE,
        max_megatiles: int | None = None,
    ) -> None:
        if max_megatiles is not None and max_megatiles < 1:
            raise UsageError(f"max_megatiles must be at least 1, got {max_megatiles!r}")
        if not 0 <= mask_threshold <= 1:
            raise UsageError(f"mask_threshold is a fraction from 0 to 1, got {mask_threshold!r}")
        self.spec = spec
        self.mask = mask
        self.mask_threshold = mask_threshold
        self.max_megatiles = max_megatiles

    def extract(self, slide: SlideLike) -> MegaTilePlan:
        """Return the blocks of a slide.

        Raises
        ------
        wsistore.errors.WsistoreError
            As `wsistore.plan_tiles`.
        """
        least = None if self.mask is None else 0.0
        tiles = plan_tiles(slide, self.spec.tiles, self.mask, min_tissue=least)
        valid = np.ones(len(tiles), np.bool_)
        if self.mask is not None:
            valid = tiles.tissue_ratio >= np.float32(self.mask_threshold)
        return self.choose(tiles.with_columns(valid=valid))

    def choose(self, tiles: TilePlan) -> MegaTilePlan:
        """Return the blocks of a plan of all tiles, by its column ``valid``."""
        index, counts = _lattices(tiles)
        shape, stride = self.spec.megatile_shape, self.spec.stride
        starts = [
            np.arange(0, max(0, length - side + 1), step)
            for length, side, step in zip(index.shape, shape, stride, strict=True)
        ]
        row, column = (grid.ravel() for grid in np.meshgrid(*starts, indexing="ij"))
        inside = _window_sums(counts, row, column, shape)
        ratio = inside / (shape[0] * shape[1])
        chosen = np.flatnonzero(self._within_limits(ratio))
        if self.max_megatiles is not None:
            best = np.argsort(-ratio[chosen], kind="stable")[: self.max_megatiles]
            chosen = np.sort(chosen[best])
        row, column = row[chosen], column[chosen]
        down, right = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
        members = index[row[:, None, None] + down, column[:, None, None] + right]
        used = np.unique(members[members >= 0])
        places = np.searchsorted(used, members)
        told = Rule("mega-tiles", self._parameters(), len(tiles), len(tiles) - len(used))
        return MegaTilePlan(
            replace(tiles[used], rules=(*tiles.rules, told)),
            row.astype(np.int32),
            column.astype(np.int32),
            ratio[chosen],
            np.where(members >= 0, places, -1),
        )

    def _within_limits(self, ratio: NDArray[np.float64]) -> NDArray[np.bool_]:
        most = self.spec.max_valid_tiles_ratio
        kept = ratio >= self.spec.min_valid_tiles_ratio
        return kept if most is None else kept & (ratio <= most)

    def _parameters(self) -> dict[str, Any]:
        return {
            "shape": list(self.spec.megatile_shape),
            "stride": list(self.spec.stride),
            "min_valid_tiles_ratio": self.spec.min_valid_tiles_ratio,
            "max_valid_tiles_ratio": self.spec.max_valid_tiles_ratio,
            "max_megatiles": self.max_megatiles,
            "mask_threshold": self.mask_threshold,
        }


def _lattices(tiles: TilePlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row numbers by place (-1 where no tile is), and the integral image of valid."""
    if len(tiles) == 0:
        return np.full((0, 0), -1, np.int64), np.zeros((1, 1), np.int64)
    rows, columns = int(tiles.row.max()) + 1, int(tiles.column.max()) + 1
    index = np.full((rows, columns), -1, np.int64)
    index[tiles.row, tiles.column] = np.arange(len(tiles))
    sums = np.zeros((rows + 1, columns + 1), np.int64)
    sums[tiles.row + 1, tiles.column + 1] = tiles.extras["valid"]
    return index, sums.cumsum(axis=0).cumsum(axis=1)


def _window_sums(
    sums: NDArray[np.int64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    shape: tuple[int, int],
) -> NDArray[np.int64]:
    bottom, right = row + shape[0], column + shape[1]
    found: NDArray[np.int64] = (
        sums[bottom, right] - sums[row, right] - sums[bottom, column] + sums[row, column]
    )
    return found
