"""Measure conversions beside copying the file and beside what others do.

    python benchmarks/convert.py --folder /some/disk            # 40000 x 40000 px, 1.1 GB
    python benchmarks/convert.py --folder /some/disk --slide x.svs --wsic ~/wsic/bin/python
    python benchmarks/convert.py --small                        # seconds; runs as a test

Every contestant is a process of its own that imports what it needs first and is timed
after that, so that start-up (0.3-1 s) is not in the figures. Rounds are interleaved: each
runs all contestants once, in turn, on the same disk with the source in the page cache.
Dirty pages of the one before are flushed in between. A ratio is the median over the rounds
of the ratio within the round.

The encoding contestants get a smaller slide of the same making, since they take minutes a
gigapixel; they are compared by pixels per second of level 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

CHUNK = 256
SHARD = 4096
"""Chunks and shards, px, of all that encode, so that they write the same."""


# ---- the contestants: each is called in its own process as work(source, destination) ----


def cp(source: Path, destination: Path) -> Callable[[], None]:
    """Copy the file: the limit (the kernel may do it without touching user space)."""
    return lambda: subprocess.run(["cp", "--", source, destination], check=True)


def read_write_loop(source: Path, destination: Path) -> Callable[[], None]:
    """Read and write each encoded tile by plain Python, into one file."""
    _imported(source)
    import wsistore

    def work() -> None:
        with wsistore.open_slide(str(source)) as slide, destination.open("wb") as out:
            handle = os.open(source, os.O_RDONLY)
            for level in slide.levels:
                refs = slide.tile_table(level.index).locate_all()
                for offset, count in zip(refs.offsets.flat, refs.counts.flat, strict=True):
                    out.write(os.pread(handle, int(count), int(offset)))
            os.close(handle)

    return work


def _convert(source: Path, destination: Path, **options: Any) -> Callable[[], None]:
    _imported(source)
    import wsistore

    return lambda: _checked(wsistore.convert([str(source)], str(destination), **options))


def _imported(source: Path) -> None:
    """Import what wsistore imports lazily, so that it is not timed."""
    import wsistore
    from wsistore import engine  # noqa: F401

    with wsistore.open_slide(str(source)) as slide:
        slide.tile_table(0)


def _checked(report: Any) -> None:
    if report.exit_code:
        raise SystemExit(f"conversion failed: {report.outcomes}")


def copy_1(source: Path, destination: Path) -> Callable[[], None]:
    """``wsistore convert --codec copy --workers 1``."""
    return _convert(source, destination, codec="copy", workers=1)


def copy_2(source: Path, destination: Path) -> Callable[[], None]:
    """``wsistore convert --codec copy --workers 2``."""
    return _convert(source, destination, codec="copy", workers=2)


def transcode_zstd(source: Path, destination: Path) -> Callable[[], None]:
    """``wsistore convert --codec zstd``: two threads, the whole pyramid is made."""
    return _convert(source, destination, codec="zstd", chunk=CHUNK, shard=SHARD, workers=2)


def zarr_zstd(source: Path, destination: Path) -> Callable[[], None]:
    """Write pixels that wsistore read through zarr-python with two threads; level 0 only."""
    _imported(source)
    import zarr
    from zarr.codecs import ZstdCodec

    import wsistore

    zarr.config.set({"threading.max_workers": 2, "async.concurrency": 2})

    def work() -> None:
        with wsistore.open_slide(str(source)) as slide:
            width, height = slide.size
            side = [min(SHARD, -(-n // CHUNK) * CHUNK) for n in (height, width)]
            array = zarr.create_array(
                str(destination),
                shape=(3, height, width),
                chunks=(3, CHUNK, CHUNK),
                shards=(3, *side),
                dtype="uint8",
                compressors=ZstdCodec(level=3),
            )
            for y in range(0, height, side[0]):
                for x in range(0, width, side[1]):
                    box = min(side[1], width - x), min(side[0], height - y)
                    pixels = slide.read_region((x, y), 0, box)
                    array[:, y : y + box[1], x : x + box[0]] = pixels.transpose(2, 0, 1)

    return work


COPYING = (cp, read_write_loop, copy_1, copy_2)
ENCODING = (copy_2, transcode_zstd, zarr_zstd)
CONTESTANTS = {work.__name__: work for work in (*COPYING, *ENCODING)}

WSIC = """
import json, sys, time
from pathlib import Path
from wsic import readers, writers
reader = readers.TIFFReader(Path(sys.argv[1]))
writer = writers.ZarrWriter(
    Path(sys.argv[2]), shape=reader.shape, tile_size=reader.tile_shape[::-1], dtype=reader.dtype
)
cpu, start = time.process_time(), time.perf_counter()
writer.transcode_from_reader(reader)
took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({**took, "peak_kib": int(peak.split()[1])}))
"""


# ---- one run ----


@dataclass(frozen=True)
class Run:
    """What one run of one contestant took."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    out_bytes: int
    files: int


