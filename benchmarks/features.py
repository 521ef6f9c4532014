"""Features: what the engine costs beside the bare pipeline, and a million tiles scheduled.

    python benchmarks/features.py [--small] [--rounds 5] [--json] [--folder DIR] [--encoders ...]

**Overhead.** The tiles of a synthetic slide, 256 px, go through an encoder twice: by the bare
pipeline (``iter_tiles``, which decodes ahead in threads, and ``encode``; features stay in
memory) and by ``wsistore.embed`` with threads (plan, lock, units, store, ledger). Rounds are
interleaved; reported are the medians, over rounds, of ratios of CPU time and of wall time.
For ``colour-stats``, and for ``resnet18`` with random weights where torchvision is installed.

**Scheduling.** 100 slides of 10,000 tiles of 16 px are planned and go through the encoder
``null``, which reads no pixel: planning, preparing stores, sending units, writing, ledgers.
In a process of its own, by threads and by processes: seconds, MiB at the peak (of the caller
and of its largest worker), bytes sent to workers.

Fails with status 1 if scheduling takes more than ``--most-seconds`` or ``--most-mib``, or
resnet18 more than ``--most-overhead`` (a share of CPU time); not with ``--small``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import wsistore
from wsistore.encoders import Encoder, load_encoder
from wsistore.testing import write_slide
from wsistore.tiles import TilePlan, TileSpec, plan_tiles

BATCH = 64


def clocks() -> tuple[float, float]:
    """Return CPU seconds of this process, and seconds of the wall clock."""
    return time.process_time(), time.perf_counter()


def bare(plan: TilePlan, encoder: Encoder) -> NDArray[np.float32]:
    """Decode and encode the tiles of a plan, and nothing else."""
    features = np.empty((len(plan), encoder.dim), np.float32)
    slide = wsistore.open_slide(plan.slide.path)
    walk = wsistore.iter_tiles(
        slide, plan, plan.size, plan.resolution, batch_size=BATCH, layout="nchw"
    )
    for batch in walk:
        features[batch.start : batch.start + len(batch)] = encoder.encode(batch.pixels)
    return features


def overhead(folder: Path, name: str, side: int, rounds: int) -> dict[str, float]:
    """Return how much longer `embed` takes than the bare pipeline, for one encoder."""
    made = write_slide(folder / "slide.svs", size=(side, side), tile=256, distinct_tiles=64)
    plan = plan_tiles(wsistore.open_slide(made.path), TileSpec(256, 256, "20x"))
    encoder = load_encoder(name, weights="random")
    cpu, wall, rates = [], [], []
    for number in range(rounds + 1):
        begin = clocks()
        wanted = bare(plan, encoder)
        middle = clocks()
        report = wsistore.embed(plan, encoder, folder / f"{name}{number}.zarr", batch_size=BATCH)
        end = clocks()
        report.raise_for_failures()
        found = wsistore.open_features(folder / f"{name}{number}.zarr").bag(plan.slide.name)
        if not np.array_equal(found, wanted):
            raise SystemExit("features differ from those of the bare pipeline")
        if number:  # the first round warms caches up
            cpu.append((end[0] - middle[0]) / (middle[0] - begin[0]))
            wall.append((end[1] - middle[1]) / (middle[1] - begin[1]))
            rates.append(len(plan) / (end[1] - middle[1]))
    return {
        "tiles": len(plan),
        "tiles_per_s": statistics.median(rates),
        "cpu_overhead": statistics.median(cpu) - 1,
        "wall_overhead": statistics.median(wall) - 1,
    }


def schedule(folder: Path, slides: int, side: int, scheduler: str) -> dict[str, Any]:
    """Plan and schedule ``side * side`` tiles of each of some slides; in this process."""
    path = folder / "tiny.svs"
    if not path.exists():
        write_slide(path, size=(16 * side, 16 * side), tile=16, levels=(1,), distinct_tiles=2)
    begin = time.perf_counter()
    slide = wsistore.open_slide(path)
    spec = TileSpec(16, 16, "20x")
    plans = {f"slide-{number:03d}": plan_tiles(slide, spec) for number in range(slides)}
    planned = time.perf_counter()
    report = wsistore.embed(plans, "null", folder / f"{scheduler}.zarr", scheduler=scheduler)
    end = time.perf_counter()
    report.raise_for_failures()
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "scheduler": scheduler,
        "slides": slides,
        "tiles": report.counters.tiles,
        "units": report.counters.units_computed,
        "plan_s": planned - begin,
        "embed_s": end - planned,
        "caller_mib": peak_mib(),
        "largest_worker_mib": workers / 1024,
        "bytes_sent": report.counters.bytes_sent,
    }


def peak_mib() -> float:
    """Return the largest resident size of this process, MiB (getrusage counts its parent's)."""
    told = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(told.split()[0]) / 1024


def scheduled(folder: Path, slides: int, side: int) -> list[dict[str, Any]]:
    """Return what `schedule` measures, each time in a fresh process."""
    found = []
    for scheduler in ("threads", "processes"):
        command = [sys.executable, __file__, "--schedule", scheduler, "--folder", str(folder)]
        command += ["--slides", str(slides), "--side", str(side)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(run.stdout))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--small", action="store_true", help="a few tiles: run by the tests")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoders", nargs="+", default=list(_SIDES), choices=list(_SIDES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="for slides and stores, by default temporary")
    parser.add_argument("--most-seconds", type=float, default=60)
    parser.add_argument("--most-mib", type=float, default=1024)
    parser.add_argument("--most-overhead", type=float, default=0.10)
    parser.add_argument("--slides", type=int, default=100, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, default=100, help=argparse.SUPPRESS)
    parser.add_argument("--schedule", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.schedule:
        told = schedule(options.folder, options.slides, options.side, options.schedule)
        print(json.dumps(told))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        told = measure(Path(name), options)
    print(json.dumps(told) if options.json else table(told))
    if not options.small:
        judge(told, options)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    sides = {name: 512 if options.small else _SIDES[name] for name in options.encoders}
    if importlib.util.find_spec("torchvision") is None:
        sides.pop("resnet18", None)
    rounds = 1 if options.small else options.rounds
    costs = {name: overhead(folder, name, side, rounds) for name, side in sides.items()}
    many = scheduled(folder, *((3, 20) if options.small else (options.slides, options.side)))
    return {"overhead": costs, "scheduling": many}


_SIDES = {"colour-stats": 12_288, "resnet18": 6_144}


def table(told: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = ["encoder        tiles   tiles/s   more CPU   more wall time"]
    lines += [
        f"{name:<13} {found['tiles']:>6} {found['tiles_per_s']:>9.1f} "
        f"{found['cpu_overhead']:>9.1%} {found['wall_overhead']:>12.1%}"
        for name, found in told["overhead"].items()
    ]
    lines += ["", "scheduler       tiles  units  plan s  embed s  caller MiB  worker MiB   sent B"]
    lines += [
        f"{row['scheduler']:<11} {row['tiles']:>9} {row['units']:>6} {row['plan_s']:>7.2f} "
        f"{row['embed_s']:>8.2f} {row['caller_mib']:>11.0f} {row['largest_worker_mib']:>11.0f} "
        f"{row['bytes_sent']:>8}"
        for row in told["scheduling"]
    ]
    return "\n".join(lines)


def judge(told: dict[str, Any], options: argparse.Namespace) -> None:
    """End with status 1 if a figure is beyond its limit."""
    for row in told["scheduling"]:
        seconds = row["plan_s"] + row["embed_s"]
        mib = max(row["caller_mib"], row["largest_worker_mib"])
        if seconds > options.most_seconds or mib > options.most_mib:
            sys.exit(f"scheduling by {row['scheduler']} took {seconds:.0f} s and {mib:.0f} MiB")
    found = told["overhead"].get("resnet18")
    if found is not None and found["cpu_overhead"] > options.most_overhead:
        sys.exit(f"resnet18 costs {found['cpu_overhead']:.1%} more CPU than the bare pipeline")


if __name__ == "__main__":
    main()
