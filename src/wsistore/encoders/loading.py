"""From a name, a plug-in file or a callable to an encoder that works."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsistore.encoders.entry import EncoderEntry
from wsistore.encoders.model import Encoder, Facts, Weights, WeightsKind
from wsistore.encoders.registry import EncoderRegistry, encoder_registry
from wsistore.errors import EncoderError, UsageError, WeightsError

if TYPE_CHECKING:
    from wsistore.encoders.families import Built
    from wsistore.encoders.weightfiles import State, Trust


def load_encoder(
    encoder: str | Path | Encoder | Callable[..., Encoder],
    *,
    weights: str | Path = "pretrained",
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    pickle_sha256: str | None = None,
    pooling: str | None = None,
    threads: int | None = None,
    registry: EncoderRegistry | None = None,
) -> Encoder:
    """Load an encoder; the licence of pretrained weights is logged once.

    Parameters
    ----------
    encoder : str, path, Encoder or callable
        Name or alias of the registry; path of a plug-in (``.py``) that registers exactly one
        encoder; an encoder, which is returned as it is; or a callable that makes one from
        keywords `device`, `precision` and `threads`.
    weights : str or path
        ``"pretrained"`` (from the cache of the library or its hub), ``"random"`` (drawn from
        `seed`, the same in every process; for tests and dry runs), or the path of a file or
        of a folder with one.
    seed : int
        Of random weights.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or ``"auto"``.
    precision : str
        ``"float32"``, ``"float16"`` or ``"bfloat16"``, by autocast. float16 on a CPU becomes
        float32, which is noted.
    trust_remote_code : bool
        Whether code of the encoder's repository on the hub may run on this machine.
    allow_pickle : bool
        Whether a pickle may be loaded; it can run any code. Needs `pickle_sha256`.
    pickle_sha256 : str, optional
        The sha256 that the pickle must have.
    pooling : str, optional
        One of ``entry.dims``; changes the dimension.
    threads : int, optional
        Threads of torch on the CPU; at most those that this process may use.
    registry : EncoderRegistry, optional
        Where names are looked up; that of the process by default.

    Returns
    -------
    Encoder

    Raises
    ------
    UsageError
        If a name or an option makes no sense; the hint names close matches.
    DependencyError
        If a package is missing; the hint says how to install it.
    SourceNotFoundError, SourceAccessError
        If weights can't be had; the hint says where to put them or to log in.
    WeightsError
        If weights are unsafe, damaged or of another model.
    DeviceError
        If the device is not there.
    """
    if not isinstance(encoder, str | Path):
        return _given(encoder, device=device, precision=precision, threads=threads)
    known = registry or encoder_registry()
    entry = _entry(encoder, known)
    loader = known.loaders.get(entry.name)
    if loader is not None:
        return loader(device=device, precision=precision, threads=threads)
    if entry.family == "embedded":
        return _embedded(entry)
    entry = _pooled(entry, pooling)
    from wsistore.encoders.weightfiles import Trust

    trust = Trust(allow_pickle, pickle_sha256, trust_remote_code)
    return _torch_encoder(entry, weights, seed, device, precision, threads, trust)


def _given(encoder: Any, **options: Any) -> Encoder:
    """Return what is an encoder, or what a callable makes."""
    if isinstance(encoder, Encoder):
        return encoder
    if hasattr(encoder, "state_dict") or not callable(encoder):
        raise UsageError(
            f"can't tell dimension and preprocessing of {type(encoder).__name__}",
            hint="Use encoder_from_module or encoder_from_callable.",
        )
    made = encoder(**options)
    if not isinstance(made, Encoder):
        raise EncoderError(
            f"{encoder!r} returned {type(made).__name__}, expected an Encoder",
            hint="For a function of tiles use encoder_from_callable.",
        )
    return made


def _entry(encoder: str | Path, known: EncoderRegistry) -> EncoderEntry:
    if isinstance(encoder, str) and not encoder.endswith(".py"):
        return known.get(encoder)
    from wsistore.encoders.plugins import load_plugin

    added = load_plugin(encoder, registry=known)
    if len(added) != 1:
        raise UsageError(
            f"{encoder} registers {len(added)} encoders: {', '.join(added)}",
            hint="Load the plug-in with load_plugin, then an encoder by its name.",
        )
    return known.get(added[0])


def _embedded(entry: EncoderEntry) -> Encoder:
    if entry.name == "null":
        from wsistore.encoders.null import NullEncoder

        return NullEncoder()
    from wsistore.encoders.colour_stats import ColourStats

    return ColourStats()


def _pooled(entry: EncoderEntry, pooling: str | None) -> EncoderEntry:
    """Return the entry with another pooling and its dimension."""
    if pooling is None or pooling == entry.pooling:
        return entry
    if pooling not in entry.poolings:
        raise UsageError(
            f"encoder {entry.name} has no pooling {pooling!r}",
            hint=f"It has {', '.join(entry.dims)}.",
        )
    others = {name: dim for name, dim in entry.dims.items() if name != pooling}
    return replace(entry, pooling=pooling, dim=entry.poolings[pooling], poolings=others)


def _torch_encoder(
    entry: EncoderEntry,
    weights: str | Path,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
    trust: Trust,
) -> Encoder:
    from wsistore.encoders import devices
    from wsistore.encoders.torch_encoder import TorchEncoder, state_sha256

    where = devices.pick_device(device)
    exact, notes = devices.pick_precision(precision, where)
    bound = devices.pick_threads(threads)
    if weights == "random":
        built, origin = _random(entry, seed), Weights("random", entry.architecture, seed=seed)
    else:
        built, origin, more = _with_weights(entry, weights, trust)
        notes += more
    facts = Facts(
        name=entry.name,
        dim=entry.dim,
        input_size=entry.input_size,
        mpp=entry.mpp,
        preprocessing=entry.preprocessing,
        weights=replace(origin, sha256=state_sha256(built.module)),
        pooling=entry.pooling,
        precision=exact,
        extra={"family": entry.family, "architecture": entry.architecture},
    )
    made = TorchEncoder(
        facts, built.module, where, threads=bound, forward=built.forward, entry=entry
    )
    made.notes += notes
    return made


def _random(entry: EncoderEntry, seed: int) -> Built:
    """Return the architecture with weights drawn from a seed; torch's own state is kept."""
    import torch

    from wsistore.encoders.families import Material, family

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family(entry).build(entry, Material(entry.pooling))


