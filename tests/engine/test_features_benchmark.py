"""The benchmark of features runs, so that it can't rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "features.py"


def test_the_benchmark_runs(tmp_path):
    if not SCRIPT.is_file():
        pytest.skip("benchmarks are not part of this distribution")
    command = [sys.executable, SCRIPT, "--small", "--json", "--encoders", "colour-stats"]
    run = subprocess.run(
        [*command, "--folder", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["overhead"]["colour-stats"]["tiles"] == 4
    assert [row["tiles"] for row in told["scheduling"]] == [1200, 1200]
    assert [row["bytes_sent"] > 0 for row in told["scheduling"]] == [False, True]
