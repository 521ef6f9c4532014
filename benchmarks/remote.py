"""Random batches from object storage: wsistore beside its peers, in one run, interleaved.

    python benchmarks/remote.py --work /tmp/bench [--rounds 5] [--latency-ms 30]
    python benchmarks/remote.py --work /tmp/bench --endpoint http://HOST:PORT --bucket NAME

Batches of 64 patches (256 px, unaligned, level 0) from 16 slides, which are served by
`range_server.py` in processes of their own, once with the latency and once without. With
``--endpoint`` and ``--bucket`` the slides are read from that bucket instead (upload the work
folder there first; credentials come from the environment). Each round runs every contender
in turn; medians are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import tiles as local_benchmark
import wsistore
from wsistore.codecs import decode
from wsistore.geometry import Box
from wsistore.tiles import SlideCache, TileIndex, TileLoader, TileSampler, fetching, read_tiles

PATCH = 256
Places = list[tuple[int, int, int]]
"""(slide number, x, y), level-0 px."""


@dataclass
class Contender:
    """One way to read patches; `run(places)` reads all of them."""

    name: str
    run: Callable[[Places], Any]
    patches: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def rate(self) -> float:
        """Patches per second, the median over rounds."""
        return self.patches / statistics.median(self.wall)

    @property
    def cpu_ms(self) -> float:
        """CPU of the client per patch in ms, the median over rounds."""
        return 1000 * statistics.median(self.cpu) / self.patches


@dataclass
class Roots:
    """Where slides are: a folder, and URLs without and with latency."""

    local: str
    near: str
    far: str

    def paths(self, root: str, names: Sequence[str]) -> list[str]:
        return [f"{root}/{name}" for name in names]


# Ours


def loader_run(
    paths: Sequence[str], batch: int, prefetch: int, threads: int
) -> tuple[Callable[[Places], Any], dict[str, float]]:
    """Return what reads places through a `TileLoader`, and what it cost at last."""
    cache = SlideCache()
    cost: dict[str, float] = {}

    def run(places: Places) -> None:
        by_slide = [(p, [(x, y) for s, x, y in places if s == i]) for i, p in enumerate(paths)]
        sampler = TileSampler(TileIndex.from_positions(by_slide), batch)
        loader = TileLoader(sampler, PATCH, 0, prefetch=prefetch, threads=threads, cache=cache)
        done = sum(len(item["image"]) for item in loader)
        if done != len(places):
            raise RuntimeError(f"{done} of {len(places)} patches came")
        stats = loader.fetch_stats
        if stats.requests:
            cost["requests"] = stats.requests / len(places) * batch
            cost["ratio"] = stats.bytes_fetched / stats.bytes_needed
            cost["peak"] = stats.peak_bytes / 2**20

    return run, cost


def read_run(paths: Sequence[str], batch: int) -> Callable[[Places], Any]:
    """Return what reads places by `read_tiles`, batch after batch, nothing ahead."""
    cache = SlideCache()

    def run(places: Places) -> None:
        for start in range(0, len(places), batch):
            some = [(paths[s], x, y) for s, x, y in places[start : start + batch]]
            read_tiles(some, PATCH, 0, cache=cache)

    return run


# Peers


def sequence_run(paths: Sequence[str]) -> Callable[[Places], Any]:
    """One GET per tile, one after the other, with the same decoder."""
    tables = [wsistore.open_slide(path).tile_table(0) for path in paths]
    scratch = np.empty((PATCH, PATCH, 3), np.uint8)

    def run(places: Places) -> None:
        for s, x, y in places:
            table = tables[s]
            for row in range(y // PATCH, (y + PATCH - 1) // PATCH + 1):
                for column in range(x // PATCH, (x + PATCH - 1) // PATCH + 1):
                    refs = table.locate(np.array([column]), np.array([row]))
                    source = table.source(int(refs.parts[0]))
                    block = source.read(int(refs.offsets[0]), int(refs.counts[0]))
                    decode(block, table.block_format, out=scratch, region=Box(0, 0, PATCH, PATCH))

    return run


def zarr_run(stores: Sequence[str], threads: int) -> Callable[[Places], Any]:
    """Read slices of zarr-python arrays over obstore, opened once."""
    import zarr
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    def opened(url: str) -> Any:
        options = {"client_options": {"allow_http": True}} if url.startswith("http:") else {}
        return zarr.open_array(ObjectStore(from_url(url, **options), read_only=True), path="0")

    arrays = [opened(url) for url in stores]

    def one(place: tuple[int, int, int]) -> None:
        s, x, y = place
        arrays[s][:, y : y + PATCH, x : x + PATCH]

    def run(places: Places) -> None:
        if threads == 1:
            for place in places:
                one(place)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, places))

    return run


def tiffslide_run(paths: Sequence[str]) -> Callable[[Places], Any]:
    """Tiffslide over fsspec's HTTP files, opened once."""
    import fsspec
    import tiffslide

    slides = [tiffslide.TiffSlide(fsspec.open(path, "rb")) for path in paths]

    def run(places: Places) -> None:
        for s, x, y in places:
            slides[s].read_region((x, y), 0, (PATCH, PATCH), as_array=True)

    return run


