"""Random and ordered tiles: wsistore beside its peers, in one run, interleaved.

    python benchmarks/tiles.py --work /tmp/bench [--rounds 5] [--peers cucim openslide]

Writes 16 slides of 20480x20480 px (JPEG 4:2:2 q75, tile 256, levels 1/4/16), 4 of JPEG 2000
(33005), one of 128,000 tiles, and a converted copy, into the work folder (kept between
runs). Each case runs for every contender in each round, in an order that changes; what is
printed is the median over rounds of the ratio (time of peer / time of wsistore), wall and
CPU. Contenders without an own downsampling get cv2 INTER_AREA.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

sys.path.insert(0, str(Path(__file__).parent))

import peers as peer_module
import wsistore
from peers import Peer
from wsistore.codecs import complete_jpeg
from wsistore.testing import write_slide
from wsistore.tiles import SlideCache, iter_tiles, read_tiles
from wsistore.tiles.grids import grid_array

PATCH = 256
LEVELS = (1, 4, 16)

Positions = list[tuple[int, int, int]]
"""(slide number, x, y), level-0 px."""


@dataclass
class Setting:
    """Slides and sizes of a run."""

    slides: list[str]
    j2k: list[str]
    huge: str
    store: str
    batch: int
    batches: int
    grid: int
    rounds: int


@dataclass
class Contender:
    """One way to run a case; `run` reads all its pixels and returns how many patches."""

    name: str
    run: Callable[[], int]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    patches: int = 0


@dataclass
class Case:
    """Contenders for one task; `renew` makes new random places before a round."""

    name: str
    contenders: list[Contender]
    renew: Callable[[], None] = lambda: None


# Slides


def prepare(work: Path, small: bool, rounds: int) -> Setting:
    """Write the slides that are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    side, count, huge = (2048, 3, (4096, 4096)) if small else (20480, 16, (91648, 91648))
    slides = [
        _slide(work / f"jpeg_{side}_{i:02d}.svs", "jpeg_ycbcr422_tables", side, i)
        for i in range(count)
    ]
    j2k = [
        _slide(work / f"j2k_{side}_{i:02d}.svs", "j2k_33005", side, i)
        for i in range(2 if small else 4)
    ]
    path = work / f"huge_{huge[0]}.svs"
    if not path.exists():
        write_slide(path, "jpeg_rgb_tables", size=huge, levels=(1,), quality=30, distinct_tiles=64)
    store = work / f"jpeg_{side}_00.ome.zarr"
    if not store.exists():
        wsistore.convert(slides[0], store).raise_for_failures()
    return Setting(
        slides,
        j2k,
        str(path),
        str(store),
        batch=16 if small else 64,
        batches=1 if small else 4,
        grid=3 if small else 20,
        rounds=rounds,
    )


def _slide(path: Path, variant: str, side: int, seed: int) -> str:
    if not path.exists():
        write_slide(
            path,
            variant,
            size=(side, side),
            tile=256,
            levels=LEVELS,
            magnification="40",
            mpp="0.25",
            seed=seed,
            distinct_tiles=64,
        )
    return str(path)


def random_positions(
    rng: np.random.Generator, paths: list[str], count: int, side: int, step: int = 1, span: int = 0
) -> Positions:
    """Return places spread over the slides, `span` level-0 px wide, on multiples of step."""
    most = (side - (span or PATCH)) // step
    return [
        (i % len(paths), int(x) * step, int(y) * step)
        for i, (x, y) in enumerate(rng.integers(0, most, (count, 2)))
    ]


# Cases


def random_case(
    name: str,
    setting: Setting,
    paths: list[str],
    peers: list[Peer],
    *,
    level: int = 0,
    step: int = 1,
    shrink: int = 1,
    fresh: bool = False,
    threads: int = 1,
) -> Case:
    """Batches of random patches from all slides."""
    factor = LEVELS[level] * shrink
    side = wsistore.open_slide(paths[0]).size.width
    rng = np.random.default_rng(len(name))
    batches: list[Positions] = []

    def renew() -> None:
        # New places each round: a contender's cache of decoded tiles must not know them.
        batches[:] = [
            random_positions(rng, paths, setting.batch, side, step, PATCH * factor)
            for _ in range(setting.batches)
        ]

    resolution = level if shrink == 1 else f"{40 / factor:g}x"

    def ours(integrity: str, sources: list[str] | None = None) -> Callable[[], int]:
        slides = sources or paths
        kept = SlideCache()

        def run() -> int:
            for batch in batches:
                cache = SlideCache() if fresh else kept
                read_tiles(
                    [(slides[s], x, y) for s, x, y in batch],
                    PATCH,
                    resolution,
                    threads=threads,
                    integrity=integrity,
                    cache=cache,
                )
            return len(batches) * setting.batch

        return run

    contenders = [
        Contender("wsistore fast", ours("fast")),
        Contender("wsistore strict", ours("strict")),
        *(
            Contender(p.name, _peer_random(p, paths, batches, level, shrink, fresh, threads))
            for p in peers
        ),
    ]
    if level == 0 and shrink == 1 and not fresh and threads == 1 and paths is setting.slides:
        floor = _BareLoop(paths)
        contenders.append(Contender("bare decode loop", floor.run))
        return Case(name, contenders, lambda: (renew(), floor.renew(batches)))
    return Case(name, contenders, renew)


