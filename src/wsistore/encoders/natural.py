"""Registry: backbones trained on natural images; none of them is gated but DINOv3.

Sources: the weight metadata of torchvision 0.28, the configurations of timm 1.0.31 and
transformers 5.23, and the README of facebookresearch/dinov3.
"""

from __future__ import annotations

from typing import Any

from wsistore.encoders.entry import IMAGENET, SATELLITE, EncoderEntry
from wsistore.encoders.model import Interpolation

_SWAG = "SWAG licence of facebookresearch/SWAG (non-commercial, as far as known)"


def _torchvision(
    name: str,
    dim: int,
    weights: str,
    file: str,
    resize: int,
    *,
    pooling: str,
    crop: int = 224,
    interpolation: Interpolation = "bilinear",
    licence: str = "BSD-3-Clause",
    arguments: dict[str, Any] | None = None,
    notes: str = "",
    doubts: str = "",
) -> EncoderEntry:
    mean, std = IMAGENET
    return EncoderEntry(
        name=name,
        group="natural",
        family="torchvision",
        architecture=name,
        arguments=arguments or {},
        dim=dim,
        pooling=pooling,
        input_size=crop,
        resize=resize,
        interpolation=interpolation,
        mean=mean,
        std=std,
        source=f"torchvision:{weights}",
        file=file,
        licence=licence,
        packages=("torchvision",),
        notes=notes,
        doubts=doubts,
    )


def _resnet(name: str, dim: int, version: int, file: str) -> EncoderEntry:
    notes = "" if version == 1 else "V1 and V2 weights give unrelated features; these are V2."
    weights = f"IMAGENET1K_V{version}"
    resize = 256 if version == 1 else 232
    return _torchvision(name, dim, weights, file, resize, pooling="gap", notes=notes)


def _convnext(name: str, dim: int, resize: int, file: str) -> EncoderEntry:
    return _torchvision(
        name,
        dim,
        "IMAGENET1K_V1",
        file,
        resize,
        pooling="norm",
        notes="The LayerNorm of the classifier is kept, its linear layer dropped.",
        doubts="Other tools may drop that LayerNorm too, which gives other features.",
    )


def _vit(name: str, dim: int, resize: int, file: str) -> EncoderEntry:
    return _torchvision(name, dim, "IMAGENET1K_V1", file, resize, pooling="cls")


def _dinov2(name: str, dim: int, layers: int, heads: int, *, swiglu: bool = False) -> EncoderEntry:
    mean, std = IMAGENET
    return EncoderEntry(
        name=name,
        group="natural",
        family="transformers",
        architecture="Dinov2Model",
        arguments={
            "hidden_size": dim,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "patch_size": 14,
            "image_size": 518,
            "use_swiglu_ffn": swiglu,
        },
        dim=dim,
        pooling="cls",
        poolings={"cls+mean": 2 * dim},
        input_size=224,
        resize=256,
        interpolation="bicubic",
        mean=mean,
        std=std,
        source=f"hub:facebook/{name.replace('_', '-')}",
        file="model.safetensors",
        licence="Apache-2.0",
        packages=("transformers",),
        notes="The same weights in timm default to 518 px, which gives other features.",
        doubts="Resizing to 256 px is from memory of the preprocessor of the repository.",
    )


def _dinov3(
    name: str,
    hub: str,
    dim: int,
    *,
    hidden: int,
    layers: int,
    heads: int,
    gated: bool = False,
    biases: bool = True,
    satellite: bool = False,
) -> EncoderEntry:
    mean, std = SATELLITE if satellite else IMAGENET
    arguments: dict[str, Any] = {
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_register_tokens": 4,
        "use_gated_mlp": gated,
        "image_size": 224,
        "patch_size": 16,
    }
    if gated:
        arguments["hidden_act"] = "silu"
    if not biases:
        arguments |= {"query_bias": False, "value_bias": False}
    notes = "Weights of satellite images; odd for stained tissue." if satellite else ""
    return EncoderEntry(
        name=name,
        group="natural",
        family="transformers",
        architecture="DINOv3ViTModel",
        arguments=arguments,
        dim=dim,
        pooling="cls",
        poolings={"cls+mean": 2 * dim},
        input_size=256,
        resize=256,
        square=True,
        interpolation="bicubic",
        mean=mean,
        std=std,
        source=f"hub:facebook/{hub}",
        file="model.safetensors",
        licence="DINOv3 licence (Meta)",
        gated=True,
        packages=("transformers>=4.56",),
        notes=notes,
        doubts="Upstream says 256 px and timm bicubic; upstream's own interpolation is unchecked.",
    )


