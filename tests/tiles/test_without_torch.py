"""The room without torch: all but the two data sets, which say what is missing."""

import importlib.util
import subprocess
import sys

import pytest

import wsistore.tiles

BLOCKED = """
import sys
sys.modules["torch"] = None
from wsistore.errors import DependencyError
import wsistore.tiles
from wsistore.tiles import *
from wsistore.tiles import TileIndex, TileLoader, TileSampler

index = TileIndex.from_positions([(sys.argv[1], [[0, 0], [10, 20]])])
(batch,) = TileLoader(TileSampler(index, 2, seed=1), 16, 0)
assert batch["image"].shape == (2, 16, 16, 3)
for name in ("TileDataset", "TileStream", "collate_tiles"):
    try:
        getattr(wsistore.tiles, name)
    except DependencyError as error:
        print(error.code, error)
"""


def test_samplers_and_loaders_work_and_data_sets_name_the_extra(aperio):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED, aperio(size=(64, 64)).path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("WSI110 TileDataset and TileStream need torch")
        assert "wsistore[torch]" in line


def test_the_room_does_not_import_torch():
    code = "import sys, wsistore.tiles; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_the_names_of_torch_are_kept_once_asked_for():
    first = wsistore.tiles.TileDataset
    assert vars(wsistore.tiles)["TileDataset"] is first
    assert wsistore.tiles.TileStream.__module__ == "wsistore.tiles.torch_data"
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = wsistore.tiles.nothing_such
