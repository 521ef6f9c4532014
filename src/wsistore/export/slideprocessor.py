"""HDF5 files of SlideProcessor and of AtlasPatch, as it is called today.

Both say the same of patches. The first (2025) has ``coords`` (N, 2) and ``coords_ext``
(N, 5) and repeats the attributes on ``coords``; the second (1.x) has ``coords`` (N, 5) and
``passports``. Readers tell them by the width of ``coords``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.export.foreign import ForeignTiles
from wsistore.export.h5_files import COORDS, DEFAULT_CHUNK, put_plan, put_rows, write_h5
from wsistore.export.layouts import (
    PatchFacts,
    as_int32,
    described,
    patch_facts,
    places,
    put_attributes,
    read_layout,
)
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

EXTENSIONS = (".h5", ".hdf5")
COORDS_EXT = "coords_ext"
PASSPORTS = "passports"
PASSPORT_BYTES = 160
PASSPORT_VERSION = 2
PASSPORT_FORMAT = "{stem}__x{X}_y{Y}_rw{RW}_rh{RH}_lv{LV}_mag{MAG}_tmag{TMAG}_total{TOTAL}"


def write_slideprocessor(
    plan: TilePlan,
    path: Path,
    *,
    write_batch: int = DEFAULT_CHUNK,
    extras: bool = True,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a plan as SlideProcessor does: ``coords``, ``coords_ext`` and attributes.

    Parameters
    ----------
    plan : TilePlan
        Of square tiles.
    path : Path
        The file; its folder must exist.
    write_batch : int
        Rows of a chunk.
    extras : bool
        Whether the group ``wsistore`` is added, which gives the whole plan back.
    attributes : mapping, optional
        Further attributes of the file: numbers and texts.

    Raises
    ------
    UsageError
        If tiles are not square, or positions don't fit 32 bits.
    DependencyError
        If h5py is not installed.
    """
    facts = patch_facts(plan, "SlideProcessor")
    coords, ext = as_int32(places(plan)), _rows(plan)

    def fill(file: Any) -> None:
        put_attributes(file, _common(facts) | {"wsi_path": plan.slide.path})
        put_attributes(file, {"num_patches": len(plan), "feature_sets": "[]"})
        put_attributes(file, attributes or {})
        dataset = put_rows(file, COORDS, coords, write_batch)
        put_attributes(dataset, {"description": "(x, y) coordinates at level 0"} | _common(facts))
        put_attributes(dataset, {"name": plan.slide.name, "savetodir": str(path.parent)})
        dataset = put_rows(file, COORDS_EXT, ext, write_batch)
        put_attributes(
            dataset,
            {"description": "(x, y) at level 0, (w, h) in px of level, level"},
        )
        if extras:
            put_plan(file, plan, write_batch)

    write_h5(path, fill)


def _common(facts: PatchFacts) -> dict[str, Any]:
    return {
        "patch_size": facts.patch_size,
        "patch_size_level0": facts.patch_size_level0,
        "level0_magnification": facts.level0_magnification,
        "target_magnification": facts.target_magnification,
        "overlap": facts.overlap,
        "level0_width": facts.level0_width,
        "level0_height": facts.level0_height,
    }


def _rows(plan: TilePlan) -> NDArray[np.int32]:
    """Return x, y, read width, read height, level, (n, 5)."""
    columns = (plan.x, plan.y, plan.read_width, plan.read_height, plan.level)
    return as_int32(np.stack([values.astype(np.int64) for values in columns], axis=1))


def read_slideprocessor(path: Path, slide: Slide | None = None) -> TilePlan:
    """Read a plan from a file of SlideProcessor (``coords`` of two columns)."""
    return read_layout(path, slide, (2,), _of_seed)


