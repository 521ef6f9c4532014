"""Models that turn tiles into feature vectors: registry, preprocessing, safe weights.

Public calls: `load_encoder` by name; `encoder_from_module`, `encoder_from_callable`,
`load_plugin` and `register_custom_encoder` (which returns `CustomEncoderComponents`) for
one's own; `encoder_registry` of `EncoderEntry`, `missing_packages`; `Encoder` and what it
tells (`Preprocessing`, `Weights`); `COLOUR_STATS_FEATURES` of the embedded encoder;
`ensure_torchvision`. Names are imported on first use, and torch only when a model needs it.
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
    from wsistore.encoders.own import encoder_from_callable as encoder_from_callable
    from wsistore.encoders.own import encoder_from_module as encoder_from_module
    from wsistore.encoders.packages import missing_packages as missing_packages
    from wsistore.encoders.plugins import CustomEncoderComponents as CustomEncoderComponents
    from wsistore.encoders.plugins import load_plugin as load_plugin
    from wsistore.encoders.plugins import register_custom_encoder as register_custom_encoder
    from wsistore.encoders.registry import EncoderRegistry as EncoderRegistry
    from wsistore.encoders.registry import encoder_registry as encoder_registry
    from wsistore.torchvision_cure import ensure_torchvision as ensure_torchvision

_MODULE_OF = {
    "COLOUR_STATS_FEATURES": "colour_stats",
    "CustomEncoderComponents": "plugins",
    "Encoder": "model",
    "EncoderEntry": "entry",
    "EncoderRegistry": "registry",
    "Preprocessing": "model",
    "Weights": "model",
    "encoder_from_callable": "own",
    "encoder_from_module": "own",
    "encoder_registry": "registry",
    "ensure_torchvision": "torchvision_cure",
    "load_encoder": "loading",
    "load_plugin": "plugins",
    "missing_packages": "packages",
    "register_custom_encoder": "plugins",
}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 (they are strings)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'wsistore.encoders' has no attribute {name!r}")
    home = "wsistore" if module == "torchvision_cure" else "wsistore.encoders"
    value = getattr(importlib.import_module(f"{home}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
