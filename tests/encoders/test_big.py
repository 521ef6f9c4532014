"""Large architectures with random weights: minutes, and up to 6 GB of memory each."""

from __future__ import annotations

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsistore.encoders import encoder_registry, load_encoder  # noqa: E402
from wsistore.encoders.packages import missing_packages  # noqa: E402

TOO_BIG = {"dinov3_vit7b16", "dinov3_vit7b16_sat"}  # 6.7 billion parameters, 27 GB
ELSEWHERE = {"musk", "conch_v1", "conch_v1_5", "hibou_b", "hibou_l"}
NAMES = [
    entry.name
    for entry in encoder_registry().entries.values()
    if entry.family != "embedded" and entry.name not in TOO_BIG | ELSEWHERE
]

pytestmark = [
    pytest.mark.big,
    pytest.mark.skipif(os.environ.get("WSISTORE_BIG") != "1", reason="set WSISTORE_BIG=1"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_architecture_gives_the_stated_dimension(name, tiles):
    entry = encoder_registry().get(name)
    lacking = missing_packages(entry)
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    with load_encoder(name, weights="random") as encoder:
        found = encoder.encode(tiles(1, entry.input_size))
    assert found.shape == (1, entry.dim)
    assert np.isfinite(found).all()
    assert found.std() > 0
