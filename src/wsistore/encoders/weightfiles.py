"""Files of weights to named tensors, without running anything that is in them.

Safetensors are data. Files of ``torch.save`` are read with ``weights_only=True``, which
builds tensors and containers only. A file that needs more is a pickle, which may run any
code: it is loaded only with consent, and only where its sha256 is the one that was stated.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from wsistore.encoders.packages import require, torch_for
from wsistore.errors import SourceNotFoundError, UsageError, WeightsError

State = dict[str, Any]
"""Tensors by name."""

_CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher", "module")
"""Keys under which checkpoints of training keep the tensors."""
_PREFIXES = ("module.", "_orig_mod.")
"""What wrappers (DataParallel, compile) put before all names."""
_BROKEN = (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What torch.load raises on a damaged file, beside UnpicklingError."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What of a file of weights may be run.

    Parameters
    ----------
    allow_pickle : bool
        Whether a pickle may be loaded, if its hash is the stated one.
    pickle_sha256 : str, optional
        Hash of that pickle, from a source that is trusted.
    remote_code : bool
        Whether code of a repository on the hub may be run.

    Raises
    ------
    UsageError
        If a pickle is allowed without a hash.
    """

    allow_pickle: bool = False
    pickle_sha256: str | None = None
    remote_code: bool = False

    def __post_init__(self) -> None:
        """Check that consent to a pickle names one."""
        if self.allow_pickle and not _is_sha256(self.pickle_sha256):
            raise UsageError(
                f"allow_pickle needs pickle_sha256, got {self.pickle_sha256!r}",
                hint="State the sha256 (64 hex digits) that the authors of the file publish.",
            )


def read_state(path: Path, trust: Trust, *, sha256: str | None = None) -> State:
    """Return the tensors of a file by name, on the CPU.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a file of ``torch.save`` under any other suffix.
    trust : Trust
        Whether a pickle may be loaded.
    sha256 : str, optional
        What the file must have, where it is known.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    WeightsError
        If it is damaged, unsafe, another file than stated, or holds other things than tensors.
    DependencyError
        If torch or safetensors is not installed.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceNotFoundError(
            f"no weights at {path}: {error.strerror}", hint="Name a file that can be read."
        ) from error
    with file:
        if sha256 is not None:
            _check_sha256(file, path, sha256)
        read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
        return _tensors(read(file, path, trust), path)


def read_shards(index: Path, trust: Trust) -> State:
    """Return the tensors of all files that an index (``*.index.json``) beside them names.

    Raises
    ------
    WeightsError
        If the index is broken, names a file outside of its folder, or one of them is bad.
    SourceNotFoundError
        If one of them is missing.
    """
    state: State = {}
    for name in shard_names(index):
        state |= read_state(index.parent / name, trust)
    return state


def shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index of shards names; see `read_shards`."""
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except OSError as error:
        raise SourceNotFoundError(f"no weights at {index}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is no index of weights: {error!r}") from error
    strange = [name for name in files if not isinstance(name, str) or Path(name).name != name]
    if strange or not files:
        raise WeightsError(f"{index} names no files of its own folder: {strange}")
    return sorted(files)


def sha256_of(file: IO[bytes]) -> str:
    """Return the sha256 of an open file, which is then at its start again."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def _check_sha256(file: IO[bytes], path: Path, expected: str) -> None:
    found = sha256_of(file)
    if found != expected.lower():
        raise WeightsError(
            f"{path} has sha256 {found}, expected {expected.lower()}",
            hint="It is damaged, or another version: fetch the stated one again.",
        )


def _read_safetensors(file: IO[bytes], path: Path, _: Trust) -> Any:
    torch_for("weights in safetensors")
    require("safetensors", "weights in safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file.close()
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is no sound file of safetensors: {error}", hint="Fetch it again."
        ) from error


def _read_torch(file: IO[bytes], path: Path, trust: Trust) -> Any:
    torch = torch_for(f"weights in {path.suffix or 'a file of torch.save'}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust.allow_pickle:
            raise WeightsError(
                f"{path} can't be loaded as tensors alone: {_first_line(error)}",
                hint="It is damaged, or a pickle, which can run any code. Prefer safetensors. If "
                "you trust its authors, give allow_pickle=True and pickle_sha256=<the hash "
                "that they publish>.",
            ) from error
    except _BROKEN as error:
        raise _damaged(path, error) from error
    return _read_pickle(torch, file, path, trust)


def _read_pickle(torch: Any, file: IO[bytes], path: Path, trust: Trust) -> Any:
    """Load a pickle to which its user has consented, by hash; the same open file is read."""
    _check_sha256(file, path, str(trust.pickle_sha256))
    try:
        return torch.load(file, map_location="cpu", weights_only=False)
    except (pickle.UnpicklingError, ImportError, *_BROKEN) as error:
        raise _damaged(path, error) from error


def _tensors(found: Any, path: Path) -> State:
    """Return the tensors, out of their containers and without the names of wrappers."""
    import torch

    while isinstance(found, Mapping):
        inner = next((key for key in _CONTAINERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = found[inner]
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{path} holds no tensors by name, but {type(found).__name__}")
    odd = [name for name, one in found.items() if not isinstance(one, torch.Tensor)]
    if odd:
        raise WeightsError(f"{path} holds other things than tensors: {odd[0]!r}, {len(odd)} in all")
    state = {str(name): tensor for name, tensor in found.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is no sound file of weights: {_first_line(error)}", hint="Fetch it again."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _is_sha256(text: str | None) -> bool:
    return text is not None and len(text) == 64 and all(c in "0123456789abcdefABCDEF" for c in text)
