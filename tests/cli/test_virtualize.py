"""`wsistore virtualize`, and references opened by other commands."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import wsistore
from wsistore.cli.app import app


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def slides(aperio, tmp_path):
    """Two slides that can be referred to, and one that can't."""
    for name, variant in (("a", "jpeg_rgb_tables"), ("b", "j2k_33005"), ("c", "lzw")):
        made = aperio(variant, size=(300, 220), tile=64)
        shutil.copyfile(made.path, tmp_path / f"{name}.svs")
    return tmp_path


def test_references_are_written_and_read_by_other_commands(slides):
    result = run("virtualize", slides / "a.svs", "--out", slides / "refs" / "a.json")
    assert result.exit_code == 0, result.output
    assert "22 tiles of 2 levels" in result.output
    assert "../a.svs is outside" in result.output
    refused = run("info", slides / "refs" / "a.json")
    assert refused.exit_code == 1
    assert "may not be read" in refused.output
    allowed = run("info", slides / "refs" / "a.json", "--allow", slides, "--json")
    assert allowed.exit_code == 0, allowed.output
    assert json.loads(allowed.output)["format"] == "references"
    assert run("virtualize", slides / "a.svs", "--out", slides).exit_code == 0
    assert run("info", slides / "a.json").exit_code == 0
    assert run("convert", "-q", slides / "a.json", slides / "a.ome.zarr").exit_code == 0
    with (
        wsistore.open_slide(slides / "a.svs") as slide,
        wsistore.open_slide(slides / "a.ome.zarr") as store,
    ):
        box = (0, 0, 300, 220)
        assert (store.read_level(0, box) == slide.read_level(0, box)).all()


def test_many_slides_and_exit_codes(slides):
    sources = [slides / f"{name}.svs" for name in "abc"]
    result = run("virtualize", *sources, "--out", slides / "refs", "--json")
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["virtualized", "virtualized", "failed"]
    assert lines[2]["error"]["code"] == "WSI301"
    assert lines[0]["place"] == "../a.svs"
    assert sorted(p.name for p in (slides / "refs").iterdir()) == ["a.json", "b.json"]
    again = run("virtualize", *sources, "--out", slides / "refs")
    assert again.exit_code == 1
    assert "WSI501" in again.stderr
    assert run("virtualize", *sources[:2], "--out", slides / "refs", "--overwrite").exit_code == 0
    assert run("virtualize", slides / "c.svs", "--out", slides / "x.json").exit_code == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "zip"], "unknown form"),
        (["--format", "kerchunk-parquet"], "Zarr v2"),
        (["{folder}/a.svs"], "several slides"),
    ],
)
def test_wrong_usage(slides, words, told):
    words = [word.format(folder=slides) for word in words]
    result = run("virtualize", slides / "a.svs", "--out", slides / "refs", *words)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert not (slides / "refs").exists()


def test_icechunk_is_written(slides):
    pytest.importorskip("icechunk")
    out = slides / "a.icechunk"
    result = run("virtualize", slides / "a.svs", "--out", out, "--format", "icechunk")
    assert result.exit_code == 0, result.output
    assert out.is_dir()
