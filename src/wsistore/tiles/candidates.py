"""Candidate patches of many slides, from grids, masks or given places."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.slides.resolving import ResolutionLike
from wsistore.tiles.grids import Last
from wsistore.tiles.handles import SlideCache, default_cache
from wsistore.tiles.lattice import axis_positions, tile_geometry
from wsistore.tiles.model import SlideLike, as_size
from wsistore.tiles.spec import TileSpec

if TYPE_CHECKING:
    from wsistore.tissue import TissueMask

Pixels = NDArray[np.bool_]
ROUNDING = 1e-6
"""Px by which a length may exceed a whole number through rounding alone."""


@dataclass(frozen=True, eq=False)
class TileIndex:
    """Candidate patches of some slides, a row each.

    Make one with `from_positions`, `from_grids` or `from_masks`.

    Parameters
    ----------
    slides : tuple of Slide, str or PathLike
        The slides.
    slide : (n,) int32
        Which of them each candidate lies on.
    x, y : (n,) int64
        Top-left corners in level-0 px.
    weight : (n,) float64, optional
        How likely each candidate is against the others; all alike where not given.
    label : (n,) int64, optional
        Class of each candidate; a negative one is no class.
    spread : (slides, 2) float64, optional
        A drawn patch is moved right and down, anew in each epoch, by less than this many
        level-0 px in x and y, as its slide says; patches stay in place where not given.

    Raises
    ------
    wsistore.errors.UsageError
        If columns don't fit together, or hold what they can't.
    """

    slides: tuple[SlideLike, ...]
    slide: NDArray[np.int32]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None
    label: NDArray[np.int64] | None = None
    spread: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check that columns fit together."""
        count = len(self.x)
        for name, kinds in (
            ("slide", "iu"),
            ("x", "iu"),
            ("y", "iu"),
            ("weight", "f"),
            ("label", "iu"),
        ):
            column = getattr(self, name)
            if column is None:
                continue
            if column.shape != (count,) or column.dtype.kind not in kinds:
                expected = "floats" if kinds == "f" else "integers"
                raise UsageError(
                    f"column {name} has shape {column.shape} and dtype {column.dtype}, expected "
                    f"({count},) {expected}"
                )
        if count and not 0 <= int(self.slide.min()) <= int(self.slide.max()) < len(self.slides):
            raise UsageError(f"column slide must hold indexes below {len(self.slides)}")
        weight, spread = self.weight, self.spread
        if weight is not None and not bool(np.all(np.isfinite(weight) & (weight >= 0))):
            raise UsageError("weights must be finite and not negative")
        if spread is not None and (
            spread.shape != (len(self.slides), 2) or bool((spread < 0).any())
        ):
            raise UsageError(f"spread must be ({len(self.slides)}, 2) and not negative")

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def from_positions(
        cls,
        positions: Sequence[tuple[SlideLike, ArrayLike]],
        *,
        weights: Sequence[ArrayLike] | None = None,
        labels: Sequence[ArrayLike] | None = None,
    ) -> TileIndex:
        """Return the candidates at given places.

        Parameters
        ----------
        positions : sequence of (slide, (n, 2) array_like of int)
            Top-left corners in level-0 px, per slide.
        weights, labels : sequence of array_like, optional
            Per slide one value, or one per candidate.

        Raises
        ------
        wsistore.errors.UsageError
            If a place is not two whole px, or values don't fit the places.
        """
        places = [_places(array) for _, array in positions]
        counts = [len(place) for place in places]
        joined = np.concatenate([*places, np.zeros((0, 2), np.int64)])
        return cls(
            slides=tuple(slide for slide, _ in positions),
            slide=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            x=joined[:, 0].copy(),
            y=joined[:, 1].copy(),
            weight=_column("weights", weights, counts, np.float64),
            label=_column("labels", labels, counts, np.int64),
        )

    @classmethod
    def from_grids(
        cls,
        slides: Sequence[SlideLike],
        size: int | Sequence[int],
        resolution: ResolutionLike,
        *,
        stride: int | Sequence[int] | None = None,
        last: Last = "drop",
        masks: Sequence[TissueMask | Pixels | None] | None = None,
        coverage: float = 0.5,
        weights: Sequence[float] | None = None,
        labels: Sequence[int] | None = None,
        cache: SlideCache | None = None,
    ) -> TileIndex:
        """Return the candidates of a regular grid over each slide.

        The lattice is computed in whole level-0 px, on the part of a slide that the
        resolution has whole px of.

        Parameters
        ----------
        slides : sequence of Slide, str or PathLike
            Paths are opened to learn the sizes of the slides.
        size : int or (width, height)
            Size of the patches in px at the resolution.
        resolution : Resolution, str or int
            As in `wsistore.read_tiles`.
        stride : int or (x, y), optional
            Distance of patches in px at the resolution; their size where not given.
        last : {"drop", "keep", "shift"}
            What becomes of patches that reach over the right and bottom edges; see
            `wsistore.tiles.grids.axis_starts`.
        masks : sequence of TissueMask, (h, w) bool or None, optional
            Per slide a mask that covers all of it, or None to take all of its patches.
        coverage : float
            Smallest share of a patch that its mask must cover, above 0 and up to 1.
        weights, labels : sequence of float, int, optional
            One per slide.
        cache : SlideCache, optional
            Opened slides to use; the process's own where not said.

        Raises
        ------
        wsistore.errors.UsageError, wsistore.errors.ResolutionError
            If an argument makes no sense, or a slide lacks the resolution.
        wsistore.errors.WsistoreError
            If a slide can't be opened.
        """
        cache = default_cache() if cache is None else cache
        patch = as_size(size)
        step = patch if stride is None else as_size(stride)
        if not 0 < coverage <= 1:
            raise UsageError(f"coverage must be above 0 and at most 1, got {coverage!r}")
        positions = []
        for slide, mask in zip(slides, _masks(masks, len(slides)), strict=True):
            opened = cache.get(slide)
            places, footprint = _lattice(opened, patch, resolution, step, last)
            if mask is not None:
                boxes = np.hstack([places, np.broadcast_to(footprint, places.shape)])
                share = _as_mask(mask, opened).coverage(boxes)
                places = places[share >= coverage - ROUNDING]
            positions.append((slide, places))
        return cls.from_positions(positions, weights=weights, labels=labels)

    @classmethod
    def from_masks(
        cls,
        slides: Sequence[SlideLike],
        masks: Sequence[TissueMask | Pixels],
        size: int | Sequence[int],
        resolution: ResolutionLike,
        *,
        weights: Sequence[ArrayLike] | None = None,
        labels: Sequence[ArrayLike] | None = None,
        cache: SlideCache | None = None,
    ) -> TileIndex:
        """Return candidates whose centres are spread evenly over tissue.

        Every true px of a mask is a candidate, and a drawn patch's centre lies anywhere in
        that px, elsewhere in each epoch, so that all of a slide's tissue is equally likely.

        Parameters
        ----------
        slides : sequence of Slide, str or PathLike
            Paths are opened to learn the sizes of the slides.
        masks : sequence of TissueMask or (h, w) bool
            Per slide a mask that covers all of it.
        size : int or (width, height)
            Size of the patches in px at the resolution.
        resolution : Resolution, str or int
            As in `wsistore.read_tiles`.
        weights, labels : sequence of array_like, optional
            Per slide one value, or one per true px in row order.
        cache : SlideCache, optional
            Opened slides to use; the process's own where not said.

        Raises
        ------
        wsistore.errors.WsistoreError
            As `from_grids`.
        """
        cache = default_cache() if cache is None else cache
        patch = as_size(size)
        positions = []
        spread = np.ones((len(slides), 2))
        for number, (slide, mask) in enumerate(
            zip(slides, _masks(masks, len(slides)), strict=True)
        ):
            if mask is None:
                raise UsageError(f"slide {number} has no mask")
            opened = cache.get(slide)
            downsample = opened.resolve(resolution).downsample
            tissue = _as_mask(mask, opened)
            spread[number] = tissue.downsample
            centre = np.argwhere(tissue.pixels)[:, ::-1] * spread[number]
            corner = np.floor(centre - np.array(patch) * downsample / 2)
            positions.append((slide, corner.astype(np.int64)))
        index = cls.from_positions(positions, weights=weights, labels=labels)
        return replace(index, spread=spread)

    def take(self, rows: ArrayLike) -> TileIndex:
        """Return an index of some of the candidates, over the same slides.

        Parameters
        ----------
        rows : (m,) int or (n,) bool
            Which ones: row numbers, or a choice.
        """
        chosen = np.asarray(rows)
        return replace(
            self,
            slide=self.slide[chosen],
            x=self.x[chosen],
            y=self.y[chosen],
            weight=None if self.weight is None else self.weight[chosen],
            label=None if self.label is None else self.label[chosen],
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all columns and the slides' names (not folders), 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for name in ("slide", "x", "y", "weight", "label", "spread"):
            column = getattr(self, name)
            digest.update(b"|" if column is None else name.encode() + _bytes(column))
        for slide in self.slides:
            path = slide.path if isinstance(slide, Slide) else os.fspath(slide)
            digest.update(b"/" + path.rstrip("/").rpartition("/")[2].encode())
        return digest.hexdigest()[:16]


def _bytes(column: NDArray[Any]) -> bytes:
    kind = "<f8" if column.dtype.kind == "f" else "<i8"
    return np.ascontiguousarray(column, dtype=kind).tobytes()


def _places(array: ArrayLike) -> NDArray[np.int64]:
    places = np.asarray(array)
    if places.size == 0:
        return np.zeros((0, 2), np.int64)
    if places.ndim != 2 or places.shape[1] != 2 or places.dtype.kind not in "iu":
        raise UsageError(
            f"places must be (n, 2) whole level-0 px, got {places.shape} of {places.dtype}"
        )
    return places.astype(np.int64)


def _column(
    name: str, values: Sequence[ArrayLike] | None, counts: Sequence[int], dtype: type
) -> NDArray[Any] | None:
    if values is None:
        return None
    if len(values) != len(counts):
        raise UsageError(f"{name} are given for {len(values)} slides, expected {len(counts)}")
    columns: list[NDArray[Any]] = [np.zeros(0, dtype)]
    for number, (value, count) in enumerate(zip(values, counts, strict=True)):
        found: NDArray[Any] = np.asarray(value, dtype)
        if found.shape not in ((), (count,)):
            raise UsageError(
                f"{name} of slide {number} have shape {found.shape}, expected () or ({count},)"
            )
        columns.append(np.broadcast_to(found, (count,)))
    return np.concatenate(columns)


def _masks(
    masks: Sequence[TissueMask | Pixels | None] | None, count: int
) -> Sequence[TissueMask | Pixels | None]:
    if masks is None:
        return [None] * count
    if len(masks) != count:
        raise UsageError(f"masks are given for {len(masks)} slides, expected {count}")
    return masks


def _as_mask(mask: TissueMask | Pixels, slide: Slide) -> TissueMask:
    # Not above: most users of this module have no masks, and segmenters take long to import.
    from wsistore.tissue import TissueMask

    if not isinstance(mask, TissueMask):
        return TissueMask(mask, slide.size)
    if mask.slide_size != slide.size:
        raise UsageError(
            f"the mask is of a slide of {tuple(mask.slide_size)} px, {slide.name} has "
            f"{tuple(slide.size)} px"
        )
    return mask


def _lattice(
    slide: Slide, patch: Size, resolution: ResolutionLike, step: Size, last: Last
) -> tuple[NDArray[np.int64], Size]:
    """Return the corners of a grid and the size of a patch, both in level-0 px.

    They are where a plan of the same spec has its tiles.
    """
    geometry = tile_geometry(slide, TileSpec(patch, step, resolution))
    columns, rows = np.meshgrid(*(axis_positions(geometry, axis, last) for axis in (0, 1)))
    return np.stack([columns.reshape(-1), rows.reshape(-1)], axis=1), geometry.size_level0
