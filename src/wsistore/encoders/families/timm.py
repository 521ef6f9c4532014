"""Models of timm: ViTs whose tokens are pooled here, and backbones pooled by timm."""

from __future__ import annotations

from typing import Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.families import Built, Material, load_strictly
from wsistore.encoders.packages import require
from wsistore.encoders.pooling import pool_tokens

_HEADS = ("head.", "fc.")


def build(entry: EncoderEntry, material: Material) -> Built:
    """Return a model without its classifier."""
    timm = require("timm", f"encoder {entry.name}")
    architecture, arguments = _architecture(entry, material.config)
    by_timm = material.pooling == "gap"
    module = timm.create_model(
        architecture,
        pretrained=False,
        num_classes=0,
        global_pool="avg" if by_timm else "token",
        **arguments,
    )
    if material.state is not None:
        load_strictly(module, _converted(material.state, module), entry, dropped=_HEADS)
    if by_timm:
        return Built(module, module)
    return Built(module, lambda x: _pooled(module, x, material.pooling))


def _architecture(entry: EncoderEntry, config: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return name and arguments; the configuration that came with the weights wins."""
    arguments = dict(entry.arguments)
    architecture = entry.architecture
    if config is not None:
        architecture = str(config.get("architecture", architecture))
        arguments |= config.get("model_args") or {}
    for set_here in ("num_classes", "global_pool", "pretrained"):
        arguments.pop(set_here, None)
    return architecture, {name: _layer(name, value) for name, value in arguments.items()}


def _layer(name: str, value: Any) -> Any:
    """Return the class for the name of one."""
    if name == "mlp_layer" and value == "SwiGLUPacked":
        from timm.layers import SwiGLUPacked

        return SwiGLUPacked
    if name == "act_layer" and value == "SiLU":
        from torch.nn import SiLU

        return SiLU
    if name == "embed_layer" and value == "ConvStem":
        from wsistore.encoders.families.conv_stem import ConvStem

        return ConvStem
    return value


def _converted(state: dict[str, Any], module: Any) -> dict[str, Any]:
    """Return tensors by timm's names, from those of DINOv2 or of an older timm."""
    if "mask_token" in state and "blocks.0.ls1.gamma" in state:
        from timm.models.vision_transformer import checkpoint_filter_fn

        converted: dict[str, Any] = checkpoint_filter_fn(state, module)
        return converted
    if "layers.0.downsample.reduction.weight" in state:
        return {
            _newer_swin(name): tensor
            for name, tensor in state.items()
            if not name.endswith(("relative_position_index", "attn_mask"))
        }
    return state


def _newer_swin(name: str) -> str:
    """Return today's name: downsampling is now the start of a stage, not the end of the last."""
    parts = name.split(".")
    if parts[0] == "layers" and parts[2] == "downsample":
        parts[1] = str(int(parts[1]) + 1)
    return ".".join(parts)


def _pooled(module: Any, x: Any, pooling: str) -> Any:
    return pool_tokens(module.forward_features(x), pooling, module.num_prefix_tokens)
