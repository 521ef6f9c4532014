"""What the HDF5 layouts of other tools share: attributes of a plan, and a plan of attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.export.foreign import ForeignTiles, foreign_plan
from wsistore.export.h5_files import coords_of, number, open_h5, own_plan, whole_if_close
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.tiles.lattice import TileGeometry
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.provenance import SlideFacts
from wsistore.tiles.spec import TileSpec

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PatchFacts:
    """A plan in the words of the layouts: square patches of one size.

    Parameters
    ----------
    patch_size, overlap : int
        Target px.
    patch_size_level0 : int
        Level-0 px.
    level0_magnification, target_magnification : int, float or None
        Powers; the target's is that of the slide by the plan's downsample, so that their
        ratio is the downsample. None where the slide has no power.
    level0_width, level0_height : int
        Level-0 px of the slide.
    """

    patch_size: int
    overlap: int
    patch_size_level0: int
    level0_magnification: int | float | None
    target_magnification: int | float | None
    level0_width: int
    level0_height: int


def patch_facts(plan: TilePlan, layout: str) -> PatchFacts:
    """Return the facts of a plan, or raise `UsageError` where a layout can't hold it."""
    geometry = plan.geometry
    sides = {
        "sizes": geometry.size,
        "strides": geometry.stride,
        "sizes at level 0": geometry.size_level0,
        "read sizes": geometry.read_size,
    }
    for what, (width, height) in sides.items():
        if width != height:
            raise UsageError(
                f"{layout} files hold square patches; the plan has {what} of {width} x {height}",
                hint="Use csv, json, parquet or geojson.",
            )
    power = plan.slide.magnification
    return PatchFacts(
        patch_size=geometry.size.width,
        overlap=geometry.size.width - geometry.stride.width,
        patch_size_level0=geometry.size_level0.width,
        level0_magnification=None if power is None else whole_if_close(power),
        target_magnification=None if power is None else whole_if_close(power / geometry.downsample),
        level0_width=plan.slide.size.width,
        level0_height=plan.slide.size.height,
    )


def check_whole(plan: TilePlan, layout: str) -> None:
    """Raise `UsageError` where tiles are read in several sizes."""
    read = plan.geometry.read_size
    if (plan.read_width != read.width).any() or (plan.read_height != read.height).any():
        raise UsageError(
            f"{layout} files hold patches of one size; the plan has some cut at the edge",
            hint='Plan with edge="drop", "shift" or "pad".',
        )


def as_int32(values: NDArray[Any]) -> NDArray[np.int32]:
    """Return numbers as int32, or raise `UsageError` where they don't fit."""
    if values.size and (values.max() > INT32_MAX or values.min() < -INT32_MAX - 1):
        raise UsageError("a position is beyond what 32 bits hold")
    return values.astype(np.int32)


def places(plan: TilePlan) -> NDArray[np.int64]:
    """Return x, y in level-0 px, (n, 2) int64."""
    return np.stack([plan.x, plan.y], axis=1)


def put_attributes(target: Any, values: Mapping[str, Any]) -> None:
    """Set attributes; what is None is left out."""
    for name, value in values.items():
        if value is not None:
            target.attrs[name] = value


Describe = Callable[[Any, NDArray[np.int64], str], ForeignTiles]


def read_layout(
    path: Path, slide: Slide | None, widths: tuple[int, ...], describe: Describe
) -> TilePlan:
    """Read a plan from a layout: the one that wsistore put in, or one of its attributes.

    Parameters
    ----------
    path : Path
        The file.
    slide : Slide, optional
        Its levels and fingerprint count where the file is another tool's.
    widths : tuple of int
        Columns that ``coords`` may have.
    describe : callable
        ``describe(file, rows, where)`` returns what the attributes come to.
    """
    where = str(path)
    with open_h5(path) as file:
        rows = coords_of(file, where, widths)
        plan = own_plan(file, rows[:, :2], where)
        if plan is not None:
            if slide is not None:
                plan.check_slide(slide)
            return plan
        return foreign_plan(describe(file, rows, where), slide, where)


def described(
    rows: NDArray[np.int64],
    attributes: Mapping[str, Any],
    where: str,
    *,
    tool: str,
    reads: NDArray[np.int64] | None,
) -> ForeignTiles:
    """Return what attributes of the SlideProcessor kind come to.

    Parameters
    ----------
    rows : (n, >= 2) int64
        x, y first.
    attributes : mapping
        At least patch_size, patch_size_level0, target_magnification,
        level0_magnification.
    where : str
        The file, for messages.
    tool : str
        Whose file it is.
    reads : (n, 3) int64 or None
        Width, height and level of what is read; one for all. Without, level 0.
    """
    patch = int(number(attributes, "patch_size", where))
    own = number(attributes, "level0_magnification", where)
    target = number(attributes, "target_magnification", where)
    level0 = int(number(attributes, "patch_size_level0", where))
    overlap = int(number(attributes, "overlap", where)) if "overlap" in attributes else 0
    level, read = 0, Size(level0, level0)
    if reads is not None and len(reads):
        if (reads != reads[0]).any():
            raise UsageError(f"{where} has patches of several sizes or levels")
        level, read = int(reads[0, 2]), Size(int(reads[0, 0]), int(reads[0, 1]))
    sides = [_side(attributes, name) for name in ("level0_width", "level0_height")]
    spec = TileSpec(patch, patch - overlap, Resolution.magnification(target))
    geometry = TileGeometry(
        size=Size(patch, patch),
        stride=Size(patch - overlap, patch - overlap),
        level=level,
        downsample=own / target,
        level_downsample=_nominal(level0 / read.width),
        size_level0=Size(level0, level0),
        stride_level0=Size(*[max(1, round((patch - overlap) * own / target))] * 2),
        read_size=read,
        extent=Size(*sides),
    )
    facts = SlideFacts(
        name=_name(attributes, where),
        size=Size(*sides),
        magnification=own,
        magnification_origin=tool,
        path=_text(attributes.get("wsi_path")),
    )
    return ForeignTiles(rows[:, 0], rows[:, 1], facts, spec, geometry, tool)


def _side(attributes: Mapping[str, Any], name: str) -> int:
    """Return a side of the slide; 0 where the file does not say."""
    return int(attributes[name]) if name in attributes else 0


def _nominal(ratio: float) -> float:
    nearest = round(ratio)
    return float(nearest) if nearest and abs(ratio / nearest - 1) < 0.01 else ratio


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _name(attributes: Mapping[str, Any], where: str) -> str:
    for key in ("name", "filename", "wsi_path"):
        text = _text(attributes.get(key))
        if text:
            return PurePosixPath(text).stem if key != "name" else text
    return Path(where).stem.removesuffix("_patches")
