"""Registry: image towers of models of images and text.

Sources: the configurations of open_clip 3.3, the repositories named in `source`, and
revisions and hashes as recorded by CraigMyles/raw2features (MIT). Only the image tower is
built and loaded. OpenAI's weights need QuickGELU: open_clip would only warn, and then
compute wrong features, without it.
"""

from __future__ import annotations

from typing import Any

from wsistore.encoders.entry import HALF, OPENAI_CLIP, EncoderEntry

_OPENAI = "MIT (code of OpenAI CLIP)"


def _openai(name: str, architecture: str, hub: str, dim: int, size: int = 224) -> EncoderEntry:
    mean, std = OPENAI_CLIP
    return EncoderEntry(
        name=name,
        group="clip",
        family="open_clip",
        architecture=architecture,
        arguments={"quick_gelu": True},
        dim=dim,
        pooling="projection",
        input_size=size,
        resize=size,
        interpolation="bicubic",
        mean=mean,
        std=std,
        source=f"hub:timm/{hub}.openai",
        file="open_clip_model.safetensors",
        licence=_OPENAI,
        packages=("open_clip_torch",),
        doubts="The licence of the weights themselves is not stated by their source.",
    )


def _clip(name: str, architecture: str, dim: int, hub: str, **more: Any) -> EncoderEntry:
    mean, std = OPENAI_CLIP
    return EncoderEntry(
        **{
            "name": name,
            "group": "clip",
            "family": "open_clip",
            "architecture": architecture,
            "dim": dim,
            "pooling": "projection",
            "input_size": 224,
            "resize": 224,
            "interpolation": "bicubic",
            "mean": mean,
            "std": std,
            "mpp": 0.5,
            "source": hub,
            "file": "open_clip_pytorch_model.bin",
            "licence": "MIT",
            "packages": ("open_clip_torch",),
            **more,
        }
    )


_NO_MPP = "0.5 µm/px is the convention: trained on images of the web and of papers."
_ACTIVATION = "Whether QuickGELU is used is read from the repository; random weights use GELU."

ENTRIES: tuple[EncoderEntry, ...] = (
    # name, architecture, repository, dimension, px
    _openai("clip_rn50", "RN50", "resnet50_clip", 1024),
    _openai("clip_rn101", "RN101", "resnet101_clip", 512),
    _openai("clip_rn50x4", "RN50x4", "resnet50x4_clip", 640, 288),
    _openai("clip_rn50x16", "RN50x16", "resnet50x16_clip", 768, 384),
    _openai("clip_rn50x64", "RN50x64", "resnet50x64_clip", 1024, 448),
    _openai("clip_vit_b_32", "ViT-B-32-quickgelu", "vit_base_patch32_clip_224", 512),
    _openai("clip_vit_b_16", "ViT-B-16-quickgelu", "vit_base_patch16_clip_224", 512),
    _openai("clip_vit_l_14", "ViT-L-14-quickgelu", "vit_large_patch14_clip_224", 768),
    _openai("clip_vit_l_14_336", "ViT-L-14-336-quickgelu", "vit_large_patch14_clip_336", 768, 336),
    _clip(
        "plip",
        "CLIPVisionModelWithProjection",
        512,
        "hub:vinid/plip",
        family="transformers",
        arguments={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 32,
            "projection_dim": 512,
            "hidden_act": "quick_gelu",
        },
        file="pytorch_model.bin",
        revision="67ade53ddd32195868f422585f72698ef5d15094",
        file_sha256="98a7f8d2a1f4a8fc8f6dedb3a16ff7efbe02a7ef67c93904c80bca9767c69630",
        packages=("transformers",),
        doubts="MIT is stated in setup.py only. " + _NO_MPP,
    ),
    _clip(
        "quilt_b_32",
        "ViT-B-32",
        512,
        "hub:wisdomik/QuiltNet-B-32",
        revision="8ce77289ce35a90b2f1db1137dfa4bc2df175e33",
        file_sha256="e88815d05f50493a54fc2bab7ccf54075d24339d7b217e6f173c0c158ace92e7",
        doubts=f"{_ACTIVATION} {_NO_MPP}",
    ),
    _clip(
        "quilt_b_16",
        "ViT-B-16",
        512,
        "hub:wisdomik/QuiltNet-B-16",
        doubts=f"{_ACTIVATION} {_NO_MPP}",
    ),
    _clip(
        "quilt_b_16_pmb",
        "ViT-B-16",
        512,
        "hub:wisdomik/QuiltNet-B-16-PMB",
        notes="Its text tower (PubMedBERT) is not needed for images and not fetched.",
        doubts=f"Mean and deviation are assumed to be OpenAI's. {_ACTIVATION} {_NO_MPP}",
    ),
    _clip(
        "biomedclip",
        "BiomedCLIP",
        512,
        "hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
        file_sha256="52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",
        packages=("open_clip_torch", "timm"),
        arguments={
            "vision_cfg": {
                "timm_model_name": "vit_base_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 224,
            },
        },
        notes="Its text tower (PubMedBERT) is not needed for images and not fetched.",
        doubts=_NO_MPP,
    ),
    EncoderEntry(
        name="medsiglip",
        group="clip",
        family="transformers",
        architecture="SiglipVisionModel",
        arguments={
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 448,
            "patch_size": 14,
        },
        dim=1152,
        pooling="attention",
        input_size=448,
        resize=448,
        square=True,
        interpolation="bicubic",
        mean=HALF[0],
        std=HALF[1],
        source="hub:google/medsiglip-448",
        file="model.safetensors",
        licence="Health AI Developer Foundations terms",
        gated=True,
        packages=("transformers",),
        doubts="The preprocessor was read in a copy of the repository, not in the original.",
    ),
    _clip(
        "omiclip",
        "coca_ViT-L-14",
        768,
        "hub:WangGuangyuLab/Loki",
        file="checkpoint.pt",
        licence="not checked",
        gated=None,
        mpp=None,
        pickle=True,
        notes="The checkpoint is a pickle: it loads only with consent and its hash.",
        doubts="Licence and gate were not checked. Preprocessing is open_clip's default.",
    ),
)
