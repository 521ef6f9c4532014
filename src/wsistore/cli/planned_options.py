"""Options that planning commands share."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from wsistore.cli.planned_output import warn
from wsistore.errors import UsageError
from wsistore.geometry import Resolution

SEG = "Segmentation"
TILES = "Tiles"
PICTURES = "Pictures"
RUN = "Run"
OUT = "Output"

SlidePath = Annotated[
    str, typer.Argument(metavar="PATH", help="A slide, a store, or a folder of them; URLs too.")
]
OutputFolder = Annotated[
    str,
    typer.Option(
        "--output", "-o", help="Root folder of the results: a path or a URL.", rich_help_panel=OUT
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="cuda, cuda:N or cpu, for segmenters that run a model; without a GPU it is the CPU.",
        rich_help_panel=SEG,
    ),
]
TissueThresh = Annotated[
    float,
    typer.Option(
        help="Leave out pieces of tissue below this fraction of the slide (0-1).",
        rich_help_panel=SEG,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="default (by stain), otsu, entropy, multi-otsu, threshold, sam2, or one of a plug-in.",
        rich_help_panel=SEG,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Of sam2: a folder, or the id of a repository on the Hugging Face hub.",
        rich_help_panel=SEG,
    ),
]
SegBatchSize = Annotated[
    int, typer.Option(help="Thumbnails segmented at once.", rich_help_panel=SEG)
]
PatchWorkers = Annotated[
    int | None,
    typer.Option(help="Threads, a slide each. Default: one a core.", rich_help_panel=RUN),
]
MaxOpenSlides = Annotated[int, typer.Option(help="Slides open at once.", rich_help_panel=RUN)]
Recursive = Annotated[
    bool, typer.Option("--recursive", help="Look into folders.", rich_help_panel=RUN)
]
MppCsv = Annotated[
    Path | None,
    typer.Option(
        help="Table with columns wsi,mpp: µm/px at level 0 in place of what slides say; "
        "matched by the name without extension.",
        rich_help_panel=RUN,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing/--force",
        help="Leave finished slides alone, or make them anew.",
        rich_help_panel=RUN,
    ),
]
Sheet = Annotated[
    bool,
    typer.Option(
        "--contact-sheet/--no-contact-sheet",
        help="Draw all slides on one picture.",
        rich_help_panel=PICTURES,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="A line a slide, no progress bar.", rich_help_panel=OUT),
]


def method_parameters(method: str, weights: str | None, device: str) -> dict[str, Any]:
    """Return what a segmenter is told: models get weights and a device."""
    if method != "sam2":
        if weights is not None:
            raise UsageError(f"--weights goes with --method sam2, not {method}")
        return {}
    if weights is None:
        raise UsageError(
            "--method sam2 needs --weights",
            hint="Name a folder with config.json and model.safetensors, or a repository.",
        )
    return {"weights": weights, "device": usable_device(device)}


@functools.cache
def usable_device(device: str) -> str:
    """Return the device, or the CPU with a warning where torch has no such one.

    Raises
    ------
    UsageError
        If it is no device's name.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"device is cuda, cuda:N or cpu, got {device!r}")
    if kind == "cpu":
        return device
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count():
        return device
    warn([f"there is no {device} here; the CPU is used"])
    return "cpu"


def target(mag: float | None, mpp: float | None, level: int | None = None) -> Resolution:
    """Return the resolution of tiles, of which exactly one way to say it is given.

    Raises
    ------
    UsageError
        If none is, or several are.
    """
    ways = {
        "--target-mag": None if mag is None else Resolution.magnification(mag),
        "--target-mpp": None if mpp is None else Resolution.mpp(mpp),
        "--level": None if level is None else Resolution.level(level),
    }
    told = [found for found in ways.values() if found is not None]
    if len(told) != 1:
        raise UsageError(
            f"name one of --target-mag, --target-mpp{', --level' if level is not None else ''}; "
            f"{len(told)} are named",
            hint="For example --target-mag 20, or --target-mpp 0.5.",
        )
    return told[0]


def pixel_sizes(path: Path | None) -> dict[str, float]:
    """Return the pixel sizes of a table by stem, after warning of rows left out."""
    if path is None:
        return {}
    from wsistore.engine.discovery import read_mpp_csv

    found = read_mpp_csv(path)
    warn(found.warnings)
    return dict(found.by_stem)
