"""`wsistore info`: what it prints, and the JSON that scripts rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.testing import SyntheticSlide, write_slide

KEYS = {
    "name", "format", "width", "height", "mpp", "magnification", "levels", "associated",
    "icc_profile_bytes", "fingerprint", "notes", "convert",
}  # fmt: skip
LEVEL_KEYS = {
    "index", "width", "height", "downsample", "mpp", "tile_width", "tile_height", "codec",
    "color", "checksum", "tiles", "missing_tiles", "bytes",
}  # fmt: skip
PLAN_KEYS = {
    "format", "copies", "codecs", "associated", "objects", "estimated_bytes", "levels",
}  # fmt: skip
PLAN_LEVEL_KEYS = {
    "index", "width", "height", "downsample", "chunk_width", "chunk_height", "shard_width",
    "shard_height", "codec", "quality", "copied", "shards", "estimated_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def slide(slide_factory: Callable[..., SyntheticSlide]) -> SyntheticSlide:
    return slide_factory(missing=[(0, 1, 0)], icc_profile=b"profile of no one")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_json_has_its_documented_keys(slide: SyntheticSlide) -> None:
    code, out, err = run("info", slide.path, "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert record.keys() == KEYS
    assert all(level.keys() == LEVEL_KEYS for level in record["levels"])
    assert record["convert"].keys() == PLAN_KEYS
    assert all(level.keys() == PLAN_LEVEL_KEYS for level in record["convert"]["levels"])


def test_json_tells_the_slide(slide: SyntheticSlide) -> None:
    record = json.loads(run("info", slide.path, "--json")[1])
    assert (record["format"], record["width"], record["height"]) == ("aperio", 1200, 900)
    assert record["mpp"] == {"x": 0.499, "y": 0.499, "origin": "aperio.MPP"}
    assert record["magnification"] == {"value": 20.0, "origin": "aperio.AppMag"}
    assert record["associated"] == ["label", "macro", "thumbnail"]
    assert record["icc_profile_bytes"] == len(b"profile of no one")
    full, reduced = record["levels"]
    assert (full["tiles"], full["missing_tiles"], full["codec"]) == (20, 1, "jpeg")
    assert (reduced["width"], reduced["height"], reduced["downsample"]) == (300, 225, 4.0)
    assert reduced["mpp"] == {"x": 1.996, "y": 1.996}
    assert 0 < full["bytes"] < slide.path.stat().st_size


def test_json_tells_what_convert_would_write(slide: SyntheticSlide) -> None:
    plan = json.loads(run("info", slide.path, "--json")[1])["convert"]
    assert plan["copies"]
    assert plan["codecs"] == ["jpeg"]
    assert plan["associated"] == ["thumbnail"]
    assert [(level["chunk_width"], level["copied"]) for level in plan["levels"]] == [
        (256, True),
        (256, True),
    ]


def test_the_fingerprint_is_of_the_content(slide: SyntheticSlide, tmp_path: Path) -> None:
    other = tmp_path / "another name.svs"
    other.write_bytes(slide.path.read_bytes())
    prints = [
        json.loads(run("info", path, "--json")[1])["fingerprint"] for path in (slide.path, other)
    ]
    assert prints[0] == prints[1]


def test_text_says_the_same(slide: SyntheticSlide) -> None:
    code, out, _ = run("info", slide.path)
    assert code == 0
    for part in (
        "aperio, 1200 x 900 px",
        "0.499 x 0.499 µm/px (from aperio.MPP)",
        "20x (from aperio.AppMag)",
        "label, macro, thumbnail",
        "300 x 225",
        "jpeg rgb",
        "copied",
    ):
        assert part in out


def test_a_stated_pixel_size_drives_the_levels(slide: SyntheticSlide) -> None:
    record = json.loads(run("info", slide.path, "--mpp", "0.25", "--json")[1])
    assert record["mpp"]["x"] == 0.25
    assert record["mpp"]["origin"] == "argument"
    assert record["levels"][1]["mpp"]["x"] == 1.0


@pytest.mark.parametrize("mpp", ["1000", "nan", "-0.5", "half"])
def test_absurd_pixel_sizes_are_refused(slide: SyntheticSlide, mpp: str) -> None:
    code, _, err = run("info", slide.path, "--mpp", mpp)
    assert code in (1, 2)
    assert err.startswith("error WSI")


def test_a_slide_without_metadata_says_so(tmp_path: Path) -> None:
    bare = write_slide(tmp_path / "bare.svs", size=(300, 200), mpp=None, magnification=None)
    out = run("info", bare.path)[1]
    assert "unknown; state it with --mpp" in out


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.svs", b"", "WSI30"),
        ("text.svs", b"Dear reader, this is no slide.\n" * 99, "WSI30"),
        ("absent.svs", None, "WSI201"),
    ],
)
def test_what_is_no_slide_is_one_error(
    tmp_path: Path, name: str, content: bytes | None, code: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    status, out, err = run("info", path)
    assert status == 1
    assert out == ""
    assert err.startswith(f"error {code}")
    assert "Traceback" not in err


def test_brackets_in_a_name_are_printed(slide: SyntheticSlide, tmp_path: Path) -> None:
    path = tmp_path / "[bold]a[x].svs"
    path.symlink_to(slide.path)
    code, out, _ = run("info", path)
    assert code == 0
    assert out.startswith("[bold]a[x]: aperio")
    code, out, _ = run("convert", path, tmp_path / "[red]a.ome.zarr")
    assert code == 0
    assert "[bold]a[x].svs -> " in out
    assert "[red]a.ome.zarr" in out
