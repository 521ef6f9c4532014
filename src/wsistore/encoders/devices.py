"""Device, precision and threads of a model."""

from __future__ import annotations

import logging
import os
from typing import Any, Literal

from wsistore.encoders.packages import torch_for
from wsistore.errors import DeviceError, UsageError

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")

log = logging.getLogger("wsistore.encoders")


def pick_device(name: str) -> Any:
    """Return the ``torch.device`` of ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or ``"auto"``.

    Raises
    ------
    UsageError
        If it is none of these.
    DeviceError
        If this machine, or this build of torch, has no such device.
    """
    torch = torch_for("an encoder")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else _mps_or_cpu(torch)
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not number.isdecimal()):
        raise UsageError(f"there is no device {name!r}", hint="Use auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and (
        not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()
    ):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise DeviceError(
            f"device {name} is not there: torch {torch.__version__} sees {count} GPUs",
            hint="Use device='auto' or 'cpu', or install a build of torch for your GPU.",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device mps is not there", hint="Use device='auto' or 'cpu'.")
    return torch.device(name)


def _mps_or_cpu(torch: Any) -> str:
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_precision(precision: str, device: Any) -> tuple[Precision, list[str]]:
    """Return the precision that will be used, and notes on why it is another one.

    float16 on a CPU becomes float32: most operators have no fast kernel there, or none.

    Raises
    ------
    UsageError
        If there is no such precision.
    """
    for one in PRECISIONS:
        if one != precision:
            continue
        if one == "float16" and device.type == "cpu":
            note = "precision float16 became float32, as the device is a CPU"
            log.warning(note)
            return "float32", [note]
        return one, []
    raise UsageError(
        f"there is no precision {precision!r}", hint=f"Use one of {', '.join(PRECISIONS)}."
    )


def pick_threads(threads: int | None) -> int:
    """Return how many threads torch may use on the CPU.

    By default as many as torch wants, but not more than this process may run on.

    Raises
    ------
    UsageError
        If it is below 1.
    """
    if threads is None:
        return max(1, min(int(torch_for("an encoder").get_num_threads()), _usable_cpus()))
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads}")
    return threads


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
