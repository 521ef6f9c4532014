"""What callers of the batch reader say, and what they are told."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.slides.resolving import as_resolution

SlideLike = Slide | str | os.PathLike[str]
Request = tuple[SlideLike, int, int] | tuple[SlideLike, int, int, Resolution]
Layout = Literal["nhwc", "nchw"]


@dataclass(frozen=True, slots=True)
class TileFault:
    """Why some pixels of a batch were painted with the fill colour.

    Parameters
    ----------
    request : int
        Index of the request within the batch.
    slide : str
        Name of the slide.
    level, column, row : int
        The encoded tile: level index and coordinates in its grid; -1 where the whole
        slide could not be read.
    code : str
        Code of the error, such as ``"WSI402"``.
    reason : str
        What happened.
    """

    request: int
    slide: str
    level: int
    column: int
    row: int
    code: str
    reason: str


@dataclass(slots=True)
class BatchReport:
    """What happened while a batch was read, and what it cost.

    Attributes
    ----------
    valid_fraction : (n,) float32
        Share of each patch's area that came from the slide: 1.0 where no pixel was
        painted with the fill colour.
    faults : list of TileFault
        Missing and damaged tiles, and slides that could not be opened.
    tiles_decoded : int
        Encoded tiles decoded.
    bytes_read : int
        Bytes of encoded tiles that were used.
    requests : int
        Requests to object storage for encoded tiles; opening slides and reading their tile
        tables comes on top, once. 0 for local slides.
    bytes_fetched : int
        Bytes of these requests: the tiles, and what lies between those fetched together.
    """

    valid_fraction: NDArray[np.float32]
    faults: list[TileFault] = field(default_factory=list)
    tiles_decoded: int = 0
    bytes_read: int = 0
    requests: int = 0
    bytes_fetched: int = 0


@dataclass(frozen=True, slots=True)
class NormalRequest:
    """One request in the engine's own words.

    Parameters
    ----------
    slide : Slide, str or PathLike
        What to read from.
    x, y : int
        Top-left corner in level-0 px.
    resolution : Resolution
        How finely.
    """

    slide: SlideLike
    x: int
    y: int
    resolution: Resolution


def as_size(size: int | Sequence[int]) -> Size:
    """Return the output size in px from a side length or a (width, height) pair.

    Raises
    ------
    wsistore.errors.UsageError
        If a side is not a positive integer.
    """
    pair = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(pair) != 2 or any(int(v) != v or v < 1 for v in pair):
        raise UsageError(f"size must be a positive side or (width, height) in px, got {size!r}")
    return Size(int(pair[0]), int(pair[1]))


def normalize(requests: Iterable[Request], default: Resolution | None) -> list[NormalRequest]:
    """Return the requests checked and with their resolution.

    Raises
    ------
    wsistore.errors.UsageError
        If a request is not (slide, x, y) or (slide, x, y, resolution), or has no
        resolution while there is no default.
    """
    normal = []
    for index, request in enumerate(requests):
        if len(request) == 4:
            slide, x, y, own = request
            resolution: Resolution | None = as_resolution(own)
        elif len(request) == 3:
            slide, x, y = request
            resolution = default
        else:
            raise UsageError(
                f"request {index} is not (slide, x, y) or (slide, x, y, resolution): {request!r}"
            )
        if resolution is None:
            raise UsageError(
                f"request {index} names no resolution",
                hint="Pass resolution=..., or a fourth item.",
            )
        if int(x) != x or int(y) != y:
            raise UsageError(
                f"request {index} has x, y = {x!r}, {y!r}, which are not whole level-0 px"
            )
        normal.append(NormalRequest(slide, int(x), int(y), resolution))
    return normal
