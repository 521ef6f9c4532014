"""Endless batches of a store of patches: shuffled by a seed, with symmetries, counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.export.patch_store import SYMMETRIES, PatchStore, symmetry
from wsistore.export.patches import Patch


@dataclass(frozen=True, slots=True, eq=False)
class PatchBatch:
    """Some patches with their labels.

    Parameters
    ----------
    images : (n, h, w, 3) uint8
        Pixels.
    labels : (n,) int64
        Classes; -1 where there is none.
    keys : tuple of str
        Keys of the patches.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    keys: tuple[str, ...]

    def one_hot(self, classes: int) -> NDArray[np.float32]:
        """Return labels as (n, classes) float32; a row of zeros where there is none."""
        if len(self.labels) and self.labels.max() >= classes:
            raise UsageError(f"there is a label {self.labels.max()}, and {classes} classes")
        rows: NDArray[np.float32] = (self.labels[:, None] == np.arange(classes)).astype(np.float32)
        return rows


class PatchBatches:
    """Walks over patches of a set of slides again and again.

    Only numbers of patches are kept in memory; pixels are read when their batch comes.

    Parameters
    ----------
    store : PatchStore
        Open; all patches have one size.
    set_id, total_sets, select
        Which slides; see `PatchStore.slides_of_set`.
    exclude : sequence of int
        Numbers of further sets (of `total_sets`) that are left out: where `set_id` is None,
        all other sets are walked, as training is without the one to validate with.
    augment : bool
        Whether each patch comes in its eight symmetries: eight times the rows.
    shuffle : bool
        Whether each epoch has an order of its own, of all rows.
    seed : int
        Of the orders; epoch `k` has the same order in every run.

    Attributes
    ----------
    epochs_completed : int
        How often all rows have come.
    """

    def __init__(
        self,
        store: PatchStore,
        set_id: int | None = None,
        total_sets: int = 1,
        *,
        select: Sequence[object] | None = None,
        exclude: Sequence[int] = (),
        augment: bool = False,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        out = {s for number in exclude for s in store.slides_of_set(number, total_sets)}
        chosen = store.slides_of_set(set_id, total_sets, select=select)
        self._store = store
        self._slides = tuple(slide for slide in chosen if slide not in out)
        counts = [len(store.table(slide)) for slide in self._slides]
        self._ends = np.cumsum(np.array([0, *counts], np.int64))
        self._copies = SYMMETRIES if augment else 1
        self._shuffle, self._seed = shuffle, seed
        self.epochs_completed = 0
        self._at = 0
        self._order = self._epoch(0)
        if not len(self):
            raise UsageError("there is no patch to walk over: the chosen slides hold none")

    def __len__(self) -> int:
        """Rows of an epoch: patches, times eight with symmetries."""
        return int(self._ends[-1]) * self._copies

    @property
    def slides(self) -> tuple[str, ...]:
        """Slides that are walked over."""
        return self._slides

    def next_batch(self, count: int) -> PatchBatch:
        """Return the next rows; a batch may end one epoch and begin the next.

        Parameters
        ----------
        count : int
            At least 1.

        Raises
        ------
        UsageError
            If patches differ in size, or the count is not positive.
        """
        if count < 1:
            raise UsageError(f"a batch has at least one row, got {count!r}")
        found = [self._row(number) for number in self._numbers(count)]
        shapes = {image.shape for _, image in found}
        if len(shapes) > 1:
            raise UsageError(f"patches of this store differ in size: {sorted(shapes)}")
        return PatchBatch(
            np.stack([image for _, image in found]),
            np.array([patch.label for patch, _ in found], np.int64),
            tuple(patch.key for patch, _ in found),
        )

    def state(self) -> dict[str, int]:
        """Return where the walk is, for `restore`."""
        return {"epoch": self.epochs_completed, "at": self._at}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken; the other arguments must be the same."""
        epoch, at = state["epoch"], state["at"]
        if epoch < 0 or not 0 <= at < len(self):
            raise UsageError(f"{state!r} is no state of a walk over {len(self)} rows")
        self.epochs_completed, self._at, self._order = epoch, at, self._epoch(epoch)

    def _numbers(self, count: int) -> Iterator[int]:
        for _ in range(count):
            yield int(self._order[self._at])
            self._at += 1
            if self._at == len(self):
                self._at = 0
                self.epochs_completed += 1
                self._order = self._epoch(self.epochs_completed)

    def _epoch(self, number: int) -> NDArray[np.int64]:
        rows = np.arange(int(self._ends[-1]) * self._copies, dtype=np.int64)
        if self._shuffle:
            np.random.default_rng([self._seed, number]).shuffle(rows)
        return rows

    def _row(self, number: int) -> tuple[Patch, NDArray[Any]]:
        which, place = divmod(number, int(self._ends[-1]))
        slide = int(np.searchsorted(self._ends, place, side="right")) - 1
        patch = self._store.patch(self._slides[slide], place - int(self._ends[slide]))
        return patch, symmetry(patch.pixels, which)
