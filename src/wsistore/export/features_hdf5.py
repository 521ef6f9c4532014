"""Features in HDF5: the files of SlideProcessor and AtlasPatch, CLAM, TRIDENT and STAMP.

A file of SlideProcessor or AtlasPatch holds the plan (`wsistore.export.slideprocessor`) and,
for each encoder, ``features/<name>`` (N, D) float32. The others hold one encoder a file:

======== ================================ ================== ==========================
tool     file                             features           coordinates
======== ================================ ================== ==========================
CLAM     ``h5_files/<stem>.h5``           ``features``       ``coords``, level-0 px
CLAM     ``pt_files/<stem>.pt``           a plain tensor     none
TRIDENT  ``features_<name>/<stem>.h5``    ``features``       ``coords``, level-0 px
STAMP    ``<stem>.h5``                    ``feats``          ``coords``, µm
======== ================================ ================== ==========================

All but the ``.pt`` file also have the group ``wsistore``, which gives the plan back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable.atomic import temporary_name
from wsistore.errors import StoreCorruptError, StoreMismatchError, UsageError
from wsistore.export.features_stamp import read_stamp
from wsistore.export.foreign import SOURCE_ROW, plan_order
from wsistore.export.formats import read_plan, write_plan
from wsistore.export.h5_files import coords_of, own_plan
from wsistore.export.h5_stream import (
    FEATURES,
    UNFINISHED,
    copy_all,
    open_h5_file,
    put_table,
    stream_h5,
)
from wsistore.export.slide_features import SlideFeatures
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

WRITE_BATCH = 8192
FEATURE_ROWS = 1024
"""Most rows of a chunk of features: 4 MiB of 1024 float32."""


def write_features_h5(
    data: SlideFeatures,
    path: Path,
    *,
    layout: str = "slideprocessor",
    write_batch: int = WRITE_BATCH,
    **options: Any,
) -> None:
    """Write plan and features as SlideProcessor or AtlasPatch do, in one file.

    Parameters
    ----------
    data : SlideFeatures
        Any number of encoders.
    path : Path
        The file; its folder must exist.
    layout : {"slideprocessor", "atlaspatch"}
        Which of the two.
    write_batch : int
        Rows of a chunk; of features, `FEATURE_ROWS` at most.
    **options
        Of `wsistore.export.write_plan`.

    Raises
    ------
    UsageError
        If the layout can't hold the plan.
    DependencyError
        If h5py is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted; what was there stays.
    """
    _known_layout(layout)
    draft = path.with_name(temporary_name(path.name))
    try:
        write_plan(data.plan, draft, layout, write_batch=write_batch, **options)
        with open_h5_file(draft) as source:
            stream_h5(path, _filler(source, data, layout, write_batch))
    finally:
        draft.unlink(missing_ok=True)


def add_features_h5(data: SlideFeatures, path: Path, *, write_batch: int = WRITE_BATCH) -> None:
    """Add encoders to a file of SlideProcessor or AtlasPatch, or replace theirs.

    The file is written anew under another name and renamed, so readers see the old one or
    the new one.

    Parameters
    ----------
    data : SlideFeatures
        Of the plan that the file holds.
    path : Path
        The file.
    write_batch : int
        Rows of a chunk.

    Raises
    ------
    StoreMismatchError
        If the file is of other tiles.
    StoreCorruptError
        If it is no whole HDF5 file.
    StoreWriteError
        If the disk is full, or writing is not permitted; the old file stays.
    """
    with open_h5_file(path) as source:
        _same_tiles(source, data, path)
        layout = "slideprocessor" if "coords_ext" in source else "atlaspatch"
        stream_h5(path, _filler(source, data, layout, write_batch))


def _filler(
    source: Any, data: SlideFeatures, layout: str, write_batch: int
) -> Callable[[Any, Callable[[], None]], None]:
    def fill(file: Any, check: Callable[[], None]) -> None:
        copy_all(source, file, check, leave=frozenset(data.features))
        group = file.require_group(FEATURES)
        for name, rows in data.features.items():
            dataset = put_table(group, name, rows, check, chunk=min(write_batch, FEATURE_ROWS))
            put_facts(dataset, data.attributes.get(name, {}))
        if layout == "slideprocessor":
            file.attrs["feature_sets"] = json.dumps(_sets(group))

    return fill


def _sets(group: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "embedding_dim": int(group[name].shape[1]), "dataset": f"{FEATURES}/{name}"}
        for name in group
    ]


def put_facts(dataset: Any, facts: Mapping[str, Any]) -> None:
    """Set attributes: texts and numbers as they are, others as JSON."""
    for name, value in facts.items():
        plain = isinstance(value, str | int | float | bool)
        dataset.attrs[name] = value if plain else json.dumps(value)


def _same_tiles(file: Any, data: SlideFeatures, path: Path) -> None:
    coords = file.get("coords")
    plan = data.plan
    if coords is None or coords.shape[0] != len(plan):
        have = "no coords" if coords is None else f"{coords.shape[0]} tiles"
        raise StoreMismatchError(f"{path} has {have}, the features are of {len(plan)} tiles")
    rows = coords[:, :2].astype(np.int64)
    if (rows[:, 0] != plan.x).any() or (rows[:, 1] != plan.y).any():
        raise StoreMismatchError(
            f"the tiles of {path} are not those that the features are of",
            hint="Write the file anew (--force).",
        )


def _known_layout(layout: str) -> None:
    if layout not in {"slideprocessor", "atlaspatch"}:
        raise UsageError(
            f"there is no layout {layout!r}", hint="Use 'slideprocessor' or 'atlaspatch'."
        )


def feature_names(path: Path) -> dict[str, tuple[int, int]]:
    """Return the finished features of a file: name to (rows, width).

    Features whose number of rows is not that of ``coords`` are not finished.

    Raises
    ------
    SourceNotFoundError, StoreCorruptError
        If there is no file, or it is no whole HDF5 file.
    """
    with open_h5_file(path) as file:
        return _finished(file)


def feature_facts(path: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of the finished features of a file, by name.

    Raises
    ------
    SourceNotFoundError, StoreCorruptError
        If there is no file, or it is no whole HDF5 file.
    """
    with open_h5_file(path) as file:
        return {name: _facts(file[FEATURES][name]) for name in _finished(file)}


