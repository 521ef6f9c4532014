"""Planning: a million tiles with exact tissue coverage, on one core.

    python benchmarks/plan.py [--tiles 1000000] [--rounds 5] [--json]

A slide of 100,000 x 100,000 px (its pixels are never read; only the levels exist), tiles of
256 px at 20x with a stride that gives as many as asked for, and a mask at 8 µm/px with blobs
of tissue. Reports seconds of CPU of the fastest and the median
round, and the memory that planning adds at its peak, for: the lattice alone, with exact
coverage, with contours, and the plan's id. Fails with status 1 if exact coverage takes more
than ``--most-seconds`` or ``--most-mib``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from wsistore.slides import Slide
from wsistore.testing.blank import blank_slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec
from wsistore.tissue import TissueMask
from wsistore.tissue.contours import find_contours

TILE = 256
"""Side of a tile in px at 20x; 512 px at level 0."""

SIDE = 100_000
"""Of the slide, level-0 px."""


def blobs(slide: Slide, seed: int = 0) -> TissueMask:
    """Return a mask at 8 µm/px, about half of it tissue."""
    height, width = (max(8, side // 32) for side in (slide.size.height, slide.size.width))
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    field = np.zeros((height, width), np.float32)
    for _ in range(8):
        fx, fy = rng.uniform(4, 14, 2)
        field += np.sin(x * (fx / width) + rng.uniform(0, 6)) * np.cos(y * (fy / height))
    return TissueMask(field > 0, slide.size, method="blobs")


def measure(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Return CPU seconds of the fastest and median round, and MiB allocated at the peak."""
    times = []
    for _ in range(rounds):
        before = time.process_time()
        call()
        times.append(time.process_time() - before)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"best_s": min(times), "median_s": statistics.median(times), "peak_mib": peak / 2**20}


def run(tiles: int, rounds: int, side: int = SIDE) -> dict[str, Any]:
    """Return the measured table for a slide of about this many tiles."""
    slide = blank_slide((side, side))
    stride = max(1, int((side // 2 - TILE) / max(1, tiles**0.5 - 1)))
    mask = blobs(slide)
    contours = find_contours(mask, least_fraction=0.001)
    spec = TileSpec(TILE, stride, "20x")

    def fresh() -> TissueMask:
        return mask.with_pixels(mask.pixels)  # without the integral image and fingerprint

    plan = plan_tiles(slide, spec, mask, min_tissue=0.0)
    corners = sum(len(ring) for c in contours for ring in c.polygon.rings)
    cases: dict[str, Callable[[], TilePlan | str]] = {
        "lattice": lambda: plan_tiles(slide, spec),
        "exact coverage": lambda: plan_tiles(slide, spec, fresh(), min_tissue=0.0),
        "exact coverage >= 0.5": lambda: plan_tiles(slide, spec, fresh(), min_tissue=0.5),
        "contours, four_pt": lambda: plan_tiles(slide, spec, contours=contours),
        "plan_id": lambda: plan[:].plan_id,
    }
    return {
        "tiles": len(plan),
        "mask": list(mask.shape),
        "contours": len(contours),
        "corners": corners,
        "cases": {name: measure(call, rounds) for name, call in cases.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure planning.")
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--most-seconds", type=float, default=1.0)
    parser.add_argument("--most-mib", type=float, default=300.0)
    options = parser.parse_args()
    found = run(options.tiles, options.rounds)
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['tiles']} tiles, mask of {found['mask']}, {found['contours']} contours",
            end=" ",
        )
        print(f"of {found['corners']} corners")
        for name, told in found["cases"].items():
            print(
                f"  {name:24} {told['best_s']:7.3f} s best {told['median_s']:7.3f} s median "
                f"{told['peak_mib']:8.1f} MiB"
            )
    exact = found["cases"]["exact coverage"]
    if exact["best_s"] > options.most_seconds or exact["peak_mib"] > options.most_mib:
        sys.exit("exact coverage is over its limits")


if __name__ == "__main__":
    main()
