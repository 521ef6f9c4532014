"""Encoders in the process that computes: loaded once, used by all its threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.encoders import Encoder, load_encoder
from wsistore.encoders.plugins import load_plugin
from wsistore.errors import EncoderError, UsageError, WsistoreError
from wsistore.features.records import EncoderRecord

FOREIGN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What models of others raise: all that an ordinary fault in their code can be."""


@dataclass(frozen=True)
class EncoderSpec:
    """How to get an encoder in another process.

    Parameters
    ----------
    source : str, path, Encoder or callable
        What `wsistore.encoders.load_encoder` takes. An encoder, or a callable, must pickle
        where workers are processes.
    options : mapping
        Keyword arguments of `load_encoder`.
    """

    source: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        """Whether it is an encoder that somebody else has loaded, and will close."""
        return isinstance(self.source, Encoder)

    def load(self) -> Encoder:
        """Return the encoder."""
        return load_encoder(self.source, **self.options)


@dataclass(frozen=True)
class Team:
    """Encoders that work together on each tile.

    Parameters
    ----------
    token : str
        Unlike that of any other run.
    specs : tuple of EncoderSpec
        How to get them.
    plugins : tuple of str
        Python files that add encoders; see `wsistore.encoders.plugins.load_plugin`.
    """

    token: str
    specs: tuple[EncoderSpec, ...]
    plugins: tuple[str, ...] = ()


class Seat:
    """The encoders of a team in this process.

    Loaded when first used; one thread at a time uses an encoder, unless that says of itself
    that it is ``concurrent``.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._encoders: dict[str, Encoder] | None = None
        self.stopped = threading.Event()

    def encoders(self) -> dict[str, Encoder]:
        """Return the encoders by name.

        Raises
        ------
        wsistore.errors.WsistoreError
            If one can't be loaded, or two have the same name.
        """
        with self._lock:
            if self._encoders is None:
                for path in self._team.plugins:
                    load_plugin(path)
                loaded = [spec.load() for spec in self._team.specs]
                names = [encoder.name for encoder in loaded]
                if len(set(names)) < len(names):
                    raise UsageError(f"an encoder is named twice: {', '.join(sorted(names))}")
                self._turns = {encoder.name: threading.Lock() for encoder in loaded}
                self._encoders = {encoder.name: encoder for encoder in loaded}
            return self._encoders

    def encode(self, name: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of a batch (n, 3, h, w), (n, dim) float32.

        Raises
        ------
        wsistore.errors.EncoderError
            If the model fails, or returns something else.
        """
        encoder = self.encoders()[name]
        concurrent = getattr(encoder, "concurrent", False)
        try:
            with nullcontext() if concurrent else self._turns[name]:
                features = np.asarray(encoder.encode(batch))
        except WsistoreError:
            raise
        except FOREIGN_ERRORS as error:
            raise EncoderError(
                f"encoder {name} failed on {len(batch)} tiles: {type(error).__name__}: {error}"
            ) from error
        if features.shape != (len(batch), encoder.dim) or features.dtype != np.float32:
            raise EncoderError(
                f"encoder {name} returned {features.shape} {features.dtype}, expected "
                f"({len(batch)}, {encoder.dim}) float32"
            )
        return features

    def close(self) -> None:
        """Give back what was loaded here."""
        with self._lock:
            for spec, encoder in zip(
                self._team.specs, (self._encoders or {}).values(), strict=False
            ):
                if not spec.is_given:
                    encoder.close()
            self._encoders = None


_seats: dict[str, Seat] = {}


def take_seat(team: Team) -> Seat:
    """Return the seat of a team in this process, made where there is none."""
    return _seats.setdefault(team.token, Seat(team))


def seat_of(token: str) -> Seat:
    """Return the seat of a team that has taken one.

    Raises
    ------
    wsistore.errors.UsageError
        If it has none here.
    """
    if token not in _seats:
        raise UsageError(
            "this worker has no encoders of the run",
            hint="Workers need the same version of wsistore as the caller.",
        )
    return _seats[token]


def leave_seat(token: str) -> None:
    """Close the seat of a team."""
    seat = _seats.pop(token, None)
    if seat is not None:
        seat.close()


def describe_team(token: str) -> list[EncoderRecord]:
    """Return the records of a team's encoders, in order; loads them."""
    return [EncoderRecord.of(encoder) for encoder in seat_of(token).encoders().values()]
