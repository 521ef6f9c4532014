"""Encoders from outside: Python files of the user, and installed packages.

A plug-in is a Python file with ``register_feature_extractors(registry, device, dtype,
num_workers)``, which adds encoders with `register_custom_encoder` or ``registry.add``. It is
code of the user's choice and is run as such. A package offers the same through an entry
point of the group ``wsistore.encoders``, a callable that takes the registry.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.model import BaseEncoder, Encoder, Facts, Preprocessing, Weights
from wsistore.encoders.registry import EncoderRegistry, encoder_registry
from wsistore.errors import EncoderError, SourceNotFoundError, UsageError, WsistoreError

GROUP = "wsistore.encoders"
_ENTRY = "register_feature_extractors"
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What code of others may raise; all but what ends a process, and wsistore's own errors."""


def load_plugin(
    path: str | Path,
    *,
    registry: EncoderRegistry | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    num_workers: int = 0,
) -> list[str]:
    """Run a plug-in file and return the names of the encoders that it added.

    Loading the same file, with the same content, again adds nothing and returns the same
    names.

    Parameters
    ----------
    path : str or path
        Python file with ``register_feature_extractors``.
    registry : EncoderRegistry, optional
        Where encoders are added; that of the process by default.
    device, dtype : str
        Handed over to the plug-in; see `load_encoder`.
    num_workers : int
        Handed over; wsistore reads tiles by itself and has no use for it.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    EncoderError
        If the file can't be run, or adds no encoder.
    UsageError
        If it adds a name that is taken.
    """
    known = registry or encoder_registry()
    file = Path(path)
    if not file.is_file():
        raise SourceNotFoundError(f"no plug-in at {file}", hint="Name a Python file.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    key = f"{file.resolve()}:{digest}"
    if key in known.plugins:
        return list(known.plugins[key])
    before = set(known.entries)
    register = _function(_run(file, digest), file)
    try:
        register(known, device, dtype, num_workers)
    except WsistoreError:
        raise
    except _FAILURES as error:
        raise EncoderError(f"plug-in {file} failed in {_ENTRY}: {error!r}") from error
    added = [name for name in known.entries if name not in before]
    if not added:
        raise EncoderError(
            f"plug-in {file} added no encoder", hint="Call register_custom_encoder in it."
        )
    known.plugins[key] = tuple(added)
    return added


def register_custom_encoder(
    registry: EncoderRegistry,
    name: str,
    embedding_dim: int,
    loader: Callable[[Any, Any], Any],
    device: Any = "cpu",  # noqa: ARG001 (given when the encoder is loaded)
    dtype: Any = "float32",  # noqa: ARG001
    num_workers: int = 0,  # noqa: ARG001
    *,
    version: str = "1",
    input_size: int | None = None,
    mpp: float | None = None,
) -> None:
    """Add an encoder of one's own; to be called in a plug-in.

    Parameters
    ----------
    registry : EncoderRegistry
        As the plug-in was given it.
    name : str
        Name on the command line and in stores.
    embedding_dim : int
        Length of a feature vector.
    loader : callable
        ``loader(device, dtype)``, with a ``torch.device`` and a ``torch.dtype``, is called once
        in each process that uses the encoder. It returns an `Encoder`, or an object with
        `model` (a module, or None), `preprocess` (a tile as ``PIL.Image`` in RGB to a tensor
        (3, h, w)) and `forward_fn` (tensor (n, 3, h, w) to (n, embedding_dim)).
    device, dtype, num_workers
        As the plug-in was given them. What `load_encoder` says counts.
    version : str
        To be changed when the code of the plug-in changes features.
    input_size : int, optional
        Side of the tiles it wants, px.
    mpp : float, optional
        Pixel size it was made for, µm/px.

    Raises
    ------
    UsageError
        If the name is taken or makes no sense.
    """
    entry = EncoderEntry(
        name=name,
        group="custom",
        family="embedded",
        architecture=getattr(loader, "__qualname__", "loader"),
        dim=embedding_dim,
        pooling="own",
        input_size=input_size,
        resize=input_size,
        mean=None,
        std=None,
        mpp=mpp,
        source="plug-in",
        licence="own",
    )

    def load(*, device: str, precision: str, threads: int | None) -> Encoder:
        return _load(entry, loader, version, device, precision, threads)

    registry.add(entry, load)


@dataclass(frozen=True, slots=True)
class CustomEncoderComponents:
    """What a loader of a plug-in may return; any object with these attributes will do."""

    model: Any
    preprocess: Callable[[Any], Any]
    forward_fn: Callable[[Any], Any]


class PluginEncoder(BaseEncoder):
    """Runs the three parts that a loader gave; see `register_custom_encoder`."""

    def __init__(self, facts: Facts, parts: Any, device: Any, threads: int) -> None:
        super().__init__(facts)
        self.device = device
        self.threads = threads
        self._parts = parts
        if hasattr(parts.model, "eval"):
            parts.model.eval()

    def close(self) -> None:
        """Give the memory of the model back."""
        super().close()
        self._parts = None

    def _features(self, batch: Any) -> NDArray[np.float32]:
        import torch
        from PIL import Image

        tiles = np.asarray(batch if isinstance(batch, np.ndarray) else batch.cpu())
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        dtype = getattr(torch, self.facts.precision)
        try:
            with torch.inference_mode():
                images = [
                    self._parts.preprocess(
                        Image.fromarray(np.ascontiguousarray(tile.transpose(1, 2, 0)))
                    )
                    for tile in tiles
                ]
                prepared = torch.stack(images).to(self.device, dtype)
                made = torch.as_tensor(self._parts.forward_fn(prepared))
                features: NDArray[np.float32] = made.to("cpu", torch.float32).numpy()
                return features
        except _FAILURES as error:
            raise EncoderError(
                f"plug-in encoder {self.name} failed on {tiles.shape} uint8 tiles: {error}"
            ) from error


def load_entry_points(registry: EncoderRegistry) -> None:
    """Let installed packages add encoders; what fails is kept in ``registry.problems``."""
    for point in entry_points(group=GROUP):
        try:
            point.load()(registry)
        except (WsistoreError, *_FAILURES) as error:
            registry.problems.append(f"entry point {point.name} ({point.value}): {error}")


def _load(
    entry: EncoderEntry,
    loader: Callable[[Any, Any], Any],
    version: str,
    device: str,
    precision: str,
    threads: int | None,
) -> Encoder:
    import torch

    from wsistore.encoders import devices
    from wsistore.encoders.torch_encoder import state_sha256

    where = devices.pick_device(device)
    exact, notes = devices.pick_precision(precision, where)
    parts = loader(where, getattr(torch, exact))
    if isinstance(parts, Encoder):
        return parts
    lacking = [one for one in ("model", "preprocess", "forward_fn") if not hasattr(parts, one)]
    if lacking:
        raise EncoderError(
            f"the loader of encoder {entry.name} returned {type(parts).__name__} "
            f"without {', '.join(lacking)}",
            hint="Return an object with model, preprocess and forward_fn, or an Encoder.",
        )
    has_state = isinstance(parts.model, torch.nn.Module)
    facts = Facts(
        name=entry.name,
        dim=entry.dim,
        input_size=entry.input_size,
        mpp=entry.mpp,
        preprocessing=Preprocessing(None, None, None, None, backend="plug-in"),
        weights=Weights(
            "custom", entry.architecture, sha256=state_sha256(parts.model) if has_state else None
        ),
        precision=exact,
        version=version,
    )
    made = PluginEncoder(facts, parts, where, devices.pick_threads(threads))
    made.notes += notes
    return made


def _run(file: Path, digest: str) -> ModuleType:
    name = f"wsistore_plugin_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is no Python file", hint="A plug-in ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles in it look themselves up
    try:
        spec.loader.exec_module(module)
    except _FAILURES as error:
        del sys.modules[name]
        raise EncoderError(f"plug-in {file} can't be run: {error!r}") from error
    return module


def _function(module: ModuleType, file: Path) -> Callable[..., None]:
    register = getattr(module, _ENTRY, None)
    if not callable(register):
        raise EncoderError(
            f"plug-in {file} has no {_ENTRY}",
            hint=f"Define {_ENTRY}(registry, device, dtype, num_workers) in it.",
        )
    made: Callable[..., None] = register
    return made
