"""Regions of a slide as image files, read in batches and written by threads."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsistore.durable import atomic_write
from wsistore.errors import IncompleteError, UsageError, WsistoreError
from wsistore.slides import Slide
from wsistore.tiles.regions import RegionSpec, region_name
from wsistore.tiles.walking import iter_tiles

_MISSING = "WSI401"  # painted and no fault: the file holds nothing there
_NAMED = 3


def image_format(name: str) -> tuple[str, str]:
    """Return extension and Pillow's name of an image format.

    Parameters
    ----------
    name : str
        Such as ``"png"``, ``"jpeg"``, ``"jpg"`` or ``"tiff"``, in any case.

    Raises
    ------
    wsistore.errors.UsageError
        If Pillow doesn't write it.
    """
    extension = name.lower().lstrip(".")
    known = Image.registered_extensions()  # also loads all plugins
    format_name = known.get(f".{extension}", extension.upper())
    if format_name not in Image.SAVE:
        raise UsageError(f"Pillow writes no {name!r} images", hint="Use png, jpeg or tiff.")
    return extension, format_name


def save_regions(
    slide: Slide,
    regions: Sequence[RegionSpec],
    folder: Path,
    *,
    threads: int,
    format: str,  # noqa: A002 (Pillow's name for it)
    fill: int = 255,
) -> list[Path]:
    """Write regions as images; see `wsistore.tiles.extractor.TileExtractor.save`."""
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads!r}")
    extension, format_name = image_format(format)
    folder.mkdir(parents=True, exist_ok=True)
    written, failed = [], []
    with ThreadPoolExecutor(threads) as pool:
        for batch in _read(slide, regions, fill, threads):
            pending = []
            for region, pixels, fault in batch:
                path = folder / f"{region_name(slide.name, region)}.{extension}"
                if fault:
                    failed.append(f"{path.name}: {fault}")
                else:
                    pending.append((path, pool.submit(_write, path, pixels, format_name)))
            for path, future in pending:
                try:
                    future.result()
                    written.append(path)
                except (WsistoreError, OSError, ValueError) as error:
                    failed.append(f"{path.name}: {error}")
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise IncompleteError(
            f"{len(failed)} of {len(regions)} tiles of {slide.name} failed: "
            f"{'; '.join(failed[:_NAMED])}{more}",
            hint=f"The other {len(written)} are in {folder}.",
        )
    return written


Read = tuple[RegionSpec, NDArray[np.uint8], str]


def _read(
    slide: Slide, regions: Sequence[RegionSpec], fill: int, threads: int
) -> Iterator[list[Read]]:
    """Yield batches of regions with their pixels, and what is wrong with them."""
    for (shape, resolution), group in groupby(regions, lambda r: (r.shape, r.resolution)):
        members = list(group)
        places = np.array([(r.location.x, r.location.y) for r in members], np.int64)
        size = (shape.width, shape.height)
        walk = iter_tiles(
            slide, places, size, resolution, on_bad_tile="fill", fill=fill, threads=threads
        )
        for batch in walk:
            faults = {f.request: f.reason for f in batch.report.faults if f.code != _MISSING}
            yield [
                (members[batch.start + i], pixels, faults.get(i, ""))
                for i, pixels in enumerate(batch.pixels)
            ]


def _write(path: Path, pixels: NDArray[np.uint8], format_name: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_name)
    atomic_write(path, buffer.getvalue())
