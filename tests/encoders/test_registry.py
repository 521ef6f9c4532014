"""Every name, what is known of it, and how names are found."""

from __future__ import annotations

import importlib
import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from wsistore.encoders import EncoderRegistry, encoder_registry, load_encoder
from wsistore.encoders.aliases import ALIASES
from wsistore.errors import UsageError

# The names of the seed, as it writes them on its command line.
SEED = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnext_large",
    "vit_b_16",
    "vit_b_32",
    "vit_l_16",
    "vit_l_32",
    "vit_h_14",
    "dinov2_small",
    "dinov2_base",
    "dinov2_large",
    "dinov2_giant",
    "dinov3_vits16",
    "dinov3_vits16_plus",
    "dinov3_vitb16",
    "dinov3_vitl16",
    "dinov3_vitl16_sat",
    "dinov3_vith16_plus",
    "dinov3_vit7b16",
    "dinov3_vit7b16_sat",
    "uni_v1",
    "uni_v2",
    "biomedclip",
    "clip_rn50",
    "clip_rn101",
    "clip_rn50x4",
    "clip_rn50x16",
    "clip_rn50x64",
    "clip_vit_b_32",
    "clip_vit_b_16",
    "clip_vit_l_14",
    "clip_vit_l_14_336",
    "plip",
    "medsiglip",
    "phikon_v1",
    "phikon_v2",
    "virchow_v1",
    "virchow_v2",
    "prov_gigapath",
    "midnight",
    "musk",
    "openmidnight",
    "pathorchestra",
    "h_optimus_0",
    "h_optimus_1",
    "h0_mini",
    "hibou_b",
    "hibou_l",
    "quilt_b_32",
    "quilt_b_16",
    "quilt_b_16_pmb",
    "lunit_resnet50_bt",
    "lunit_resnet50_swav",
    "lunit_resnet50_mocov2",
    "lunit_vit_small_patch16_dino",
    "lunit_vit_small_patch8_dino",
]
WANTED = ["conch_v1", "conch_v1_5", "chief", "omiclip", "ctranspath"]  # its to-do list

IN = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OA = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
H5 = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
HO = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HB = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
SAT = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
BL, BC = "bilinear", "bicubic"

