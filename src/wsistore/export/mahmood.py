"""HDF5 files of CLAM and of TRIDENT: ``coords`` (N, 2) at level 0, attributes on them.

How each is read, by their public documentation:

- CLAM reads ``read_region(coord, patch_level, (patch_size, patch_size))``.
- TRIDENT takes level-0 px per target px as ``level0_magnification / target_magnification``,
  reads ``patch_size`` target px from the deepest level that is not coarser, and resizes to
  ``patch_size``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import UsageError
from wsistore.export.foreign import ForeignTiles
from wsistore.export.h5_files import (
    COORDS,
    DEFAULT_CHUNK,
    number,
    put_plan,
    put_rows,
    write_h5,
)
from wsistore.export.layouts import (
    check_whole,
    described,
    patch_facts,
    places,
    put_attributes,
    read_layout,
)
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.tiles.lattice import TileGeometry
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.provenance import SlideFacts
from wsistore.tiles.spec import TileSpec


def write_clam(
    plan: TilePlan,
    path: Path,
    *,
    write_batch: int = DEFAULT_CHUNK,
    extras: bool = True,
    level_size: Size | tuple[int, int] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a plan as CLAM does, for ``patches/<stem>.h5``.

    CLAM knows levels, no resolutions: ``patch_size`` is what is *read*, in px of
    ``patch_level``. Where that is not the plan's tile size (there is no level at its
    resolution), CLAM's transforms have to resize.

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
    level_size : (width, height), optional
        Of the level that is read, in its own px; computed from the slide's where not said.
    attributes : mapping, optional
        Attributes of the file: numbers and texts.

    Raises
    ------
    UsageError
        If tiles are not square, or some are cut at the edge.
    DependencyError
        If h5py is not installed.
    """
    patch_facts(plan, "CLAM")  # checks that they are square
    check_whole(plan, "CLAM")
    geometry = plan.geometry
    down = geometry.level_downsample
    size = level_size or tuple(math.floor(side / down + 1e-6) for side in plan.slide.size)
    told = {
        "patch_size": geometry.read_size.width,
        "patch_level": geometry.level,
        "downsample": np.array([down, down]),
        "downsampled_level_dim": np.array(size, np.int64),
        "level_dim": np.array(size, np.int64),
        "name": plan.slide.name,
        "save_path": str(path.parent),
    }

    def fill(file: Any) -> None:
        put_attributes(file, attributes or {})
        put_attributes(put_rows(file, COORDS, places(plan), write_batch), told)
        if extras:
            put_plan(file, plan, write_batch)

    write_h5(path, fill)


def read_clam(path: Path, slide: Slide | None = None) -> TilePlan:
    """Read a plan from a file of CLAM; its tiles are px of a level, as CLAM has them."""
    return read_layout(path, slide, (2,), _of_clam)


def _of_clam(file: Any, rows: NDArray[np.int64], where: str) -> ForeignTiles:
    attributes = file[COORDS].attrs
    patch = int(number(attributes, "patch_size", where))
    level = int(number(attributes, "patch_level", where))
    down = number(attributes, "downsample", where) if "downsample" in attributes else 1.0
    if "downsample" not in attributes and level:
        raise UsageError(f"{where} has no attribute downsample for its level {level}")
    level0 = round(patch * down)
    dims = np.asarray(attributes.get("level_dim", (0, 0)), np.float64).reshape(-1)
    # The slide's own size is not told; that of the level, times its downsample, is close.
    extent = Size(*(max(1, round(float(side) * down)) for side in dims[:2]))
    square = Size(patch, patch)
    name = attributes.get("name", Path(where).stem)
    geometry = TileGeometry(
        size=square,
        stride=square,
        level=level,
        downsample=down,
        level_downsample=down,
        size_level0=Size(level0, level0),
        stride_level0=Size(level0, level0),
        read_size=square,
        extent=extent,
    )
    # At level 0 the size is exact, and can be compared with that of a slide.
    facts = SlideFacts(name=str(name), size=extent if down == 1 and dims.any() else Size(0, 0))
    spec = TileSpec(patch, patch, Resolution.level(level))
    return ForeignTiles(rows[:, 0], rows[:, 1], facts, spec, geometry, "CLAM")


def write_trident(
    plan: TilePlan,
    path: Path,
    *,
    write_batch: int = DEFAULT_CHUNK,
    extras: bool = True,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a plan as TRIDENT does, for ``<job>/.../patches/<stem>_patches.h5``.

    Parameters
    ----------
    plan : TilePlan
        Of square tiles, of a slide with a magnification.
    path : Path
        The file; its folder must exist.
    write_batch : int
        Rows of a chunk.
    extras : bool
        Whether the group ``wsistore`` is added, which gives the whole plan back.
    attributes : mapping, optional
        Attributes of the file: numbers and texts.

    Raises
    ------
    UsageError
        If tiles are not square, some are cut at the edge, or the slide has no
        magnification.
    DependencyError
        If h5py is not installed.
    """
    facts = patch_facts(plan, "TRIDENT")
    check_whole(plan, "TRIDENT")
    if facts.level0_magnification is None:
        raise UsageError(
            f"TRIDENT files need a magnification, and {plan.slide.name} has none",
            hint="Open the slide with mpp=... or magnification=....",
        )
    told = {
        "patch_size": facts.patch_size,
        "patch_size_level0": facts.patch_size_level0,
        "level0_magnification": facts.level0_magnification,
        "target_magnification": facts.target_magnification,
        "overlap": facts.overlap,
        "name": plan.slide.name,
        "savetodir": str(path.parent),
        "level0_width": facts.level0_width,
        "level0_height": facts.level0_height,
    }

    def fill(file: Any) -> None:
        put_attributes(file, attributes or {})
        put_attributes(put_rows(file, COORDS, places(plan), write_batch), told)
        if extras:
            put_plan(file, plan, write_batch)

    write_h5(path, fill)


def read_trident(path: Path, slide: Slide | None = None) -> TilePlan:
    """Read a plan from a file of TRIDENT."""
    return read_layout(path, slide, (2,), _of_trident)


def _of_trident(file: Any, rows: NDArray[np.int64], where: str) -> ForeignTiles:
    attributes: Mapping[str, Any] = dict(file[COORDS].attrs)
    return described(rows, attributes, where, tool="TRIDENT", reads=None)


def sniff_clam(file: Any) -> bool:
    """Return whether an open HDF5 file is one of CLAM."""
    return COORDS in file and "patch_level" in file[COORDS].attrs


def sniff_trident(file: Any) -> bool:
    """Return whether an open HDF5 file is one of TRIDENT."""
    return COORDS in file and "patch_size_level0" in file[COORDS].attrs
