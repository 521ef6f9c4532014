"""The benchmark of remote conversions runs on a tiny slide, so that it can't rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from wsistore.sources import open_place
from wsistore.testing import write_slide

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "convert_remote.py"


def test_it_tells_each_step_and_leaves_nothing(bucket: str, tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "s.svs", size=(200, 150), tile=64, levels=(1,)).path
    call = [sys.executable, str(SCRIPT), str(slide), bucket, "--rounds", "1"]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert [line.split()[0] for line in told[2:6]] == ["download", "upload", "convert", "verify"]
    assert "(download + upload) / convert" in told[-1]
    assert list(open_place(bucket).list_tree()) == []


def test_it_brings_a_bucket_of_its_own(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "s.svs", size=(200, 150), tile=64, levels=(1,)).path
    call = [sys.executable, str(SCRIPT), str(slide), "--latency-ms", "1", "--rounds", "1"]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(download + upload) / convert" in done.stdout.splitlines()[-1]
