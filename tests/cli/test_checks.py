"""`wsistore verify` and `wsistore validate`: sound stores pass, mended ones don't."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import wsistore
from wsistore.cli.app import app
from wsistore.testing import SyntheticSlide


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def slide(slide_factory: Callable[..., SyntheticSlide]) -> Path:
    return slide_factory(missing=[(0, 1, 0)]).path


@pytest.fixture
def store(slide: Path, tmp_path: Path) -> Path:
    path = tmp_path / "out.ome.zarr"
    wsistore.convert(slide, path).raise_for_failures()
    return path


def flip_a_byte(store: Path) -> None:
    shard = store / "0" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)


def test_a_sound_store_is_verified(store: Path, slide: Path) -> None:
    code, out, err = run("verify", store, "--against", slide)
    assert (code, err) == (0, "")
    assert "match their checksums" in out
    assert "byte for byte" in out


def test_verify_json_has_its_documented_keys(store: Path, slide: Path) -> None:
    code, out, _ = run("verify", store, "--against", slide, "--json")
    record = json.loads(out)
    assert code == 0
    assert record == {
        "store": str(store),
        "ok": True,
        "shards": 2,
        "chunks": 19 + 2,  # one tile of 20 is missing
        "compared_tiles": 20 + 2,
        "findings": [],
        "differences": [],
    }


def test_a_flipped_byte_is_found(store: Path) -> None:
    flip_a_byte(store)
    code, out, err = run("verify", store)
    assert code == 1
    assert out == ""
    assert "0/c/0/0/0" in err


def test_findings_are_in_the_json(store: Path) -> None:
    flip_a_byte(store)
    code, out, _ = run("verify", store, "--json")
    record: dict[str, Any] = json.loads(out)
    assert (code, record["ok"]) == (1, False)
    assert record["findings"][0].keys() == {"where", "what"}


def test_another_slide_is_told(store: Path, slide_factory: Callable[..., SyntheticSlide]) -> None:
    other = slide_factory(seed=1).path
    code, _, err = run("verify", store, "--against", other)
    assert code == 1
    assert "another slide" in err


def test_a_transcode_tells_its_differences(slide: Path, tmp_path: Path) -> None:
    store = tmp_path / "lossy.ome.zarr"
    wsistore.convert(slide, store, codec="jpeg", quality=70).raise_for_failures()
    code, out, _ = run("verify", store, "--against", slide)
    assert code == 0
    assert "level 0, encoded anew: differs" in out


def test_what_is_no_store_is_wrong_usage(slide: Path, tmp_path: Path) -> None:
    code, _, err = run("verify", tmp_path)
    assert code == 2
    assert err.startswith("error WSI100")


def test_a_store_is_valid(store: Path) -> None:
    code, out, err = run("validate", store)
    assert (code, err) == (0, "")
    assert "valid NGFF, 0 warnings" in out


@pytest.mark.parametrize("options", [{"codec": "zstd"}, {"codec": "zstd", "format": "0.4"}])
def test_transcodes_are_valid(options: dict[str, Any], slide: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    wsistore.convert(slide, path, **options).raise_for_failures()
    assert run("validate", path)[0] == 0


def test_a_store_without_units_is_told(store: Path) -> None:
    document = store / "zarr.json"
    attributes = json.loads(document.read_text())
    for axis in attributes["attributes"]["ome"]["multiscales"][0]["axes"]:
        axis.pop("unit", None)
        axis["type"] = "nonsense"
    document.write_text(json.dumps(attributes))
    code, out, err = run("validate", store)
    assert code == 1
    assert out == ""
    assert "axes" in err


def test_validate_json_has_its_documented_keys(store: Path) -> None:
    assert json.loads(run("validate", store, "--json")[1]) == {
        "store": str(store),
        "ok": True,
        "findings": [],
    }
    (store / "zarr.json").write_text("{}")
    code, out, _ = run("validate", store, "--json")
    record = json.loads(out)
    assert (code, record["ok"]) == (1, False)
    assert record["findings"][0].keys() == {"severity", "code", "where", "text"}


def test_a_folder_that_is_no_store_is_not_valid(tmp_path: Path) -> None:
    assert run("validate", tmp_path)[0] == 1
