"""``wsistore doctor``: what this machine has of what wsistore can use."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wsistore._version import __version__
from wsistore.cli.boundary import Debug, ExitCode, Json, guarded, plain, print_json

_NEEDED = (
    "numpy",
    "zarr",
    "numcodecs",
    "imagecodecs",
    "simplejpeg",
    "tifffile",
    "obstore",
    "google-crc32c",
    "opencv-python-headless",
    "pillow",
    "rich",
    "typer",
)
_OPTIONAL = {
    "dask": ("dask", "distributed", "xarray", "dask-jobqueue"),
    "torch": ("torch",),
    "encoders": ("torchvision", "timm", "open_clip_torch", "transformers", "safetensors"),
    "export": ("h5py", "lmdb", "pyarrow", "anndata", "spatialdata"),
    "mask": ("scikit-image", "shapely"),
    "openslide": ("openslide-python", "openslide-bin"),
    "viz": ("matplotlib",),
}
_FEW_FILES = 1024
_LITTLE_DISK = 10 << 30


@guarded
def doctor(
    path: Annotated[
        Path, typer.Option("--output", "-o", help="Where results will lie: its disk is looked at.")
    ] = Path(),
    imports: Annotated[
        bool,
        typer.Option("--import/--no-import", help="Import torch and its kin, which takes seconds."),
    ] = True,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001 (read by `guarded`)
) -> ExitCode:
    """Tell what is installed, usable and free here; exit code 1 where something needed is not."""
    found = examine(path, imports=imports)
    if as_json:
        print_json(plain(found))
    else:
        _print(found)
    return ExitCode.FAILED if found["problems"] else ExitCode.DONE


def examine(path: Path, *, imports: bool = True) -> dict[str, Any]:
    """Return what there is, as plain values; keys are only ever added.

    Parameters
    ----------
    path : Path
        A place on the disk that is looked at.
    imports : bool
        Whether torch is imported, to see which devices it has.
    """
    found: dict[str, Any] = {
        "wsistore": __version__,
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _NEEDED},
        "optional": {
            extra: {name: _version(name) for name in names} for extra, names in _OPTIONAL.items()
        },
        "machine": _machine(path),
        "codecs": _codecs(),
        "compiled_jpeg": _compiled(),
        "torch": _torch() if imports else None,
        "encoders": _encoders(),
        "weights": _weights(),
    }
    found["problems"], found["notes"] = _judged(found)
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine(path: Path) -> dict[str, Any]:
    import resource

    from wsistore.durable import free_bytes

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": pages * size,
        "disk": str(path.absolute()),
        "free_bytes": free_bytes(path),
        "open_files": {"soft": soft, "hard": None if hard == resource.RLIM_INFINITY else hard},
        "slurm": shutil.which("sbatch"),
    }


def _codecs() -> dict[str, str]:
    """Return each codec with ``"ok"``, or why it can't be used."""
    import numpy as np

    from wsistore.codecs import BlockFormat, decode, encode, encoders, names
    from wsistore.errors import WsistoreError

    found = {}
    pixels = np.full((16, 16, 3), 200, np.uint8)
    for name in names():
        found[name] = "ok" if name not in encoders() else ""
        if found[name]:
            continue
        try:
            block = encode(pixels, name)
            seen = decode(block, BlockFormat(name, 16, 16, color=_color(name)))
        except (WsistoreError, ImportError) as error:
            found[name] = str(error)
        else:
            near = int(np.abs(seen.astype(int) - 200).max()) <= 4
            found[name] = "ok" if near else "gives other pixels"
    return found


def _compiled() -> str:
    """Return ``"ok"`` where the compiled JPEG decoder is used, else why not."""
    from wsistore.codecs.jpeg_regions import STATE

    return STATE


def _color(codec: str) -> Any:
    return "ycbcr" if codec == "jpeg" else "rgb"


def _torch() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"usable": False, "reason": str(error).partition("\n")[0], "devices": []}
    devices = [
        {
            "name": f"cuda:{number}",
            "what": torch.cuda.get_device_name(number),
            "memory_bytes": torch.cuda.get_device_properties(number).total_memory,
        }
        for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "what": "Apple GPU", "memory_bytes": None})
    return {
        "usable": True,
        "version": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "devices": devices,
    }


