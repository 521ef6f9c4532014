"""Look at a few tiles of one slide: no mask, no scheduler, no store.

    python examples/local_recipe.py                       # a synthetic slide
    python examples/local_recipe.py my.svs --out tiles    # one of yours

Plans tiles of 512 px on the level closest to 0.5 µm/px, drops those that are nearly flat
(standard deviation of 8 grey levels or less), and saves the first 64 as
``tile_00017.png``: 17 is the tile's number in the grid, so numbers have gaps where tiles
were dropped. Reading stops with the last tile that is wanted.

This is the path for a few slides and for a first look. For many slides, with tissue masks,
annotations and stored features, plan once and run the pipeline on the command line.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from PIL import Image

import wsistore
from wsistore import TileSpec, iter_tiles, open_slide, plan_tiles
from wsistore.testing import write_slide
from wsistore.tiles import closest_level


def save_tiles(slide_path: Path, out: Path, cap: int = 64) -> None:
    """Save up to `cap` tiles that are not flat."""
    with open_slide(slide_path) as slide:
        spec = TileSpec(512, resolution=closest_level(slide, 0.5), edge="shift")
        plan = plan_tiles(slide, spec)
        batches = iter_tiles(slide, plan, plan.size, plan.resolution)
        tiles = ((b.start + i, tile) for b in batches for i, tile in enumerate(b.pixels))
        wanted = ((index, tile) for index, tile in tiles if tile.std() > 8)
        for index, tile in islice(wanted, cap):
            Image.fromarray(tile).save(out / f"tile_{index:05d}.png")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Save the first tiles that hold something.")
    parser.add_argument("slide", nargs="?", type=Path, help="default: a synthetic one")
    parser.add_argument("--out", type=Path, default=Path("demo/tiles"), help="folder to write to")
    parser.add_argument("--cap", type=int, default=64, help="most tiles saved")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    source = options.slide
    if source is None:
        source = options.out / "synthetic.svs"
        write_slide(source, size=(4000, 3000))
    try:
        save_tiles(source, options.out, options.cap)
    except wsistore.WsistoreError as error:
        raise SystemExit(f"{error.code}: {error}") from error
    print(f"{len(list(options.out.glob('tile_*.png')))} tiles in {options.out}")


if __name__ == "__main__":
    main()
