"""What a conversion tells while it runs: small, frozen, the same for every scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wsistore.pyramid.planning import ConversionPlan


@dataclass(frozen=True, slots=True)
class SlideStarted:
    """A slide was opened and planned, and writing begins.

    Parameters
    ----------
    source : str
        Path or URL of the slide.
    store : str
        Final name of the store.
    plan : ConversionPlan
        What will be written.
    shards : int
        Number of shards, those kept from an earlier run counted.
    """

    source: str
    store: str
    plan: ConversionPlan
    shards: int


@dataclass(frozen=True, slots=True)
class SlideResumed:
    """An earlier run had left shards that are whole, and they are kept.

    Parameters
    ----------
    source : str
        Path or URL of the slide.
    kept : int
        Number of shards kept.
    kept_bytes : int
        Their bytes.
    redone : int
        Number of shards that the earlier run had noted and that are not whole any more.
    """

    source: str
    kept: int
    kept_bytes: int
    redone: int


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard is written and noted.

    Parameters
    ----------
    source : str
        Path or URL of the slide.
    level : int
        Level of the store.
    key : str
        Name of the shard below the store's root.
    bytes_in : int
        Encoded bytes read from the source; for transcodes, bytes of pixels.
    bytes_out : int
        Bytes written; 0 where there was no tile to write.
    tiles : int
        Chunks written.
    missing : int
        Tiles that the source lacks.
    damaged : int
        Tiles whose bytes were not usable, and were left out as the policy says.
    """

    source: str
    level: int
    key: str
    bytes_in: int
    bytes_out: int
    tiles: int
    missing: int
    damaged: int


@dataclass(frozen=True, slots=True)
class SlideFinished:
    """A store has its final name, or had it already.

    Parameters
    ----------
    source : str
        Path or URL of the slide.
    store : str
        Final name of the store.
    skipped : bool
        Whether it was finished before, by the same settings from the same source.
    bytes_out : int
        Bytes of all shards.
    missing, damaged : int
        Tiles left out.
    notes : tuple of str
        What else was left out: associated images that can't be read.
    """

    source: str
    store: str
    skipped: bool
    bytes_out: int
    missing: int
    damaged: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlideFailed:
    """A slide could not be converted; the others go on.

    Parameters
    ----------
    source : str
        Path or URL of the slide.
    store : str
        Name the store would have had; there is nothing under it.
    code : str
        Code of the error, such as ``"WSI302"``.
    detail : str
        What the error says.
    """

    source: str
    store: str
    code: str
    detail: str


Event = SlideStarted | SlideResumed | ShardDone | SlideFinished | SlideFailed
OnEvent = Callable[[Event], None]
