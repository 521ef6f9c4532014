"""Make a torchvision without its compiled operators importable.

With a CPU build of torch, the torchvision of PyPI fails at import, and timm, open_clip and
the model classes of transformers with it. No model here needs the operators that are
missing, so on exactly that failure their schemas are declared, without any kernel, and the
import is repeated. Calling them (``nms``) still raises torchvision's own error.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []
"""Operators live as long as the library object that declared them."""
_lock = threading.Lock()


def ensure_torchvision() -> bool:
    """Make torchvision importable where it lacks its operators; return whether it is there.

    Does nothing where torchvision is absent or sound. To be called before the first import
    of timm, open_clip or a model class of transformers, in every process.
    """
    with _lock:
        if sys.modules.get("torchvision") is not None:
            return True
        if importlib.util.find_spec("torchvision") is None:
            return False
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms does not exist" not in str(error):
                raise
            _declare()
            importlib.import_module("torchvision")
    return True


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _kept.append(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
