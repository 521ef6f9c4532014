"""``convert``, ``info``, ``verify`` and ``validate`` on URLs, as one types them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.pyramid.conversion import SlideJob, convert_slide
from wsistore.pyramid.options import ConversionOptions
from wsistore.pyramid.units import ShardReceipt, ShardTask, write_shard
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


def cut(slide: Path, store: str) -> None:
    """Begin a conversion, and end it after its first shard."""

    def first_only(tasks: Sequence[ShardTask]) -> Iterator[ShardReceipt]:
        yield write_shard(tasks[0])
        raise KeyboardInterrupt

    job = SlideJob(source=str(slide), store=store, options=ConversionOptions(shard=128))
    with pytest.raises(KeyboardInterrupt):
        convert_slide(job, first_only, lambda event: None)


@pytest.mark.parametrize("command", ["info", "verify", "validate"])
@pytest.mark.parametrize("name", ["a.ome.zarr", "a", "a.ome.zarr/"])
@pytest.mark.parametrize("remote", [True, False])
def test_a_half_written_store_is_told_as_such(
    slides: str, bucket: str, tmp_path: Path, command: str, name: str, remote: bool
) -> None:
    slide = tmp_path / "a.svs"
    out = f"{bucket}/out" if remote else str(tmp_path / "out")
    bare = name.rstrip("/")
    cut(slide, f"{out}/{bare}")
    code, told = run(command, f"{out}/{name}")
    assert code == 1
    assert told.startswith(f"error WSI507: {out}/{bare}")
    assert "not finished" in told
    assert "Run the same command again" in told
    assert f"{out}/.{bare}.partial" in told
    # What it says to do helps; leftovers beside a finished store don't matter.
    assert run("convert", slide, f"{out}/{bare}", "--shard", 128, "--quiet")[0] == 0
    cut(slide, f"{out}/other")
    if remote:
        open_place(out).put(f".{bare}.partial/settings.json", b"{}")
    assert run(command, f"{out}/{name}")[0] == 0


def test_with_its_checksums_but_without_its_root_it_is_unfinished(slides: str, bucket: str) -> None:
    store = f"{bucket}/a.zarr"
    assert run("convert", f"{slides}a.svs", store, "--quiet") == (0, "")
    open_place(store).delete(["zarr.json"])
    assert run("verify", store)[0] == 1
    assert "zarr.json: is missing" in run("verify", store)[1]
    open_place(bucket).put(".a.zarr.partial/settings.json", b"{}")
    assert "WSI507" in run("verify", store)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "{none}/a/x.svs"),
        ("info", "{none}/a/x.zarr"),
        ("verify", "{none}/x.zarr"),
        ("convert", "{none}/x.svs", "{bucket}/x.zarr"),
        ("convert", "{none}/slides/", "{bucket}/out/"),
        ("convert", "{slides}a.svs", "{none}/x.zarr"),
    ],
)
def test_a_bucket_that_is_not_there_is_named(
    slides: str, bucket: str, arguments: tuple[str, ...]
) -> None:
    places = {"none": "s3://no-such-bucket-7", "bucket": bucket, "slides": slides}
    code, told = run(*(word.format(**places) for word in arguments))
    assert code == 1
    assert "there is no bucket s3://no-such-bucket-7" in told
    assert os.environ["AWS_ENDPOINT_URL"] in told
    assert "hint: Check its name" in told


def test_an_object_named_like_the_answer_is_just_not_there(bucket: str) -> None:
    code, told = run("info", f"{bucket}/NoSuchBucket.svs")
    assert (code, "there is no bucket" in told) == (1, False)
