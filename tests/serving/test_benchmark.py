"""The benchmark of serving runs, so that it can't rot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wsistore.testing import SyntheticSlide

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serving.py"


@pytest.mark.slow
def test_it_tells_a_rate_for_each_way(slide: SyntheticSlide) -> None:
    command = [sys.executable, SCRIPT, slide.path, "--rounds", "1", "--clients", "2"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    rates = re.findall(r"2 clients, (\S.*?)\s+(\d+) chunks/s", run.stdout)
    assert [way for way, _ in rates] == ["portable", "portable, cached", "unchanged"]
    assert all(int(rate) > 0 for _, rate in rates)