def _peer_random(
    peer: Peer,
    paths: list[str],
    batches: list[Positions],
    level: int,
    shrink: int,
    fresh: bool,
    threads: int,
) -> Callable[[], int]:
    factor = LEVELS[level]
    kept: dict[int, Any] = {}

    def one(handles: dict[int, Any], place: tuple[int, int, int], out: Any) -> None:
        s, x, y = place
        if s not in handles:
            handles[s] = peer.open(paths[s])
        if shrink == 1:
            out[...] = peer.read(handles[s], x, y, level, factor, PATCH)
        else:
            out[...] = peer.shrunk(handles[s], x, y, PATCH, shrink)

    def run() -> int:
        for batch in batches:
            handles = {} if fresh else kept
            out = np.empty((len(batch), PATCH, PATCH, 3), np.uint8)
            if threads == 1:
                for i, place in enumerate(batch):
                    one(handles, place, out[i])
            else:
                for s in {place[0] for place in batch} - set(handles):
                    handles[s] = peer.open(paths[s])
                with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                    list(pool.map(one, [handles] * len(batch), batch, out))
        return sum(map(len, batches))

    return run


class _BareLoop:
    """Decodes, whole and once, the encoded tiles that the patches touch: the floor."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.blocks: list[bytes] = []
        self.patches = 0

    def renew(self, batches: list[Positions]) -> None:
        self.blocks = []
        self.patches = sum(map(len, batches))
        for batch in batches:
            cells = {
                (s, c, r)
                for s, x, y in batch
                for c in range(x // 256, (x + PATCH - 1) // 256 + 1)
                for r in range(y // 256, (y + PATCH - 1) // 256 + 1)
            }
            for s, c, r in sorted(cells):
                table = wsistore.open_slide(self.paths[s]).tile_table(0)
                refs = table.locate(np.array([c]), np.array([r]))
                block = table.source(0).read(int(refs.offsets[0]), int(refs.counts[0]))
                self.blocks.append(complete_jpeg(block, table.block_format))

    def run(self) -> int:
        buffer = np.empty((256, 256, 3), np.uint8)
        for block in self.blocks:
            simplejpeg.decode_jpeg(block, "RGB", buffer=buffer, strict=True)
        return self.patches


def grid_case(
    name: str, setting: Setting, path: str, peers: list[Peer], *, origin: int, stride: int
) -> Case:
    """All patches of a part of one slide, in the order of the grid."""
    side = setting.grid * PATCH
    grid = grid_array((side, side), (PATCH, PATCH), (stride, stride), "drop") + origin

    def ours() -> int:
        done = 0
        for batch in iter_tiles(path, grid, PATCH, 0, threads=1, prefetch=0, cache=SlideCache()):
            done += len(batch)
        return done

    def theirs(peer: Peer) -> Callable[[], int]:
        def run() -> int:
            slide = peer.open(path)
            out = np.empty((PATCH, PATCH, 3), np.uint8)
            for x, y in grid.tolist():
                out[...] = peer.read(slide, x, y, 0, 1, PATCH)
            return len(grid)

        return run

    return Case(name, [Contender("wsistore", ours), *(Contender(p.name, theirs(p)) for p in peers)])


def opening_case(setting: Setting, peers: list[Peer]) -> Case:
    """Open a slide of very many tiles and read one patch."""
    path = setting.huge
    middle = wsistore.open_slide(path).size.width // 2 + 77
    repeats = 5

    def ours() -> int:
        for _ in range(repeats):
            read_tiles([(path, middle, middle)], PATCH, 0, threads=1, cache=SlideCache())
        return repeats

    def theirs(peer: Peer) -> Callable[[], int]:
        def run() -> int:
            for _ in range(repeats):
                peer.read(peer.open(path), middle, middle, 0, 1, PATCH)
            return repeats

        return run

    return Case(
        "open + one patch, 128,000 tiles",
        [Contender("wsistore", ours), *(Contender(p.name, theirs(p)) for p in peers)],
    )


def training_case(setting: Setting, peers: list[Peer]) -> Case:
    """Batches for training: our threads, our DataLoader, and the peers' DataLoader."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    from wsistore.tiles.sampling import TileIndex, TileSampler
    from wsistore.tiles.torch_data import TileDataset, TileStream

    side = wsistore.open_slide(setting.slides[0]).size.width
    rng = np.random.default_rng(5)
    count = setting.batch * setting.batches * 2
    places = random_positions(rng, setting.slides, count, side)
    by_slide = [
        (path, [(x, y) for s, x, y in places if s == i]) for i, path in enumerate(setting.slides)
    ]
    index = TileIndex.from_positions(by_slide)

    def drain(batches: Any) -> int:
        done = 0
        for batch in batches:
            done += len(batch["image"] if isinstance(batch, dict) else batch)
        return done

    def stream() -> int:
        sampler = TileSampler(index, setting.batch)
        return drain(TileStream(sampler, PATCH, 0, threads=2, integrity="fast"))

    def loader() -> int:
        data = TileDataset(index, PATCH, 0, integrity="fast")
        return drain(
            DataLoader(
                data, setting.batch, shuffle=True, num_workers=2, multiprocessing_context="fork"
            )
        )

    class PeerData(Dataset):
        def __init__(self, peer: Peer) -> None:
            self.peer, self.handles = peer, {}

        def __len__(self) -> int:
            return len(places)

        def __getitem__(self, i: int) -> Any:
            s, x, y = places[i]
            if s not in self.handles:
                self.handles[s] = self.peer.open(setting.slides[s])
            pixels = self.peer.read(self.handles[s], x, y, 0, 1, PATCH)
            return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def theirs(peer: Peer) -> Callable[[], int]:
        return lambda: drain(
            DataLoader(
                PeerData(peer),
                setting.batch,
                shuffle=True,
                num_workers=2,
                multiprocessing_context="fork",
            )
        )

    return Case(
        "training, 2 CPUs",
        [
            Contender("wsistore threads", stream),
            Contender("wsistore DataLoader", loader),
            *(Contender(p.name, theirs(p)) for p in peers if p.name != "pyvips"),
        ],
    )


