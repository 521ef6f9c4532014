"""Slides with plans, and an encoder that does harm when it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from wsistore.slides import open_slide
from wsistore.testing import SyntheticSlide
from wsistore.tiles import TilePlan, TileSpec, plan_tiles

HARMFUL = '''
"""Mean colours; before each batch, does what a file beside this one says."""

import os
import signal
from pathlib import Path

import numpy as np

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.model import BaseEncoder, Facts, Preprocessing, Weights

HERE = Path(__file__).parent


class Means(BaseEncoder):
    def __init__(self):
        nothing = Preprocessing(None, None, None, None, backend="none")
        super().__init__(Facts("means", 3, None, None, nothing, Weights("builtin", "test")))

    def _features(self, batch):
        with (HERE / "batches").open("a") as file:
            file.write("x")
        for order in HERE.glob("order-*"):
            try:
                order.unlink()
            except FileNotFoundError:
                continue
            if "kill" in order.name:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("as ordered")
        if (HERE / "always-kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        means = batch.mean(axis=(2, 3), dtype=np.float64).astype(np.float32)
        if (HERE / "nan").exists():
            means[1] = np.nan
        if (HERE / "inf").exists():
            means[1, 0] = np.inf  # as float16 makes it of what is too large
        return means


def register_feature_extractors(registry, device, dtype, num_workers):
    told = {"name": "means", "group": "custom", "family": "embedded", "architecture": "Means"}
    nothing = dict.fromkeys(("input_size", "resize", "mean", "std"))
    entry = EncoderEntry(**told, dim=3, pooling="mean", **nothing)
    registry.add(entry, lambda **options: Means())
'''


@pytest.fixture
def make_plan(slide_factory: Callable[..., SyntheticSlide]) -> Callable[..., TilePlan]:
    """Plan tiles of 64 px: ``make_plan(seed=0, size=(500, 400), stride=64)``."""

    def make(seed: int = 0, size: tuple[int, int] = (500, 400), stride: int = 64) -> TilePlan:
        made = slide_factory(size=size, tile=64, seed=seed, distinct_tiles=6)
        return plan_tiles(open_slide(made.path), TileSpec(64, stride, "20x"))

    return make


@pytest.fixture
def harmful(tmp_path: Path, own_encoders: None) -> Path:
    """Return a plug-in with the encoder ``means``; touch ``order-kill-1`` beside it."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "harmful.py").write_text(HARMFUL)
    return folder / "harmful.py"


@pytest.fixture
def feature_bytes() -> Callable[[Path], dict[str, str]]:
    """Return a function that hashes all chunks of a store."""

    def read(store: Path) -> dict[str, str]:
        return {
            str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(store.rglob("c/**/*"))
            if path.is_file()
        }

    return read
