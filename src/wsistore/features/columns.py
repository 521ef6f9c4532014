"""The arrays of a slide's group, as they are made: columns of the plan, features, status."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.features.places import DOCUMENT, SlidePlace, objects_of
from wsistore.features.records import EncoderRecord, SlideInfo
from wsistore.features.schema import (
    COLUMN_CHUNK,
    STATUS,
    TILE_DIM,
    TileStatus,
    feature_chunks,
    feature_dim,
    node_name,
    status_name,
)
from wsistore.tiles.plan import TilePlan

if TYPE_CHECKING:
    import zarr

_WRITES_AT_ONCE = 16

Make = Callable[..., Any]
"""``make(name, **options)`` makes an array of this name and returns it."""


def maker_in(group: zarr.Group) -> Make:
    """Return what makes arrays in a local group, in place of what a killed run left."""

    def make(name: str, **options: Any) -> Any:
        return group.create_array(name, overwrite=True, **options)

    return make


class Draft:
    """Arrays that are made in memory, and then uploaded side by side.

    They are put where they belong whether something is there or not: what is there is the
    same, for the settings are. Nothing is removed, nor are there documents of groups: the
    slide's own stands for the whole, and is written when the columns are.
    """

    def __init__(self) -> None:
        from zarr.storage import MemoryStore

        self._held: dict[str, Any] = {}
        self._store = MemoryStore(self._held)

    def make(self, name: str, **options: Any) -> Any:
        """Make an array."""
        import zarr

        return zarr.create_array(self._store, name=name, zarr_format=3, **options)

    def upload(self, place: SlidePlace) -> None:
        """Write all arrays into the group of a slide.

        Raises
        ------
        wsistore.errors.StoreWriteError
            If they can't be written.
        """
        objects = objects_of(place.store)
        keys = [key for key in self._held if key != DOCUMENT]

        def put(key: str) -> None:
            objects.put(place.key(key), self._held[key].to_bytes())

        with ThreadPoolExecutor(_WRITES_AT_ONCE, "wsistore-columns") as pool:
            list(pool.map(put, keys))


def check_columns(plan: TilePlan) -> None:
    """Raise if a column has a name that none can have.

    Raises
    ------
    wsistore.errors.UsageError
        Naming the column.
    """
    for column in plan.extras:
        if column == STATUS or node_name(column) != column:
            raise UsageError(f"a column of a feature store can't be called {column!r}")


def write_columns(make: Make, plan: TilePlan) -> None:
    """Make and fill the columns of a plan, and an empty one of status codes."""
    for column, values in plan.columns.items():
        _write_column(make, column, values)
    _make_status(make, STATUS, len(plan), max(1, min(len(plan), COLUMN_CHUNK)))


def make_encoder(make: Make, info: SlideInfo, record: EncoderRecord) -> None:
    """Make the empty arrays of an encoder: features, and their status codes."""
    chunks, shards = feature_chunks(info.unit_rows, record.dim)
    make(
        record.variable,
        shape=(info.tiles, record.dim),
        dtype="float32",
        chunks=chunks,
        shards=shards,
        fill_value=np.nan,
        compressors=_compressor(),
        dimension_names=(TILE_DIM, feature_dim(record.name)),
        attributes=record.attributes(),
    )
    _make_status(make, status_name(record.name), info.tiles, info.unit_rows)


def _write_column(make: Make, name: str, values: NDArray[Any]) -> None:
    text = values.dtype.kind == "U"
    array = make(
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        chunks=(max(1, min(len(values), COLUMN_CHUNK)),),
        fill_value=np.nan if values.dtype.kind == "f" else None,
        compressors=_compressor(),
        dimension_names=(TILE_DIM,),
        attributes=_COLUMN_NOTES.get(name, {}),
    )
    if len(values):
        array[:] = values.astype(object) if text else values


def _make_status(make: Make, name: str, tiles: int, chunk: int) -> None:
    make(
        name,
        shape=(tiles,),
        dtype="uint8",
        chunks=(chunk,),
        fill_value=int(TileStatus.NOT_COMPUTED),
        compressors=_compressor(),
        dimension_names=(TILE_DIM,),
        attributes={
            "flag_values": [int(code) for code in TileStatus],
            "flag_meanings": " ".join(code.name.lower() for code in TileStatus),
        },
    )


def _compressor() -> Any:
    """Return zstd with a checksum: features hardly shrink, but damage is found."""
    from zarr.codecs import ZstdCodec

    return [ZstdCodec(level=1, checksum=True)]


_COLUMN_NOTES: dict[str, dict[str, Any]] = {
    "x": {"units": "px", "long_name": "left edge of the tile in level-0 px"},
    "y": {"units": "px", "long_name": "top edge of the tile in level-0 px"},
    "tissue_ratio": {"long_name": "fraction of the tile's area that is tissue"},
    "valid_fraction": {"long_name": "fraction of the tile's area that lies in the slide"},
}