def store_case(setting: Setting) -> Case:
    """Compare the SVS, its converted copy, and the copy through zarr-python."""
    import zarr

    svs = setting.slides[0]
    side = wsistore.open_slide(svs).size.width
    rng = np.random.default_rng(9)
    places: Positions = []

    def renew() -> None:
        places[:] = random_positions(rng, [svs], setting.batch, side)

    cache = SlideCache()
    array = zarr.open_group(setting.store, mode="r")["0"]

    def through(path: str, integrity: str) -> Callable[[], int]:
        def run() -> int:
            requests = [(path, x, y) for _, x, y in places]
            read_tiles(requests, PATCH, 0, threads=1, cache=cache, integrity=integrity)
            return len(places)

        return run

    def plain() -> int:
        for _, x, y in places:
            array[:, y : y + PATCH, x : x + PATCH]
        return len(places)

    return Case(
        "converted copy, random unaligned",
        [
            Contender("wsistore on the store", through(setting.store, "strict")),
            Contender("wsistore on the SVS, fast", through(svs, "fast")),
            Contender("wsistore on the SVS, strict", through(svs, "strict")),
            Contender("zarr-python on the store", plain),
        ],
        renew,
    )


# Measuring


def measure(case: Case, rounds: int) -> None:
    """Run all contenders in turn, in each round from another one on."""
    case.renew()
    for contender in case.contenders:
        contender.patches = contender.run()  # warm: page cache, lazy imports, kept handles
    for number in range(rounds):
        case.renew()
        shift = number % len(case.contenders)
        for contender in case.contenders[shift:] + case.contenders[:shift]:
            cpu, wall = _cpu(), time.perf_counter()
            contender.run()
            contender.wall.append(time.perf_counter() - wall)
            contender.cpu.append(_cpu() - cpu)


def _cpu() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def rows(case: Case) -> list[dict[str, Any]]:
    """Return a row per contender; ratios are against the first, round by round."""
    first = case.contenders[0]
    return [
        {
            "case": case.name,
            "contender": c.name,
            "ms_per_patch": 1000 * statistics.median(c.wall) / c.patches,
            "wall_ratio": _ratio(c.wall, first.wall),
            "cpu_ratio": _ratio(c.cpu, first.cpu),
        }
        for c in case.contenders
    ]


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(a / max(b, 1e-9) for a, b in zip(theirs, ours, strict=True))


