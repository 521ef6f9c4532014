"""What a feature store looks like: names, dimensions, status codes, chunks.

A *cohort* is one Zarr v3 store with a group per slide; a store may also be the group of one
slide by itself. The group of a slide is an `xarray.Dataset` over the dimension ``tile``::

    cohort.zarr/                      attributes: wsistore_features, kind="cohort", created
    └── <slide>/                      attributes: see `wsistore.features.records`
        ├── x, y                      (tile,) int64, top-left corners in level-0 px
        ├── column, row, level ...    (tile,) the other columns of the plan, labels too
        ├── status                    (tile,) uint8, the worst of all finished encoders
        ├── <encoder>                 (tile, feature_<encoder>) float32, NaN where not status 0
        └── status_<encoder>          (tile,) uint8, a `TileStatus`

Each encoder has a feature dimension of its own, named after it, also where lengths agree: so
adding an encoder never changes what is there. All arrays of an encoder are chunked in *units*
of `unit_rows` tiles, and a unit is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from wsistore.errors import UsageError
from wsistore.geometry import ceil_div

SCHEMA = 1
"""Of what stands above; in the attribute `MARK` of cohorts and of slides."""

MARK = "wsistore_features"
TILE_DIM = "tile"
STATUS = "status"
STATUS_PREFIX = "status_"

SHARD_ABOVE = 32 << 20
"""Bytes of a unit above which its chunk becomes a shard of smaller chunks. Reading a bag from
shards takes about five times as long, so it is for units that are too large to be one piece."""

INNER_BYTES = 8 << 20
"""Most bytes of a chunk within a shard."""

COLUMN_CHUNK = 1 << 16
"""Rows of a chunk of the plan's columns: most slides have one chunk per column."""


class TileStatus(IntEnum):
    """What became of a tile; features are NaN wherever it is not `OK`."""

    OK = 0
    NOT_COMPUTED = 1
    MISSING = 2
    DAMAGED = 3
    UNREADABLE = 4
    NOT_FINITE = 5


STATUS_MEANINGS: Mapping[TileStatus, str] = MappingProxyType(
    {
        TileStatus.OK: "features were computed from all pixels of the tile",
        TileStatus.NOT_COMPUTED: "not computed yet",
        TileStatus.MISSING: "the slide holds no bytes for a part of the tile",
        TileStatus.DAMAGED: "bytes of a part of the tile don't decode",
        TileStatus.UNREADABLE: "there is no decoder for a part of the tile",
        TileStatus.NOT_FINITE: "the encoder returned numbers that are not finite",
    }
)


def node_name(name: str) -> str:
    """Return a name that Zarr takes for a group or an array.

    Names are kept as they are but for what Zarr forbids (no slash, no leading ``__``, more
    than periods), which is percent-encoded. Names with a leading period are encoded, too, for
    many tools take them for hidden.

    Raises
    ------
    wsistore.errors.UsageError
        If the name is empty.
    """
    if not name:
        raise UsageError("a name in a feature store can't be empty")
    safe = name.replace("%", "%25") if "%" in name else name
    safe = safe.replace("/", "%2F").replace("\\", "%5C")
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if safe.startswith("__"):
        safe = "%5F" + safe[1:]
    return safe


def feature_dim(encoder: str) -> str:
    """Return the name of an encoder's own dimension."""
    return f"feature_{node_name(encoder)}"


def status_name(encoder: str) -> str:
    """Return the name of the array that holds an encoder's status codes."""
    return f"{STATUS_PREFIX}{node_name(encoder)}"


def unit_rows(tiles: int, unit_tiles: int) -> int:
    """Return the rows of a unit: as asked, but no more than there are tiles, and at least 1.

    Raises
    ------
    wsistore.errors.UsageError
        If less than one is asked for.
    """
    if unit_tiles < 1:
        raise UsageError(f"a unit needs at least one tile, got {unit_tiles!r}")
    return max(1, min(unit_tiles, tiles))


def unit_count(tiles: int, rows: int) -> int:
    """Return the number of units of a slide; the last may be shorter."""
    return ceil_div(tiles, rows)


def unit_slice(unit: int, tiles: int, rows: int) -> slice:
    """Return the rows of a unit.

    Raises
    ------
    wsistore.errors.UsageError
        If there is no such unit.
    """
    if not 0 <= unit < unit_count(tiles, rows):
        raise UsageError(f"{tiles} tiles in units of {rows} have no unit {unit!r}")
    return slice(unit * rows, min((unit + 1) * rows, tiles))


def feature_chunks(rows: int, dim: int) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Return the shape of chunks, and that of shards, of an array of features.

    Parameters
    ----------
    rows : int
        Of a unit.
    dim : int
        Length of a feature vector.

    Returns
    -------
    chunks : (int, int)
        Of a whole unit, or of a part of one where there are shards.
    shards : (int, int) or None
        Of a whole unit, where that has more bytes than `SHARD_ABOVE`.
    """
    if rows * dim * 4 <= SHARD_ABOVE:
        return (rows, dim), None
    most = max(1, INNER_BYTES // (dim * 4))
    inner = next(size for size in range(min(most, rows), 0, -1) if rows % size == 0)
    return ((rows, dim), None) if inner * 16 < most else ((inner, dim), (rows, dim))