def _finished(file: Any) -> dict[str, tuple[int, int]]:
    count = file["coords"].shape[0] if "coords" in file else -1
    group = file.get(FEATURES)
    if group is None or not hasattr(group, "keys"):
        return {}
    return {
        name: (int(group[name].shape[0]), int(group[name].shape[1]))
        for name in group
        if len(group[name].shape) == 2
        and group[name].shape[0] == count
        and not name.startswith(UNFINISHED)
    }


def read_features_h5(
    path: Path, slide: Slide | None = None, *, plan: TilePlan | None = None
) -> SlideFeatures:
    """Read a file of SlideProcessor, AtlasPatch, CLAM, TRIDENT or STAMP.

    Parameters
    ----------
    path : Path
        The file; its content tells whose it is.
    slide : Slide, optional
        The slide; needed for files of STAMP that another tool wrote.
    plan : TilePlan, optional
        The tiles, where the file does not say how large they are (those of CLAM).

    Returns
    -------
    SlideFeatures
        In memory; rows are in the order of the plan.

    Raises
    ------
    UsageError
        If it holds no features.
    StoreCorruptError
        If it is no whole HDF5 file, or features don't have a row for each tile.
    """
    with open_h5_file(path) as file:
        if "feats" in file:
            return read_stamp(file, path, slide)
        found, facts = _tables(file, path)
        rows = coords_of(file, str(path), (2, 5))[:, :2]
        if plan is not None:
            return _of_plan(plan, rows, found, facts, path)
        own = own_plan(file, rows, str(path))
    if own is not None:
        if slide is not None:
            own.check_slide(slide)
        return SlideFeatures(own, dict(found), facts)
    told = read_plan(path, slide)
    if SOURCE_ROW in told.extras:
        order = told.extras[SOURCE_ROW]
        found = {name: table[order] for name, table in found.items()}
    return SlideFeatures(told, dict(found), facts)


def _of_plan(
    plan: TilePlan,
    rows: NDArray[np.int64],
    found: dict[str, NDArray[np.float32]],
    facts: dict[str, dict[str, Any]],
    path: Path,
) -> SlideFeatures:
    """Return the features in the order of a plan, whatever that of the file."""
    order, _ = plan_order(rows[:, 0], rows[:, 1])
    places = rows[order]
    if not np.array_equal(places, np.stack([plan.x, plan.y], axis=1)):
        raise StoreMismatchError(f"the tiles of {path} are not those of the plan")
    return SlideFeatures(plan, {name: table[order] for name, table in found.items()}, facts)


def _tables(
    file: Any, path: Path
) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
    node = file.get(FEATURES)
    if node is None:
        raise UsageError(f"{path} holds no features")
    if hasattr(node, "shape"):  # CLAM, TRIDENT
        name = _told_name(node, path)
        sets = {name: node}
    else:
        sets = {name: node[name] for name in _finished(file)}
    rows = file["coords"].shape[0] if "coords" in file else -1
    for name, dataset in sets.items():
        if len(dataset.shape) != 2 or dataset.shape[0] != rows:
            raise StoreCorruptError(
                f"features {name} of {path} have shape {dataset.shape} for {rows} coordinates"
            )
    tables = {name: np.asarray(dataset[:], np.float32) for name, dataset in sets.items()}
    return tables, {name: _facts(dataset) for name, dataset in sets.items()}


def _told_name(dataset: Any, path: Path) -> str:
    """Return the encoder of a file that holds one: its attribute, or its folder's name."""
    told = dataset.attrs.get("encoder", "")
    if told:
        return str(told)
    folder = path.parent.name
    return folder.removeprefix("features_") if folder.startswith("features_") else FEATURES


def _facts(dataset: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in dataset.attrs.items():
        plain = value.item() if isinstance(value, np.generic) else value
        found[name] = plain.decode() if isinstance(plain, bytes) else plain
    return {k: v for k, v in found.items() if isinstance(v, str | int | float | bool)}