def worker(name: str, source: Path, destination: Path) -> None:
    """Run one contestant in this process and print what it took."""
    work = CONTESTANTS[name](source, destination)
    before, start = _cpu_seconds(), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    cpu = _cpu_seconds() - before
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_kib": _peak_kib()}))


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and saw end."""
    return sum(os.times()[:4])


def _peak_kib() -> int:
    """Return the largest resident size of this process since it was started.

    Not ``ru_maxrss``: that one is inherited from the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def measure(command: list[str], destination: Path) -> Run:
    """Run a command whose last line says what it took, and weigh what it wrote."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    files = [p for p in destination.rglob("*") if p.is_file()] or [destination]
    run = Run(
        told["seconds"],
        told["cpu"],
        told["peak_kib"] * 1024 / 1e6,
        sum(p.stat().st_size for p in files),
        len(files),
    )
    shutil.rmtree(destination) if destination.is_dir() else destination.unlink()
    return run


def warm(path: Path) -> None:
    """Bring a file into the page cache, and write back what is dirty."""
    os.sync()
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def play(
    names: list[str], source: Path, folder: Path, rounds: int, wsic: str
) -> dict[str, list[Run]]:
    """Run all contestants in turn, `rounds` times."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            destination = folder / f"out-{name}.zarr"
            command = [sys.executable, __file__, "--worker", name]
            if name == "wsic":
                command = [wsic, "-c", WSIC]
            warm(source)
            run = measure([*command, str(source), str(destination)], destination)
            runs[name].append(run)
            print(f"  round {number + 1} {name:16} {run.seconds:8.2f} s", file=sys.stderr)
    return runs


# ---- the report ----


