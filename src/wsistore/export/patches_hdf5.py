"""Patches in HDF5: a file a slide, with pixels, places and labels.

``<stem>.h5`` holds ``tiles`` (N, h, w, 3) uint8, one tile a chunk; ``coords`` (N, 2) int64,
top-left corners in level-0 px; ``cells`` (N, 2) int32, columns and rows; ``labels`` (N,)
int32, -1 where there is none; the attribute ``label_map`` (JSON); and the group
``wsistore``, which gives the plan back. Files of py-wsi (``t`` and a table in CSV) are
read too.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.export.folders import made_folder
from wsistore.export.h5_files import put_plan
from wsistore.export.h5_stream import open_h5_file, stream_h5
from wsistore.export.patch_store import PatchStore, PatchTable
from wsistore.export.patches import NO_LABEL, Patch, PatchEncoding, iter_patches, plan_labels
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

TILES = "tiles"
OLD_TILES = "t"
COMPRESSIONS = ("gzip", "lzf")


def write_patches_h5(
    slide: Slide,
    plan: TilePlan,
    folder: Path,
    *,
    compression: str | None = None,
    label_map: Mapping[str, int] | None = None,
    **reading: Any,
) -> Path:
    """Write the tiles of a plan to ``<folder>/<stem>.h5``; in little memory.

    Parameters
    ----------
    slide : Slide
        That of the plan.
    plan : TilePlan
        Its column ``label`` is stored too.
    folder : Path
        Made where missing.
    compression : {"gzip", "lzf"}, optional
        None by default.
    label_map : mapping of str to int, optional
        Names of the labels.
    **reading
        As in `wsistore.export.patches.iter_patches`.

    Raises
    ------
    UsageError
        If there is no such compression.
    StoreWriteError
        If the disk is full, or writing is not permitted; no file is left.
    wsistore.errors.WsistoreError
        If a tile can't be read.
    """
    if compression is not None and compression not in COMPRESSIONS:
        raise UsageError(f"compression is one of {', '.join(COMPRESSIONS)}, got {compression!r}")
    path = made_folder(folder) / f"{plan.slide.name}.h5"
    patches = iter_patches(slide, plan, PatchEncoding("array"), **reading)

    def fill(file: Any, check: Callable[[], None]) -> None:
        _put_tables(file, plan, label_map or {})
        shape = (plan.size.height, plan.size.width, 3)
        dataset = file.create_dataset(
            TILES,
            shape=(len(plan), *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype=np.uint8,
            compression=compression,
        )
        for patch in patches:
            dataset[patch.index] = np.frombuffer(patch.data, np.uint8).reshape(shape)
            check()

    stream_h5(path, fill)
    return path


def _put_tables(file: Any, plan: TilePlan, label_map: Mapping[str, int]) -> None:
    file.create_dataset("coords", data=np.stack([plan.x, plan.y], axis=1))
    file.create_dataset("cells", data=np.stack([plan.column, plan.row], axis=1).astype(np.int32))
    file.create_dataset("labels", data=plan_labels(plan).astype(np.int32))
    file.attrs["label_map"] = json.dumps(dict(label_map))
    file.attrs["slide"] = plan.slide.name
    put_plan(file, plan, 8192)


class H5Patches(PatchStore):
    """Patches in HDF5 files, opened for reading; may be pickled.

    Parameters
    ----------
    path : path
        A folder of ``<stem>.h5`` files, or one file.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.h5"))
        if not files:
            raise SourceNotFoundError(f"there is no .h5 file in {self.path}")
        self._paths = {file.stem: file for file in files}
        self._open: dict[str, Any] = {}
        self._pid = os.getpid()
        self._tables: dict[str, PatchTable] = {}
        self.slides = tuple(sorted(self._paths))
        self.label_map = MappingProxyType(self._label_map())

    def __reduce__(self) -> tuple[Any, ...]:
        return (H5Patches, (self.path,))

    def table(self, slide: str) -> PatchTable:
        """Return which patches there are of a slide."""
        if slide not in self._tables:
            file = self._file(slide)
            old = OLD_TILES in file and TILES not in file
            self._tables[slide] = self._old_table(slide) if old else _table(file)
        return self._tables[slide]

    def patch(self, slide: str, index: int) -> Patch:
        """Return one patch of a slide, by its place in `table`.

        Raises
        ------
        UsageError
            If there is no such patch.
        StoreCorruptError
            If its chunk is damaged.
        """
        table = self.table(slide)
        if not 0 <= index < len(table):
            raise UsageError(f"{slide} has patches 0 to {len(table) - 1}")
        file = self._file(slide)
        try:
            pixels = (file[TILES] if TILES in file else file[OLD_TILES])[index]
        except (OSError, KeyError) as error:
            raise StoreCorruptError(f"patch {index} of {self._paths[slide]}: {error}") from error
        return Patch(
            slide,
            index,
            int(table.x[index]),
            int(table.y[index]),
            int(table.column[index]),
            int(table.row[index]),
            int(table.label[index]),
            "array",
            pixels.shape[1],
            pixels.shape[0],
            np.ascontiguousarray(pixels, np.uint8).tobytes(),
        )

    def close(self) -> None:
        """Give back the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _file(self, slide: str) -> Any:
        self.check_slide(slide)
        if self._pid != os.getpid():  # a fork: HDF5's own state must not be shared
            self._open, self._pid = {}, os.getpid()
        if slide not in self._open:
            file = open_h5_file(self._paths[slide])
            if TILES not in file and OLD_TILES not in file:
                file.close()
                raise UsageError(f"{self._paths[slide]} holds no patches")
            self._open[slide] = file
        return self._open[slide]

    def _label_map(self) -> dict[str, int]:
        merged: dict[str, int] = {}
        for slide in self.slides:
            try:
                merged |= json.loads(self._file(slide).attrs.get("label_map", "{}"))
            except (ValueError, TypeError) as error:
                raise StoreCorruptError(f"{self._paths[slide]}: {error}") from error
        return merged

    def _old_table(self, slide: str) -> PatchTable:
        """Return the table of a py-wsi file: ``x y label`` a line, or nothing at all."""
        count = self._file(slide)[OLD_TILES].shape[0]
        unknown = np.full(count, -1, np.int64)
        rows: list[list[str]] = []
        path = self._paths[slide].with_suffix(".csv")
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file, delimiter=" ") if row]
        if len(rows) != count:  # py-wsi writes none without labels
            return PatchTable(unknown, unknown, unknown, unknown, unknown)
        try:
            table = np.array([[int(float(cell)) for cell in row[:3]] for row in rows], np.int64)
        except ValueError as error:
            raise StoreCorruptError(f"{path} is no table of x, y and label: {error}") from error
        label = table[:, 2] if table.shape[1] > 2 else unknown
        return PatchTable(unknown, unknown, table[:, 0], table[:, 1], label)


def _table(file: Any) -> PatchTable:
    try:
        coords, cells = file["coords"][:].astype(np.int64), file["cells"][:].astype(np.int64)
        labels: NDArray[np.int64] = file["labels"][:].astype(np.int64)
        count = file[TILES].shape[0]
    except (KeyError, OSError) as error:
        raise StoreCorruptError(f"{file.filename} is no store of patches: {error}") from error
    if not len(coords) == len(cells) == len(labels) == count:
        raise StoreCorruptError(
            f"{file.filename} has {count} tiles, {len(coords)} places and {len(labels)} labels"
        )
    return PatchTable(coords[:, 0], coords[:, 1], cells[:, 0], cells[:, 1], labels)


def write_all_h5(
    sources: Iterable[tuple[Slide, TilePlan]], folder: Path, **options: Any
) -> list[Path]:
    """Write a file for each slide; see `write_patches_h5`."""
    return [write_patches_h5(slide, plan, folder, **options) for slide, plan in sources]


__all__ = ["NO_LABEL", "H5Patches", "write_all_h5", "write_patches_h5"]
