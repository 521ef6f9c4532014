"""Bags of features for multiple-instance learning with torch.

The only module of this room that imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsistore.errors import DependencyError, UsageError
from wsistore.features.cohort import FeatureCohort
from wsistore.features.schema import TileStatus

try:
    import torch
    from torch.utils.data import Dataset
except ModuleNotFoundError as missing:
    raise DependencyError(
        f"BagDataset needs torch, which can't be imported: {missing}",
        hint="Install the extra 'torch': pip install 'wsistore[torch]'. Without it, "
        "FeatureCohort.bag gives the same features as numpy arrays.",
    ) from missing

Bag = dict[str, Any]


class BagDataset(Dataset[Bag]):  # type: ignore[misc]  # torch is Any to mypy here
    """One bag per slide: all its features, and its label.

    Parameters
    ----------
    cohort : FeatureCohort
        The features.
    encoder : str, optional
        Which features; the only ones where not said.
    labels : mapping of str to str or int, optional
        Label by slide, such as `SlideTable.labels`. Slides without one are left out.
    classes : sequence of str, optional
        Order of the classes of text labels; sorted where not said. Give it where parts of
        one cohort are used, so that a class has one number in all of them.
    max_tiles : int, optional
        Most tiles of a bag; more are drawn at random, without repeats, by seed, epoch and
        slide. All others come in the plan's order.
    seed : int
        Of the draw.
    with_coordinates : bool
        Whether bags hold ``coordinates``.

    Notes
    -----
    A bag is a dict of ``features`` (n, dim) float32; ``slide``, its name; ``label`` (an
    integer), where labels were given; and ``coordinates`` (n, 2) int64, level-0 px. Tiles
    that failed are left out, so a bag may be empty.
    """

    def __init__(
        self,
        cohort: FeatureCohort,
        encoder: str | None = None,
        *,
        labels: Mapping[str, str | int] | None = None,
        classes: Sequence[str] | None = None,
        max_tiles: int | None = None,
        seed: int = 0,
        with_coordinates: bool = False,
    ) -> None:
        if max_tiles is not None and max_tiles < 1:
            raise UsageError(f"max_tiles must be at least 1, got {max_tiles!r}")
        self.cohort = cohort
        self.encoder = encoder
        self.max_tiles = max_tiles
        self.seed = seed
        self.epoch = 0
        self.with_coordinates = with_coordinates
        self.slides = [name for name in cohort if labels is None or name in labels]
        self.classes: tuple[str, ...] = ()
        self.labels: dict[str, int] | None = None
        if labels is not None:
            self.labels, self.classes = _numbered({s: labels[s] for s in self.slides}, classes)

    def __len__(self) -> int:
        return len(self.slides)

    def __getitem__(self, item: int) -> Bag:
        slide = self.slides[item]
        features = self.cohort.bag(slide, self.encoder)
        rows = np.flatnonzero(self.cohort.status(slide, self.encoder) == TileStatus.OK)
        if self.max_tiles is not None and len(rows) > self.max_tiles:
            key = [self.seed, self.epoch, *slide.encode()]
            drawn = np.random.default_rng(key).choice(len(rows), self.max_tiles, replace=False)
            rows = rows[np.sort(drawn)]
        whole = len(rows) == len(features)
        bag = {"features": torch.from_numpy(features if whole else features[rows]), "slide": slide}
        if self.with_coordinates:
            bag["coordinates"] = torch.from_numpy(self.cohort.coordinates(slide)[rows])
        if self.labels is not None:
            bag["label"] = self.labels[slide]
        return bag

    def set_epoch(self, epoch: int) -> None:
        """Let bags that are drawn from be drawn anew; the same epoch gives the same draw."""
        self.epoch = epoch


def _numbered(
    labels: Mapping[str, str | int], classes: Sequence[str] | None
) -> tuple[dict[str, int], tuple[str, ...]]:
    texts = {label for label in labels.values() if isinstance(label, str)}
    if not texts and classes is None:
        return {slide: int(label) for slide, label in labels.items()}, ()
    order = tuple(classes) if classes is not None else tuple(sorted(map(str, labels.values())))
    order = tuple(dict.fromkeys(order))
    unknown = sorted({str(label) for label in labels.values()} - set(order))
    if unknown:
        raise UsageError(f"labels are not among the classes: {', '.join(unknown)}")
    number = {label: index for index, label in enumerate(order)}
    return {slide: number[str(label)] for slide, label in labels.items()}, order


def collate_bags(bags: Sequence[Bag]) -> Bag:
    """Return bags as one batch, padded to the longest; a ``collate_fn`` for ``DataLoader``.

    Returns
    -------
    dict
        ``features`` (b, n, dim) float32, 0 where padded; ``mask`` (b, n) bool, False where
        padded; ``slide``, names; and, where bags have them, ``label`` (b,) int64 and
        ``coordinates`` (b, n, 2) int64.
    """
    longest = max(len(bag["features"]) for bag in bags)
    batch: Bag = {
        "features": torch.stack([_padded(bag["features"], longest) for bag in bags]),
        "mask": torch.stack([torch.arange(longest) < len(bag["features"]) for bag in bags]),
        "slide": [bag["slide"] for bag in bags],
    }
    if "label" in bags[0]:
        batch["label"] = torch.tensor([bag["label"] for bag in bags])
    if "coordinates" in bags[0]:
        batch["coordinates"] = torch.stack([_padded(b["coordinates"], longest) for b in bags])
    return batch


def _padded(rows: Any, length: int) -> Any:
    return torch.nn.functional.pad(rows, (0, 0, 0, length - len(rows)))
