"""Encoders from files and packages of others."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from wsistore.encoders import EncoderRegistry, encoder_registry, load_encoder, load_plugin, plugins
from wsistore.errors import EncoderError, SourceNotFoundError, UsageError

TORCH = """
import numpy as np
import torch
from wsistore.encoders import CustomEncoderComponents, register_custom_encoder

class Mean(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * x.mean(dim=(2, 3))

def load(device, dtype):
    model = Mean().to(device, dtype)
    def preprocess(image):
        assert image.mode == "RGB"
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    return CustomEncoderComponents(model=model, preprocess=preprocess, forward_fn=model)

def register_feature_extractors(registry, device, dtype, num_workers):
    register_custom_encoder(
        registry=registry, name="mine", embedding_dim=3, loader=load, device=device,
        dtype=dtype, num_workers=num_workers,
    )
"""
PLAIN = """
from wsistore.encoders import encoder_from_callable, register_custom_encoder

def load(device, dtype):
    return encoder_from_callable(
        lambda tiles: tiles.mean(axis=(2, 3)), name="plain", dim=3, version="1"
    )

def register_feature_extractors(registry, device, dtype, num_workers):
    register_custom_encoder(registry, "plain", 3, load, device, dtype, num_workers)
    if num_workers:
        register_custom_encoder(registry, "second", 3, load, device, dtype, num_workers)
"""


@pytest.fixture
def plugin(tmp_path):
    def write(text, name="plugin.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return tmp_path / name

    return write


def test_the_helper_of_the_seed(plugin, tiles):
    pytest.importorskip("torch")
    registry = EncoderRegistry()
    assert load_plugin(plugin(TORCH), registry=registry) == ["mine"]
    assert registry.get("mine").group == "custom"
    encoder = load_encoder("mine", registry=registry)
    batch = tiles(3, 12)
    assert np.allclose(encoder.encode(batch), 2 * batch.mean(axis=(2, 3)) / 255, rtol=1e-5)
    assert encoder.weights.sha256 is not None
    assert encoder.fingerprint.startswith("mine:custom:")
    assert encoder.fingerprint == load_encoder("mine", registry=registry).fingerprint
    encoder.close()
    with pytest.raises(UsageError, match="closed"):
        encoder.encode(batch)


def test_a_plugin_with_one_encoder_loads_by_its_path(plugin, tiles):
    pytest.importorskip("torch")
    encoder = load_encoder(plugin(PLAIN), registry=EncoderRegistry())
    assert encoder.name == "plain"
    assert encoder.encode(tiles(2)).shape == (2, 3)
    assert load_encoder(str(plugin(PLAIN)), registry=EncoderRegistry()).name == "plain"


def test_two_encoders_must_be_named(plugin):
    text = PLAIN.replace("if num_workers", "if True")
    with pytest.raises(UsageError, match="registers 2 encoders: plain, second"):
        load_encoder(plugin(text), registry=EncoderRegistry())


def test_the_same_file_twice_adds_nothing(plugin):
    registry = EncoderRegistry()
    path = plugin(PLAIN)
    assert load_plugin(path, registry=registry) == load_plugin(path, registry=registry)
    with pytest.raises(UsageError, match="known already"):
        load_plugin(plugin(PLAIN, "other.py"), registry=registry)


def test_the_registry_of_the_process_stays_as_it_was(plugin):
    load_plugin(plugin(PLAIN), registry=EncoderRegistry())
    assert "plain" not in encoder_registry()


def test_the_arguments_are_handed_over(plugin):
    registry = EncoderRegistry()
    assert load_plugin(plugin(PLAIN), registry=registry, num_workers=2) == ["plain", "second"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no register_feature_extractors"),
        ("def f(:", "can't be run"),
        ("import nothing_of_that_name", "can't be run"),
        ("1 / 0", "can't be run"),
        ("def register_feature_extractors(r, d, t, n): pass", "added no encoder"),
        ("def register_feature_extractors(r, d, t, n): raise ValueError('bad')", "bad"),
        ("def register_feature_extractors(): pass", "failed in"),
    ],
)
def test_files_that_are_no_plugins(plugin, text, message):
    with pytest.raises(EncoderError, match=message):
        load_plugin(plugin(text), registry=EncoderRegistry())


def test_no_file(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no plug-in at"):
        load_plugin(tmp_path / "absent.py")
    with pytest.raises(SourceNotFoundError):
        load_encoder(tmp_path / "absent.py")


@pytest.mark.parametrize("answer", ["None", "object()"])
def test_a_loader_that_returns_something_else(plugin, answer):
    pytest.importorskip("torch")
    text = PLAIN.replace("return encoder_from_callable(", f"return {answer}\n    _ = (")
    text = text.replace('name="plain", dim=3, version="1"', "0")
    registry = EncoderRegistry()
    load_plugin(plugin(text), registry=registry)
    with pytest.raises(EncoderError, match="without model, preprocess, forward_fn"):
        load_encoder("plain", registry=registry)


def test_a_plugin_with_another_dimension_is_caught(plugin, tiles):
    pytest.importorskip("torch")
    registry = EncoderRegistry()
    load_plugin(plugin(TORCH.replace("embedding_dim=3", "embedding_dim=4")), registry=registry)
    with pytest.raises(EncoderError, match=r"returned shape \(2, 3\)"):
        load_encoder("mine", registry=registry).encode(tiles(2))


class Point:
    """Stands for an entry point of an installed package."""

    def __init__(self, name, loaded):
        self.name, self.value, self.loaded = name, f"package:{name}", loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def test_packages_add_encoders_and_their_failures_are_kept(monkeypatch):
    def good(registry):
        plugins.register_custom_encoder(registry, "theirs", 2, lambda *_: None)

    def taken(registry):
        plugins.register_custom_encoder(registry, "theirs", 2, lambda *_: None)

    points = [Point("good", good), Point("taken", taken), Point("gone", ImportError("no module"))]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group else [])
    registry = EncoderRegistry()
    plugins.load_entry_points(registry)
    assert registry.names() == ["theirs"]
    assert [problem.split(" ")[2] for problem in registry.problems] == ["taken", "gone"]
    assert "no module" in registry.problems[1]
