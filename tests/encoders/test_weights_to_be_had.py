"""Weights from caches, without a network: found, refused, and missed with advice."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsistore.encoders import (  # noqa: E402
    EncoderRegistry,
    encoder_registry,
    ensure_torchvision,
    hub,
    load_encoder,
)
from wsistore.errors import (  # noqa: E402
    DependencyError,
    SourceAccessError,
    SourceNotFoundError,
    UsageError,
    WeightsError,
)

pytestmark = pytest.mark.usefixtures("no_network", "licences_untold")
COMMIT = "b55a5ec6cade1a39edfe6534189a9b8ca7a022f0"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return ``cache(hub_id, revision)``: a folder of the cache of the hub, made empty."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def folder(hub_id, revision=COMMIT):
        made = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
        (made / "refs").mkdir(parents=True, exist_ok=True)
        (made / "refs" / "main").write_text(revision)
        (made / "snapshots" / revision).mkdir(parents=True, exist_ok=True)
        return made / "snapshots" / revision

    return folder


@pytest.fixture
def vit():
    """Return a registry with a small ViT of timm, from a pinned revision of the hub."""
    ensure_torchvision()
    pytest.importorskip("timm")
    entry = replace(
        encoder_registry().get("uni_v1"),
        name="tiny",
        architecture="vit_small_patch16_224",
        arguments={
            "img_size": 32,
            "patch_size": 16,
            "embed_dim": 48,
            "depth": 1,
            "num_heads": 3,
        },
        dim=48,
        input_size=32,
        resize=32,
        file_sha256=None,
    )
    registry = EncoderRegistry()
    registry.add(entry)
    return registry


def put(registry, folder):
    """Write weights as the hub has them, and return the encoder that has the same."""
    encoder = load_encoder("tiny", weights="random", seed=5, registry=registry)
    torch.save(encoder._module.state_dict(), folder / "pytorch_model.bin")
    return encoder


def test_a_pinned_file_in_the_cache_needs_no_network(vit, cache, tiles, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    encoder = put(vit, cache("MahmoodLab/uni"))
    (cache("MahmoodLab/uni") / "config.json").write_text("{}")
    found = load_encoder("tiny", registry=vit)
    assert np.array_equal(found.encode(tiles(2)), encoder.encode(tiles(2)))
    told = found.describe()["weights"]
    assert told["kind"] == "pretrained"
    assert (told["source"], told["revision"]) == ("hub:MahmoodLab/uni", COMMIT)
    assert told["sha256"] == encoder.weights.sha256
    assert found.fingerprint.startswith("tiny:pretrained:")


def test_an_unpinned_file_is_the_one_of_main(vit, cache):
    entry = replace(vit.get("tiny"), name="loose", revision=None)
    vit.add(entry)
    put(vit, cache("MahmoodLab/uni", "a" * 40))
    assert load_encoder("loose", registry=vit).weights.revision == "a" * 40


def test_another_file_than_the_pinned_one_is_refused(vit, cache):
    put(vit, cache("MahmoodLab/uni"))
    vit.add(replace(vit.get("tiny"), name="hashed", file_sha256="1" * 64))
    with pytest.raises(WeightsError, match=r"encoder hashed: .* expected 1111"):
        load_encoder("hashed", registry=vit)
    path = cache("MahmoodLab/uni") / "pytorch_model.bin"
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    vit.add(replace(vit.get("tiny"), name="right", file_sha256=right))
    assert load_encoder("right", registry=vit).dim == 48


def test_offline_and_not_in_the_cache_says_where_to_put_it(vit, cache):
    cache("MahmoodLab/uni")
    with pytest.raises(SourceNotFoundError, match="forbids the network") as caught:
        load_encoder("tiny", registry=vit)
    assert "hf download MahmoodLab/uni pytorch_model.bin" in caught.value.hint
    assert COMMIT in caught.value.hint


@pytest.mark.parametrize("name", ["uni_v1", "dinov2_small", "clip_vit_b_32", "plip", "medsiglip"])
def test_every_family_is_honest_offline(name, cache):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(SourceNotFoundError, match="not in the cache"):
        load_encoder(name)


def test_shards_of_the_hub(cache, tiles):
    ensure_torchvision()
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3}
    config = transformers.Dinov2Config(**small, image_size=28, patch_size=14)
    model = transformers.Dinov2Model(config)
    base = encoder_registry().get("dinov2_small")
    registry = EncoderRegistry()
    registry.add(replace(base, name="tiny", dim=48, input_size=28, resize=28))
    folder = cache("facebook/dinov2-small", "c" * 40)
    model.save_pretrained(folder, max_shard_size="20KB")
    assert not (folder / "model.safetensors").exists()
    encoder = load_encoder("tiny", registry=registry)
    assert encoder.encode(tiles(2, 28)).shape == (2, 48)
    assert encoder.weights.revision == "c" * 40


def test_torchvision_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(SourceNotFoundError, match=r"resnet18-f37072fd\.pth") as caught:
        load_encoder("resnet18")
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in caught.value.hint


def test_torchvision_from_the_cache_of_torch(tmp_path, monkeypatch, tiles):
    ensure_torchvision() or pytest.skip("no torchvision")
    from torchvision import models

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(
        models.resnet18(weights=None).state_dict(),
        tmp_path / "checkpoints" / "resnet18-f37072fd.pth",
    )
    encoder = load_encoder("resnet18")
    assert encoder.encode(tiles(1, 224)).shape == (1, 512)
    assert encoder.weights.source == "torchvision:IMAGENET1K_V1"


class Refusing:
    """Stands for the hub: raises what it is given."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_args, **options):
        if options.get("local_files_only"):
            from huggingface_hub.errors import LocalEntryNotFoundError

            raise LocalEntryNotFoundError("not here")
        raise self.error