# Running


@contextlib.contextmanager
def served(folder: Path, latency_ms: float) -> Iterator[str]:
    """Serve a folder in a process of its own; give its URL."""
    script = Path(__file__).parent / "range_server.py"
    command = [sys.executable, str(script), str(folder), str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def prepare(work: Path, small: bool) -> tuple[list[str], list[str], int]:
    """Return names of slides and of their converted copies, and their side in px."""
    slides = [Path(p) for p in local_benchmark.prepare(work, small, 1).slides]
    stores = []
    for slide in slides:
        store = work / f"{slide.stem}.ome.zarr"
        if not store.exists():
            wsistore.convert(slide, store).raise_for_failures()
        stores.append(store.name)
    side = wsistore.open_slide(slides[0]).size.width
    return [slide.name for slide in slides], stores, side


def contenders(
    roots: Roots, slides: list[str], stores: list[str], options: argparse.Namespace
) -> tuple[list[Contender], list[str]]:
    """Return all that can run, and why the rest can't."""
    batch = 8 if options.small else 64
    many = batch * (2 if options.small else options.batches)
    few = max(2, batch // 8)
    found: list[Contender] = []
    for kind, names in (("SVS", slides), ("OME-Zarr copy", stores)):
        wheres = {"local disk": roots.local, "0 ms": roots.near, "far": roots.far}
        if roots.near == roots.far:
            del wheres["0 ms"]
        for where, root in wheres.items():
            for threads in (1, 2):
                paths = roots.paths(root, names)
                run, cost = loader_run(paths, batch, options.prefetch, threads)
                name = f"wsistore, {kind}, {where}, prefetch, {threads} decoding"
                found.append(Contender(name, run, many))
                found[-1].cost = cost  # type: ignore[attr-defined]
        run = read_run(roots.paths(roots.far, names), batch)
        found.append(Contender(f"wsistore, {kind}, far, read_tiles, nothing ahead", run, many))
    left_out = ["OpenSlide over fsspec: it opens paths of local files alone"]
    far_slides, far_stores = (roots.paths(roots.far, names) for names in (slides, stores))
    makers: list[tuple[str, Callable[[], Callable[[Places], Any]], int]] = [
        ("(a) one GET per tile in sequence, SVS, far", lambda: sequence_run(far_slides), few),
        ("(b) zarr-python over obstore, copy, far", lambda: zarr_run(far_stores, 1), few),
        ("(b) the same in 16 threads", lambda: zarr_run(far_stores, 16), many // 4),
        ("(c) tiffslide over fsspec, SVS, far", lambda: tiffslide_run(far_slides), few),
    ]
    for name, make, count in makers:
        try:
            contender = Contender(name, make(), count)
            contender.run([(0, 100, 100)])
        except Exception as error:  # noqa: BLE001 (a peer may fail as it likes, and is named)
            left_out.append(f"{name}: {type(error).__name__}: {error}")
            continue
        found.append(contender)
    return found, left_out


def places_for(rng: np.random.Generator, slides: int, side: int, count: int) -> Places:
    """Return random unaligned places, spread over the slides."""
    xy = rng.integers(0, side - PATCH, (count, 2)).tolist()
    return [(i % slides, x, y) for i, (x, y) in enumerate(xy)]


def measure(found: list[Contender], slides: int, side: int, rounds: int) -> None:
    """Run all in turn, in each round from another one on, on new places each time."""
    rng = np.random.default_rng(11)
    for contender in found:  # warm: connections, slides opened, indexes read
        contender.run(places_for(rng, slides, side, contender.patches))
    for number in range(rounds):
        shift = number % len(found)
        for contender in found[shift:] + found[:shift]:
            places = places_for(rng, slides, side, contender.patches)
            cpu, wall = _cpu(), time.perf_counter()
            contender.run(places)
            contender.wall.append(time.perf_counter() - wall)
            contender.cpu.append(_cpu() - cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def table(found: list[Contender]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| contender | tiles/s | client CPU ms/tile | requests/batch | bytes fetched / needed |",
        "|---|---|---|---|---|",
    ]
    for c in found:
        cost = getattr(c, "cost", {})
        requests = f"{cost['requests']:.0f}" if cost else ""
        ratio = f"{cost['ratio']:.2f}" if cost else ""
        lines.append(f"| {c.name} | {c.rate:.0f} | {c.cpu_ms:.2f} | {requests} | {ratio} |")
    return "\n".join(lines)


def goals(found: list[Contender]) -> str:
    """Return the ratios that the project set itself, as a Markdown table."""
    rate = {c.name: c.rate for c in found}

    def best(start: str) -> float:
        return max((v for k, v in rate.items() if k.startswith(start)), default=float("nan"))

    rows = []
    svs, copy = best("wsistore, SVS, far"), best("wsistore, OME-Zarr copy, far")
    rows.append(("SVS / (a)", svs / best("(a)"), ">= 20"))
    rows.append(("copy / (b) one by one", copy / best("(b) zarr-python"), ">= 5"))
    rows.append(("copy / (b) in 16 threads", copy / best("(b) the same"), ""))
    rows.append(("SVS / (c)", svs / best("(c)"), ""))
    for kind in ("SVS", "OME-Zarr copy"):
        for threads in (1, 2):
            end = f"prefetch, {threads} decoding"
            ours = rate[f"wsistore, {kind}, far, {end}"]
            for where, goal in (("local disk", ">= 0.8"), ("0 ms", "")):
                other = rate.get(f"wsistore, {kind}, {where}, {end}")
                if other:
                    rows.append((f"{kind}: far / {where}, {threads} decoding", ours / other, goal))
    lines = ["| ratio | measured | goal |", "|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {value:.2f} | {goal} |" for name, value, goal in rows)]
    )


def gaps(roots: Roots, names: dict[str, list[str]], side: int, batches: int) -> str:
    """Return what each gap limit costs, as a Markdown table."""
    lines = [
        "| slides | gap | tiles/s | client CPU ms/tile | requests/batch | bytes fetched / needed |",
        "|---|---|---|---|---|---|",
    ]
    before = fetching.DEFAULT_LIMITS
    rng = np.random.default_rng(3)
    for kind, some in names.items():
        for gap in (0, 64 << 10, 256 << 10, 1 << 20, 4 << 20):
            limits = replace(before, gap=gap)
            run, cost = loader_run(roots.paths(roots.far, some), 64, 4, 1)
            with _limits(limits):
                run(places_for(rng, len(some), side, 64))
                cpu, wall = _cpu(), time.perf_counter()
                run(places_for(rng, len(some), side, 64 * batches))
            wall, cpu = time.perf_counter() - wall, _cpu() - cpu
            count = 64 * batches
            lines.append(
                f"| {kind} | {gap >> 10} KiB | {count / wall:.0f} | {1000 * cpu / count:.2f} | "
                f"{cost['requests']:.0f} | {cost['ratio']:.2f} |"
            )
    return "\n".join(lines)


@contextlib.contextmanager
def _limits(limits: Any) -> Iterator[None]:
    import wsistore.tiles.loading as loading

    made = loading.FetchLimits
    loading.FetchLimits = lambda budget: replace(limits, budget=budget)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        loading.FetchLimits = made  # type: ignore[misc]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the slides; kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=24, help="batches of each run")
    parser.add_argument("--prefetch", type=int, default=4)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--endpoint", help="S3 endpoint that holds the work folder's files")
    parser.add_argument("--bucket", help="bucket there")
    parser.add_argument("--gaps", action="store_true", help="only compare gap limits")
    parser.add_argument("--small", action="store_true", help="tiny slides, to test the benchmark")
    parser.add_argument("--output", type=Path, help="append the tables to this file")
    options = parser.parse_args(arguments)
    slides, stores, side = prepare(options.work, options.small)
    with contextlib.ExitStack() as stack:
        if options.endpoint:
            os.environ["AWS_ENDPOINT_URL"] = options.endpoint
            os.environ["AWS_ALLOW_HTTP"] = "true"
            near = far = f"s3://{options.bucket}"
        else:
            near = stack.enter_context(served(options.work, 0))
            far = stack.enter_context(served(options.work, options.latency_ms))
        roots = Roots(str(options.work), near, far)
        if options.gaps:
            text = gaps(roots, {"SVS": slides, "OME-Zarr copy": stores}, side, options.batches)
        else:
            found, left_out = contenders(roots, slides, stores, options)
            measure(found, len(slides), side, options.rounds)
            named = [f"- could not run: {reason}" for reason in left_out]
            text = "\n\n".join([table(found), goals(found), "\n".join(named)])
    place = "bucket at --endpoint" if options.endpoint else f"far = {options.latency_ms:g} ms"
    head = (
        f"wsistore {version('wsistore')}, {datetime.now(UTC):%Y-%m-%d}, Python "
        f"{platform.python_version()}, {os.cpu_count()} CPUs (shared with the server), {place}, "
        f"{len(slides)} slides of {side} px, prefetch {options.prefetch}"
    )
    print(f"{head}\n\n{text}")
    if options.output:
        with options.output.open("a") as file:
            file.write(
                f"\n## Random batches from object storage (`remote.py`)\n\n{head}\n\n{text}\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
