"""Encoders with a package of their own (MUSK, CONCH) or code on the hub (CONCH v1.5).

None of them could be run where this was written: the calls are those of their README files.
"""

from __future__ import annotations

from typing import Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.families import Built, Material, load_strictly
from wsistore.encoders.packages import require
from wsistore.errors import UsageError


def build(entry: EncoderEntry, material: Material) -> Built:
    """Return the model of the entry's own package."""
    return {"musk": _musk, "conch": _conch, "titan": _titan}[entry.family](entry, material)


def _musk(entry: EncoderEntry, material: Material) -> Built:
    why = f"encoder {entry.name}"
    timm = require("timm", why)
    require(entry.packages[0], why)

    module = timm.create_model(entry.architecture)
    if material.state is not None:
        load_strictly(module, material.state, entry)
    multi_scale = material.pooling == "multi-scale"

    def forward(x: Any) -> Any:
        return module(
            image=x, with_head=False, out_norm=False, ms_aug=multi_scale, return_global=True
        )[0]

    return Built(module, forward)


def _conch(entry: EncoderEntry, material: Material) -> Built:
    path = _needs_weights(entry, material)
    require(entry.packages[0], f"encoder {entry.name}")
    from conch.open_clip_custom import create_model_from_pretrained

    # Its own loader reads the file again; `read_state` has shown that it holds tensors only.
    module, _ = create_model_from_pretrained(entry.architecture, str(path))

    def forward(x: Any) -> Any:
        return module.encode_image(x, proj_contrast=False, normalize=False)

    return Built(module, forward)


def _titan(entry: EncoderEntry, material: Material) -> Built:
    path = _needs_weights(entry, material)
    transformers = require("transformers", f"encoder {entry.name}")
    for package in entry.packages[1:]:
        require(package, f"encoder {entry.name}")
    if not material.remote_code:
        raise UsageError(
            f"encoder {entry.name} runs code of {entry.source} on this machine",
            hint="Read that code, then give trust_remote_code=True.",
        )
    titan = transformers.AutoModel.from_pretrained(
        str(path.parent), trust_remote_code=True, local_files_only=True
    )
    module, _ = titan.return_conch()
    return Built(module, module)


def _needs_weights(entry: EncoderEntry, material: Material) -> Any:
    if material.path is None:
        raise UsageError(
            f"encoder {entry.name} can't have random weights: its package only loads them",
            hint="Load its weights, or use another encoder for a dry run.",
        )
    return material.path
