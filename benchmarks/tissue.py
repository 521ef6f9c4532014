"""Times and qualities of the tissue room: ``python benchmarks/tissue.py``.

CPU seconds of this process, best of three; intersections over unions on the scenes of
``wsistore.testing.scenes``, whose tissue is known. For scenes without tissue the px found
wrongly are told, with a minus.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from wsistore.testing.scenes import SCENES, scene
from wsistore.tissue import TissueMask, contour_ids, find_contours, make_segmenter

METHODS = ("default", "otsu", "multi-otsu", "threshold", "entropy")


def best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def ragged(side: int, blur: float) -> np.ndarray:
    noise = np.random.default_rng(0).random((side, side)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), blur) > 0.5


def speeds() -> None:
    mask = TissueMask(ragged(2048, 30), (100_003, 99_991))
    y, x = np.divmod(np.arange(1_000_000), 1000)
    boxes = np.column_stack([x * 97, y * 97, np.full_like(x, 256), np.full_like(x, 256)])
    shuffled = boxes[np.random.default_rng(1).permutation(len(boxes))]
    fresh = best(lambda: mask.with_pixels(mask.pixels).coverage(boxes[:1]))
    print(f"integral image of 2048x2048        {fresh:.3f} s")
    print(f"coverage of 1,000,000 boxes        {best(lambda: mask.coverage(boxes)):.3f} s")
    print(f"  in random order                  {best(lambda: mask.coverage(shuffled)):.3f} s")
    for blur in (30, 8):
        other = TissueMask(ragged(2048, blur), (100_003, 99_991))
        contours = find_contours(other)
        corners = sum(len(r) for c in contours for r in c.polygon.rings)
        took = best(lambda other=other: find_contours(other))
        print(f"{len(contours):4d} contours, {corners:6d} corners      {took:.3f} s")
    contours = find_contours(mask)
    for rule in ("four_pt", "four_pt_hard", "center", "basic", "any"):
        took = best(lambda rule=rule: contour_ids(contours, boxes, rule))
        print(f"rule {rule:12s} on 1,000,000     {took:.3f} s")
    pixels = scene("ordinary", width=2048, height=1536).pixels
    for method in METHODS:
        segmenter = make_segmenter(method)
        took = best(lambda segmenter=segmenter: segmenter.segment([pixels]))
        print(f"{method:12s} on 2048x1536         {took:.3f} s")


def qualities(seeds: int = 3) -> None:
    print(f"{'':14s}" + "".join(f"{method:>12s}" for method in METHODS))
    for name in SCENES:
        cells = []
        for method in METHODS:
            worst = 1.0
            for seed in range(seeds):
                truth = scene(name, seed=seed)
                (mask,) = make_segmenter(method).segment([truth.pixels])
                both, either = (mask & truth.truth).sum(), (mask | truth.truth).sum()
                worst = min(worst, both / either if truth.truth.any() else -float(mask.sum()))
            cells.append(f"{worst:12.3f}")
        print(f"{name:14s}" + "".join(cells))


if __name__ == "__main__":
    speeds()
    qualities()
