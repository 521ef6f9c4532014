"""Make a torchvision without its compiled operators importable.

With a CPU build of torch, the torchvision of PyPI fails at import, since it registers a
fake kernel for an operator that its compiled part was to bring, and transformers' model
classes fail with it. SAM 2 needs no such operator. So on exactly that failure the two
operators are declared, without any kernel, and the import is repeated; calling them
still raises an error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []
"""Operators live as long as the library object that declared them."""


@functools.cache
def cure_torchvision() -> bool:
    """Make torchvision importable where it lacks its operators; return whether it did.

    Does nothing where torchvision is absent or sound; other failures are left to whoever
    imports it.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            return False
    except ImportError:
        return False
    else:
        return False
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _kept.append(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    importlib.import_module("torchvision")
    return True
