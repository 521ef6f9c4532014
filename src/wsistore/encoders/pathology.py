"""Registry: vision models trained on pathology.

Sources: the model cards and repositories named in `source`, as read in mahmoodlab/UNI,
prov-gigapath, owkin/HistoSSLscaling, kaiko-ai/Midnight, lilab-stanford/MUSK,
bioptimus/releases, HistAI/hibou and mahmoodlab/CONCH, and as transcribed with pinned
revisions and hashes by CraigMyles/raw2features (MIT). No weights were at hand here: each
licence and gate is as those sources say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wsistore.encoders.entry import H_OPTIMUS, HALF, HIBOU, IMAGENET, LUNIT, EncoderEntry, Family
from wsistore.encoders.model import Interpolation, Triple

_NC_ND = "CC-BY-NC-ND-4.0"
_LUNIT_LICENCE = "Lunit public licence (non-commercial)"
_OWKIN_LICENCE = "Owkin non-commercial licence"
_GATED_CONVENTION = "0.5 µm/px is the convention; the card states none."
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}


def _entry(
    name: str,
    family: Family,
    architecture: str,
    dim: int,
    *,
    hub: str,
    revision: str | None,
    sha256: str | None,
    norm: tuple[Triple, Triple],
    interpolation: Interpolation,
    licence: str,
    gated: bool | None,
    file: str = "model.safetensors",
    size: int = 224,
    resize: int | None = None,
    pooling: str = "cls",
    poolings: Mapping[str, int] | None = None,
    arguments: Mapping[str, Any] | None = None,
    mpp: float | None = 0.5,
    packages: tuple[str, ...] = ("timm",),
    **more: Any,
) -> EncoderEntry:
    return EncoderEntry(
        name=name,
        group="pathology",
        family=family,
        architecture=architecture,
        arguments=arguments or {},
        dim=dim,
        pooling=pooling,
        poolings=poolings or {},
        input_size=size,
        resize=resize or size,
        interpolation=interpolation,
        mean=norm[0],
        std=norm[1],
        mpp=mpp,
        source=hub,
        file=file,
        revision=revision,
        file_sha256=sha256,
        licence=licence,
        gated=gated,
        packages=packages,
        **more,
    )


_VIT_HUGE = {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, **_SWIGLU}
_VIT_GIANT = {"img_size": 224, "init_values": 1e-5}

UNI = (
    _entry(
        "uni_v1",
        "timm",
        "vit_large_patch16_224",
        1024,
        hub="hub:MahmoodLab/uni",
        revision="b55a5ec6cade1a39edfe6534189a9b8ca7a022f0",
        sha256="56ef09b44a25dc5c7eedc55551b3d47bcd17659a7a33837cf9abc9ec4e2ffb40",
        file="pytorch_model.bin",
        arguments={"init_values": 1e-5, "dynamic_img_size": True},
        norm=IMAGENET,
        interpolation="bilinear",
        licence=_NC_ND,
        gated=True,
    ),
    _entry(
        "uni_v2",
        "timm",
        "vit_giant_patch14_224",
        1536,
        hub="hub:MahmoodLab/UNI2-h",
        revision="d517a8dd47902dd7c308b3c36f63bce47e7b9a43",
        sha256="6e077eda234bebc595868d918d3458d9dd32a050199b0ff04443b2f46a0a3b1e",
        file="pytorch_model.bin",
        arguments={
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
        norm=IMAGENET,
        interpolation="bilinear",
        licence=_NC_ND,
        gated=True,
        notes="8 register tokens.",
    ),
)

VIRCHOW = (
    _entry(
        "virchow_v1",
        "timm",
        "vit_huge_patch14_224",
        2560,
        hub="hub:paige-ai/Virchow",
        revision="19eebc84ae33e79f1b2d866e6ff90ae50e522f9a",
        sha256="3416891b37a2349a2d9ce7ecf00b64a6277011b41351436c1ceb0abb80805408",
        pooling="cls+mean",
        poolings={"cls": 1280},
        arguments=_VIT_HUGE,
        norm=IMAGENET,
        interpolation="bicubic",
        licence="Apache-2.0",
        gated=True,
        notes="No register tokens. The card computes in float16.",
        doubts="Another project gives the licence as CC-BY-NC-ND-4.0: check the card.",
    ),
    _entry(
        "virchow_v2",
        "timm",
        "vit_huge_patch14_224",
        2560,
        hub="hub:paige-ai/Virchow2",
        revision="3158645804b69e3f3bc4439d4116edddf0840a72",
        sha256="8d6cea947eb2418c3b0dff48cfb9b238e47744ab0dfca21b2b0637b140769b4b",
        pooling="cls+mean",
        poolings={"cls": 1280},
        arguments={**_VIT_HUGE, "reg_tokens": 4},
        norm=IMAGENET,
        interpolation="bicubic",
        licence=_NC_ND,
        gated=True,
        notes="4 register tokens, so patch tokens start at 5. Trained at 2, 1, 0.5 and "
        "0.25 µm/px. The card advises float16.",
    ),
)

GIGAPATH = (
    _entry(
        "prov_gigapath",
        "timm",
        "vit_giant_patch14_dinov2",
        1536,
        hub="hub:prov-gigapath/prov-gigapath",
        revision="eba85dd46097c3eedfcc2a3a9a930baecb6bcc19",
        sha256="877947214318afa9e011754b74bbc3894a1f480a253afc7bc8045b8321dedd63",
        file="pytorch_model.bin",
        resize=256,
        tile_size=256,
        arguments={
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "init_values": 1e-5,
            "mlp_ratio": 5.33334,
        },
        norm=IMAGENET,
        interpolation="bicubic",
        licence="Apache-2.0, and the card limits use to research",
        gated=True,
        notes="Made for tiles of 256 px, of which the middle 224 px are seen.",
        doubts="Upstream asks for timm >= 1.0.3, others pin 0.9.16: equality of the numbers "
        "was not checked.",
    ),
)

PHIKON = (
    _entry(
        "phikon_v1",
        "transformers",
        "ViTModel",
        768,
        hub="hub:owkin/phikon",
        revision="057cc0295895c2df3dd7681a89680da6015cbefe",
        sha256="d01642bfeb683c6b039622eca273e0a8e4208065a4595b63edba178c1c4cfa68",
        poolings={"cls+mean": 1536},
        arguments={
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "image_size": 224,
            "patch_size": 16,
        },
        norm=IMAGENET,
        interpolation="bilinear",
        licence=_OWKIN_LICENCE,
        gated=False,
        packages=("transformers",),
    ),
    _entry(
        "phikon_v2",
        "transformers",
        "Dinov2Model",
        1024,
        hub="hub:owkin/phikon-v2",
        revision="2ae989a9c40cffaa27f0a6cb29cc94d1d6f9a5fd",
        sha256="261ae680fa699b3b951597fd57aa19c02ef735805acb104b93af69b36d928569",
        poolings={"cls+mean": 2048},
        arguments={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 16,
        },
        norm=IMAGENET,
        interpolation="bicubic",
        licence=_OWKIN_LICENCE,
        gated=False,
        packages=("transformers",),
        doubts="The preprocessor of the repository is bicubic; another tool uses bilinear.",
    ),
)

MIDNIGHT = (
    _entry(
        "midnight",
        "transformers",
        "Dinov2Model",
        3072,
        hub="hub:kaiko-ai/midnight",
        revision="adc6b15679c981cce6f9b018bbad09d16eeeda9f",
        sha256="52c14f20386ca17c2af8a7bf32c31c352668a8fbf6aefc88d86be6eaa0c72ca1",
        pooling="cls+mean",
        poolings={"cls": 1536},
        arguments={
            "hidden_size": 1536,
            "num_hidden_layers": 40,
            "num_attention_heads": 24,
            "image_size": 224,
            "patch_size": 14,
            "use_swiglu_ffn": True,
        },
        norm=HALF,
        interpolation="bilinear",
        licence="MIT",
        gated=False,
        packages=("transformers",),
        notes="Trained at several pixel sizes. Other tools take the class token alone (1536).",
    ),
    _entry(
        "openmidnight",
        "timm",
        "vit_giant_patch14_reg4_dinov2",
        1536,
        hub="hub:SophontAI/OpenMidnight",
        revision="87189e6674d397a14a5cd342c97b1a1615a185aa",
        sha256="b57121fc10e2b04c9e85514fa5e4c23b75329301e05bfc756c3bca57312505be",
        file="teacher_checkpoint_load.pt",
        poolings={"cls+mean": 3072},
        arguments=_VIT_GIANT,
        norm=IMAGENET,
        interpolation="bilinear",
        licence="Apache-2.0",
        gated=True,
        mpp=None,
        notes="The checkpoint in DINOv2's names is converted to timm's, so no code of the "
        "hub runs. The authors state no pixel size.",
        doubts="The conversion was tested on random weights only.",
    ),
)

MUSK = (
    _entry(
        "musk",
        "musk",
        "musk_large_patch16_384",
        1024,
        hub="hub:xiangjx/musk",
        revision="de1ffed28608c197d2903f6fa42b491a3fbf0fb8",
        sha256="83d9f2429ec3f04fc3bdc4bc6d8e6c78035ea196fdce9fe05d76ea0e8cad0375",
        size=384,
        pooling="single-scale",
        poolings={"multi-scale": 2048},
        norm=HALF,
        interpolation="bicubic",
        licence=_NC_ND,
        gated=True,
        packages=("musk (git+https://github.com/lilab-stanford/MUSK)", "fairscale", "timm"),
        notes="1024 numbers with ms_aug=False; upstream's example for linear probes joins "
        "two scales (ms_aug=True), which gives 2048. Not normalised (out_norm=False).",
        doubts=_GATED_CONVENTION + " Loading was not run here: its package is absent.",
    ),
)

PATHORCHESTRA = (
    _entry(
        "pathorchestra",
        "timm",
        "vit_large_patch16_224",
        1024,
        hub="hub:AI4Pathology/PathOrchestra",
        revision="8280b11a63919f25e4610f3315c2646b5f38bbb5",
        sha256="3bcf28a162ed187d63ce42b41096eb298702b6d1be8640555660b053354db912",
        file="pytorch_model.bin",
        arguments={"init_values": 1e-5, "dynamic_img_size": True},
        norm=IMAGENET,
        interpolation="bilinear",
        licence=_NC_ND,
        gated=True,
        notes="1024 numbers (a table that says 512 is wrong).",
        doubts=_GATED_CONVENTION,
    ),
)

_H_OPTIMUS_DOUBT = "Bicubic by its configuration; another tool resizes bilinearly."
BIOPTIMUS = (
    _entry(
        "h_optimus_0",
        "timm",
        "vit_giant_patch14_reg4_dinov2",
        1536,
        hub="hub:bioptimus/H-optimus-0",
        revision="b145cc1e6c6b30d3251aa8b1f844e6974188a743",
        sha256="bf47b8467403079798661601b6ab06533be789da48d3f8b510aaefe2fbc55cd3",
        file="pytorch_model.bin",
        arguments=_VIT_GIANT,
        norm=H_OPTIMUS,
        interpolation="bicubic",
        licence="Apache-2.0",
        gated=True,
        notes="4 register tokens. The card computes in float16.",
        doubts=_H_OPTIMUS_DOUBT,
    ),
    _entry(
        "h_optimus_1",
        "timm",
        "vit_giant_patch14_reg4_dinov2",
        1536,
        hub="hub:bioptimus/H-optimus-1",
        revision="3592cb220dec7a150c5d7813fb56e68bd57473b9",
        sha256="c4f1e5b457ddf00679626053b0bf2899be6a19c3a04ad191c87ad1cdfd1abfe1",
        arguments=_VIT_GIANT,
        norm=H_OPTIMUS,
        interpolation="bicubic",
        licence=_NC_ND,
        gated=True,
        notes="4 register tokens. The card computes in float16.",
        doubts=_H_OPTIMUS_DOUBT,
    ),
    _entry(
        "h0_mini",
        "timm",
        "vit_base_patch14_reg4_dinov2",
        1536,
        hub="hub:bioptimus/H0-mini",
        revision="5b5cc0505d19ae558270045eb0df8c34df4d9609",
        sha256="5e4de45a6527a8160f7c21fe3105c987757efe30ce581e1f2cf5809476069ade",
        pooling="cls+mean",
        poolings={"cls": 768},
        arguments={
            "img_size": 224,
            "init_values": 1e-5,
            "reg_tokens": 4,
            "mlp_ratio": 5.33334,
            "dynamic_img_size": True,
            **_SWIGLU,
        },
        norm=H_OPTIMUS,
        interpolation="bicubic",
        licence=_NC_ND,
        gated=True,
        notes="The card recommends the class token (768: pooling 'cls', or h0_mini_cls).",
    ),
)

_HIBOU_DOUBT = (
    "Its code on the hub imports what transformers 5 removed: it needs transformers < 5. "
    "Whether its pooler_output is the class token is unchecked; the class token is taken. "
    + _GATED_CONVENTION
)
HIBOU_MODELS = (
    _entry(
        "hibou_b",
        "transformers",
        "AutoModel",
        768,
        hub="hub:histai/hibou-b",
        revision="7fdc8cce365ebfd9e7e60ee6ee9a8d4d59388f3c",
        sha256="2121db3cac83bc9abf13a458a37b0740e2ce725609ff8d4b8e6b6c56c30c3ab6",
        norm=HIBOU,
        interpolation="bicubic",
        licence="Apache-2.0",
        gated=True,
        packages=("transformers<5",),
        remote_code=True,
        doubts=_HIBOU_DOUBT + " Mean and deviation are those of hibou_l.",
    ),
    _entry(
        "hibou_l",
        "transformers",
        "AutoModel",
        1024,
        hub="hub:histai/hibou-L",
        revision="31a3b9fee16554c8552cb643d311733bce8faf7c",
        sha256="a63d1699448143ceccf2b7e1c4bf35b995c51f86ef8a6efb471af2eee210b79c",
        norm=HIBOU,
        interpolation="bicubic",
        licence="Apache-2.0",
        gated=True,
        packages=("transformers<5",),
        remote_code=True,
        doubts=_HIBOU_DOUBT,
    ),
)


def _lunit_resnet(method: str) -> EncoderEntry:
    return _entry(
        f"lunit_resnet50_{method}",
        "timm",
        "resnet50",
        2048,
        hub=f"hub:1aurent/resnet50.lunit_{method}",
        revision=None,
        sha256=None,
        pooling="gap",
        norm=IMAGENET,
        interpolation="bilinear",
        licence=_LUNIT_LICENCE,
        gated=False,
        notes="Trained at 0.5 and 0.25 µm/px.",
        doubts="ImageNet's mean and deviation are taken, as raw2features does; Lunit's own "
        f"training used {LUNIT[0]} and {LUNIT[1]}. raw2features also found other batch "
        "norm statistics in this mirror than in Lunit's own release files (.torch), which "
        "`weights=<file>` takes.",
    )


LUNIT_MODELS = (
    _lunit_resnet("bt"),
    _lunit_resnet("swav"),
    _lunit_resnet("mocov2"),
    _entry(
        "lunit_vit_small_patch16_dino",
        "timm",
        "vit_small_patch16_224",
        384,
        hub="hub:1aurent/vit_small_patch16_224.lunit_dino",
        revision="9ed09909d93f9d39a092d8e49717ae48f9b44e6f",
        sha256="a19eb37d6cf038a7e8a34c7e9ec50698d02759b2f49dd799492f6ce7e4cb5937",
        norm=HALF,
        interpolation="bicubic",
        licence=_LUNIT_LICENCE,
        gated=False,
        notes="Trained at 0.5 and 0.25 µm/px.",
        doubts=f"The configuration says 0.5; Lunit's own norm is {LUNIT[0]} and {LUNIT[1]}.",
    ),
    _entry(
        "lunit_vit_small_patch8_dino",
        "timm",
        "vit_small_patch8_224",
        384,
        hub="hub:1aurent/vit_small_patch8_224.lunit_dino",
        revision="c23bc01cfbe022bc1f2a8a9306125a07818e4eb4",
        sha256="0b7e0236ce430064b31485bbb6f85e661dc5eca0cde709e8f04d59f1c2b23e0b",
        norm=IMAGENET,
        interpolation="bicubic",
        licence=_LUNIT_LICENCE,
        gated=False,
        notes="Trained at 0.5 and 0.25 µm/px.",
        doubts="The configuration says ImageNet's mean and deviation; Lunit's own norm is "
        f"{LUNIT[0]} and {LUNIT[1]}.",
    ),
)

_SWIN = {
    "norm": IMAGENET,
    "interpolation": "bicubic",
    "pooling": "gap",
    "arguments": {"embed_layer": "ConvStem"},
    "mpp": 1.0,
}
CTRANSPATH = (
    _entry(
        "ctranspath",
        "timm",
        "swin_tiny_patch4_window7_224",
        768,
        hub="hub:1aurent/swin_tiny_patch4_window7_224.CTransPath",
        revision="59c740e4ed91dda4ebe094b64e4cd2e015c31810",
        sha256="158e29683f19cfb0018d040b95610802b640db60d38b00b25ea7db674cd141e4",
        licence="GPL-3.0, and 'non-commercial academic'",
        gated=False,
        notes="The authors advise 1 µm/px for use, and trained at 0.5.",
        **_SWIN,  # type: ignore[arg-type]
    ),
    _entry(
        "chief",
        "timm",
        "swin_tiny_patch4_window7_224",
        768,
        hub="file:CHIEF_CTransPath.pth, from the authors' repository hms-dbmi/CHIEF",
        revision=None,
        sha256=None,
        file="CHIEF_CTransPath.pth",
        licence="GPL-3.0 and 'non-commercial academic' (of CTransPath; CHIEF's unchecked)",
        gated=False,
        notes="The tile encoder of CHIEF: CTransPath's architecture, other weights. The "
        "file is fetched by hand and given as weights=<file>.",
        doubts="Names of its tensors are for an old timm: the conversion of the order of "
        "its downsampling layers was not run on the real file.",
        **_SWIN,  # type: ignore[arg-type]
    ),
)

CONCH = (
    _entry(
        "conch_v1",
        "conch",
        "conch_ViT-B-16",
        512,
        hub="hub:MahmoodLab/conch",
        revision="f9ca9f877171a28ade80228fb195ac5d79003357",
        sha256="40a9644b9ba0e83a74576e0a5e5f7313599fa9c9cdaf3c20f8a3e271b0e9ae7c",
        file="pytorch_model.bin",
        size=448,
        pooling="attention",
        norm=(
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        ),
        interpolation="bicubic",
        licence=_NC_ND,
        gated=True,
        packages=("conch (git+https://github.com/Mahmoodlab/CONCH.git)",),
        notes="encode_image without the contrastive projection, not normalised.",
        doubts=_GATED_CONVENTION + " Loading was not run here: its package is absent.",
    ),
    _entry(
        "conch_v1_5",
        "titan",
        "MahmoodLab/TITAN",
        768,
        hub="hub:MahmoodLab/TITAN",
        revision="dac6773d9961cfc75503440676ff157a2c6e8d2e",
        sha256="09daf1912a016512e084636f9c76eee7c42f5c1f09b0461bb76082a3e0fecfa5",
        file="conch_v1_5_pytorch_model.bin",
        size=448,
        tile_size=512,
        pooling="attention",
        norm=IMAGENET,
        interpolation="bilinear",
        licence=_NC_ND,
        gated=True,
        packages=("transformers", "timm", "einops", "einops-exts"),
        remote_code=True,
        notes="Part of TITAN, whose code on the hub builds it. Cut tiles of 512 px.",
        doubts="Loading was not run here. The hash is of the file of the encoder in TITAN.",
    ),
)


def _class_token(entry: EncoderEntry) -> EncoderEntry:
    """Return an entry for the class token alone, where the default has the mean as well."""
    return replace(
        entry,
        name=f"{entry.name}_cls",
        dim=entry.poolings["cls"],
        pooling="cls",
        poolings={entry.pooling: entry.dim},
        notes=f"{entry.name} with the class token alone.",
    )


ENTRIES: tuple[EncoderEntry, ...] = (
    *UNI,
    *VIRCHOW,
    *(_class_token(entry) for entry in VIRCHOW),
    *GIGAPATH,
    *PHIKON,
    *MIDNIGHT,
    _class_token(MIDNIGHT[0]),
    *MUSK,
    *PATHORCHESTRA,
    *BIOPTIMUS,
    _class_token(BIOPTIMUS[2]),
    *HIBOU_MODELS,
    *LUNIT_MODELS,
    *CTRANSPATH,
    *CONCH,
)
