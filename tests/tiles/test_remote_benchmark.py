"""The benchmark of remote sampling runs in small, so that it can't rot."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_the_benchmark_of_remote_sampling_runs_in_small(tmp_path):
    output = tmp_path / "results.md"
    command = [sys.executable, str(BENCHMARKS / "remote.py"), "--small", "--rounds", "1"]
    command += ["--work", str(tmp_path), "--latency-ms", "2", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = output.read_text().splitlines()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line[:1] == "|"}
    assert {
        "wsistore, SVS, far, prefetch, 1 decoding",
        "wsistore, OME-Zarr copy, local disk, prefetch, 2 decoding",
        "(a) one GET per tile in sequence, SVS, far",
        "(b) zarr-python over obstore, copy, far",
    } <= rows.keys()
    assert all(float(row[0]) >= 0 for name, row in rows.items() if name.startswith("wsistore"))
    assert float(rows["wsistore, SVS, far, prefetch, 1 decoding"][2]) > 0  # requests a batch
    assert float(rows["SVS / (a)"][0]) > 0
