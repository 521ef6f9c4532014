"""Convert a slide, open the store as a slide, and draw what is in it.

    python examples/convert_and_read.py                          # a synthetic slide
    python examples/convert_and_read.py my.svs --pictures out    # one of yours

Leaves ``thumbnail.png`` (the whole slide, read from the store) and ``crop.png`` (a detail,
read from the slide on the left and from the store on the right).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import wsistore
from wsistore.testing import write_slide

GAP = 8
"""White px between the two halves of ``crop.png``."""


def densest_box(slide: wsistore.Slide, side: int) -> tuple[int, int, int, int]:
    """Return the box of level 0 with the most stain, judged by a thumbnail."""
    darkness = 255 - slide.thumbnail(64).mean(axis=2)
    row, column = np.unravel_index(darkness.argmax(), darkness.shape)
    width, height = (min(side, length) for length in slide.size)
    x = int((column + 0.5) / darkness.shape[1] * slide.size.width) - width // 2
    y = int((row + 0.5) / darkness.shape[0] * slide.size.height) - height // 2
    return (
        min(max(0, x), slide.size.width - width),
        min(max(0, y), slide.size.height - height),
        width,
        height,
    )


def main() -> None:
    """Convert and draw."""
    parser = argparse.ArgumentParser(description="Convert a slide and draw what is in the store.")
    parser.add_argument("slide", nargs="?", type=Path, help="default: a synthetic one")
    parser.add_argument("--store", type=Path, help="a store of this slide that exists already")
    parser.add_argument("--pictures", type=Path, default=Path("demo"), help="folder to write to")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)

    source = options.slide
    if source is None:
        source = options.pictures / "synthetic.svs"
        write_slide(source)

    store = options.store
    if store is None:
        store = options.pictures / f"{source.stem}.ome.zarr"
        report = wsistore.convert([source], store)
        if report.exit_code:
            raise SystemExit(f"could not convert: {report.outcomes}")

    with wsistore.open_slide(source) as before, wsistore.open_slide(store) as after:
        x, y, width, height = densest_box(before, side=400)
        left = before.read_region((x, y), 0, (width, height))
        right = after.read_region((x, y), 0, (width, height))
        gap = np.full((height, GAP, 3), 255, np.uint8)
        Image.fromarray(after.thumbnail(800)).save(options.pictures / "thumbnail.png")
        Image.fromarray(np.hstack([left, gap, right])).save(options.pictures / "crop.png")
        largest = int(np.abs(left.astype(int) - right).max())

    print(f"crop of {width} x {height} px at ({x}, {y}), slide against store:")
    print(f"  largest difference of any sample: {largest}")
    print(f"look at {options.pictures / 'thumbnail.png'} (the whole slide, from the store)")
    print(f"    and {options.pictures / 'crop.png'} (left the slide, right the store)")


if __name__ == "__main__":
    main()
