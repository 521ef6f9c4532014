"""The example and the benchmark run, so that they can't rot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / script), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_converts_and_draws(tmp_path: Path) -> None:
    out = run("examples/convert_and_read.py", cwd=tmp_path)
    assert "largest difference of any sample: 0" in out
    thumbnail = np.asarray(Image.open(tmp_path / "demo" / "thumbnail.png"))
    crop = np.asarray(Image.open(tmp_path / "demo" / "crop.png"))
    assert max(thumbnail.shape[:2]) == 800
    assert thumbnail.std() > 5  # stained tissue, not one colour
    half = (crop.shape[1] - 8) // 2
    assert np.array_equal(crop[:, :half], crop[:, -half:])


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    out = run("benchmarks/convert.py", "--small", "--folder", tmp_path, cwd=tmp_path)
    rows = re.findall(r"^\| (\w+) \|", out, flags=re.MULTILINE)
    assert rows == [
        "cp",
        "read_write_loop",
        "copy_1",
        "copy_2",
        "copy_2",
        "transcode_zstd",
        "zarr_zstd",
    ]
    assert list(tmp_path.iterdir()) == []
