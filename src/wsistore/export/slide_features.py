"""The features of one slide, as exporters take them and importers give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import StoreCorruptError, UsageError
from wsistore.tiles.plan import TilePlan

ROWS_AT_ONCE = 4096
"""Rows read and written at a time: 16 MiB of 1024 float32 features."""


@runtime_checkable
class Rows(Protocol):
    """A table that gives a run of rows as an array: numpy, h5py, zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Return some rows, (m, d)."""
        ...


@dataclass(frozen=True)
class SlideFeatures:
    """A plan, and a vector for each of its tiles by each encoder.

    Parameters
    ----------
    plan : TilePlan
        The tiles.
    features : mapping of str to Rows
        By encoder, (n, d) float32 each; read a run of rows at a time, so that they may lie
        in a file. NaN where a tile has none.
    attributes : mapping of str to mapping
        By encoder: JSON-able facts such as weights, precision and fingerprint.

    Raises
    ------
    UsageError
        If a name is none that files can hold, or a table does not have a row for each tile.
    """

    plan: TilePlan
    features: Mapping[str, Rows]
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and numbers of rows."""
        for name, rows in self.features.items():
            if not name or "/" in name or name.startswith((".", "__")):
                raise UsageError(f"features can't be named {name!r}")
            if len(rows.shape) != 2 or rows.shape[0] != len(self.plan):
                raise UsageError(
                    f"features {name} of {self.plan.slide.name} have shape {tuple(rows.shape)}, "
                    f"the plan has {len(self.plan)} tiles"
                )
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    @property
    def name(self) -> str:
        """Name of the slide: the stem of the files."""
        return self.plan.slide.name

    def only(self, name: str | None = None) -> tuple[str, Rows]:
        """Return one encoder and its table, for formats that hold one.

        Raises
        ------
        UsageError
            If the encoder is not there, or none is named and there are several.
        """
        if name is None and len(self.features) == 1:
            name = next(iter(self.features))
        if name is None or name not in self.features:
            raise UsageError(
                f"name one of the encoders of {self.name}: {', '.join(self.features) or 'none'}"
            )
        return name, self.features[name]


def chunks(rows: Rows, at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield runs of rows as (where, (m, d) float32), in order.

    Raises
    ------
    StoreCorruptError
        If the table gives fewer rows than it said.
    """
    count, width = rows.shape
    for start in range(0, count, at_once):
        part = slice(start, min(start + at_once, count))
        values = np.ascontiguousarray(rows[part], np.float32)
        if values.shape != (part.stop - part.start, width):
            raise StoreCorruptError(
                f"rows {part.start} to {part.stop} of a table of features came as {values.shape}"
            )
        yield part, values
