"""Read a batch of patches from the centres of all slides of a folder, in one call.

python examples/batch_read.py                 # four synthetic slides
python examples/batch_read.py FOLDER          # your slides
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import wsistore
from wsistore.testing import write_slide


def batch_read(folder: Path) -> None:
    """Read 64 patches of 256 px at 10x and print what they are."""
    slides = [wsistore.open_slide(path) for path in sorted(folder.glob("*.svs"))]
    requests = []
    for number in range(64):
        slide = slides[number % len(slides)]
        width, height = slide.size
        requests.append((slide, width // 4 + number, height // 4))
    patches = wsistore.read_tiles(requests, size=256, resolution="10x")
    print(f"{len(patches)} patches of {len(slides)} slides: {patches.shape} {patches.dtype}")
    print(f"mean colour: {patches.mean(axis=(0, 1, 2)).round().astype(int).tolist()}")


def main() -> None:
    """Read from the folder that the command line names, or from slides made for it."""
    if len(sys.argv) > 1:
        batch_read(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for number in range(4):
            write_slide(Path(folder) / f"{number}.svs", size=(700, 600), seed=number)
        batch_read(Path(folder))


if __name__ == "__main__":
    main()
