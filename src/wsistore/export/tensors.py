"""Features as plain tensors, the ``.pt`` files of CLAM."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import atomic_write
from wsistore.errors import DependencyError, StoreCorruptError
from wsistore.export.slide_features import Rows


def write_pt(path: Path, rows: Rows) -> None:
    """Write a table as a float32 tensor that ``torch.load(..., weights_only=True)`` reads.

    It is held in memory.

    Raises
    ------
    DependencyError
        If torch is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    torch = _torch()
    buffer = io.BytesIO()
    values = np.array(rows[0 : rows.shape[0]], np.float32, order="C")
    torch.save(torch.from_numpy(values), buffer)
    atomic_write(path, buffer.getbuffer())


def read_pt(path: Path) -> NDArray[np.float32]:
    """Read the tensor of a ``.pt`` file, (n, d) float32; nothing in it is executed.

    Raises
    ------
    DependencyError
        If torch is not installed.
    StoreCorruptError
        If it is no plain tensor.
    """
    torch = _torch()
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise StoreCorruptError(f"{path} is no plain tensor: {error}") from error
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        raise StoreCorruptError(f"{path} holds no table of features")
    values: NDArray[np.float32] = found.to(torch.float32).numpy()
    return values


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise DependencyError(
            "files of tensors (.pt) need torch, which is not installed",
            hint='pip install "wsistore[torch]"',
        ) from error
    return torch