def counters(setting: Setting) -> dict[str, float]:
    """Return exact counts of a random unaligned batch, and the memory it takes."""
    side = wsistore.open_slide(setting.slides[0]).size.width
    places = random_positions(np.random.default_rng(1), setting.slides, 4 * setting.batch, side)
    requests = [(setting.slides[s], x, y) for s, x, y in places]
    _, report = read_tiles(requests, PATCH, 0, return_report=True)
    return {
        "tiles decoded per patch": report.tiles_decoded / len(requests),
        "kB read per patch": report.bytes_read / len(requests) / 1000,
        "peak MB beyond the interpreter and imports": _peak(setting),
    }


def _peak(setting: Setting) -> float:
    """Return the peak memory that 20 random batches add, in a process of its own."""
    code = (
        "import json, sys, numpy as np\n"
        "from wsistore.tiles import read_tiles\n"
        # ru_maxrss would tell of the parent that was forked; VmHWM is of this program alone.
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return int(next(l for l in lines if l.startswith('VmHWM')).split()[1]) / 1024\n"
        "paths, batch = json.loads(sys.argv[1])\n"
        "read_tiles([(paths[0], 0, 0)], 256, 0)\n"
        "base = peak()\n"
        "rng = np.random.default_rng(0)\n"
        "for _ in range(20):\n"
        "    xy = rng.integers(0, 1500, (batch, 2)).tolist()\n"
        "    read_tiles([(paths[i % len(paths)], x, y) for i, (x, y) in enumerate(xy)], 256, 0)\n"
        "print(peak() - base)\n"
    )
    argument = json.dumps([setting.slides, setting.batch])
    done = subprocess.run(
        [sys.executable, "-c", code, argument], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def all_cases(setting: Setting, peers: list[Peer], with_torch: bool) -> list[Callable[[], Case]]:
    """Return the cases, each made when its turn comes."""
    few = [p for p in peers if p.name in ("cuCIM", "OpenSlide", "slideio", "tiffslide")]
    jpeg = setting.slides
    cases = [
        lambda: random_case("random, unaligned, level 0", setting, jpeg, peers),
        lambda: random_case("the same, opened afresh", setting, jpeg, peers, fresh=True),
        lambda: opening_case(setting, peers),
        lambda: random_case("random, aligned", setting, jpeg, peers, step=256),
        lambda: random_case("20x from 40x, no 20x level", setting, jpeg, peers, shrink=2),
        lambda: random_case("at a reduced level", setting, jpeg, peers, level=1),
        lambda: grid_case("grid shifted 100 px", setting, jpeg[0], peers, origin=100, stride=256),
        lambda: grid_case("stride 128", setting, jpeg[0], peers, origin=0, stride=128),
        lambda: random_case("2 threads, unaligned", setting, jpeg, few, threads=2),
        lambda: random_case("JPEG 2000 33005, unaligned", setting, setting.j2k, few),
        lambda: grid_case(
            "JPEG 2000 33005, grid shifted", setting, setting.j2k[0], few, origin=100, stride=256
        ),
        lambda: store_case(setting),
    ]
    if with_torch:
        cases.append(lambda: training_case(setting, few))
    return cases


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the slides; kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", help="names, lower case; all that import")
    parser.add_argument("--small", action="store_true", help="tiny slides, to test the benchmark")
    parser.add_argument("--only", help="cases whose name holds this text")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args(arguments)
    setting = prepare(options.work, options.small, options.rounds)
    peers, missing = peer_module.available(options.peers)
    try:
        import torch

        torch.set_num_threads(1)
        with_torch = True
    except ImportError:
        with_torch = False
        missing.append("torch: the training case is left out")
    print(f"wsistore {version('wsistore')}, {datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, ")
    print(
        f"Python {platform.python_version()}; " + ", ".join(f"{p.name} {p.version}" for p in peers)
    )
    for reason in missing:
        print(f"left out: {reason}")
    table = []
    for make in all_cases(setting, peers, with_torch):
        case = make()
        if options.only and options.only not in case.name:
            continue
        measure(case, options.rounds)
        print(f"\n{case.name}\n  {'':28}{'ms/patch':>10}{'wall ratio':>12}{'CPU ratio':>12}")
        for row in rows(case):
            print(
                f"  {row['contender']:28}{row['ms_per_patch']:>10.3f}"
                f"{row['wall_ratio']:>12.2f}{row['cpu_ratio']:>12.2f}"
            )
            table.append(row)
    if not options.only:
        print("\nExact counts, random unaligned patches at level 0 (ideal: 3.98 tiles)")
        for name, value in counters(setting).items():
            print(f"  {name:46}{value:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
