"""What an embedding run tells while it runs: small, frozen, the same for every scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmbedStarted:
    """The run knows its slides and its encoders.

    Parameters
    ----------
    slides : int
        Number of slides.
    tiles : int
        Number of tiles of all plans.
    encoders : tuple of str
        Their names.
    workers : int
        Units that are worked on at a time.
    """

    slides: int
    tiles: int
    encoders: tuple[str, ...]
    workers: int


@dataclass(frozen=True, slots=True)
class SlideStarted:
    """A slide is prepared, and its units are on their way.

    Parameters
    ----------
    slide : str
        Name of the slide.
    store : str
        Where its features go.
    tiles : int
        Tiles of its plan.
    units : int
        Units that will be computed.
    """

    slide: str
    store: str
    tiles: int
    units: int


@dataclass(frozen=True, slots=True)
class SlideResumed:
    """An earlier run left units that are whole, and they are kept.

    Parameters
    ----------
    slide : str
        Name of the slide.
    kept : int
        Units of an encoder that are kept.
    redone : int
        Units that the earlier run had noted and that are not whole any more.
    """

    slide: str
    kept: int
    redone: int


@dataclass(frozen=True, slots=True)
class UnitDone:
    """A unit is written, by all encoders that lacked it, and noted.

    Parameters
    ----------
    slide : str
        Name of the slide.
    unit : int
        Number of the unit.
    tiles : int
        Tiles of the unit.
    failed_tiles : int
        Tiles that have no features by one of the encoders.
    """

    slide: str
    unit: int
    tiles: int
    failed_tiles: int


@dataclass(frozen=True, slots=True)
class UnitLost:
    """A worker died over a unit, which is given to another one.

    Parameters
    ----------
    slide : str
        Name of the slide.
    unit : int
        Number of the unit.
    reason : str
        What is known of it.
    """

    slide: str
    unit: int
    reason: str


@dataclass(frozen=True, slots=True)
class SlideFinished:
    """All features of a slide are written, or were before.

    Parameters
    ----------
    slide : str
        Name of the slide.
    store : str
        Where they are.
    skipped : bool
        Whether there was nothing to do.
    tiles : int
        Tiles of its plan.
    failed_tiles : int
        Tiles that have no features by one of the encoders.
    """

    slide: str
    store: str
    skipped: bool
    tiles: int
    failed_tiles: int


@dataclass(frozen=True, slots=True)
class SlideFailed:
    """A slide could not be finished; the others go on.

    Parameters
    ----------
    slide : str
        Name of the slide.
    code : str
        Code of the error, such as ``"WSI302"``.
    detail : str
        What the error says.
    """

    slide: str
    code: str
    detail: str


EmbedEvent = (
    EmbedStarted | SlideStarted | SlideResumed | UnitDone | UnitLost | SlideFinished | SlideFailed
)
OnEmbedEvent = Callable[[EmbedEvent], None]
