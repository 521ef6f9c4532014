"""The benchmark of stores runs in small, so that it can't rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_in_small() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "stores.py"), "--json"]
    command += ["--tiles", "9", "--reads", "5", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["store"]: row for row in json.loads(done.stdout)}
    assert {"lmdb", "lmdb-copied", "tar", "images", "hdf5", "zarr"} <= rows.keys()
    assert all(row["us_wall"] > 0 and row["bytes"] > 0 for row in rows.values())