def table(runs: dict[str, list[Run]], base: str, amount: float, unit: str) -> list[str]:
    """Return a Markdown table; the ratio is how many times as fast as `base`."""
    head = (
        f"| | seconds (median, min) | {unit} | x speed of `{base}` | CPU s | peak MB "
        "| written MB | files |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for name, found in runs.items():
        seconds = [run.seconds for run in found]
        ratios = [b.seconds / run.seconds for b, run in zip(runs[base], found, strict=True)]
        middle = statistics.median(seconds)
        lines.append(
            f"| {name} | {middle:.2f}, {min(seconds):.2f} | {amount / middle:.0f} "
            f"| {statistics.median(ratios):.3g} "
            f"| {statistics.median(run.cpu_seconds for run in found):.2f} "
            f"| {max(run.peak_mb for run in found):.0f} "
            f"| {found[-1].out_bytes / 1e6:.1f} | {found[-1].files} |"
        )
    return lines


def machine() -> list[str]:
    """Return what the figures depend on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):
        text = Path("/proc/cpuinfo").read_text()
        model = text.split("model name")[1].split(":")[1].splitlines()[0].strip()
    packages = ("wsistore", "zarr", "numpy", "imagecodecs", "simplejpeg", "tifffile", "numcodecs")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    cores, system = len(os.sched_getaffinity(0)), f"{platform.system()} {platform.release()}"
    return [
        f"- {datetime.now(UTC):%Y-%m-%d}, {model}, {cores} cores, {system}",
        f"- Python {platform.python_version()}, {versions}",
        f"- Load average when it began: {os.getloadavg()[0]:.1f}",
    ]


@contextlib.contextmanager
def slides(options: argparse.Namespace) -> Iterator[tuple[Path, Path, Path]]:
    """Give the slide that is copied, the one that is encoded, and a folder beside them."""
    from wsistore.testing import write_slide

    base = None if options.folder is None else Path(options.folder)
    with tempfile.TemporaryDirectory(prefix="wsistore-bench-", dir=base) as name:
        folder = Path(name)
        large, crop = folder / "large.svs", folder / "crop.svs"
        if options.slide is not None:
            large = Path(options.slide)
        else:
            write_slide(large, **slide_options(options.size))
        write_slide(crop, **slide_options(options.crop))
        yield large, crop, folder


def slide_options(side: int) -> dict[str, Any]:
    """Return how a slide of the benchmark is written."""
    return {
        "size": (side, side),
        "variant": "jpeg_rgb_tables",
        "levels": (1, 4, 16),
        "quality": 88,
        "distinct_tiles": 256,  # encoding all of 25,000 would take half an hour
    }


def report(options: argparse.Namespace) -> str:
    """Run everything and return the report."""
    about = machine()  # before the contestants are a load themselves
    with slides(options) as (large, crop, folder):
        import wsistore

        size = large.stat().st_size
        with wsistore.open_slide(str(large)) as slide:
            shape = f"{slide.size.width} x {slide.size.height} px, {len(slide.levels)} levels"
        with wsistore.open_slide(str(crop)) as slide:
            pixels = slide.size.width * slide.size.height
        copying = [work.__name__ for work in COPYING] + (["wsic"] if options.wsic else [])
        encoding = [work.__name__ for work in ENCODING]
        copied = play(copying, large, folder, options.rounds, options.wsic)
        encoded = play(encoding, crop, folder, max(1, options.rounds - 2), options.wsic)
    return "\n".join(
        [
            "# Conversion, measured",
            "",
            "Made by `benchmarks/convert.py`; its first lines say how.",
            "",
            *about,
            f"- Rounds: {options.rounds}. Ratios above 1 are faster.",
            "",
            f"## Copying: {shape}, {size / 1e6:.0f} MB",
            "",
            *table(copied, "cp", size / 1e6, "MB/s of the file"),
            "",
            f"## Encoding anew: {options.crop} x {options.crop} px",
            "",
            f"Chunks of {CHUNK} px, shards of {SHARD} px, zstd level 3, two threads.",
            "`transcode_zstd` writes the whole pyramid, `zarr_zstd` level 0 only.",
            "",
            *table(encoded, "zarr_zstd", pixels * 3 / 1e6, "MB/s of level-0 pixels"),
            "",
        ]
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", help="where slides and stores are written")
    parser.add_argument("--slide", help="the slide to copy, instead of a synthetic one")
    parser.add_argument("--size", type=int, default=40000, help="edge of the synthetic slide, px")
    parser.add_argument("--crop", type=int, default=12288, help="edge of the encoded slide, px")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wsic", default="", metavar="PYTHON", help="a Python that has wsic")
    parser.add_argument("--small", action="store_true", help="a tiny slide and one round")
    parser.add_argument("--output", help="Markdown file to write, such as benchmarks/RESULTS.md")
    options = parser.parse_args(arguments)
    if options.small:
        options.size, options.crop, options.rounds = 1024, 512, 1
    return options


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    options = parse(sys.argv[1:])
    text = report(options)
    print(text)
    if options.output:
        Path(options.output).write_text(text)


if __name__ == "__main__":
    main()
