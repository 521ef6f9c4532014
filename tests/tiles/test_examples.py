"""The examples of this room run, on slides they make and on a folder of slides."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, aperio):
    folder = tmp_path_factory.mktemp("slides")
    for seed in (1, 2):
        (folder / f"{seed}.svs").symlink_to(aperio(size=(700, 600), seed=seed).path)
    return folder


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_batch_is_read_from_slides_made_for_it():
    assert "64 patches of 4 slides: (64, 256, 256, 3) uint8" in run("batch_read.py")


def test_the_batch_is_read_from_a_folder(folder):
    out = run("batch_read.py", folder)
    assert "64 patches of 2 slides" in out
    colour = [int(number) for number in re.findall(r"\d+", out.splitlines()[1])]
    assert all(100 < channel < 255 for channel in colour)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_training_goes_on_where_it_stopped(tmp_path):
    state = tmp_path / "state.pt"
    first = batches(run("train_loop.py", "--steps", 3, "--state", state))
    rest = batches(run("train_loop.py", "--workers", 1, "--state", state))
    per_epoch = len(first + rest) // 2
    assert first == [(0, number) for number in range(3)]
    assert first + rest == [(epoch, number) for epoch in (0, 1) for number in range(per_epoch)]
    assert per_epoch > 3


def batches(out):
    return [tuple(map(int, found)) for found in re.findall(r"epoch (\d+), batch (\d+)", out)]
