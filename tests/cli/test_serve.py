"""`wsistore serve`, as its user runs and ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import wsistore
from wsistore.cli.app import app
from wsistore.testing import SyntheticSlide


@pytest.fixture(scope="module")
def store(
    slide_factory: Callable[..., SyntheticSlide], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("serve") / "a.ome.zarr"
    wsistore.convert(slide_factory().path, path, codec="zstd")
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``start(*arguments)`` runs `wsistore serve` on a free port."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wsistore.cli", "serve", "--port", "0"]
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(
    start: Callable[..., subprocess.Popen[str]], store: Path, end: signal.Signals
) -> None:
    process = start(store)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/a.ome.zarr/")
    assert "1 slide; open http://127.0.0.1:" in process.stdout.readline()
    with urllib.request.urlopen(f"{url}zarr.json") as answer:
        assert answer.read() == (store / "zarr.json").read_bytes()
    process.send_signal(end)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_it_may_be_told_to_end_as_soon_as_it_has_said_where_it_is(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsistore.cli.serving._announce", interrupted)
    result = CliRunner().invoke(app, ["serve", "--port", "0", str(store)])
    assert (result.exit_code, result.stderr) == (0, "stopped\n")


def test_the_network_is_warned_of(start: Callable[..., subprocess.Popen[str]], store: Path) -> None:
    process = start(store, "--host", "0.0.0.0")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "warning: whoever reaches 0.0.0.0 on the network can read these slides" in err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["none.svs"], 1, "WSI201"),
        (["{store}", "--codec", "webp"], 2, "--codec is portable or unchanged"),
        (["{store}", "--cors", "viewer"], 2, "'viewer' is no origin"),
        (["{store}", "--host", "256.0.0.1"], 2, "can't listen on 256.0.0.1"),
        (["{store}", "--port", "70000"], 2, "65535"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_is_refused(store: Path, arguments: list[str], code: int, told: str) -> None:
    words = [word.format(store=store) for word in arguments]
    result = CliRunner().invoke(app, ["serve", *words])
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.stderr
