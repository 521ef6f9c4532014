"""Features as CLAM, TRIDENT and STAMP keep them: one encoder a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wsistore.durable import TEMP_SUFFIX
from wsistore.errors import UsageError
from wsistore.export.features_hdf5 import FEATURE_ROWS, WRITE_BATCH, put_facts
from wsistore.export.folders import made_folder
from wsistore.export.formats import write_plan
from wsistore.export.h5_files import put_plan
from wsistore.export.h5_stream import FEATURES, copy_all, open_h5_file, put_table, stream_h5
from wsistore.export.slide_features import SlideFeatures
from wsistore.export.tensors import write_pt

STAMP_VERSION = "2.3.0"
"""Version of STAMP whose layout is written."""


def write_clam_features(
    data: SlideFeatures,
    folder: Path,
    *,
    encoder: str | None = None,
    tensors: bool = True,
    extras: bool = True,
) -> list[Path]:
    """Write ``h5_files/<stem>.h5`` and ``pt_files/<stem>.pt``, as CLAM's training reads them.

    Parameters
    ----------
    data : SlideFeatures
        Of a plan.
    folder : Path
        CLAM's feature folder; made where missing.
    encoder : str, optional
        Which features; needed where there are several.
    tensors : bool
        Whether the ``.pt`` file is written: a plain float32 tensor that
        ``torch.load(..., weights_only=True)`` reads. It holds the features in memory.
    extras : bool
        Whether the group ``wsistore`` is added.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    UsageError
        If the encoder is not told.
    DependencyError
        If h5py, or for tensors torch, is not installed.
    """
    name, rows = data.only(encoder)
    h5 = made_folder(folder / "h5_files") / f"{data.name}.h5"
    places = np.stack([data.plan.x, data.plan.y], axis=1)

    def fill(file: Any, check: Callable[[], None]) -> None:
        put_table(file, FEATURES, rows, check, chunk=FEATURE_ROWS).attrs["encoder"] = name
        file.create_dataset("coords", data=places, maxshape=(None, 2))
        if extras:
            put_plan(file, data.plan, WRITE_BATCH)

    stream_h5(h5, fill)
    if not tensors:
        return [h5]
    tensor = made_folder(folder / "pt_files") / f"{data.name}.pt"
    write_pt(tensor, rows)
    return [h5, tensor]


def write_trident_features(
    data: SlideFeatures, folder: Path, *, encoder: str | None = None, extras: bool = True
) -> Path:
    """Write ``features_<encoder>/<stem>.h5`` as TRIDENT does.

    ``coords`` has the attributes that TRIDENT's patch files have; ``features`` has
    ``encoder``, ``name`` and ``savetodir``.

    Raises
    ------
    UsageError
        If the encoder is not told, or the layout can't hold the plan.
    DependencyError
        If h5py is not installed.
    """
    name, rows = data.only(encoder)
    path = made_folder(folder / f"features_{name}") / f"{data.name}.h5"
    draft = path.with_name(f".{os.urandom(8).hex()}{TEMP_SUFFIX}")

    def fill(file: Any, check: Callable[[], None]) -> None:
        copy_all(source, file, check)
        dataset = put_table(file, FEATURES, rows, check, chunk=FEATURE_ROWS)
        told = {"encoder": name, "name": data.name, "savetodir": str(path.parent)}
        put_facts(dataset, told)

    try:
        write_plan(data.plan, draft, "trident", extras=extras)
        with open_h5_file(draft) as source:
            stream_h5(path, fill)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_stamp_features(
    data: SlideFeatures, folder: Path, *, encoder: str | None = None, extras: bool = True
) -> Path:
    """Write ``<stem>.h5`` as STAMP 2 takes features.

    Assumed from its public documentation, and not tried with STAMP itself: ``feats``
    (N, D) float32, ``coords`` (N, 2) float64, top-left corners in µm, and the attributes
    ``stamp_version``, ``extractor``, ``unit`` ("um"), ``tile_size_um``, ``tile_size_px``
    and ``feat_type`` ("tile").

    Raises
    ------
    UsageError
        If the encoder is not told, the slide has no pixel size, or tiles are not square.
    DependencyError
        If h5py is not installed.
    """
    name, rows = data.only(encoder)
    plan = data.plan
    mpp = plan.slide.mpp
    if mpp is None:
        raise UsageError(
            f"STAMP files are in µm, and {plan.slide.name} has no pixel size",
            hint="Open the slide with mpp=....",
        )
    if plan.size.width != plan.size.height:
        raise UsageError(f"STAMP files hold square tiles, these are {plan.size}")
    path = made_folder(folder) / f"{data.name}.h5"
    told = {
        "stamp_version": STAMP_VERSION,
        "extractor": name,
        "unit": "um",
        "tile_size_um": plan.size_level0.width * mpp[0],
        "tile_size_px": plan.size.width,
        "feat_type": "tile",
    }

    def fill(file: Any, check: Callable[[], None]) -> None:
        file.create_dataset("coords", data=np.stack([plan.x * mpp[0], plan.y * mpp[1]], axis=1))
        put_table(file, "feats", rows, check, chunk=FEATURE_ROWS)
        put_facts(file, told)
        if extras:
            put_plan(file, plan, WRITE_BATCH)

    stream_h5(path, fill)
    return path
