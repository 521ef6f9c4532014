"""Features as AnnData (``<stem>.h5ad``) and SpatialData, for spatial tools of single cells.

``X`` are the features of one encoder; `obs` the columns of the plan, `obs_names`
``<stem>_x<x>_y<y>``; ``obsm["spatial"]`` the centres of tiles in level-0 px, x first;
``uns["wsistore"]`` the plan and the encoder as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from wsistore.durable import TEMP_SUFFIX, canonical, write_error
from wsistore.errors import (
    DependencyError,
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    UsageError,
    WsistoreError,
)
from wsistore.export.documents import plan_document, plan_from_document
from wsistore.export.folders import made_folder
from wsistore.export.slide_features import SlideFeatures

UNS = "wsistore"
_OF_SPATIALDATA = frozenset({"region", "instance"})
"""Columns that tell a table of SpatialData which shapes its rows are of."""
_TABLE = "features"


def to_anndata(data: SlideFeatures, *, encoder: str | None = None) -> Any:
    """Return an ``anndata.AnnData`` of one encoder's features; in memory.

    Parameters
    ----------
    data : SlideFeatures
        Of a plan.
    encoder : str, optional
        Which features; needed where there are several.

    Raises
    ------
    UsageError
        If the encoder is not told.
    DependencyError
        If anndata is not installed.
    """
    anndata = _need("anndata")
    import pandas as pd

    name, rows = data.only(encoder)
    plan = data.plan
    names = [f"{data.name}_x{x}_y{y}" for x, y in zip(plan.x, plan.y, strict=True)]
    columns = {key: np.array(values) for key, values in plan.columns.items()}
    features = np.array(rows[0 : rows.shape[0]], np.float32)
    made = anndata.AnnData(
        X=features,
        obs=pd.DataFrame(columns, index=pd.Index(names, dtype=str)),
        var=pd.DataFrame(index=pd.Index([f"{name}_{k}" for k in range(rows.shape[1])], dtype=str)),
    )
    half = np.array(plan.size_level0) / 2
    made.obsm["spatial"] = np.stack([plan.x, plan.y], axis=1) + half
    told = {"plan": plan_document(plan), "encoder": name, "facts": dict(_facts(data, name))}
    made.uns[UNS] = canonical(told).decode()
    return made


def from_anndata(made: Any, where: str = "the AnnData") -> SlideFeatures:
    """Return the features that `to_anndata` made an AnnData of.

    Raises
    ------
    UsageError
        If wsistore did not make it.
    StoreCorruptError
        If it was changed.
    """
    if UNS not in made.uns:
        raise UsageError(f"{where} was not made by wsistore: it has no uns[{UNS!r}]")
    try:
        told = json.loads(str(made.uns[UNS]))
        document, name, facts = told["plan"], told["encoder"], told["facts"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(f"uns[{UNS!r}] of {where} is broken: {error!r}") from error
    columns = {
        key: made.obs[key].to_numpy() for key in made.obs.columns if key not in _OF_SPATIALDATA
    }
    plan = plan_from_document(document, columns, where)
    return SlideFeatures(plan, {name: np.asarray(made.X, np.float32)}, {name: facts})


def write_anndata(data: SlideFeatures, folder: Path, *, encoder: str | None = None) -> Path:
    """Write ``<folder>/<stem>.h5ad``; it appears whole or not at all.

    Raises
    ------
    UsageError
        If the encoder is not told.
    DependencyError
        If anndata is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    made = to_anndata(data, encoder=encoder)
    path = made_folder(folder) / f"{data.name}.h5ad"
    temporary = path.with_name(f".{os.urandom(8).hex()}{TEMP_SUFFIX}.h5ad")
    _room_for(path, made.X.nbytes)
    try:
        made.write_h5ad(temporary)
        temporary.rename(path)
    except OSError as error:
        raise write_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_anndata(path: Path) -> SlideFeatures:
    """Read a file that `write_anndata` wrote.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    StoreCorruptError
        If it is broken.
    UsageError
        If wsistore did not write it.
    DependencyError
        If anndata is not installed.
    """
    anndata = _need("anndata")
    if not path.is_file():
        raise SourceNotFoundError(f"there is no file {path}")
    try:
        made = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, WsistoreError):
            raise
        raise StoreCorruptError(f"{path} can't be read as AnnData: {error}") from error
    return from_anndata(made, str(path))


def write_spatialdata(data: SlideFeatures, folder: Path, *, encoder: str | None = None) -> Path:
    """Write ``<folder>/<stem>.zarr`` as SpatialData: tiles as shapes, features as their table.

    Parameters
    ----------
    data : SlideFeatures
        Of a plan.
    folder : Path
        Made where missing.
    encoder : str, optional
        Which features; needed where there are several.

    Raises
    ------
    StoreExistsError
        If the store is there.
    UsageError
        If the encoder is not told.
    DependencyError
        If spatialdata is not installed.
    """
    spatialdata = _need("spatialdata")
    geopandas, shapely = _need("geopandas"), _need("shapely")
    models = _need("spatialdata.models")
    table = to_anndata(data, encoder=encoder)
    path = made_folder(folder) / f"{data.name}.zarr"
    if path.exists():
        raise StoreExistsError(f"{path} exists")
    x, y, width, height = data.plan.boxes.T
    frame = geopandas.GeoDataFrame(
        geometry=shapely.box(x, y, x + width, y + height), index=table.obs_names
    )
    table.obs["region"] = "tiles"
    table.obs["region"] = table.obs["region"].astype("category")
    table.obs["instance"] = table.obs_names.to_numpy()
    parsed = models.TableModel.parse(
        table, region="tiles", region_key="region", instance_key="instance"
    )
    whole = spatialdata.SpatialData(
        shapes={"tiles": models.ShapesModel.parse(frame)}, tables={_TABLE: parsed}
    )
    temporary = path.with_name(f".{os.urandom(8).hex()}{TEMP_SUFFIX}.zarr")
    try:
        whole.write(temporary)
        temporary.rename(path)
    except OSError as error:
        raise write_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def read_spatialdata(path: Path) -> SlideFeatures:
    """Read a store that `write_spatialdata` wrote.

    Raises
    ------
    SourceNotFoundError
        If there is no such store.
    StoreCorruptError
        If it is broken.
    UsageError
        If wsistore did not write it.
    DependencyError
        If spatialdata is not installed.
    """
    spatialdata = _need("spatialdata")
    if not path.is_dir():
        raise SourceNotFoundError(f"there is no store {path}")
    try:
        whole = spatialdata.read_zarr(path, selection=("tables",))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StoreCorruptError(f"{path} can't be read as SpatialData: {error}") from error
    if _TABLE not in whole.tables:
        raise UsageError(f"{path} was not made by wsistore: it has no table {_TABLE!r}")
    return from_anndata(whole.tables[_TABLE], str(path))


def _facts(data: SlideFeatures, name: str) -> Any:
    return data.attributes.get(name, {})


def _room_for(path: Path, needed: int) -> None:
    """Raise `StoreWriteError` early: HDF5 may crash the process where the disk is full."""
    import errno

    from wsistore.durable import free_bytes

    free = free_bytes(path.parent)
    if free is not None and free < 2 * needed + (16 << 20):
        raise write_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path)


def _need(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise DependencyError(
            f"this format needs {package}, which is not installed", hint=f"pip install {package}"
        ) from error
