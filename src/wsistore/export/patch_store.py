"""Reading patches back, whatever store they lie in: by slide, by set, by key, in batches.

`open_patches` opens a store of any kind. Each kind is a `PatchStore` of its own module:
`wsistore.export.lmdb_reader`, `patches_hdf5`, `images` and `tar_reader`.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.export.patches import Patch, plan_labels
from wsistore.tiles.plan import TilePlan

_KEY = re.compile(r"(.+)_x(-?\d+)_y(-?\d+)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class PatchTable:
    """Which patches there are of a slide.

    Parameters
    ----------
    x, y : (n,) int64
        Top-left corners in level-0 px; -1 where the store does not tell.
    column, row : (n,) int64
        Places in the lattice; -1 where unknown.
    label : (n,) int64
        Classes; -1 where there is none.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    column: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]

    @classmethod
    def of(cls, plan: TilePlan) -> Self:
        """Return the table of a plan."""
        column, row = plan.column.astype(np.int64), plan.row.astype(np.int64)
        return cls(plan.x, plan.y, column, row, plan_labels(plan))

    def __len__(self) -> int:
        return len(self.x)


class PatchStore(ABC):
    """Patches of slides, opened for reading; close it, or use a ``with`` statement.

    Attributes
    ----------
    slides : tuple of str
        Names of the slides that are wholly stored, sorted.
    label_map : mapping of str to int
        Names of the classes; empty where the store does not tell.
    """

    slides: tuple[str, ...]
    label_map: Mapping[str, int]

    @abstractmethod
    def table(self, slide: str) -> PatchTable:
        """Return which patches there are of a slide."""

    @abstractmethod
    def patch(self, slide: str, index: int) -> Patch:
        """Return one patch of a slide, by its place in `table`."""

    @abstractmethod
    def close(self) -> None:
        """Give back files; reading afterwards is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(len(self.table(slide)) for slide in self.slides)

    def check_slide(self, slide: str) -> None:
        """Raise `UsageError` if there is no such slide."""
        if slide not in self.slides:
            some = ", ".join(self.slides[:5]) or "none"
            raise UsageError(f"there is no slide {slide!r} in this store", hint=f"It has {some}.")

    def of_slide(self, slide: str) -> Iterator[Patch]:
        """Yield the patches of a slide, in order; one at a time is in memory."""
        for index in range(len(self.table(slide))):
            yield self.patch(slide, index)

    def slides_of_set(
        self,
        set_id: int | None = None,
        total_sets: int = 1,
        *,
        select: Sequence[object] | None = None,
    ) -> tuple[str, ...]:
        """Return every `total_sets`-th slide from `set_id` on, or those that are flagged.

        Parameters
        ----------
        set_id : int, optional
            0 to ``total_sets - 1``; all slides where not said.
        total_sets : int
            Number of sets that the slides are dealt to, in order of their names.
        select : sequence of bool or {0, 1}, optional
            A flag for each slide; instead of `set_id`.

        Raises
        ------
        UsageError
            If the numbers make no sense.
        """
        if select is not None:
            if set_id is not None or len(select) != len(self.slides):
                raise UsageError(
                    f"select needs a flag for each of {len(self.slides)} slides, and no set_id"
                )
            return tuple(s for s, flag in zip(self.slides, select, strict=True) if flag)
        if set_id is None:
            return self.slides
        if total_sets < 1 or not 0 <= set_id < total_sets:
            raise UsageError(f"set_id is 0 to {total_sets - 1}, got {set_id}")
        return self.slides[set_id::total_sets]

    def of_set(
        self,
        set_id: int | None = None,
        total_sets: int = 1,
        *,
        select: Sequence[object] | None = None,
    ) -> Iterator[Patch]:
        """Yield the patches of the slides of a set; see `slides_of_set`."""
        for slide in self.slides_of_set(set_id, total_sets, select=select):
            yield from self.of_slide(slide)

    def by_key(self, key: str) -> Patch:
        """Return a patch by its key, ``<slide>_x<x>_y<y>``.

        Raises
        ------
        UsageError
            If there is none.
        """
        found = _KEY.fullmatch(key)
        if found is not None and found[1] in self.slides:
            table = self.table(found[1])
            at = np.flatnonzero((table.x == int(found[2])) & (table.y == int(found[3])))
            if len(at):
                return self.patch(found[1], int(at[0]))
        raise UsageError(f"there is no patch {key!r} in this store")


def open_patches(path: str | os.PathLike[str]) -> PatchStore:
    """Open a store of patches that wsistore wrote: LMDB, HDF5, images or tar shards.

    Parameters
    ----------
    path : path
        Folder of an LMDB environment, of ``.h5`` files, of images or of tar shards; or one
        ``.h5`` file.

    Raises
    ------
    SourceNotFoundError
        If there is nothing.
    UsageError
        If it is no store of patches.
    DependencyError
        If the package that reads it is not installed.
    """
    from wsistore.export.images import ImagePatches
    from wsistore.export.lmdb_reader import LmdbPatches
    from wsistore.export.patches_hdf5 import H5Patches
    from wsistore.export.tar_reader import TarPatches

    place = Path(path)
    if not place.exists():
        raise SourceNotFoundError(f"there is no store {place}")
    if place.is_file() or any(place.glob("*.h5")):
        return H5Patches(place)
    if (place / "data.mdb").is_file():
        return LmdbPatches(place)
    if any(place.glob("*.shards.json")):
        return TarPatches(place)
    if any(place.glob("*/plan.json")):
        return ImagePatches(place)
    raise UsageError(
        f"{place} is no store of patches",
        hint="Stores are LMDB environments, folders of .h5, of images, or of tar shards.",
    )


def symmetry(pixels: ArrayLike, which: int) -> NDArray[np.uint8]:
    """Return one of the eight symmetries of the square: a view, nothing is copied.

    Parameters
    ----------
    pixels : (h, w, ...) array_like
        Square for the turns to keep its shape.
    which : int
        0 to 7: quarter turns (``which % 4``), from 4 on after a left-right flip. 0 is the
        identity.
    """
    if not 0 <= which < SYMMETRIES:
        raise UsageError(f"there are symmetries 0 to 7, got {which!r}")
    array = np.asarray(pixels)
    if which >= 4:
        array = array[:, ::-1]
    return np.rot90(array, which % 4)


SYMMETRIES = 8


def symmetries(pixels: ArrayLike) -> Iterator[NDArray[np.uint8]]:
    """Yield the eight symmetries of a square patch, the patch itself first."""
    for which in range(SYMMETRIES):
        yield symmetry(pixels, which)
