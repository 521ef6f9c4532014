"""Models of transformers.

Tensors are read by this package and handed over, since transformers renames some on
loading, and so that one reader decides what is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.families import Built, Material, mismatch
from wsistore.encoders.packages import require
from wsistore.encoders.pooling import pool_tokens
from wsistore.errors import UsageError, WeightsError

_CONFIG_OF = {
    "Dinov2Model": "Dinov2Config",
    "DINOv3ViTModel": "DINOv3ViTConfig",
    "ViTModel": "ViTConfig",
    "SiglipVisionModel": "SiglipVisionConfig",
    "CLIPVisionModelWithProjection": "CLIPVisionConfig",
}
_WITHOUT_POOLER = {"ViTModel": {"add_pooling_layer": False}}
_UNUSED = ("pooler.", "vit.pooler.", "text_", "logit_", "vision_model.embeddings.position_ids")
"""Beginnings of names of parts that are not used here, such as the tower of texts."""


def build(entry: EncoderEntry, material: Material) -> Built:
    """Return a model of images and its way to features."""
    transformers = require("transformers", f"encoder {entry.name}")
    if entry.remote_code:
        return _remote(transformers, entry, material)
    # Class and configuration by name, from fixed tables.
    model_class = getattr(transformers, entry.architecture)
    config_class = getattr(transformers, _CONFIG_OF[entry.architecture])
    config = config_class(**_arguments(entry, material.config))
    more = _WITHOUT_POOLER.get(entry.architecture, {})
    if material.state is None:
        module = model_class(config, **more)
    else:
        module = _loaded(model_class, config, material.state, entry, more)
    return Built(module, _forward(module, material.pooling))


def _arguments(entry: EncoderEntry, config: dict[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of the configuration; what came with the weights wins."""
    if config is None:
        return dict(entry.arguments)
    vision = config.get("vision_config")
    if not isinstance(vision, dict):
        return {**entry.arguments, **config}
    whole = {name: config[name] for name in ("projection_dim",) if name in config}
    return {**entry.arguments, **vision, **whole}


def _loaded(
    model_class: Any,
    config: Any,
    state: dict[str, Any],
    entry: EncoderEntry,
    more: dict[str, Any],
) -> Any:
    import torch

    try:
        module, told = model_class.from_pretrained(
            None,
            config=config,
            state_dict={name: one for name, one in state.items() if not name.startswith(_UNUSED)},
            output_loading_info=True,
            dtype=torch.float32,
            **more,
        )
    except (RuntimeError, ValueError) as error:
        line = str(error).strip()[:300]
        raise WeightsError(f"weights of another model for encoder {entry.name}: {line}") from error
    excess = list(told["unexpected_keys"])
    if told["missing_keys"] or excess or told["mismatched_keys"]:
        shapes = [str(found[0]) for found in told["mismatched_keys"]]
        raise mismatch(entry, [*told["missing_keys"], *shapes], excess)
    return module


def _forward(module: Any, pooling: str) -> Callable[[Any], Any]:
    if pooling == "projection":
        return lambda x: module(pixel_values=x).image_embeds
    if pooling == "attention":
        return lambda x: module(pixel_values=x).pooler_output
    prefix = 1 + int(getattr(module.config, "num_register_tokens", 0) or 0)
    return lambda x: pool_tokens(module(pixel_values=x).last_hidden_state, pooling, prefix)


def _remote(transformers: Any, entry: EncoderEntry, material: Material) -> Built:
    """Return a model whose code is on the hub or in a folder, which must be trusted."""
    if material.state is None:
        raise UsageError(
            f"encoder {entry.name} can't have random weights: its architecture is code on the hub",
            hint="Load its weights, with trust_remote_code=True.",
        )
    folder = None if material.path is None else material.path.parent
    if not material.remote_code:
        raise UsageError(
            f"encoder {entry.name} runs code of {entry.source} on this machine",
            hint="Read that code, then give trust_remote_code=True.",
        )
    module = transformers.AutoModel.from_pretrained(
        str(folder),
        trust_remote_code=True,
        local_files_only=True,
        use_safetensors=True,
    ).float()
    return Built(module, _forward(module, material.pooling))