# Transcribed by hand from the notes on sources, not from the code:
# name: (resize, crop, interpolation, norm, pooling, dim, gated, µm/px)
TABLE = {
    "resnet18": (256, 224, BL, IN, "gap", 512, False, None),
    "resnet34": (256, 224, BL, IN, "gap", 512, False, None),
    "resnet50": (232, 224, BL, IN, "gap", 2048, False, None),
    "resnet101": (232, 224, BL, IN, "gap", 2048, False, None),
    "resnet152": (232, 224, BL, IN, "gap", 2048, False, None),
    "convnext_tiny": (236, 224, BL, IN, "norm", 768, False, None),
    "convnext_small": (230, 224, BL, IN, "norm", 768, False, None),
    "convnext_base": (232, 224, BL, IN, "norm", 1024, False, None),
    "convnext_large": (232, 224, BL, IN, "norm", 1536, False, None),
    "vit_b_16": (256, 224, BL, IN, "cls", 768, False, None),
    "vit_b_32": (256, 224, BL, IN, "cls", 768, False, None),
    "vit_l_16": (242, 224, BL, IN, "cls", 1024, False, None),
    "vit_l_32": (256, 224, BL, IN, "cls", 1024, False, None),
    "vit_h_14": (518, 518, BC, IN, "cls", 1280, False, None),
    "dinov2_small": (256, 224, BC, IN, "cls", 384, False, None),
    "dinov2_base": (256, 224, BC, IN, "cls", 768, False, None),
    "dinov2_large": (256, 224, BC, IN, "cls", 1024, False, None),
    "dinov2_giant": (256, 224, BC, IN, "cls", 1536, False, None),
    "dinov3_vits16": (256, 256, BC, IN, "cls", 384, True, None),
    "dinov3_vits16_plus": (256, 256, BC, IN, "cls", 384, True, None),
    "dinov3_vitb16": (256, 256, BC, IN, "cls", 768, True, None),
    "dinov3_vitl16": (256, 256, BC, IN, "cls", 1024, True, None),
    "dinov3_vitl16_sat": (256, 256, BC, SAT, "cls", 1024, True, None),
    "dinov3_vith16_plus": (256, 256, BC, IN, "cls", 1280, True, None),
    "dinov3_vit7b16": (256, 256, BC, IN, "cls", 4096, True, None),
    "dinov3_vit7b16_sat": (256, 256, BC, SAT, "cls", 4096, True, None),
    "uni_v1": (224, 224, BL, IN, "cls", 1024, True, 0.5),
    "uni_v2": (224, 224, BL, IN, "cls", 1536, True, 0.5),
    "virchow_v1": (224, 224, BC, IN, "cls+mean", 2560, True, 0.5),
    "virchow_v1_cls": (224, 224, BC, IN, "cls", 1280, True, 0.5),
    "virchow_v2": (224, 224, BC, IN, "cls+mean", 2560, True, 0.5),
    "virchow_v2_cls": (224, 224, BC, IN, "cls", 1280, True, 0.5),
    "prov_gigapath": (256, 224, BC, IN, "cls", 1536, True, 0.5),
    "phikon_v1": (224, 224, BL, IN, "cls", 768, False, 0.5),
    "phikon_v2": (224, 224, BC, IN, "cls", 1024, False, 0.5),
    "midnight": (224, 224, BL, H5, "cls+mean", 3072, False, 0.5),
    "midnight_cls": (224, 224, BL, H5, "cls", 1536, False, 0.5),
    "openmidnight": (224, 224, BL, IN, "cls", 1536, True, None),
    "musk": (384, 384, BC, H5, "single-scale", 1024, True, 0.5),
    "pathorchestra": (224, 224, BL, IN, "cls", 1024, True, 0.5),
    "h_optimus_0": (224, 224, BC, HO, "cls", 1536, True, 0.5),
    "h_optimus_1": (224, 224, BC, HO, "cls", 1536, True, 0.5),
    "h0_mini": (224, 224, BC, HO, "cls+mean", 1536, True, 0.5),
    "h0_mini_cls": (224, 224, BC, HO, "cls", 768, True, 0.5),
    "hibou_b": (224, 224, BC, HB, "cls", 768, True, 0.5),
    "hibou_l": (224, 224, BC, HB, "cls", 1024, True, 0.5),
    "lunit_resnet50_bt": (224, 224, BL, IN, "gap", 2048, False, 0.5),
    "lunit_resnet50_swav": (224, 224, BL, IN, "gap", 2048, False, 0.5),
    "lunit_resnet50_mocov2": (224, 224, BL, IN, "gap", 2048, False, 0.5),
    "lunit_vit_small_patch16_dino": (224, 224, BC, H5, "cls", 384, False, 0.5),
    "lunit_vit_small_patch8_dino": (224, 224, BC, IN, "cls", 384, False, 0.5),
    "conch_v1": (448, 448, BC, OA, "attention", 512, True, 0.5),
    "conch_v1_5": (448, 448, BL, IN, "attention", 768, True, 0.5),
    "ctranspath": (224, 224, BC, IN, "gap", 768, False, 1.0),
    "chief": (224, 224, BC, IN, "gap", 768, False, 1.0),
    "omiclip": (224, 224, BC, OA, "projection", 768, None, None),
    "clip_rn50": (224, 224, BC, OA, "projection", 1024, False, None),
    "clip_rn101": (224, 224, BC, OA, "projection", 512, False, None),
    "clip_rn50x4": (288, 288, BC, OA, "projection", 640, False, None),
    "clip_rn50x16": (384, 384, BC, OA, "projection", 768, False, None),
    "clip_rn50x64": (448, 448, BC, OA, "projection", 1024, False, None),
    "clip_vit_b_32": (224, 224, BC, OA, "projection", 512, False, None),
    "clip_vit_b_16": (224, 224, BC, OA, "projection", 512, False, None),
    "clip_vit_l_14": (224, 224, BC, OA, "projection", 768, False, None),
    "clip_vit_l_14_336": (336, 336, BC, OA, "projection", 768, False, None),
    "plip": (224, 224, BC, OA, "projection", 512, False, 0.5),
    "quilt_b_32": (224, 224, BC, OA, "projection", 512, False, 0.5),
    "quilt_b_16": (224, 224, BC, OA, "projection", 512, False, 0.5),
    "quilt_b_16_pmb": (224, 224, BC, OA, "projection", 512, False, 0.5),
    "biomedclip": (224, 224, BC, OA, "projection", 512, False, 0.5),
    "medsiglip": (448, 448, BC, H5, "attention", 1152, True, None),
}
LICENCES = {
    "resnet50": "BSD-3-Clause",
    "dinov2_base": "Apache-2.0",
    "dinov3_vitl16": "DINOv3",
    "uni_v2": "CC-BY-NC-ND-4.0",
    "virchow_v2": "CC-BY-NC-ND-4.0",
    "h_optimus_0": "Apache-2.0",
    "h_optimus_1": "CC-BY-NC-ND-4.0",
    "midnight": "MIT",
    "phikon_v2": "Owkin",
    "ctranspath": "GPL-3.0",
    "lunit_resnet50_bt": "Lunit",
    "medsiglip": "Health AI",
    "plip": "MIT",
}


@pytest.fixture(scope="module")
def registry():
    return encoder_registry()


@pytest.mark.parametrize("name", SEED + WANTED)
def test_every_name_of_the_seed_is_known(registry, name):
    assert registry.get(name).name == name
    assert name in TABLE


def test_the_table_is_whole(registry):
    assert set(registry.names()) == {*TABLE, "colour-stats", "null"}
    assert len(TABLE) >= 60


