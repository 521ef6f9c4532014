"""Reading weights runs nothing that is in them."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from wsistore.encoders.weightfiles import Trust, read_shards, read_state  # noqa: E402
from wsistore.errors import DependencyError, SourceNotFoundError, UsageError, WeightsError  # noqa: E402


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(found, state):
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "torch"])
def test_tensors_of_torch_save(tmp_path, state, suffix):
    torch.save(state, tmp_path / f"w.{suffix}")
    assert same(read_state(tmp_path / f"w.{suffix}", Trust()), state)


def test_tensors_of_the_older_format(tmp_path, state):
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert same(read_state(tmp_path / "w.pt", Trust()), state)


def test_tensors_of_safetensors(tmp_path, state):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(state, tmp_path / "w.safetensors")
    assert same(read_state(tmp_path / "w.safetensors", Trust()), state)


@pytest.mark.parametrize("key", ["state_dict", "model", "teacher"])
def test_checkpoints_of_training_are_opened(tmp_path, state, key):
    torch.save({key: state, "epoch": 3}, tmp_path / "w.pt")
    assert same(read_state(tmp_path / "w.pt", Trust()), state)


def test_names_of_wrappers_are_dropped(tmp_path, state):
    torch.save({f"module.{name}": one for name, one in state.items()}, tmp_path / "w.pt")
    assert same(read_state(tmp_path / "w.pt", Trust()), state)


def test_a_name_that_only_some_have_is_no_wrapper(tmp_path, state):
    mixed = {"module.x": torch.ones(1), **state}
    torch.save(mixed, tmp_path / "w.pt")
    assert same(read_state(tmp_path / "w.pt", Trust()), mixed)


@pytest.fixture
def bomb(tmp_path, state):
    """Return a pickle that makes a folder when it is loaded, and that folder."""
    folder = tmp_path / "it-ran"
    torch.save({**state, "evil": Evil(folder)}, tmp_path / "w.pt")
    return tmp_path / "w.pt", folder


def test_a_pickle_is_refused_and_does_not_run(bomb):
    path, folder = bomb
    with pytest.raises(WeightsError, match="can't be loaded as tensors alone") as caught:
        read_state(path, Trust())
    assert "allow_pickle" in caught.value.hint
    assert not folder.exists()


def test_a_bare_pickle_is_refused_too(tmp_path):
    folder = tmp_path / "it-ran"
    (tmp_path / "w.bin").write_bytes(pickle.dumps(Evil(folder), protocol=2))
    with pytest.raises(WeightsError):
        read_state(tmp_path / "w.bin", Trust())
    assert not folder.exists()


def test_a_pickle_named_safetensors_does_not_run(tmp_path):
    pytest.importorskip("safetensors")
    folder = tmp_path / "it-ran"
    (tmp_path / "w.safetensors").write_bytes(pickle.dumps(Evil(folder), protocol=2))
    with pytest.raises(WeightsError, match="no sound file of safetensors"):
        read_state(tmp_path / "w.safetensors", Trust())
    assert not folder.exists()


def test_a_pickle_with_another_hash_does_not_run(bomb):
    path, folder = bomb
    with pytest.raises(WeightsError, match="has sha256"):
        read_state(path, Trust(allow_pickle=True, pickle_sha256="0" * 64))
    assert not folder.exists()


def test_consent_with_the_right_hash_runs_it(tmp_path, state):
    # A path object is no tensor container, so tensors alone can't be loaded.
    torch.save({"state_dict": state, "where": Path("x")}, tmp_path / "w.pt")
    with pytest.raises(WeightsError):
        read_state(tmp_path / "w.pt", Trust())
    trust = Trust(allow_pickle=True, pickle_sha256=sha256(tmp_path / "w.pt").upper())
    assert same(read_state(tmp_path / "w.pt", trust), state)


@pytest.mark.parametrize("given", [None, "", "abc", "g" * 64])
def test_consent_names_one_pickle(given):
    with pytest.raises(UsageError, match="allow_pickle needs pickle_sha256"):
        Trust(allow_pickle=True, pickle_sha256=given)


def test_the_hash_of_a_file_is_checked_where_known(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    assert same(read_state(tmp_path / "w.pt", Trust(), sha256=sha256(tmp_path / "w.pt")), state)
    with pytest.raises(WeightsError, match="expected 1111"):
        read_state(tmp_path / "w.pt", Trust(), sha256="1" * 64)


@pytest.mark.parametrize("content", [b"", b"nothing of the sort", b"PK\x03\x04" + bytes(50)])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_damaged_files(tmp_path, content, suffix):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\."):
        read_state(path, Trust())


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_cut_short(tmp_path, state, kept):
    torch.save(state, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError):
        read_state(tmp_path / "w.pt", Trust())


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 3}, {"a": {"b": torch.ones(1)}}])
def test_other_things_than_tensors(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds"):
        read_state(tmp_path / "w.pt", Trust())


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
    ],
)
def test_an_index_of_shards_that_is_none(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"index\.json"):
        read_shards(tmp_path / "model.safetensors.index.json", Trust())


def test_no_file(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no weights at"):
        read_state(tmp_path / "w.pt", Trust())
    with pytest.raises(SourceNotFoundError, match="no weights at"):
        read_state(tmp_path, Trust())


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    import sys

    (tmp_path / "w.safetensors").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(DependencyError, match=r"wsistore\[encoders\]"):
        read_state(tmp_path / "w.safetensors", Trust())
