"""An encoder that costs nothing, to measure everything around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.encoders.model import BaseEncoder, Facts, Preprocessing, Weights


class NullEncoder(BaseEncoder):
    """One zero for each tile, whatever its pixels, which need not even be read."""

    reads_pixels = False
    concurrent = True

    def __init__(self) -> None:
        super().__init__(
            Facts(
                name="null",
                dim=1,
                input_size=None,
                mpp=None,
                preprocessing=Preprocessing(None, None, None, None, backend="none"),
                weights=Weights("builtin", "wsistore"),
            )
        )

    def _features(self, batch: Any) -> NDArray[np.float32]:
        return np.zeros((batch.shape[0], 1), np.float32)
