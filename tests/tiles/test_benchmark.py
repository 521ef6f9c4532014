"""The benchmark of the sampler runs in small, so that it can't rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_benchmark_runs_in_small(tmp_path):
    rows = tmp_path / "rows.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "tiles.py"), "--small", "--rounds", "1"]
    command += ["--work", str(tmp_path), "--peers", "openslide", "--json", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = json.loads(rows.read_text())
    cases = {row["case"] for row in table}
    assert len(cases) >= 12
    assert all(row["ms_per_patch"] > 0 and row["wall_ratio"] > 0 for row in table)
    contenders = {row["contender"] for row in table if row["case"] == "random, unaligned, level 0"}
    assert contenders == {"wsistore fast", "wsistore strict", "OpenSlide", "bare decode loop"}
    assert "tiles decoded per patch" in done.stdout
