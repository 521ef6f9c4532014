"""Licences of weights are told once in each process, when weights are first loaded."""

from __future__ import annotations

import logging

from wsistore.encoders.entry import EncoderEntry

log = logging.getLogger("wsistore.encoders")
_told: set[str] = set()


def tell_licence(entry: EncoderEntry) -> None:
    """Log the licence of the weights of an encoder; without set-up, logging prints to stderr."""
    if entry.name in _told or entry.family == "embedded":
        return
    _told.add(entry.name)
    gate = "; its hub wants your consent to terms" if entry.gated else ""
    log.warning(
        "encoder %s: licence of the weights: %s (%s)%s",
        entry.name,
        entry.licence or "unknown",
        entry.source,
        gate,
    )