def _of_seed(file: Any, rows: NDArray[np.int64], where: str) -> ForeignTiles:
    attributes = {**file[COORDS].attrs, **file.attrs}
    ext = file.get(COORDS_EXT)
    reads = None
    if ext is not None:
        table = ext[:].astype(np.int64)
        if table.shape != (len(rows), 5) or (table[:, :2] != rows).any():
            raise UsageError(f"{where}: {COORDS_EXT} does not fit {COORDS}")
        reads = table[:, 2:]
    return described(rows, attributes, where, tool="SlideProcessor", reads=reads)


def write_atlaspatch(
    plan: TilePlan,
    path: Path,
    *,
    write_batch: int = DEFAULT_CHUNK,
    extras: bool = True,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a plan as AtlasPatch 1.x does: ``coords`` (N, 5), ``passports`` and attributes.

    Parameters are those of `write_slideprocessor`.

    Raises
    ------
    UsageError
        If tiles are not square, positions don't fit 32 bits, or a passport its 160 bytes.
    DependencyError
        If h5py is not installed.
    """
    facts = patch_facts(plan, "AtlasPatch")
    rows, passports = _rows(plan), _passports(plan, facts)
    source = plan.slide.path or plan.slide.name
    mpp = plan.slide.mpp
    unknown = {name: "None" for name, value in _common(facts).items() if value is None}

    def fill(file: Any) -> None:
        put_attributes(file, _common(facts) | unknown | {"wsi_path": source})
        put_attributes(
            file,
            {
                "passport_format": PASSPORT_FORMAT,
                "passport_version": PASSPORT_VERSION,
                "creation_date": dt.datetime.now(dt.UTC).isoformat(),
                "filename": PurePosixPath(source).name,
                "num_patches": len(plan),
                "mpp": None if mpp is None else (mpp[0] + mpp[1]) / 2,
                "magnification": facts.level0_magnification,
            },
        )
        put_attributes(file, attributes or {})
        put_rows(file, COORDS, rows, write_batch)
        put_rows(file, PASSPORTS, passports, write_batch)
        if extras:
            put_plan(file, plan, write_batch)

    write_h5(path, fill)


def _passports(plan: TilePlan, facts: PatchFacts) -> NDArray[np.bytes_]:
    """Return the passport of each tile, (n,) S160."""
    tail = f"_mag{facts.level0_magnification}_tmag{facts.target_magnification}_total{len(plan)}"
    columns = (plan.x, plan.y, plan.read_width, plan.read_height, plan.level)
    stem = plan.slide.name
    texts = [
        f"{stem}__x{x}_y{y}_rw{width}_rh{height}_lv{level}{tail}".encode()
        for x, y, width, height, level in zip(*(c.tolist() for c in columns), strict=True)
    ]
    longest = max(map(len, texts), default=0)
    if longest > PASSPORT_BYTES:
        raise UsageError(
            f"passports of {stem} take {longest} bytes, the layout has {PASSPORT_BYTES}",
            hint="Shorten the slide's file name, or use the format slideprocessor.",
        )
    return np.array(texts, f"S{PASSPORT_BYTES}")


def read_atlaspatch(path: Path, slide: Slide | None = None) -> TilePlan:
    """Read a plan from a file of AtlasPatch 1.x (``coords`` of five columns)."""
    return read_layout(path, slide, (5,), _of_today)


def _of_today(file: Any, rows: NDArray[np.int64], where: str) -> ForeignTiles:
    return described(rows, dict(file.attrs), where, tool="AtlasPatch", reads=rows[:, 2:])


def sniff_slideprocessor(file: Any) -> bool:
    """Return whether an open HDF5 file is one of SlideProcessor."""
    return COORDS_EXT in file and COORDS in file and "patch_size" in file.attrs


def sniff_atlaspatch(file: Any) -> bool:
    """Return whether an open HDF5 file is one of AtlasPatch 1.x."""
    shape: tuple[int, ...] = getattr(file.get(COORDS), "shape", (0,))
    return len(shape) == 2 and shape[-1] == 5
