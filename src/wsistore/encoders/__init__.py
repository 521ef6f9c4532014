"""Models that turn tiles into feature vectors: registry, preprocessing, safe weights.

Public calls: `load_encoder`, `encoder_registry`, `Encoder` and what it tells (`Preprocessing`,
`Weights`), `EncoderEntry`; the embedded `COLOUR_STATS_FEATURES`. Names are imported on
first use, and torch only when a model needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsistore.encoders.colour_stats import COLOUR_STATS_FEATURES as COLOUR_STATS_FEATURES
    from wsistore.encoders.entry import EncoderEntry as EncoderEntry
    from wsistore.encoders.loading import load_encoder as load_encoder
    from wsistore.encoders.model import Encoder as Encoder
    from wsistore.encoders.model import Preprocessing as Preprocessing
    from wsistore.encoders.model import Weights as Weights
    from wsistore.encoders.registry import encoder_registry as encoder_registry

_MODULE_OF = {
    "COLOUR_STATS_FEATURES": "colour_stats",
    "Encoder": "model",
    "EncoderEntry": "entry",
    "Preprocessing": "model",
    "Weights": "model",
    "load_encoder": "loading",
    "encoder_registry": "registry",
}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 (they are strings)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'wsistore.encoders' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"wsistore.encoders.{module}"), name)
    globals()[name] = value
    return value