@pytest.mark.parametrize("name", TABLE)
def test_an_entry_is_as_the_sources_say(registry, name):
    entry = registry.get(name)
    resize, crop, interpolation, norm, pooling, dim, gated, mpp = TABLE[name]
    told = entry.preprocessing
    assert (told.size, told.crop, told.interpolation) == (resize, crop, interpolation)
    assert (told.mean, told.std) == norm
    assert (entry.pooling, entry.dim, entry.gated, entry.mpp) == (pooling, dim, gated, mpp)
    assert entry.licence
    assert entry.packages
    assert entry.source.partition(":")[0] in {"hub", "torchvision", "file"}
    assert entry.file


@pytest.mark.parametrize(("name", "licence"), LICENCES.items())
def test_licences(registry, name, licence):
    assert licence in registry.get(name).licence


@pytest.mark.parametrize(
    ("name", "pooling", "dim"),
    [
        ("h0_mini", "cls", 768),
        ("midnight", "cls", 1536),
        ("virchow_v2", "cls", 1280),
        ("musk", "multi-scale", 2048),
        ("phikon_v2", "cls+mean", 2048),
    ],
)
def test_other_poolings(registry, name, pooling, dim):
    assert registry.get(name).dims[pooling] == dim


def test_openai_weights_want_quick_gelu(registry):
    openai = [e for e in registry.entries.values() if e.source.endswith(".openai")]
    assert len(openai) == 9
    assert all(entry.arguments["quick_gelu"] for entry in openai)


def test_what_is_dangerous_is_marked(registry):
    entries = registry.entries.values()
    assert {e.name for e in entries if e.remote_code} == {"hibou_b", "hibou_l", "conch_v1_5"}
    assert {e.name for e in entries if e.pickle} == {"omiclip"}


def test_pinned_revisions_are_commits_and_hashes_whole(registry):
    for entry in registry.entries.values():
        assert entry.revision is None or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
        assert entry.file_sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.file_sha256)
    assert sum(entry.revision is not None for entry in registry.entries.values()) >= 20


def test_disputed_entries_say_so(registry):
    for name in ["virchow_v1", "lunit_resnet50_bt", "musk", "h_optimus_0", "plip", "hibou_b"]:
        assert registry.get(name).doubts


def test_entries_travel(registry):
    for entry in registry.entries.values():
        assert json.loads(json.dumps(entry.record()))["name"] == entry.name
        assert pickle.loads(pickle.dumps(entry)) == entry


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("uni", "uni_v1"),
        ("UNI2-h", "uni_v2"),
        ("virchow2", "virchow_v2"),
        ("gigapath", "prov_gigapath"),
        ("H-optimus-0", "h_optimus_0"),
        ("chief-ctranspath", "chief"),
        ("conch_v15", "conch_v1_5"),
        ("ResNet18", "resnet18"),
        ("color-stats", "colour-stats"),
        (" colour_stats ", "colour-stats"),
    ],
)
def test_other_spellings(registry, spelling, name):
    assert registry.get(spelling).name == name
    assert spelling in registry


def test_aliases_lead_somewhere_and_hide_no_name(registry):
    for alias, name in ALIASES.items():
        assert name in registry.entries
        assert alias not in registry.entries
        assert alias == alias.lower().replace("-", "_")


@pytest.mark.parametrize(
    ("wrong", "close"),
    [("resnet19", "resnet18"), ("unii_v2", "uni_v2"), ("dinov3_vitl", "dinov3_vitl16")],
)
def test_an_unknown_name_meets_close_ones(wrong, close):
    with pytest.raises(UsageError, match=f"there is no encoder '{wrong}'") as caught:
        load_encoder(wrong)
    assert close in caught.value.hint


def test_a_name_that_is_like_none_meets_the_list():
    with pytest.raises(UsageError, match="wsistore encoders"):
        load_encoder("zzzzzzzz")


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "ä", "x" * 101])
def test_bad_names_are_refused(registry, name):
    with pytest.raises(UsageError, match="can't be the name"):
        EncoderRegistry().add(replace(registry.get("null"), name=name))


@pytest.mark.parametrize("name", ["null", "NULL"])
def test_a_name_is_taken_once(registry, name):
    own = EncoderRegistry()
    own.add(registry.get("null"))
    with pytest.raises(UsageError, match="known already"):
        own.add(replace(registry.get("null"), name=name))


def test_an_alias_is_no_free_name(registry):
    own = EncoderRegistry()
    own.add(registry.get("uni_v1"))
    with pytest.raises(UsageError, match="known already"):
        own.add(replace(registry.get("null"), name="uni"))


def test_importing_the_room_is_light():
    code = (
        "import sys, wsistore.encoders as e; e.encoder_registry().get('uni'); "
        "dir(e); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    heavy = {"torch", "timm", "open_clip", "transformers", "torchvision", "cv2", "dask", "zarr"}
    assert not loaded & heavy
    assert not {name for name in loaded if name.startswith(("wsistore.slides", "wsistore.tiles"))}


def test_public_names_are_there():
    room = importlib.import_module("wsistore.encoders")
    assert dir(room) == sorted(room.__all__)
    assert all(getattr(room, name) is not None for name in room.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = room.nothing_such
