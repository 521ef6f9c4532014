"""``convert``, ``info``, ``verify`` and ``validate`` on URLs, as one types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.sources import open_place
from wsistore.testing import write_slide


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout + result.stderr


@pytest.fixture
def slides(bucket: str, tmp_path: Path) -> str:
    path = write_slide(tmp_path / "a.svs", size=(400, 300), tile=64, levels=(1, 4)).path
    place = open_place(bucket)
    for name in ("a.svs", "b.svs"):
        place.put(f"slides/{name}", path.read_bytes())
    return f"{bucket}/slides/"


def test_from_bucket_to_bucket_and_checked(slides: str, bucket: str) -> None:
    code, told = run("convert", slides, f"{bucket}/stores/")
    assert (code, told.count(".ome.zarr")) == (0, 2)
    store = f"{bucket}/stores/a.ome.zarr"
    assert f"{slides}a.svs -> {store}" in told
    code, told = run("info", store, "--json")
    assert code == 0
    level = json.loads(told)["levels"][0]
    assert (level["width"], level["height"]) == (400, 300)
    code, told = run("info", f"{slides}a.svs")
    assert (code, "400" in told) == (0, True)
    code, told = run("verify", store, "--against", f"{slides}a.svs")
    assert (code, "byte for byte" in told) == (0, True)
    code, told = run("validate", store)
    assert (code, "valid NGFF" in told) == (0, True)
    code, told = run("convert", slides, f"{bucket}/stores/")
    assert (code, told.count("skipped")) == (0, 2)


def test_damage_in_a_bucket_fails(slides: str, bucket: str) -> None:
    store = f"{bucket}/a.zarr"
    assert run("convert", f"{slides}a.svs", store, "--quiet") == (0, "")
    open_place(store).delete(["0/c/0/0/0"])
    code, told = run("verify", store)
    assert (code, "0/c/0/0/0: is missing" in told) == (1, True)
    open_place(store).put("0/zarr.json", b"{")
    assert run("validate", store)[0] == 1


def test_json_and_dry_run_tell_urls(slides: str, bucket: str) -> None:
    code, told = run("convert", slides, f"{bucket}/out/", "--dry-run", "--json")
    events = [json.loads(line) for line in told.splitlines()]
    assert code == 0
    assert [event.get("source") for event in events[:2]] == [f"{slides}a.svs", f"{slides}b.svs"]
    assert open_place(bucket).list_names() == ["slides/"]


def test_no_secret_is_told(slides: str, bucket: str) -> None:
    for arguments in (
        ("convert", f"{bucket}/none.svs", f"{bucket}/x.zarr"),
        ("convert", f"{slides}a.svs", "s3://no-such-bucket/x.zarr"),
        ("verify", f"{bucket}/none.zarr"),
    ):
        code, told = run(*arguments)
        assert code != 0
        assert "canary" not in told
