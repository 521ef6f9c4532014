"""Convert a slide from bucket to bucket, beside a plain download and upload of its bytes.

Any S3 endpoint will do; the environment says how to reach it, as obstore reads it::

    export AWS_ENDPOINT_URL=http://127.0.0.1:5570 AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
    export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...
    python benchmarks/convert_remote.py large.svs s3://bucket --rounds 3

or, without any, a bucket in the memory of a server of this script that holds back each
answer (about three times the slide is held)::

    python benchmarks/convert_remote.py large.svs --latency-ms 30

The bucket must exist. What this writes lies below ``wsistore-benchmark/`` and is removed.
Each step runs in a process of its own, for its peak memory; steps take turns, so that what
else the machine does hits all of them. ``download`` and ``upload`` go through a local file,
by obstore alone; ``convert`` is ``wsistore.convert`` in copy mode.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

MIB = 1 << 20


def download(bucket: str, key: str, path: str) -> None:
    """Write an object to a file, a few megabytes at a time."""
    import obstore
    from obstore.store import from_url

    with open(path, "wb") as file:  # noqa: PTH123
        file.writelines(obstore.get(from_url(bucket), key).stream(min_chunk_size=8 * MIB))


def upload(bucket: str, key: str, path: str) -> None:
    """Write a file to an object, in parts."""
    import obstore
    from obstore.store import from_url

    obstore.put(from_url(bucket), key, Path(path))


def convert(source: str, store: str, workers: int) -> None:
    """Convert a slide in copy mode."""
    import wsistore

    report = wsistore.convert(source, store, codec="copy", overwrite=True, workers=workers or None)
    report.raise_for_failures()


def verify(store: str) -> None:
    """Check a store."""
    from wsistore.pyramid.verifying import verify as check

    found = check(store)
    if not found.ok:
        raise SystemExit(f"{store}: {found.findings[:3]}")


STEPS: dict[str, Callable[..., None]] = {
    "download": download,
    "upload": upload,
    "convert": convert,
    "verify": verify,
}


MODULES = {
    "download": ["obstore.store"],
    "upload": ["obstore.store"],
    "convert": ["wsistore.engine", "wsistore.pyramid.conversion", "obstore.store"],
    "verify": ["wsistore.pyramid.verifying", "obstore.store"],
}
"""Imported before the clock runs."""


def step_here(name: str, arguments: list[Any]) -> None:
    """Run a step in this process, and print what it took as JSON."""
    for module in MODULES[name]:
        importlib.import_module(module)
    begun, cpu = time.perf_counter(), time.process_time()
    STEPS[name](*arguments)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    status = Path("/proc/self/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1])
    print(json.dumps({"s": seconds, "cpu_s": cpu_seconds, "peak_mib": peak / 1024}))


def step(name: str, *arguments: Any) -> dict[str, float]:
    """Run a step in a new process; return seconds, CPU seconds and peak memory."""
    call = [sys.executable, __file__, "--step", json.dumps([name, list(arguments)])]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rounds(slide: str, bucket: str, count: int, workers: int) -> list[dict[str, Any]]:
    """Run all steps in turn, several times."""
    from wsistore.sources import open_place

    place = open_place(bucket)
    base = "wsistore-benchmark"
    upload(bucket, f"{base}/slide.svs", slide)
    store = f"{bucket}/{base}/slide.ome.zarr"
    made = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            local = f"{folder}/slide.svs"
            for _ in range(count):
                taken = {
                    "download": step("download", bucket, f"{base}/slide.svs", local),
                    "upload": step("upload", bucket, f"{base}/copy.svs", local),
                }
                place.delete([f"{base}/copy.svs"])
                taken["convert"] = step("convert", f"{bucket}/{base}/slide.svs", store, workers)
                taken["verify"] = step("verify", store)
                made.append(taken)
                print(json.dumps(taken), flush=True)
    finally:
        place.delete([info.key for info in place.list_tree(f"{base}/")])
    return made


@contextmanager
def simulated(latency_ms: float) -> Iterator[str]:
    """Give the URL of a bucket whose server holds back each answer."""
    call = [sys.executable, "-m", "wsistore.testing.server", "--latency-ms", str(latency_ms)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            told = {"AWS_ENDPOINT_URL": server.stdout.readline().strip(), "AWS_REGION": "none"}
            secrets = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "none")
            os.environ.update({**told, **secrets, "AWS_ALLOW_HTTP": "true"})
            yield "s3://bucket"
        finally:
            server.terminate()


def main() -> None:
    """Parse the arguments, run, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", nargs="?")
    parser.add_argument("bucket", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="0: the default of convert")
    parser.add_argument("--latency-ms", type=float, help="a simulated bucket, so far away")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.step:
        name, arguments = json.loads(told.step)
        step_here(name, arguments)
        return
    if not told.slide or (told.bucket is None) == (told.latency_ms is None):
        parser.error("a slide and either the URL of a bucket or --latency-ms are needed")
    size = os.path.getsize(told.slide)  # noqa: PTH202
    place = nullcontext(told.bucket) if told.bucket else simulated(told.latency_ms)
    with place as bucket:
        made = rounds(told.slide, bucket.rstrip("/"), told.rounds, told.workers)
    print(f"{size / 1e6:.0f} MB, {told.rounds} rounds; medians")
    for name in STEPS:
        seconds = statistics.median(taken[name]["s"] for taken in made)
        cpu = statistics.median(taken[name]["cpu_s"] for taken in made)
        peak = max(taken[name]["peak_mib"] for taken in made)
        rate = f"{seconds:6.2f} s {size / seconds / 1e6:7.0f} MB/s"
        print(f"{name:8} {rate} {cpu:6.2f} CPU s {peak:4.0f} MiB")
    ratios = [(t["download"]["s"] + t["upload"]["s"]) / t["convert"]["s"] for t in made]
    print(f"(download + upload) / convert: {statistics.median(ratios):.2f} (goal 0.5)")


if __name__ == "__main__":
    main()
