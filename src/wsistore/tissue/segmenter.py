"""What a segmenter is, and which there are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import DependencyError, UsageError

Thumbnail = NDArray[np.uint8]
Mask = NDArray[np.bool_]

GROUP = "wsistore.segmenters"
"""Entry-point group: each entry names a callable that returns a segmenter."""

THUMBNAIL_MPP = 8.0
"""µm/px of the thumbnails that are segmented: 1.25x."""
THUMBNAIL_SIDE = 2048
"""Longest side of a thumbnail in px."""


@runtime_checkable
class Segmenter(Protocol):
    """Turns thumbnails into masks.

    Attributes
    ----------
    name : str
        What `TissueMask.method` says.
    parameters : mapping
        JSON-able; what it was told, and enough to tell two of them apart.
    thumbnail_mpp : float
        µm/px that it wants thumbnails at.
    thumbnail_side : int
        Longest side in px that it wants.
    """

    @property
    def name(self) -> str:
        """What `TissueMask.method` says."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was told."""
        ...

    @property
    def thumbnail_mpp(self) -> float:
        """µm/px that it wants thumbnails at."""
        ...

    @property
    def thumbnail_side(self) -> int:
        """Longest side in px that it wants."""
        ...

    def segment(
        self, thumbnails: Sequence[Thumbnail], mpps: Sequence[float | None] | None = None
    ) -> list[Mask]:
        """Return a mask for each thumbnail.

        Parameters
        ----------
        thumbnails : sequence of (h, w, 3) uint8
            RGB; sizes may differ.
        mpps : sequence of float or None, optional
            µm/px of each thumbnail; where None, `thumbnail_mpp` is taken for granted.

        Returns
        -------
        list of (h, w) bool
        """
        ...


class Classical:
    """Base of segmenters that look at one thumbnail after another; no model, no download.

    A subclass is a frozen dataclass whose fields are its parameters, with a class
    attribute `name` and a method `_segment`.
    """

    name: str = ""
    thumbnail_mpp: float = THUMBNAIL_MPP
    thumbnail_side: int = THUMBNAIL_SIDE

    @property
    def parameters(self) -> dict[str, Any]:
        """What it was told: its fields."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__}  # type: ignore[attr-defined]

    def segment(
        self, thumbnails: Sequence[Thumbnail], mpps: Sequence[float | None] | None = None
    ) -> list[Mask]:
        """Return a mask for each thumbnail; see `Segmenter.segment`.

        Raises
        ------
        UsageError
            If a thumbnail is not (h, w, 3) uint8, or there is not one mpp to each.
        """
        known = check_thumbnails(thumbnails, mpps)
        return [
            self._segment(np.ascontiguousarray(pixels), mpp or self.thumbnail_mpp)
            for pixels, mpp in zip(thumbnails, known, strict=True)
        ]

    def _segment(self, pixels: Thumbnail, mpp: float) -> Mask:
        raise NotImplementedError


def check_thumbnails(
    thumbnails: Sequence[Thumbnail], mpps: Sequence[float | None] | None
) -> Sequence[float | None]:
    """Return one mpp (or None) to each thumbnail, or raise `UsageError`."""
    for index, pixels in enumerate(thumbnails):
        shape = np.shape(pixels)
        kind = getattr(pixels, "dtype", None)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or kind != np.uint8:
            raise UsageError(f"thumbnail {index} is not (h, w, 3) uint8, but {kind} {shape}")
    if mpps is None:
        return [None] * len(thumbnails)
    if len(mpps) != len(thumbnails):
        raise UsageError(f"{len(mpps)} pixel sizes for {len(thumbnails)} thumbnails")
    return mpps


@dataclass(frozen=True)
class FunctionSegmenter:
    """A segmenter made of a function of one thumbnail.

    Parameters
    ----------
    function : callable
        ``function(thumbnail) -> (h, w)`` array, non-zero where there is tissue.
    name : str
        What the mask says of its method.
    parameters : mapping
        JSON-able; what tells it from others of the same name.
    """

    function: Callable[[Thumbnail], Any]
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    thumbnail_mpp: float = THUMBNAIL_MPP
    thumbnail_side: int = THUMBNAIL_SIDE

    def segment(
        self, thumbnails: Sequence[Thumbnail], mpps: Sequence[float | None] | None = None
    ) -> list[Mask]:
        """Return a mask for each thumbnail; see `Segmenter.segment`."""
        check_thumbnails(thumbnails, mpps)
        return [np.asarray(self.function(pixels)) != 0 for pixels in thumbnails]


def segmenter_names() -> tuple[str, ...]:
    """Return the names that `make_segmenter` knows, those of entry points included."""
    return tuple(sorted({"default", *_built_in(), *(e.name for e in entry_points(group=GROUP))}))


def make_segmenter(method: str | Segmenter | Callable[..., Any], **parameters: Any) -> Segmenter:
    """Return a segmenter by name, or made of what is given.

    Parameters
    ----------
    method : str, Segmenter or callable
        A name of `segmenter_names`, a segmenter as it is, or a function of one thumbnail
        ((h, w, 3) uint8) that returns its mask ((h, w), non-zero is tissue).
    **parameters
        For a name: what its class takes.

    Raises
    ------
    UsageError
        If there is no such name, or it has no such parameter.
    DependencyError
        If what stands behind an entry point can't be imported.
    """
    if not isinstance(method, str):
        if parameters:
            raise UsageError("parameters go with the name of a method, not with an object")
        if isinstance(method, Segmenter):
            return method
        if callable(method):
            return FunctionSegmenter(method, getattr(method, "__qualname__", type(method).__name__))
        raise UsageError(f"a method is a name, a segmenter or a function, got {method!r}")
    factory = _factory(method)
    try:
        return factory(**parameters)
    except TypeError as error:
        raise UsageError(f"method {method!r}: {error}") from error


def _factory(name: str) -> Callable[..., Segmenter]:
    if name in {"default", *_built_in()}:
        return _built_in()["stain" if name == "default" else name]
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            try:
                loaded: Callable[..., Segmenter] = entry.load()
            except (ImportError, AttributeError) as error:
                raise DependencyError(
                    f"the segmenter {name!r} ({entry.value}) can't be loaded: {error}",
                    hint="Install what it needs, or remove its package.",
                ) from error
            return loaded
    known = ", ".join(segmenter_names())
    raise UsageError(f"no segmenter {name!r}", hint=f"There are: {known}.")


@functools.cache
def _built_in() -> dict[str, Callable[..., Segmenter]]:
    from wsistore.tissue.classical import (
        EntropySegmenter,
        MultiOtsuSegmenter,
        OtsuSegmenter,
        ThresholdSegmenter,
    )
    from wsistore.tissue.sam2 import Sam2Segmenter
    from wsistore.tissue.stain import StainSegmenter

    classes = (
        StainSegmenter,
        OtsuSegmenter,
        EntropySegmenter,
        MultiOtsuSegmenter,
        ThresholdSegmenter,
        Sam2Segmenter,
    )
    return {cls.name: cls for cls in classes}