ENTRIES: tuple[EncoderEntry, ...] = (
    # name, dimension, version of the weights, file
    _resnet("resnet18", 512, 1, "resnet18-f37072fd.pth"),
    _resnet("resnet34", 512, 1, "resnet34-b627a593.pth"),
    _resnet("resnet50", 2048, 2, "resnet50-11ad3fa6.pth"),
    _resnet("resnet101", 2048, 2, "resnet101-cd907fc2.pth"),
    _resnet("resnet152", 2048, 2, "resnet152-f82ba261.pth"),
    # name, dimension, shorter side after resizing, file
    _convnext("convnext_tiny", 768, 236, "convnext_tiny-983f1562.pth"),
    _convnext("convnext_small", 768, 230, "convnext_small-0c510722.pth"),
    _convnext("convnext_base", 1024, 232, "convnext_base-6075fbad.pth"),
    _convnext("convnext_large", 1536, 232, "convnext_large-ea097f82.pth"),
    _vit("vit_b_16", 768, 256, "vit_b_16-c867db91.pth"),
    _vit("vit_b_32", 768, 256, "vit_b_32-d86f8d99.pth"),
    _vit("vit_l_16", 1024, 242, "vit_l_16-852ce7e3.pth"),
    _vit("vit_l_32", 1024, 256, "vit_l_32-c7638314.pth"),
    _torchvision(
        "vit_h_14",
        1280,
        "IMAGENET1K_SWAG_E2E_V1",
        "vit_h_14_swag-80465313.pth",
        518,
        crop=518,
        interpolation="bicubic",
        pooling="cls",
        arguments={"image_size": 518},
        licence=_SWAG,
        notes="The weights take 518 px only.",
        doubts="The text of the licence was not checked.",
    ),
    # name, dimension, layers, heads
    _dinov2("dinov2_small", 384, 12, 6),
    _dinov2("dinov2_base", 768, 12, 12),
    _dinov2("dinov2_large", 1024, 24, 16),
    _dinov2("dinov2_giant", 1536, 40, 24, swiglu=True),
    # name, repository, dimension, size of the MLP, layers, heads
    _dinov3(
        "dinov3_vits16",
        "dinov3-vits16-pretrain-lvd1689m",
        384,
        hidden=1536,
        layers=12,
        heads=6,
    ),
    _dinov3(
        "dinov3_vits16_plus",
        "dinov3-vits16plus-pretrain-lvd1689m",
        384,
        hidden=1536,
        layers=12,
        heads=6,
        gated=True,
    ),
    _dinov3(
        "dinov3_vitb16",
        "dinov3-vitb16-pretrain-lvd1689m",
        768,
        hidden=3072,
        layers=12,
        heads=12,
    ),
    _dinov3(
        "dinov3_vitl16",
        "dinov3-vitl16-pretrain-lvd1689m",
        1024,
        hidden=4096,
        layers=24,
        heads=16,
    ),
    _dinov3(
        "dinov3_vitl16_sat",
        "dinov3-vitl16-pretrain-sat493m",
        1024,
        hidden=4096,
        layers=24,
        heads=16,
        satellite=True,
    ),
    _dinov3(
        "dinov3_vith16_plus",
        "dinov3-vith16plus-pretrain-lvd1689m",
        1280,
        hidden=5120,
        layers=32,
        heads=20,
        gated=True,
    ),
    _dinov3(
        "dinov3_vit7b16",
        "dinov3-vit7b16-pretrain-lvd1689m",
        4096,
        hidden=8192,
        layers=40,
        heads=32,
        gated=True,
        biases=False,
    ),
    _dinov3(
        "dinov3_vit7b16_sat",
        "dinov3-vit7b16-pretrain-sat493m",
        4096,
        hidden=8192,
        layers=40,
        heads=32,
        gated=True,
        biases=False,
        satellite=True,
    ),
)
