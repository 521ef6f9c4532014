"""Architectures of the libraries, with random weights and with files of weights.

What a library computes by its own public way is what is computed here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsistore.encoders import (  # noqa: E402
    EncoderRegistry,
    encoder_registry,
    ensure_torchvision,
    load_encoder,
)
from wsistore.encoders.packages import missing_packages  # noqa: E402
from wsistore.encoders.pooling import pool_tokens  # noqa: E402
from wsistore.errors import SourceNotFoundError, UsageError, WeightsError  # noqa: E402

SMALL = [
    "resnet18",
    "convnext_tiny",
    "dinov2_small",
    "dinov3_vits16",
    "dinov3_vits16_plus",
    "clip_rn50",
    "lunit_vit_small_patch16_dino",
    "ctranspath",
]
TINY_VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
TINY_HF = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
TINY_CLIP = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
}
COMMON = {"input_size": 32, "resize": 32, "tile_size": None, "file_sha256": None}


def need(entry):
    lacking = missing_packages(entry)
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")


def tiny(base, **changes):
    """Return a registry with one entry, ``tiny``, like a real one but small."""
    entry = replace(encoder_registry().get(base), name="tiny", **{**COMMON, **changes})
    need(entry)
    registry = EncoderRegistry()
    registry.add(entry)
    return registry


def normalised(tiles, entry_name):
    entry = encoder_registry().get(entry_name)
    mean = torch.tensor(entry.mean).view(3, 1, 1)
    std = torch.tensor(entry.std).view(3, 1, 1)
    return (torch.from_numpy(tiles) / 255 - mean) / std


def close(found, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", SMALL)
def test_random_weights_give_the_stated_dimension(name, tiles):
    entry = encoder_registry().get(name)
    need(entry)
    encoder = load_encoder(name, weights="random")
    found = encoder.encode(tiles(2, entry.input_size))
    assert found.shape == (2, entry.dim)
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0
    assert encoder.fingerprint.startswith(f"{name}:random-0:")
    assert encoder.weights.seed == 0


VIT = ("lunit_vit_small_patch16_dino", {"arguments": TINY_VIT, "dim": 48})
REGISTERS = (
    "virchow_v2",
    {"arguments": {**TINY_VIT, "reg_tokens": 4}, "dim": 96, "poolings": {"cls": 48}},
)
DINOV2 = ("dinov2_small", {"arguments": TINY_HF, "dim": 48, "poolings": {"cls+mean": 96}})
DINOV3 = (
    "dinov3_vits16",
    {"arguments": {**TINY_HF, "num_register_tokens": 4}, "dim": 48, "poolings": {"cls+mean": 96}},
)
PHIKON = ("phikon_v1", {"arguments": TINY_HF, "dim": 48})
PLIP = ("plip", {"arguments": {**TINY_HF, "projection_dim": 24}, "dim": 24})
SIGLIP = ("medsiglip", {"arguments": TINY_HF, "dim": 48})
CLIP = ("clip_vit_b_32", {"arguments": TINY_CLIP, "dim": 24})
ALL = [VIT, REGISTERS, DINOV2, DINOV3, PHIKON, PLIP, SIGLIP, CLIP]
IDS = [base for base, _ in ALL]


@pytest.mark.parametrize(("base", "changes"), ALL, ids=IDS)
def test_features_do_not_depend_on_the_batch(base, changes, tiles):
    encoder = load_encoder("tiny", weights="random", registry=tiny(base, **changes))
    batch = tiles(7)
    whole = encoder.encode(batch)
    assert whole.shape == (7, changes["dim"])
    for n in (1, 2, 5):
        parts = np.concatenate([encoder.encode(batch[i : i + n]) for i in range(0, 7, n)])
        assert close(parts, whole)


@pytest.mark.parametrize(("base", "changes"), ALL, ids=IDS)
def test_random_weights_come_from_the_seed_alone(base, changes, tiles):
    registry = tiny(base, **changes)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one = load_encoder("tiny", weights="random", registry=registry)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    same = load_encoder("tiny", weights="random", registry=registry)
    other = load_encoder("tiny", weights="random", seed=1, registry=registry)
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint.partition(":random-0:")[2] != other.fingerprint.rpartition(":")[2]
    assert other.fingerprint.startswith("tiny:random-1:")
    batch = tiles(2)
    assert np.array_equal(one.encode(batch), same.encode(batch))
    assert not np.array_equal(one.encode(batch), other.encode(batch))


@pytest.mark.slow
def test_random_weights_are_the_same_in_every_process():
    need(encoder_registry().get("resnet18"))
    code = (
        "from wsistore.encoders import load_encoder;"
        "print(load_encoder('resnet18', weights='random', threads={n}).fingerprint)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code.format(n=n)], capture_output=True, text=True, check=True
        )
        for n in (1, 2)
    ]
    here = load_encoder("resnet18", weights="random").fingerprint
    assert {run.stdout.strip() for run in runs} == {here}


def saved(module, path, prefix=""):
    """Write the state of a module and return the path."""
    state = {prefix + name: one.clone() for name, one in module.state_dict().items()}
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save(state, path)
    return path


def fresh(module):
    """Give a module numbers that differ from any initialisation."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.2 + 0.01)
    return module.eval()


