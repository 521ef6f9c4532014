"""Features as Parquet: ``<stem>.parquet``, a row a tile, a column a feature set.

Columns are those of the plan, and for each encoder a list of so many float32. The file's
metadata has ``wsistore.plan`` (JSON, which gives the plan back with the columns) and
``wsistore.encoders`` (JSON: what is known of each encoder).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import TEMP_SUFFIX, canonical, write_error
from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError, WsistoreError
from wsistore.export.documents import plan_document, plan_from_document
from wsistore.export.folders import made_folder
from wsistore.export.foreign import need
from wsistore.export.slide_features import ROWS_AT_ONCE, SlideFeatures

_PLAN = b"wsistore.plan"
_ENCODERS = b"wsistore.encoders"
_NAMES = b"wsistore.names"


def write_features_parquet(data: SlideFeatures, folder: Path) -> Path:
    """Write ``<folder>/<stem>.parquet``, a group of rows at a time; return its path.

    Parameters
    ----------
    data : SlideFeatures
        Any number of encoders.
    folder : Path
        Made where missing.

    Raises
    ------
    UsageError
        If an encoder has the name of a column of the plan.
    DependencyError
        If pyarrow is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted; no file is left.
    """
    pa = need("pyarrow", "writing Parquet")
    parquet = need("pyarrow.parquet", "writing Parquet")
    taken = sorted(data.features.keys() & data.plan.columns.keys())
    if taken:
        raise UsageError(f"features and columns of the plan are both named {', '.join(taken)}")
    path = made_folder(folder) / f"{data.name}.parquet"
    temporary = path.with_name(f".{os.urandom(8).hex()}{TEMP_SUFFIX}")
    schema = _schema(pa, data)
    try:
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for start in range(0, max(1, len(data.plan)), ROWS_AT_ONCE):
                part = slice(start, min(start + ROWS_AT_ONCE, len(data.plan)))
                writer.write_table(_table(pa, data, part, schema))
        temporary.rename(path)
    except OSError as error:
        if isinstance(error, WsistoreError):
            raise
        raise write_error(error, path) from error
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise UsageError(f"{path.name} can't be written as Parquet: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _schema(pa: Any, data: SlideFeatures) -> Any:
    fields = [
        (name, pa.string() if values.dtype.kind == "U" else pa.from_numpy_dtype(values.dtype))
        for name, values in data.plan.columns.items()
    ]
    fields += [
        (name, pa.list_(pa.float32(), rows.shape[1])) for name, rows in data.features.items()
    ]
    told = {name: dict(facts) for name, facts in data.attributes.items()}
    return pa.schema(
        fields,
        metadata={
            _PLAN: canonical(plan_document(data.plan)),
            _ENCODERS: canonical(told),
            _NAMES: canonical({"features": list(data.features)}),
        },
    )


def _table(pa: Any, data: SlideFeatures, part: slice, schema: Any) -> Any:
    arrays = []
    for values in data.plan.columns.values():
        run = values[part]
        arrays.append(pa.array(run.tolist() if run.dtype.kind == "U" else run))
    for rows in data.features.values():
        run = np.ascontiguousarray(rows[part], np.float32)
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(run.reshape(-1)), rows.shape[1]))
    return pa.table(
        [array.cast(kind) for array, kind in zip(arrays, schema.types, strict=True)], schema=schema
    )


def read_features_parquet(path: Path) -> SlideFeatures:
    """Read a file that `write_features_parquet` wrote, into memory.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    UsageError
        If it is Parquet, but holds no plan with features.
    StoreCorruptError
        If it is broken, or was changed.
    DependencyError
        If pyarrow is not installed.
    """
    pa = need("pyarrow", "reading Parquet")
    parquet = need("pyarrow.parquet", "reading Parquet")
    if not path.is_file():
        raise SourceNotFoundError(f"there is no file {path}")
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise StoreCorruptError(f"{path} can't be read as Parquet: {error}") from error
    told = table.schema.metadata or {}
    if not {_PLAN, _ENCODERS, _NAMES} <= told.keys():
        raise UsageError(f"{path} holds no features of wsistore")
    try:
        document, facts = json.loads(told[_PLAN]), json.loads(told[_ENCODERS])
        names = json.loads(told[_NAMES])["features"]
        features = {name: _rows(table[name]) for name in names}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorruptError(f"{path} is broken: {error!r}") from error
    columns = {
        name: table[name].to_numpy(zero_copy_only=False)
        for name in table.column_names
        if name not in features
    }
    return SlideFeatures(plan_from_document(document, columns, str(path)), features, facts)


def _rows(column: Any) -> NDArray[np.float32]:
    width = column.type.list_size
    flat = column.combine_chunks()
    if hasattr(flat, "chunks"):
        flat = flat.chunk(0)
    values: NDArray[np.float32] = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return values
