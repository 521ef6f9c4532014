"""One module for each library of architectures.

Each has ``build(entry, config, state, pooling)``, which returns the module and what makes
features from its input. `state` is the tensors of a file, or None for weights as the
library draws them from torch's generator; `config` is the configuration that came with the
file, or None to take the architecture from the registry. Loading is strict: a tensor that is
missing, left over (but for heads that are dropped) or of another shape is a `WeightsError`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wsistore.encoders.entry import EncoderEntry
from wsistore.errors import WeightsError

CONFIG_FILE = {
    "timm": "config.json",
    "transformers": "config.json",
    "open_clip": "open_clip_config.json",
}
"""Name of the configuration beside the weights, by family."""


@dataclass(frozen=True, slots=True)
class Built:
    """A module and its way from prepared input to features."""

    module: Any
    forward: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Material:
    """What an architecture is made from.

    Parameters
    ----------
    pooling : str
        How tokens become a vector.
    state : dict of tensors, or None
        None for random weights.
    config : dict or None
        Configuration that came with the weights.
    path : Path or None
        Of the file with the weights.
    remote_code : bool
        Whether code of the hub may be run.
    """

    pooling: str
    state: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    path: Path | None = None
    remote_code: bool = False


class FamilyModule(Protocol):
    """What each module of this package offers."""

    def build(self, entry: EncoderEntry, material: Material) -> Built:
        """Return a module with its weights, and its way to features."""


def family(entry: EncoderEntry) -> FamilyModule:
    """Return the module that builds an encoder."""
    name = {"musk": "special", "conch": "special", "titan": "special"}.get(
        entry.family, entry.family
    )
    made: FamilyModule = importlib.import_module(f"wsistore.encoders.families.{name}")
    return made


def load_strictly(
    module: Any, state: dict[str, Any], entry: EncoderEntry, *, dropped: tuple[str, ...] = ()
) -> None:
    """Copy tensors into a module; all of them, and only those.

    Parameters
    ----------
    dropped : tuple of str
        Beginnings of names that the file may hold in excess, such as a classifier.

    Raises
    ------
    WeightsError
        If a tensor is missing, left over or of another shape.
    """
    own = module.state_dict()
    excess = [name for name in state if name not in own and not name.startswith(dropped or ("\0",))]
    absent = [name for name in own if name not in state]
    if absent or excess:
        raise mismatch(entry, absent, excess)
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise WeightsError(
                f"weights of another model for encoder {entry.name}: {name} is "
                f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
            )
    module.load_state_dict({name: state[name] for name in own})


def mismatch(entry: EncoderEntry, absent: list[str], excess: list[str]) -> WeightsError:
    """Return the error for names that don't agree."""
    told = [
        f"{len(names)} tensors {what} ({', '.join(sorted(names)[:3])})"
        for what, names in (("missing", absent), ("left over", excess))
        if names
    ]
    return WeightsError(
        f"weights of another model for encoder {entry.name}: {' and '.join(told)}",
        hint=f"It takes {entry.file or 'its own file'} of {entry.source}.",
    )