def _with_weights(
    entry: EncoderEntry, weights: str | Path, trust: Trust
) -> tuple[Built, Weights, list[str]]:
    from wsistore.encoders.families import Material, family
    from wsistore.encoders.licences import tell_licence

    _refuse_untrusted(entry, trust)
    kind: WeightsKind = "pretrained" if weights == "pretrained" else "file"
    path = _fetched(entry) if kind == "pretrained" else _local(entry, Path(weights))
    state = _read(entry, path, trust, pinned=kind == "pretrained")
    config, notes = _config(entry, path, pinned=kind == "pretrained")
    tell_licence(entry)
    material = Material(entry.pooling, state, config, path, trust.remote_code)
    built = family(entry).build(entry, material)
    source = entry.source if kind == "pretrained" else path.name
    revision = entry.revision or _snapshot(path) if kind == "pretrained" else None
    return built, Weights(kind, source, revision=revision), notes


def _refuse_untrusted(entry: EncoderEntry, trust: Trust) -> None:
    """Refuse before anything is fetched."""
    if entry.remote_code and not trust.remote_code:
        raise UsageError(
            f"encoder {entry.name} runs code of {entry.source} on this machine",
            hint="Read that code, then give trust_remote_code=True.",
        )


def _fetched(entry: EncoderEntry) -> Path:
    from wsistore.encoders import hub

    if entry.remote_code:
        return hub.hub_folder(entry) / (entry.file or "")
    return hub.fetch(entry)


def _local(entry: EncoderEntry, path: Path) -> Path:
    """Return the file that a path means: itself, or the usual one of a folder."""
    if not path.is_dir():
        return path
    usual = (
        entry.file,
        "model.safetensors",
        "open_clip_model.safetensors",
        "pytorch_model.bin",
        "model.safetensors.index.json",
    )
    found = [path / name for name in usual if name and (path / name).is_file()]
    return found[0] if found else path / (entry.file or "model.safetensors")


def _read(entry: EncoderEntry, path: Path, trust: Trust, *, pinned: bool) -> State:
    from wsistore.encoders.weightfiles import read_shards, read_state

    try:
        if path.name.endswith(".index.json"):
            return read_shards(path, trust)
        return read_state(path, trust, sha256=entry.file_sha256 if pinned else None)
    except WeightsError as error:
        raise WeightsError(f"encoder {entry.name}: {error.message}", hint=error.hint) from error


def _config(
    entry: EncoderEntry, path: Path, *, pinned: bool
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the configuration beside the weights, and a note where there is none."""
    from wsistore.encoders import hub
    from wsistore.encoders.families import CONFIG_FILE

    name = CONFIG_FILE.get(entry.family)
    if name is None:
        return None, []
    found = path.parent / name
    if pinned and not found.is_file():
        found = hub.hub_config(entry, name) or found
    if not found.is_file():
        note = f"no {name} beside {path.name}: the architecture is the registry's"
        return None, [note]
    try:
        config = json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{found} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{found} is no configuration, but {type(config).__name__}")
    return config, []


def _snapshot(path: Path) -> str | None:
    """Return the commit of a file in the cache of the hub, which its folder is named by."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None