def _encoders() -> dict[str, Any]:
    from wsistore.encoders import encoder_registry, missing_packages

    registry = encoder_registry()
    lacking = {entry.name: missing_packages(entry) for entry in registry.entries.values()}
    return {
        "known": len(lacking),
        "usable": sorted(name for name, missing in lacking.items() if not missing),
        "missing": {name: missing for name, missing in sorted(lacking.items()) if missing},
        "problems": list(registry.problems),
    }


def _weights() -> dict[str, Any]:
    """Return where weights are cached, and what is there: names only."""
    home = Path.home()
    hub = Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME") or home / ".cache" / "huggingface") / "hub"
    )
    torch_home = Path(os.environ.get("TORCH_HOME") or home / ".cache" / "torch")
    checkpoints = torch_home / "hub" / "checkpoints"
    return {
        "hugging_face": str(hub),
        "hugging_face_found": _listed(hub, "models--*"),
        "torch": str(checkpoints),
        "torch_found": _listed(checkpoints, "*"),
        "offline": bool(os.environ.get("HF_HUB_OFFLINE")),
    }


def _listed(folder: Path, pattern: str) -> list[str]:
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.glob(pattern))
    return [name.removeprefix("models--").replace("--", "/") for name in names]


def _judged(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what keeps wsistore from working, and what is worth knowing."""
    problems = [f"{name} is missing" for name, seen in found["packages"].items() if seen is None]
    problems += [f"codec {name}: {told}" for name, told in found["codecs"].items() if told != "ok"]
    notes = []
    machine = found["machine"]
    if machine["open_files"]["soft"] < _FEW_FILES:
        notes.append(f"only {machine['open_files']['soft']} open files: raise it (ulimit -n 4096)")
    free = machine["free_bytes"]
    if free is not None and free < _LITTLE_DISK:
        notes.append(f"only {free / 1e9:.1f} GB free on the disk of {machine['disk']}")
    if found["compiled_jpeg"] != "ok":
        notes.append(
            f"the compiled JPEG decoder is not used ({found['compiled_jpeg']}): patches are read "
            "at half the speed; with a C compiler and Python's headers, install wsistore again"
        )
    torch = found["torch"]
    if torch is not None and not torch["usable"]:
        notes.append("torch is not usable; of the encoders only the embedded ones work")
    elif torch is not None and not torch["devices"]:
        notes.append("torch has no GPU here")
    notes += [f"encoders: {problem}" for problem in found["encoders"]["problems"]]
    return problems, notes


def _print(found: dict[str, Any]) -> None:
    from wsistore.cli.tables import human_bytes

    machine = found["machine"]
    free = machine["free_bytes"]
    rows = [
        ["wsistore", found["wsistore"]],
        ["python", f"{found['python']} ({found['executable']})"],
        ["platform", found["platform"]],
        ["cpus", str(machine["cpus"])],
        ["memory", human_bytes(machine["memory_bytes"])],
        ["free disk", f"{'?' if free is None else human_bytes(free)} at {machine['disk']}"],
        ["open files", str(machine["open_files"]["soft"])],
        ["slurm", machine["slurm"] or "-"],
        ["needed", _joined(found["packages"])],
        *[[extra, _joined(names)] for extra, names in found["optional"].items()],
        ["codecs", ", ".join(name for name, told in found["codecs"].items() if told == "ok")],
        ["compiled JPEG", found["compiled_jpeg"]],
        ["devices", _devices(found["torch"])],
        ["encoders", f"{len(found['encoders']['usable'])} usable of {found['encoders']['known']}"],
        ["weights", _found_weights(found["weights"])],
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        typer.echo(f"{name:<{width}}  {text}")
    for note in found["notes"]:
        typer.echo(f"note: {note}")
    for problem in found["problems"]:
        typer.echo(f"problem: {problem}", err=True)


def _joined(versions: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {seen or 'absent'}" for name, seen in versions.items())


def _devices(torch: dict[str, Any] | None) -> str:
    if torch is None:
        return "not looked at"
    if not torch["usable"]:
        return f"torch: {torch['reason']}"
    return ", ".join(["cpu", *(f"{d['name']} ({d['what']})" for d in torch["devices"])])


def _found_weights(weights: dict[str, Any]) -> str:
    names = [*weights["hugging_face_found"], *weights["torch_found"]]
    return ", ".join(names) or f"none in {weights['hugging_face']} and {weights['torch']}"
