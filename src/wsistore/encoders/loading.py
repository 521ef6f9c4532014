"""From a name, a file or a callable to an encoder that works."""

from __future__ import annotations

from typing import Any

from wsistore.encoders.colour_stats import ColourStats
from wsistore.encoders.model import Encoder
from wsistore.encoders.null import NullEncoder
from wsistore.encoders.registry import encoder_registry
from wsistore.errors import UsageError

_EMBEDDED = {"colour-stats": ColourStats, "null": NullEncoder}


def load_encoder(name: str, **options: Any) -> Encoder:
    """Load an encoder."""
    entry = encoder_registry().get(name)
    if entry.family == "embedded":
        return _EMBEDDED[entry.name]()
    raise UsageError("not yet")
