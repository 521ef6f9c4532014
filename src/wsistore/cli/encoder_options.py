"""Options of commands that run encoders, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from wsistore.cli.planned_options import usable_device
from wsistore.errors import UsageError

FEATURES = "Features"
RUN = "Run"

PRECISIONS = ("float32", "float16", "bfloat16")

EncoderWeights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="pretrained|random|PATH",
        help="Of encoders: downloaded or cached, drawn from a seed (dry runs), or a file or "
        "folder. With several encoders, PATH is a folder of <name>.safetensors.",
        rich_help_panel=FEATURES,
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--feature-plugin",
        help="Python file with register_feature_extractors(...); it is run. Repeatable.",
        rich_help_panel=FEATURES,
    ),
]
FeaturePrecision = Annotated[
    str,
    typer.Option(
        help="float32, float16 or bfloat16; float16 on a CPU becomes float32.",
        rich_help_panel=FEATURES,
    ),
]
FeatureBatchSize = Annotated[
    int, typer.Option(help="Tiles encoded together.", rich_help_panel=FEATURES)
]
FeatureWorkers = Annotated[
    int,
    typer.Option(help="Threads that decode tiles, for each worker.", rich_help_panel=FEATURES),
]
Scheduler = Annotated[
    str,
    typer.Option(
        help="threads, processes, dask, slurm, or the address of a dask scheduler.",
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[int | None, typer.Option(help="Units of work at a time.", rich_help_panel=RUN)]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="Such as 4GB: what all workers may hold, without models.", rich_help_panel=RUN
    ),
]
UnitTiles = Annotated[
    int, typer.Option(help="Tiles of a unit: what a crash costs.", rich_help_panel=RUN)
]
AllowPickle = Annotated[
    str | None,
    typer.Option(
        "--allow-pickle",
        metavar="SHA256",
        help="Load weights that are a pickle, if they have this SHA-256. Pickles can run code.",
        rich_help_panel=FEATURES,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run code of the encoder's repository on the hub.",
        rich_help_panel=FEATURES,
    ),
]


@dataclass(frozen=True)
class ChosenEncoders:
    """Encoders of a command line.

    Parameters
    ----------
    names : tuple of str
        As the registry has them.
    given : tuple of str
        What workers load them by: the names, or plug-in files.
    options : dict
        Arguments of `wsistore.encoders.load_encoder`.
    """

    names: tuple[str, ...]
    given: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


def split_names(texts: Sequence[str]) -> list[str]:
    """Return names separated by commas or spaces, in lower case.

    Raises
    ------
    UsageError
        If there is none.
    """
    names = [word for text in texts for word in re.split(r"[,\s]+", text.lower()) if word]
    if not names:
        raise UsageError("no encoder is named", hint="`wsistore encoders` lists them.")
    return names


def choose(
    texts: Sequence[str],
    *,
    plugins: Sequence[Path] | None = None,
    weights: str = "pretrained",
    allow_pickle: str | None = None,
    trust_remote_code: bool = False,
    scheduler: str = "threads",
    device: str = "cpu",
    precision: str = "float32",
    num_workers: int = 0,
) -> ChosenEncoders:
    """Return the encoders that options name, checked: none unknown, none twice.

    Raises
    ------
    UsageError
        If one is unknown (the hint names close matches), or named twice.
    wsistore.errors.WsistoreError
        If a plug-in can't be run.
    """
    from wsistore.encoders import encoder_registry, load_plugin

    if precision not in PRECISIONS:
        raise UsageError(f"precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    registry = encoder_registry()
    origin: dict[str, tuple[Path, int]] = {}
    for path in plugins or ():
        added = load_plugin(path, device=device, dtype=precision, num_workers=num_workers)
        origin |= {name: (path, len(added)) for name in added}
    names = [registry.get(name).name for name in split_names(texts)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"an encoder is named twice: {', '.join(twice)}")
    given = [_given(name, origin, scheduler) for name in names]
    options: dict[str, Any] = {"weights": weights}
    if allow_pickle is not None:
        options |= {"allow_pickle": True, "pickle_sha256": allow_pickle}
    if trust_remote_code:
        options["trust_remote_code"] = True
    return ChosenEncoders(tuple(names), tuple(given), options)


def _given(name: str, origin: dict[str, tuple[Path, int]], scheduler: str) -> str:
    """Return what other processes can load: they don't have this one's registry."""
    if name not in origin or scheduler == "threads":
        return name
    path, count = origin[name]
    if count > 1:
        raise UsageError(
            f"{path} registers {count} encoders; workers in other processes need a file for each",
            hint="Use --scheduler threads, or split the file.",
        )
    return str(path.resolve())


def feature_device(device: str, scheduler: str = "threads") -> str:
    """Return the device of encoders: cuda falls back to the CPU with a warning.

    Where workers are other machines, theirs count: there is no fallback.
    """
    is_elsewhere = scheduler == "slurm" or "://" in scheduler
    if device in ("mps", "auto") or (is_elsewhere and device.partition(":")[0] == "cuda"):
        return device
    return usable_device(device)