def hub_error(kind):
    import huggingface_hub.errors as errors

    made = getattr(errors, kind)
    if kind in {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "HTTPError"}:
        return made("no connection")
    answer = SimpleNamespace(headers={}, request=None, status_code=403)
    return made("refused", response=answer)


@pytest.mark.parametrize(
    ("kind", "expected", "advice"),
    [
        ("GatedRepoError", SourceAccessError, "hf auth login"),
        ("RepositoryNotFoundError", SourceAccessError, "https://huggingface.co/MahmoodLab/uni"),
        ("RevisionNotFoundError", SourceNotFoundError, "weights=<path>"),
        ("RemoteEntryNotFoundError", SourceNotFoundError, "weights=<path>"),
        ("LocalEntryNotFoundError", SourceNotFoundError, "Check the network"),
        ("OfflineModeIsEnabled", SourceNotFoundError, "hf download"),
        ("HfHubHTTPError", SourceNotFoundError, "Check the network"),
        ("HTTPError", SourceNotFoundError, "Check the network"),
    ],
)
def test_what_the_hub_says_is_told_with_advice(monkeypatch, kind, expected, advice):
    hugging = pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hugging, "hf_hub_download", Refusing(hub_error(kind)))
    with pytest.raises(expected) as caught:
        load_encoder("uni_v1")
    assert advice in caught.value.hint
    assert "uni_v1" in caught.value.message


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_is_read_from_the_environment(monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hub.offline()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not hub.offline()
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", value)
    assert hub.offline()


@pytest.mark.parametrize("name", ["hibou_b", "hibou_l", "conch_v1_5"])
def test_code_of_the_hub_is_refused_before_anything_is_fetched(monkeypatch, name):
    monkeypatch.setattr(hub, "hub_folder", lambda _: pytest.fail("it was fetched"))
    with pytest.raises(UsageError, match="runs code of hub:") as caught:
        load_encoder(name)
    assert "trust_remote_code=True" in caught.value.hint


def test_what_has_no_address_must_be_given(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no weights that can be fetched"):
        load_encoder("chief")
    with pytest.raises(SourceNotFoundError, match="no weights at"):
        load_encoder("chief", weights=tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("name", "module", "advice"),
    [
        ("resnet18", "torchvision", "torchvision"),
        ("uni_v1", "timm", r"wsistore\[encoders\]"),
        ("dinov2_small", "transformers", r"wsistore\[encoders\]"),
        ("clip_rn50", "open_clip", r"wsistore\[encoders\]"),
        ("musk", "musk", "lilab-stanford/MUSK"),
    ],
)
def test_a_missing_package_is_named_with_its_cure(monkeypatch, name, module, advice):
    if module == "musk":
        ensure_torchvision()
        pytest.importorskip("timm")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=advice) as caught:
        load_encoder(name, weights="random")
    assert f"encoder {name} needs" in caught.value.message


def test_the_licence_is_told_once(vit, cache, caplog):
    put(vit, cache("MahmoodLab/uni"))
    with caplog.at_level(logging.WARNING, "wsistore.encoders"):
        load_encoder("tiny", weights="random", registry=vit)
        assert caplog.text == ""  # no weights of anybody's were used
        load_encoder("tiny", registry=vit)
        load_encoder("tiny", registry=vit)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "licence of the weights: CC-BY-NC-ND-4.0 (hub:MahmoodLab/uni); its hub" in told[0]


class Evil:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def test_a_pickle_in_place_of_weights_does_not_run(vit, cache, tmp_path):
    folder = tmp_path / "it-ran"
    path = cache("MahmoodLab/uni") / "pytorch_model.bin"
    torch.save({"a": torch.ones(1), "evil": Evil(folder)}, path)
    with pytest.raises(WeightsError, match=r"encoder tiny: .*can't be loaded as tensors alone"):
        load_encoder("tiny", registry=vit)
    with pytest.raises(WeightsError, match="has sha256"):
        load_encoder("tiny", registry=vit, allow_pickle=True, pickle_sha256="0" * 64)
    with pytest.raises(UsageError, match="needs pickle_sha256"):
        load_encoder("tiny", registry=vit, allow_pickle=True)
    assert not folder.exists()