# --- torchvision ---------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["resnet18", "convnext_tiny"])
def test_torchvision_without_its_classifier(base, tiles, tmp_path):
    need(encoder_registry().get(base))
    ensure_torchvision()
    from torchvision import models

    torch.manual_seed(0)
    full = models.get_model(base, weights=None).eval()
    path = saved(full, tmp_path / "w.pth")
    encoder = load_encoder(base, weights=path)
    batch = tiles(2, 224)
    found = torch.from_numpy(encoder.encode(batch))
    head = full.fc if base == "resnet18" else full.classifier[2]
    with torch.no_grad():
        expected = full(normalised(batch, base))
        assert close(head(found).numpy(), expected)
    assert encoder.weights.kind == "file"
    assert encoder.weights.source == "w.pth"
    assert str(tmp_path) not in json.dumps(encoder.describe())


# --- timm ----------------------------------------------------------------------------------


def timm_model(**more):
    ensure_torchvision()
    timm = pytest.importorskip("timm")

    return fresh(timm.create_model("vit_small_patch16_224", num_classes=0, **TINY_VIT, **more))


def test_timm_class_token(tiles, tmp_path):
    registry = tiny(*VIT[:1], **VIT[1])
    model = timm_model()
    encoder = load_encoder("tiny", weights=saved(model, tmp_path / "w.pt"), registry=registry)
    batch = tiles(3)
    with torch.no_grad():
        assert close(encoder.encode(batch), model(normalised(batch, VIT[0])))
    assert "no config.json beside w.pt" in encoder.notes[0]


def test_register_tokens_are_in_neither_part(tiles, tmp_path):
    architecture = {"architecture": "vit_small_patch16_224"}
    registry = tiny("virchow_v2", **{**REGISTERS[1], **architecture})
    model = timm_model(reg_tokens=4)
    path = saved(model, tmp_path / "w.pt")
    batch = tiles(3)
    with torch.no_grad():
        tokens = model.forward_features(normalised(batch, "virchow_v2"))
    assert tokens.shape == (3, 1 + 4 + 4, 48)
    both = load_encoder("tiny", weights=path, registry=registry)
    assert close(both.encode(batch), torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1))
    alone = load_encoder("tiny", weights=path, registry=registry, pooling="cls")
    assert close(alone.encode(batch), tokens[:, 0])
    assert (alone.dim, both.dim) == (48, 96)
    assert alone.fingerprint != both.fingerprint
    with pytest.raises(UsageError, match="It has cls\\+mean, cls"):
        load_encoder("tiny", weights=path, registry=registry, pooling="max")


