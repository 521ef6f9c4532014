"""`wsistore doctor`: what it tells, and what it takes for a problem."""

from __future__ import annotations

import importlib.metadata
import json
import resource
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsistore.cli import doctor
from wsistore.cli.app import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["doctor", *(str(a) for a in arguments)])


def test_a_sound_machine(tmp_path: Path) -> None:
    done = run("--json", "--no-import", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert set(told["codecs"]) >= {"jpeg", "jpeg2000", "png", "zstd"}
    assert set(told["codecs"].values()) == {"ok"}
    assert told["machine"]["disk"] == str(tmp_path)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert told["machine"]["open_files"]["soft"] == soft
    assert "colour-stats" in told["encoders"]["usable"]
    assert told["torch"] is None


def test_people_read_it_too() -> None:
    done = run()
    assert done.exit_code == 0
    for word in ("python", "codecs", "encoders", "free disk", "open files", "weights"):
        assert word in done.stdout


def test_what_is_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package == "zarr":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    done = run("--no-import")
    assert done.exit_code == 1
    assert "problem: zarr is missing" in done.stderr


def test_a_codec_that_gives_other_pixels_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import wsistore.codecs

    real = wsistore.codecs.decode

    def wrong(*args: Any, **kwargs: Any) -> Any:
        return real(*args, **kwargs) // 2

    monkeypatch.setattr(wsistore.codecs, "decode", wrong)
    assert doctor._codecs()["jpeg"] == "gives other pixels"


def test_a_decoder_that_was_not_built_is_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsistore.codecs import jpeg_regions

    monkeypatch.setattr(jpeg_regions, "STATE", "not built: no compiler")
    found = doctor.examine(Path(), imports=False)
    assert found["problems"] == []
    assert any("not built: no compiler" in note for note in found["notes"])
    monkeypatch.setattr(jpeg_regions, "STATE", "ok")
    found = doctor.examine(Path(), imports=False)
    assert not any("compiled" in note for note in found["notes"])


def test_cached_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "models--owkin--phikon").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "resnet18.pth").touch()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    found = doctor._weights()
    assert found["hugging_face_found"] == ["owkin/phikon"]
    assert found["torch_found"] == ["resnet18.pth"]


def test_little_of_anything_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.examine(tmp_path, imports=False)
    found["machine"] |= {"free_bytes": 1 << 30, "open_files": {"soft": 256, "hard": 256}}
    found["torch"] = {"usable": False, "reason": "no", "devices": []}
    problems, notes = doctor._judged(found)
    assert problems == []
    assert sum(word in note for note in notes for word in ("open files", "GB free", "torch")) == 3
