"""Patches as image files: ``<folder>/<stem>/<stem>_x<x>_y<y>.png``, as seed tools name them.

Beside the images of a slide lies ``plan.json``, written last: the plan with its columns
(also ``label``), and what the classes are called. A slide without it is not whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from wsistore.codecs import encode
from wsistore.durable import atomic_write
from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    UsageError,
)
from wsistore.export.documents import as_json, plan_document, plan_from_document
from wsistore.export.folders import made_folder
from wsistore.export.foreign import read_bytes
from wsistore.export.json_files import dump
from wsistore.export.patch_store import PatchStore, PatchTable
from wsistore.export.patches import JPEG_QUALITY, Patch, plan_labels
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.walking import TileBatch, iter_tiles

ImageFormat = Literal["png", "jpeg", "webp"]
EXTENSIONS: Mapping[str, str] = MappingProxyType({"png": "png", "jpeg": "jpg", "webp": "webp"})
PLAN = "plan.json"
BATCH = 64


def image_name(slide: str, x: int, y: int, kind: ImageFormat = "png") -> str:
    """Return the name of a patch's file; x and y in level-0 px."""
    return f"{slide}_x{x}_y{y}.{EXTENSIONS[kind]}"


def write_images(
    slide: Slide,
    plan: TilePlan,
    folder: Path,
    *,
    format: ImageFormat = "png",  # noqa: A002 (the word of the field)
    quality: int | None = None,
    label_map: Mapping[str, int] | None = None,
    threads: int = 4,
    **reading: Any,
) -> int:
    """Write the tiles of a plan as images into ``<folder>/<stem>/``; return how many.

    Each file appears whole or not at all. Images of an earlier run with the same names are
    replaced; others that are no longer in the plan are removed.

    Parameters
    ----------
    slide : Slide
        That of the plan.
    plan : TilePlan
        What is written.
    folder : Path
        Made where missing; holds a folder for each slide.
    format : {"png", "jpeg", "webp"}
        PNG, and WebP without a quality, are exact.
    quality : int, optional
        Of JPEG (default 90) and WebP.
    label_map : mapping of str to int, optional
        Names of the labels.
    threads : int
        That encode and write.
    **reading
        As in `wsistore.tiles.iter_tiles`.

    Raises
    ------
    UsageError
        If there is no such format, or an argument makes no sense.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    wsistore.errors.WsistoreError
        If a tile can't be read.
    """
    if format not in get_args(ImageFormat):
        raise UsageError(f"format is one of {', '.join(get_args(ImageFormat))}, got {format!r}")
    if threads < 1:
        raise UsageError(f"threads must be at least 1, got {threads!r}")
    options = _options(format, quality)
    plan.check_slide(slide)
    plan_labels(plan)  # must be integers, before anything is written
    own = made_folder(folder / plan.slide.name)
    (own / PLAN).unlink(missing_ok=True)
    names = [
        image_name(plan.slide.name, x, y, format)
        for x, y in zip(plan.x.tolist(), plan.y.tolist(), strict=True)
    ]
    _remove_others(own, plan.slide.name, frozenset(names))
    walk: Iterator[TileBatch] = iter_tiles(
        slide, plan, plan.size, plan.resolution, batch_size=BATCH, **reading
    )

    def write(job: tuple[str, Any]) -> None:
        name, pixels = job
        atomic_write(own / name, encode(pixels, format, **options))

    with ThreadPoolExecutor(threads, "wsistore-images") as pool:
        for batch in walk:  # a batch is written before the next is taken: memory is bounded
            part = names[batch.start : batch.start + len(batch)]
            list(pool.map(write, zip(part, batch.pixels, strict=True)))
    columns = {name: as_json(values) for name, values in plan.columns.items()}
    document = {**plan_document(plan), "columns": columns}
    told = {"images": format, "label_map": dict(label_map or {})}
    atomic_write(own / PLAN, dump({**document, **told}))
    return len(plan)


def _options(kind: ImageFormat, quality: int | None) -> dict[str, Any]:
    if kind == "png":
        if quality is not None:
            raise UsageError("PNG is exact: it has no quality")
        return {}
    if kind == "jpeg":
        return {"quality": JPEG_QUALITY if quality is None else quality, "subsampling": "444"}
    return {} if quality is None else {"quality": quality}


def _remove_others(own: Path, slide: str, names: frozenset[str]) -> None:
    """Remove images of an earlier plan, by their whole names."""
    endings = {f".{extension}" for extension in EXTENSIONS.values()}
    for path in own.glob("*_x*_y*.*"):
        if path.suffix in endings and path.name.startswith(f"{slide}_x") and path.name not in names:
            path.unlink(missing_ok=True)


class ImagePatches(PatchStore):
    """Patches as image files, opened for reading; may be pickled.

    Parameters
    ----------
    path : path
        The folder that holds a folder for each slide.

    Raises
    ------
    SourceNotFoundError
        If there is no slide.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        found = sorted(self.path.glob(f"*/{PLAN}"))
        if not found:
            raise SourceNotFoundError(f"there is no {PLAN} in a folder of {self.path}")
        self._plans: dict[str, tuple[TilePlan, ImageFormat]] = {}
        self._tables: dict[str, PatchTable] = {}
        labels: dict[str, int] = {}
        for place in found:
            plan, kind, known = _read_plan(place)
            self._plans[plan.slide.name] = plan, kind
            self._tables[plan.slide.name] = PatchTable.of(plan)
            labels |= known
        self.slides = tuple(sorted(self._plans))
        self.label_map = MappingProxyType(labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ImagePatches, (self.path,))

    def table(self, slide: str) -> PatchTable:
        """Return which patches there are of a slide."""
        self.check_slide(slide)
        return self._tables[slide]

    def plan(self, slide: str) -> TilePlan:
        """Return the plan that the patches of a slide were read by."""
        self.check_slide(slide)
        return self._plans[slide][0]

    def patch(self, slide: str, index: int) -> Patch:
        """Return one patch of a slide, by its row in the plan.

        Raises
        ------
        UsageError
            If there is no such patch.
        StoreCorruptError
            If its file is gone.
        """
        table = self.table(slide)
        if not 0 <= index < len(table):
            raise UsageError(f"{slide} has patches 0 to {len(table) - 1}")
        plan, kind = self._plans[slide]
        x, y = int(table.x[index]), int(table.y[index])
        path = self.path / slide / image_name(slide, x, y, kind)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreCorruptError(f"{path} can't be read: {error.strerror}") from error
        column, row = int(table.column[index]), int(table.row[index])
        label, size = int(table.label[index]), plan.size
        return Patch(slide, index, x, y, column, row, label, kind, size.width, size.height, data)

    def close(self) -> None:
        """Do nothing: files are open only while they are read."""


def _read_plan(path: Path) -> tuple[TilePlan, ImageFormat, dict[str, int]]:
    try:
        told = json.loads(read_bytes(path))
        kind, labels = told["images"], told["label_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(f"{path} is no plan of images: {error!r}") from error
    if kind not in EXTENSIONS:
        raise StoreCorruptError(f"{path} tells of images of {kind!r}")
    return plan_from_document(told, told.get("columns", {}), str(path)), kind, labels


def write_all_images(
    sources: Iterable[tuple[Slide, TilePlan]], folder: Path, **options: Any
) -> int:
    """Write the images of several slides; see `write_images`."""
    return sum(write_images(slide, plan, folder, **options) for slide, plan in sources)


__all__ = ["ImagePatches", "image_name", "write_all_images", "write_images"]
