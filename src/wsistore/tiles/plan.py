"""The tiles of a slide that are worth reading, as columns: `TilePlan`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsistore._version import __version__
from wsistore.durable import canonical
from wsistore.errors import DependencyError, UsageError
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.tiles.lattice import TileGeometry
from wsistore.tiles.model import SlideLike
from wsistore.tiles.provenance import Rule, SlideFacts
from wsistore.tiles.spec import TileSpec

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "x": np.dtype(np.int64),
        "y": np.dtype(np.int64),
        "column": np.dtype(np.int32),
        "row": np.dtype(np.int32),
        "level": np.dtype(np.int16),
        "read_width": np.dtype(np.int32),
        "read_height": np.dtype(np.int32),
        "tissue_ratio": np.dtype(np.float32),
        "contour": np.dtype(np.int32),
        "valid_fraction": np.dtype(np.float32),
    }
)
"""Columns that every plan has, in their order, and their dtypes."""

ID_VERSION = 1
"""Of the recipe of `TilePlan.plan_id`."""


@dataclass(frozen=True, eq=False)
class TilePlan:
    """Tiles of one slide, a row each, ordered by y and then x, without repeats.

    Immutable; made by `wsistore.plan_tiles`. Columns are read-only arrays of length n. All
    positions are in level-0 px of the slide.

    Parameters
    ----------
    slide : SlideFacts
        Which slide.
    spec : TileSpec
        What was wanted.
    geometry : TileGeometry
        What that comes to on this slide: `size` (target px), `size_level0`, level ...
    x, y : (n,) int64
        Top-left corners in level-0 px.
    column, row : (n,) int32
        Place in the lattice; that of its own contour with ``origin="region"``.
    level : (n,) int16
        Level that is read.
    read_width, read_height : (n,) int32
        What is read, in px of that level; smaller than the geometry's `read_size` only for
        ragged tiles of ``edge="keep"``.
    tissue_ratio : (n,) float32
        Fraction of the tile's area that is tissue; NaN without a mask.
    contour : (n,) int32
        ``tissue_id`` of the first contour that keeps the tile; 0 without contours.
    valid_fraction : (n,) float32
        Fraction of the tile's area that lies in the slide.
    extras : mapping of str to (n,) array
        Further columns: scores and labels (bool, integers, floats or texts).
    rules : tuple of Rule
        What tiles were put to, in order, with the counts dropped.
    version : str
        Version of wsistore that made the plan.

    Raises
    ------
    wsistore.errors.UsageError
        If columns don't fit together, or a name is taken.
    """

    slide: SlideFacts
    spec: TileSpec
    geometry: TileGeometry
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    column: NDArray[np.int32]
    row: NDArray[np.int32]
    level: NDArray[np.int16]
    read_width: NDArray[np.int32]
    read_height: NDArray[np.int32]
    tissue_ratio: NDArray[np.float32]
    contour: NDArray[np.int32]
    valid_fraction: NDArray[np.float32]
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    version: str = __version__

    def __post_init__(self) -> None:
        """Check the columns, and make them read-only."""
        count = len(self.x)
        for name, dtype in COLUMNS.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), count, dtype))
        extras = {}
        for name, values in self.extras.items():
            if name in COLUMNS or not name:
                raise UsageError(f"a further column can't be named {name!r}: the name is taken")
            extras[name] = _checked(name, values, count, None)
        object.__setattr__(self, "extras", MappingProxyType(extras))
        object.__setattr__(self, "rules", tuple(self.rules))

    # Description

    def __len__(self) -> int:
        return len(self.x)

    @property
    def size(self) -> Size:
        """Width and height of every tile in target px: what `read_tiles` is asked for."""
        return self.geometry.size

    @property
    def size_level0(self) -> Size:
        """Width and height of every tile in level-0 px."""
        return self.geometry.size_level0

    @property
    def resolution(self) -> Resolution:
        """How finely tiles are read."""
        return self.spec.resolution

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns by name, those of every plan first."""
        return {name: getattr(self, name) for name in COLUMNS} | dict(self.extras)

    @property
    def boxes(self) -> NDArray[np.int64]:
        """x, y, width, height of each tile in level-0 px, (n, 4) int64."""
        return make_boxes(self.x, self.y, self.size_level0)

    @property
    def provenance(self) -> dict[str, Any]:
        """All but the columns, as JSON-able values; `from_columns` reads them."""
        return {
            "slide": self.slide.to_dict(),
            "spec": self.spec.to_dict(),
            "geometry": self.geometry.to_dict(),
            "rules": [rule.to_dict() for rule in self.rules],
            "coordinates": "top-left corners in level-0 px",
            "wsistore": self.version,
        }

    @cached_property
    def plan_id(self) -> str:
        """SHA-256 of what decides which pixels are read, as hexadecimal digits.

        Goes in: the slide's fingerprint, size, mpp and magnification; spec and geometry;
        names and parameters of the rules (a mask's fingerprint is one of them), not their
        counts; and x, y of every tile. Names and paths, scores, labels and the package's
        version don't.
        """
        slide = self.slide
        told = {
            "version": ID_VERSION,
            "slide": [
                slide.fingerprint,
                list(slide.size),
                None if slide.mpp is None else list(slide.mpp),
                slide.magnification,
            ],
            "spec": self.spec.to_dict(),
            "geometry": self.geometry.to_dict(),
            "rules": [[rule.name, dict(rule.parameters)] for rule in self.rules],
        }
        digest = hashlib.sha256(canonical(told))
        for place in (self.x, self.y):
            digest.update(np.ascontiguousarray(place, "<i8").data)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TilePlan):
            return NotImplemented
        if len(self) != len(other) or self.columns.keys() != other.columns.keys():
            return False
        theirs = other.columns
        same = all(_same(values, theirs[name]) for name, values in self.columns.items())
        return same and canonical(self.provenance) == canonical(other.provenance)

    def __hash__(self) -> int:
        return hash(self.plan_id)

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"<TilePlan {self.slide.name!r}: {len(self)} tiles of {width}x{height} px at "
            f"{self.resolution}>"
        )

    # Rows

    def __getitem__(self, rows: slice | ArrayLike) -> Self:
        """Return a plan of some of the rows, in the order of the plan.

        Parameters
        ----------
        rows : slice, (n,) bool or (m,) int
            A slice with a positive step, a choice, or ascending row numbers.
        """
        if isinstance(rows, slice):
            if rows.step is not None and rows.step < 0:
                raise UsageError("rows of a plan keep their order: a slice can't run backwards")
            return self._take(rows)
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise UsageError(f"a choice needs shape ({len(self)},), got {chosen.shape}")
            return self._take(np.flatnonzero(chosen))
        if chosen.size == 0:
            return self._take(slice(0, 0))
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise UsageError(f"rows are a slice, bools or row numbers, got {rows!r}")
        if chosen[0] < 0 or chosen[-1] >= len(self) or bool((np.diff(chosen) <= 0).any()):
            raise UsageError(f"row numbers must ascend and lie in 0 to {len(self) - 1}")
        return self._take(chosen)

    def keep(self, chosen: ArrayLike, rule: str, **parameters: Any) -> Self:
        """Return a plan of the chosen rows that remembers why.

        Parameters
        ----------
        chosen : (n,) bool
            Which rows stay.
        rule : str
            Name of the rule.
        **parameters
            JSON-able; what the rule was told.
        """
        kept = self[np.asarray(chosen, np.bool_)]
        record = Rule(rule, parameters, len(self), len(self) - len(kept))
        return replace(kept, rules=(*self.rules, record))

    def split(self, rows: int) -> list[slice]:
        """Return runs of rows that start at multiples of `rows`; the last may be shorter.

        Each is a unit of work that fills whole chunks of `rows` rows: ``plan[run]``.
        """
        if rows < 1:
            raise UsageError(f"a run needs at least one row, got {rows!r}")
        return [slice(at, min(at + rows, len(self))) for at in range(0, len(self), rows)]

    def _take(self, rows: slice | NDArray[np.integer[Any]]) -> Self:
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return replace(self, **columns, extras={k: v[rows] for k, v in self.extras.items()})

    # Columns

    def with_columns(self, **columns: ArrayLike) -> Self:
        """Return the plan with further columns, or others in place of further ones.

        Parameters
        ----------
        **columns : (n,) array_like
            Scores or labels: bool, integers, floats or texts.
        """
        return replace(self, extras={**self.extras, **_arrays(columns)})

    # Out

    def requests(self, slide: SlideLike | None = None) -> list[tuple[SlideLike, int, int]]:
        """Return what `wsistore.tiles.read_tiles` is asked for.

        ``read_tiles(plan.requests(slide), plan.size, plan.resolution)`` reads all tiles.
        To read them in bounded memory, use ``iter_tiles(slide, plan, plan.size,
        plan.resolution)``.

        Parameters
        ----------
        slide : Slide, str or PathLike, optional
            Where the slide is now; where it lay when the plan was made, if not said.

        Raises
        ------
        wsistore.errors.UsageError
            If the slide is not that of the plan, or none is known.
        """
        if slide is None:
            if not self.slide.path:
                raise UsageError(f"the plan of {self.slide.name} knows no path; name the slide")
            slide = self.slide.path
        if isinstance(slide, Slide):
            self.check_slide(slide)
        return [(slide, x, y) for x, y in zip(self.x.tolist(), self.y.tolist(), strict=True)]

    def check_slide(self, slide: Slide) -> None:
        """Raise `UsageError` if this is not the slide of the plan.

        Fingerprints decide where the plan has one, sizes otherwise. Of objects, which are
        not fingerprinted byte by byte either, the ETag counts too, at the planned URL.

        Raises
        ------
        wsistore.errors.UsageError
            If it is another slide.
        wsistore.errors.SourceChangedError
            If the object was replaced since it was planned.
        """
        told = self.slide.fingerprint
        if slide.size != self.slide.size or (told and slide.fingerprint != told):
            raise UsageError(
                f"{slide.name} ({slide.size.width}x{slide.size.height} px) is not the slide of "
                f"this plan, {self.slide.name} ({self.slide.size.width}x"
                f"{self.slide.size.height} px)",
                hint="Plan again, or open the slide that was planned.",
            )
        self.slide.check_state(slide)

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, ArrayLike], provenance: Mapping[str, Any]
    ) -> TilePlan:
        """Return the plan that `columns` and `provenance` described.

        Parameters
        ----------
        columns : mapping of str to (n,) array_like
            At least those of `COLUMNS`; cast to their dtypes.
        provenance : mapping
            As `TilePlan.provenance`, also after a round trip through JSON.

        Raises
        ------
        wsistore.errors.UsageError
            If something is missing or doesn't fit.
        """
        lacking = sorted(COLUMNS.keys() - columns.keys())
        if lacking:
            raise UsageError(f"a plan needs columns {', '.join(lacking)}")
        parts = sorted({"slide", "spec", "geometry"} - provenance.keys())
        if parts:
            raise UsageError(f"the provenance of a plan needs {', '.join(parts)}")
        core = {name: np.asarray(columns[name], dtype) for name, dtype in COLUMNS.items()}
        others = {name: values for name, values in columns.items() if name not in COLUMNS}
        return cls(
            slide=SlideFacts.from_dict(provenance["slide"]),
            spec=TileSpec.from_dict(provenance["spec"]),
            geometry=TileGeometry.from_dict(provenance["geometry"]),
            **core,
            extras=_arrays(others),
            rules=tuple(Rule.from_dict(rule) for rule in provenance.get("rules", ())),
            version=str(provenance.get("wsistore", "")),
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return the columns as a DataFrame; `provenance` is in its ``attrs``.

        Raises
        ------
        wsistore.errors.DependencyError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise DependencyError("to_pandas needs pandas", hint="pip install pandas") from error
        frame = pd.DataFrame(self.columns)
        frame.attrs = self.provenance | {"plan_id": self.plan_id}
        return frame

    def to_xarray(self) -> xr.Dataset:
        """Return the columns as a Dataset over the dimension ``tile``.

        x and y are coordinates; ``plan_id`` and ``provenance`` (JSON) are attributes.

        Raises
        ------
        wsistore.errors.DependencyError
            If xarray is not installed.
        """
        try:
            import xarray as xr
        except ImportError as error:
            raise DependencyError(
                "to_xarray needs xarray", hint='pip install "wsistore[dask]"'
            ) from error
        variables = {name: ("tile", values) for name, values in self.columns.items()}
        places = {name: variables.pop(name) for name in ("x", "y")}
        attributes = {
            "plan_id": self.plan_id,
            "provenance": canonical(self.provenance).decode(),
        }
        return xr.Dataset(variables, places, attributes)

    __iter__ = None  # a plan is columns: iterating over rows is nothing it does

    def __reduce__(self) -> tuple[Any, ...]:
        values = [getattr(self, item.name) for item in fields(self)]
        names = [item.name for item in fields(self)]
        values[names.index("extras")] = dict(self.extras)
        return (type(self), tuple(values))


def make_boxes(x: NDArray[np.int64], y: NDArray[np.int64], size: Size) -> NDArray[np.int64]:
    """Return x, y, width, height of equal tiles, (n, 4) int64."""
    boxes = np.empty((len(x), 4), np.int64)
    boxes[:, 0], boxes[:, 1] = x, y
    boxes[:, 2:] = size
    return boxes


def _arrays(columns: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(values) for name, values in columns.items()}


def _checked(name: str, values: Any, count: int, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    """Return a read-only view of a column that fits the others."""
    array = np.asarray(values)
    fits = array.dtype == dtype if dtype is not None else array.dtype.kind in "biufU"
    if array.shape != (count,) or not fits:
        kind = dtype or "bool, integers, floats or texts"
        raise UsageError(
            f"column {name} has shape {array.shape} and dtype {array.dtype}, expected ({count},) "
            f"{kind}"
        )
    array = array.view()
    array.flags.writeable = False
    return array


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return left.dtype == right.dtype and np.array_equal(
        left, right, equal_nan=left.dtype.kind == "f"
    )