def test_the_configuration_beside_the_weights_wins(tiles, tmp_path):
    registry = tiny(*VIT[:1], **VIT[1])
    model = timm_model(init_values=0.5)
    path = saved(model, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="left over"):
        load_encoder("tiny", weights=path, registry=registry)
    config = {
        "architecture": "vit_small_patch16_224",
        "num_classes": 0,
        "model_args": {**TINY_VIT, "init_values": 0.5, "num_classes": 10},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = load_encoder("tiny", weights=tmp_path, registry=registry)
    batch = tiles(2)
    with torch.no_grad():
        assert close(encoder.encode(batch), model(normalised(batch, VIT[0])))
    assert encoder.notes == []


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_configuration(tmp_path, text):
    registry = tiny(*VIT[:1], **VIT[1])
    path = saved(timm_model(), tmp_path / "w.pt")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_encoder("tiny", weights=path, registry=registry)


def test_checkpoints_in_the_names_of_dinov2_are_converted(tiles, tmp_path):
    ensure_torchvision()
    timm = pytest.importorskip("timm")

    arguments = {**TINY_VIT, "init_values": 1e-5}
    registry = tiny(
        "openmidnight",
        architecture="vit_small_patch14_reg4_dinov2",
        arguments=arguments,
        dim=48,
        poolings={},
    )
    model = fresh(timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, **arguments))
    state = dict(model.state_dict())
    # DINOv2 adds the position of the class token when it runs; timm has it added already.
    shift = torch.full((1, 1, 48), 0.125)
    state["pos_embed"] = torch.cat([shift, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - shift
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.zeros(1, 48)
    torch.save(state, tmp_path / "w.pt")
    encoder = load_encoder("tiny", weights=tmp_path / "w.pt", registry=registry)
    batch = tiles(2)
    with torch.no_grad():
        expected = model.forward_features(normalised(batch, "openmidnight"))[:, 0]
    assert close(encoder.encode(batch), expected)


def test_names_of_an_older_swin_are_converted(tiles, tmp_path):
    arguments = {"embed_layer": "ConvStem", "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}
    changes = {"arguments": {**arguments, "img_size": 64}, "dim": 48}
    registry = tiny("chief", **changes, input_size=64, resize=64)
    encoder = load_encoder("tiny", weights="random", seed=4, registry=registry)
    batch = tiles(2, 64)
    assert encoder.encode(batch).shape == (2, 48)
    state = {}
    for name, tensor in encoder._module.state_dict().items():
        older = name.replace("layers.1.downsample", "layers.0.downsample")
        state[older] = tensor.clone()
    assert state.keys() != encoder._module.state_dict().keys()
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(2, 2)
    torch.save({"model": state}, tmp_path / "w.pth")
    loaded = load_encoder("tiny", weights=tmp_path / "w.pth", registry=registry)
    assert np.array_equal(loaded.encode(batch), encoder.encode(batch))


def test_weights_of_another_model_are_refused(tmp_path):
    registry = tiny(*VIT[:1], **VIT[1])
    torch.save({"something.weight": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"missing .* and 1 tensors left over"):
        load_encoder("tiny", weights=tmp_path / "w.pt", registry=registry)
    state = dict(timm_model().state_dict())
    del state["norm.weight"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r": 1 tensors missing \(norm\.weight\)"):
        load_encoder("tiny", weights=tmp_path / "w.pt", registry=registry)
    state = dict(timm_model().state_dict())
    state["pos_embed"] = torch.zeros(1, 9, 48)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"pos_embed is \(1, 9, 48\), expected \(1, 5, 48\)"):
        load_encoder("tiny", weights=tmp_path / "w.pt", registry=registry)


def test_a_classifier_in_the_file_is_dropped(tmp_path):
    registry = tiny(*VIT[:1], **VIT[1])
    state = {**timm_model().state_dict(), "head.weight": torch.ones(2, 48)}
    torch.save(state, tmp_path / "w.pt")
    assert load_encoder("tiny", weights=tmp_path / "w.pt", registry=registry).dim == 48


# --- transformers --------------------------------------------------------------------------


def hf_model(base, changes):
    need(encoder_registry().get(base))
    ensure_torchvision()
    import transformers

    config = {
        "dinov2_small": "Dinov2Config",
        "dinov3_vits16": "DINOv3ViTConfig",
        "phikon_v1": "ViTConfig",
        "plip": "CLIPVisionConfig",
        "medsiglip": "SiglipVisionConfig",
    }[base]
    made = getattr(transformers, config)(**changes["arguments"])
    return fresh(getattr(transformers, encoder_registry().get(base).architecture)(made))


def expected_of(model, base, batch):
    with torch.no_grad():
        out = model(pixel_values=normalised(batch, base))
    if base == "plip":
        return out.image_embeds
    return out.pooler_output if base == "medsiglip" else out.last_hidden_state[:, 0]


@pytest.mark.parametrize(("base", "changes"), [DINOV2, DINOV3, PHIKON, PLIP, SIGLIP])
@pytest.mark.parametrize("way", ["their save", "bare tensors"])
def test_transformers(base, changes, way, tiles, tmp_path):
    registry = tiny(base, **changes)
    model = hf_model(base, changes)
    if way == "their save":
        model.save_pretrained(tmp_path)
        path = tmp_path
    else:
        path = saved(model, tmp_path / "w.pt")
    encoder = load_encoder("tiny", weights=path, registry=registry)
    batch = tiles(3)
    assert close(encoder.encode(batch), expected_of(model, base, batch))
    assert encoder.notes == ([] if way == "their save" else encoder.notes[:1])


@pytest.mark.parametrize(("base", "changes", "prefix"), [(*DINOV2, 1), (*DINOV3, 5)])
def test_transformers_mean_of_patch_tokens(base, changes, prefix, tiles, tmp_path):
    registry = tiny(base, **changes)
    model = hf_model(base, changes)
    path = saved(model, tmp_path / "w.pt")
    encoder = load_encoder("tiny", weights=path, registry=registry, pooling="cls+mean")
    batch = tiles(2)
    with torch.no_grad():
        tokens = model(pixel_values=normalised(batch, base)).last_hidden_state
    assert tokens.shape == (2, prefix + 16, 48)
    expected = torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1)
    assert close(encoder.encode(batch), expected)


def test_weights_in_several_files(tiles, tmp_path):
    registry = tiny(*DINOV2[:1], **DINOV2[1])
    model = hf_model(*DINOV2)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    names = set(json.loads(index.read_text())["weight_map"].values())
    assert len(names) > 2
    encoder = load_encoder("tiny", weights=tmp_path, registry=registry)
    batch = tiles(2)
    assert close(encoder.encode(batch), expected_of(model, DINOV2[0], batch))
    (tmp_path / min(names)).unlink()
    with pytest.raises(SourceNotFoundError, match=min(names)):
        load_encoder("tiny", weights=tmp_path, registry=registry)


def test_a_whole_clip_gives_its_image_tower(tiles, tmp_path):
    registry = tiny(*PLIP[:1], **PLIP[1])
    ensure_torchvision()
    import transformers

    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    vision = dict(TINY_HF)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    model = fresh(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path)
    encoder = load_encoder("tiny", weights=tmp_path, registry=registry)
    batch = tiles(2)
    with torch.no_grad():
        found = model.get_image_features(pixel_values=normalised(batch, "plip"))
    expected = found if isinstance(found, torch.Tensor) else found.pooler_output
    assert close(encoder.encode(batch), expected)


def test_transformers_weights_of_another_model(tmp_path):
    registry = tiny(*DINOV2[:1], **DINOV2[1])
    torch.save({"embeddings.cls_token": torch.zeros(1, 1, 48)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="missing"):
        load_encoder("tiny", weights=tmp_path / "w.pt", registry=registry)


# --- open_clip -----------------------------------------------------------------------------


def clip_model(quick_gelu=True):
    need(encoder_registry().get("clip_vit_b_32"))
    ensure_torchvision()
    from open_clip.model import CLIP

    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
    return fresh(CLIP(24, TINY_CLIP["vision_cfg"], text, quick_gelu=quick_gelu))


def test_open_clip_image_tower(tiles, tmp_path):
    registry = tiny(*CLIP[:1], **CLIP[1])
    model = clip_model()
    encoder = load_encoder("tiny", weights=saved(model, tmp_path / "w.pt"), registry=registry)
    batch = tiles(3)
    with torch.no_grad():
        expected = model.encode_image(normalised(batch, "clip_vit_b_32"))
        other = clip_model(quick_gelu=False).encode_image(normalised(batch, "clip_vit_b_32"))
    assert close(encoder.encode(batch), expected)
    assert not close(encoder.encode(batch), other)


def test_openai_weights_without_quick_gelu_are_an_error(tmp_path):
    registry = tiny(*CLIP[:1], **CLIP[1])
    saved(clip_model(), tmp_path / "open_clip_model.safetensors")
    config = {"model_cfg": {**TINY_CLIP, "quick_gelu": False}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="needs QuickGELU"):
        load_encoder("tiny", weights=tmp_path, registry=registry)
    config = {"model_cfg": TINY_CLIP}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert load_encoder("tiny", weights=tmp_path, registry=registry).dim == 24


@pytest.mark.parametrize("name", ["clip_vit_b_32", "clip_vit_b_16", "clip_vit_l_14"])
def test_openai_architectures_are_configured_with_quick_gelu(name):
    entry = encoder_registry().get(name)
    need(entry)
    ensure_torchvision()
    import open_clip

    assert open_clip.get_model_config(entry.architecture)["quick_gelu"] is True


# --- what can't be had -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hibou_b", "conch_v1", "conch_v1_5"])
def test_code_that_is_elsewhere_has_no_random_weights(name):
    pytest.importorskip("transformers")
    with pytest.raises(UsageError, match="can't have random weights"):
        load_encoder(name, weights="random")


def test_pooling_of_tokens():
    tokens = torch.arange(12.0).reshape(1, 6, 2)
    assert pool_tokens(tokens, "cls", 3).tolist() == [[0, 1]]
    assert pool_tokens(tokens, "cls+mean", 3).tolist() == [[0, 1, 8, 9]]
    with pytest.raises(UsageError, match="no pooling"):
        pool_tokens(tokens, "max", 1)


@pytest.mark.slow
def test_torchvision_is_importable_after_the_cure():
    pytest.importorskip("torchvision") if ensure_torchvision() else pytest.skip("no torchvision")
    code = (
        "from wsistore.encoders import ensure_torchvision; print(ensure_torchvision(), "
        "ensure_torchvision()); import torchvision; print(torchvision.models.resnet18.__name__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "True", "resnet18"]
