"""A whole-slide image: levels, units, metadata, and pixels at any resolution."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    TileError,
    UsageError,
)
from wsistore.geometry import Box, Magnification, Mpp, Size, as_box
from wsistore.slides.associated import AssociatedImages
from wsistore.slides.calibration import Calibration, MppLike, calibrate
from wsistore.slides.lazily import lazy
from wsistore.slides.model import BadTile, Container, Level, TileTable
from wsistore.slides.reading import WHITE, Policy, TileReader, make_policy
from wsistore.slides.reopening import Opening, reopen
from wsistore.slides.resampling import Window, enlarge, shrink
from wsistore.slides.resolving import (
    ResolutionLike,
    Resolved,
    as_resolution,
    level_at,
    resolve,
)

Pixels = NDArray[np.uint8]

MAX_BAD_TILES = 10_000
"""Tiles listed in `Slide.bad_tiles`; a slide with more is noted once."""

"""What lies outside of a slide."""

NO_TILES_BAND = 512
"""Height of the bands in which levels without a tile table are resampled."""


class Slide:
    """A whole-slide image; made by `wsistore.open_slide`.

    Safe in threads and forks. Pickles as its path and the arguments of `open_slide`: the
    other process opens the file again and refuses it if it has changed. Reading from a
    closed slide raises `UsageError`.

    Parameters
    ----------
    container : Container
        The opened file or store.
    path : str
        Path or URL that it was opened by.
    mpp, magnification : float or pair of float, float, optional
        Overrides; see `open_slide`.
    on_bad_tile : {"fill-missing", "raise", "fill"}
        See `open_slide`.
    fill : int or (r, g, b)
        Colour of painted tiles.
    opening : Opening, optional
        How it was opened; without it the slide can't be pickled.

    Attributes
    ----------
    path : str
        Path or URL that it was opened by.
    """

    def __init__(
        self,
        container: Container,
        path: str,
        *,
        mpp: MppLike | None = None,
        magnification: float | None = None,
        on_bad_tile: str = "fill-missing",
        fill: int | Sequence[int] = WHITE,
        opening: Opening | None = None,
    ) -> None:
        self._container = container
        self._overrides = (mpp, magnification)
        if mpp is not None or magnification is not None:
            _ = self._calibration  # only an override can be refused, and that is now
        self._policy = make_policy(on_bad_tile, fill)
        self._opening = opening
        self._closed = False
        self._fingerprint = ""
        self._tables: dict[int, TileTable | None] = {}
        # A dict as an ordered set: its setdefault is atomic, and no lock can be left locked
        # in a forked child.
        self._bad: dict[BadTile, None] = {}
        self.path = path

    # Description. What a sampler does not ask for is not made: it opens many slides.

    @lazy
    def _calibration(self) -> Calibration:
        stated = self._container
        return calibrate(stated.mpp, stated.magnification, *self._overrides)

    @lazy
    def mpp(self) -> Mpp | None:
        """Pixel size (x, y) at level 0 in µm/px; ``.origin`` tells who said so."""
        return self._calibration.mpp

    @lazy
    def magnification(self) -> Magnification | None:
        """Objective power; ``.origin`` tells who said so."""
        return self._calibration.magnification

    @lazy
    def levels(self) -> tuple[Level, ...]:
        """Levels of the pyramid, finest first."""
        return tuple(
            Level(
                index,
                shape.size,
                shape.downsample,
                None if self.mpp is None else self.mpp.scaled(shape.downsample),
                shape.tile_size,
            )
            for index, shape in enumerate(self._container.levels)
        )

    @lazy
    def associated(self) -> Mapping[str, Pixels]:
        """``"thumbnail"``, ``"label"``, ``"macro"`` where there are; decoded on access alone."""
        return AssociatedImages(self._container.associated, self._check_open)

    @lazy
    def name(self) -> str:
        """Name of the file or store without its extension."""
        return _name_of(self.path)

    @property
    def format(self) -> str:
        """Stable name of the format, such as ``"aperio"`` or ``"openslide:mirax"``."""
        return self._container.format

    @property
    def size(self) -> Size:
        """Width and height of level 0 in px."""
        return self._container.levels[0].size

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self._container.levels)

    @property
    def properties(self) -> Mapping[str, str]:
        """All that the container says of itself, under the keys that OpenSlide uses."""
        return MappingProxyType(dict(self._container.properties))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored, repaired or contradictory."""
        notes = (*self._container.notes, *self._calibration.notes)
        if len(self._bad) < MAX_BAD_TILES:
            return notes
        return (*notes, f"more tiles are bad than the {MAX_BAD_TILES} that are listed")

    @property
    def bad_tiles(self) -> tuple[BadTile, ...]:
        """Tiles painted with the fill colour so far, each once, in the order they were met.

        At most `MAX_BAD_TILES`; `notes` says when there are more. For levels without a tile
        table, column and row are -1, and the reason names the region.
        """
        return tuple(self._bad)

    @property
    def policy(self) -> Policy:
        """What becomes of tiles without pixels; see `open_slide`."""
        return self._policy

    @property
    def opening(self) -> Opening | None:
        """How another process can open it; None where it was not made by `open_slide`."""
        return self._opening

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile of the image, None where there is none."""
        self._check_open()
        return self._container.icc_profile

    @property
    def fingerprint(self) -> str:
        """Hash of the content, whatever its name, place and time; computed once."""
        if not self._fingerprint:
            self._check_open()
            self._fingerprint = self._container.fingerprint()
        return self._fingerprint

    def tile_table(self, level: int) -> TileTable | None:
        """Return the table of encoded tiles of a level, None where there is none.

        Raises
        ------
        ResolutionError
            If there is no such level.
        """
        index = operator.index(level)
        if index not in self._tables:
            level_at(self._container.levels, index, self.name)
            self._check_open()
            self._tables[index] = self._container.tile_table(index)
        return self._tables[index]

    # Pixels

    def read_region(
        self,
        location: tuple[int, int],
        level: int,
        size: tuple[int, int],
        *,
        on_bad_tile: str | None = None,
    ) -> Pixels:
        """Read a rectangle of one level; arguments mean what they mean in OpenSlide.

        Parameters
        ----------
        location : (x, y)
            Top-left corner in level-0 px; may be negative or beyond the slide. On reduced
            levels it is taken to the px of the level that holds it: ``floor(x /
            downsample)``.
        level : int
            Level index.
        size : (width, height)
            In px of that level.
        on_bad_tile : {"fill-missing", "raise", "fill"}, optional
            Another policy than the slide's for this call.

        Returns
        -------
        (height, width, 3) uint8
            RGB; white outside of the slide.

        Raises
        ------
        MissingTileError, DamagedTileError
            As the policy says; see `open_slide`.
        UnsupportedCodecError
            If there is no decoder for the tiles.
        SourceError, CorruptSlideError
            If bytes can't be had.
        UsageError
            If an argument makes no sense, or the slide is closed.
        """
        box = as_box((*_pair(location, "location"), *_pair(size, "size")))
        downsample = level_at(self._container.levels, level, self.name).downsample
        x, y = floor_div(box.x, downsample), floor_div(box.y, downsample)
        return self.read_level(level, Box(x, y, box.width, box.height), on_bad_tile=on_bad_tile)

    def read_level(
        self,
        level: int,
        box: Box | tuple[int, int, int, int],
        *,
        on_bad_tile: str | None = None,
        threads: int | None = None,
    ) -> Pixels:
        """Read a box of one level, given in px of that level.

        Parameters
        ----------
        level : int
            Level index.
        box : Box or (x, y, width, height)
            In level px; may reach outside.
        on_bad_tile : {"fill-missing", "raise", "fill"}, optional
            Another policy than the slide's for this call.
        threads : int, optional
            Most threads that decode; by default one for each CPU where the box has many
            tiles. Pass 1 when calling from threads of your own.

        Returns
        -------
        (height, width, 3) uint8
            RGB; white outside of the slide.

        Raises
        ------
        WsistoreError
            As `read_region`.
        """
        self._check_open()
        box = as_box(box)
        bounds = Box(0, 0, *level_at(self._container.levels, level, self.name).size)
        inside = box.intersect(bounds)
        policy = self._policy
        if on_bad_tile is not None:
            policy = Policy(make_policy(on_bad_tile, WHITE).on_bad_tile, policy.fill)
        out = np.empty((box.height, box.width, 3), np.uint8)
        if inside != box:
            out.fill(WHITE)
        if not inside.is_empty:
            x, y = inside.x - box.x, inside.y - box.y
            target = out[y : y + inside.height, x : x + inside.width]
            self._paint(level, inside, target, policy, threads)
        return out

    def resolve(self, resolution: ResolutionLike, *, allow_upsample: bool = False) -> Resolved:
        """Return which level serves a resolution, and by how much it is still shrunk.

        The deepest level that is not coarser than asked is taken; one within 1 % of what
        is asked (`TOLERANCE`) is taken as it is. Anisotropic pixels count by the mean of
        their sides.

        Parameters
        ----------
        resolution : Resolution, str or int
            ``Resolution.mpp(0.5)``, ``"0.5mpp"``, ``"20x"``, ``"level:1"`` or a level index.
        allow_upsample : bool
            Whether level 0 may be enlarged.

        Raises
        ------
        ResolutionError
            If there is no such level, or it is finer than level 0.
        MetadataError
            If the slide states neither pixel size nor magnification.
        """
        wanted = as_resolution(resolution)
        levels = self._container.levels
        if wanted.unit == "level":  # asks nothing of the calibration
            return resolve(levels, None, None, wanted, name=self.name)
        return resolve(
            levels,
            self.mpp,
            self.magnification,
            wanted,
            allow_upsample=allow_upsample,
            name=self.name,
        )

    def read(
        self,
        box: Box | tuple[int, int, int, int],
        resolution: ResolutionLike,
        *,
        allow_upsample: bool = False,
    ) -> Pixels:
        """Read a box at any resolution, by area averaging of the level that serves it.

        Where a level serves as it is, its px are returned, from the one that holds the
        corner of the box. Otherwise the result covers the box exactly, to the fraction of
        a px, so nothing is shifted.

        Parameters
        ----------
        box : Box or (x, y, width, height)
            In level-0 px; may reach outside, where it is white.
        resolution : Resolution, str or int
            As for `resolve`.
        allow_upsample : bool
            Whether level 0 may be enlarged (bilinear) for a resolution finer than it.

        Returns
        -------
        (h, w, 3) uint8
            Of ``round(box / downsample)`` px, at least 1.

        Raises
        ------
        WsistoreError
            As `resolve` and `read_region`.
        """
        box = as_box(box)
        found = self.resolve(resolution, allow_upsample=allow_upsample)
        size = Size(
            max(1, round(box.width / found.downsample)),
            max(1, round(box.height / found.downsample)),
        )
        if found.factor == 1.0:
            return self.read_region((box.x, box.y), found.level, size)
        window = self._window(box, found.level)
        if found.factor < 1:
            return enlarge(functools.partial(self.read_level, found.level), window, size)
        return self._shrink(found.level, window, size)

    def thumbnail(self, max_size: int | tuple[int, int]) -> Pixels:
        """Return the whole slide, shrunk to fit; never enlarged.

        Parameters
        ----------
        max_size : int or (width, height)
            Longest side of the result in px, or the box that it must fit in.

        Returns
        -------
        (h, w, 3) uint8

        Raises
        ------
        UsageError
            If `max_size` is not positive.
        WsistoreError
            As `read_region`.
        """
        most = (max_size, max_size) if hasattr(max_size, "__index__") else max_size
        width, height = _pair(most, "max_size")
        if width < 1 or height < 1:
            raise UsageError(f"max_size must be positive, got {max_size!r}")
        shrinkage = max(1.0, self.size.width / width, self.size.height / height)
        fitting = [level for level in self.levels if level.downsample <= shrinkage]
        level = max(fitting, key=lambda level: level.downsample)
        size = Size(
            min(width, level.size.width, max(1, round(self.size.width / shrinkage))),
            min(height, level.size.height, max(1, round(self.size.height / shrinkage))),
        )
        window = Window(0.0, 0.0, float(level.size.width), float(level.size.height))
        return self._shrink(level.index, window, size)

    # Life

    def close(self) -> None:
        """Give back files; reading afterwards raises `UsageError`."""
        if not self._closed:
            self._closed = True
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        size = f"{self.size.width}x{self.size.height}"
        mpp = "no mpp" if self.mpp is None else f"{self.mpp.mean:g} µm/px"
        return f"<Slide {self.name!r} {self.format}, {size}, {self.level_count} levels, {mpp}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opening is None:
            raise UsageError(
                f"{self.name} can't be pickled: it was not opened by wsistore.open_slide"
            )
        return (reopen, (self._opening, self._closed))

    # Below the surface

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"{self.name} is closed", hint="Open it again to read from it.")

    def _paint(
        self, level: int, box: Box, target: Pixels, policy: Policy, threads: int | None
    ) -> None:
        """Put the pixels of a box that lies inside a level into `target`."""
        table = self.tile_table(level)
        where = f"{self.name}: level {level}"
        if table is not None:
            reader = TileReader(table, where, policy, self._noting(level), threads)
            reader.paint(box, target)
            return
        try:
            target[:] = self._container.read_pixels(level, box)
        except TileError as error:
            message = f"{tuple(box)} (x, y, width, height): {error.message}"
            if not policy.forgives(error):
                raise type(error)(f"{where}, {message}", hint=error.hint) from error
            target[:] = policy.fill
            self._noting(level)(-1, -1, message)

    def _noting(self, level: int) -> Callable[[int, int, str], None]:
        def note(column: int, row: int, reason: str) -> None:
            if len(self._bad) < MAX_BAD_TILES:
                self._bad.setdefault(BadTile(level, column, row, reason))

        return note

    def _window(self, box: Box, level: int) -> Window:
        """Return the box in px of a level, kept off the white beyond the level's edges.

        Sizes of levels are floors: a level of 555 px stands for 2220.9 px of level 0 at a
        downsample of 4. A box that ends at the slide's edge ends at the level's edge.
        """
        size, downsample = self.levels[level].size, self.levels[level].downsample
        x, y = box.x / downsample, box.y / downsample
        right, bottom = box.right / downsample, box.bottom / downsample
        if box.right <= self.size.width:
            right = min(right, size.width)
        if box.bottom <= self.size.height:
            bottom = min(bottom, size.height)
        if right <= x or bottom <= y:  # wholly within the px that the floor left out
            right, bottom = box.right / downsample, box.bottom / downsample
        return Window(x, y, right - x, bottom - y)

    def _shrink(self, level: int, window: Window, size: Size) -> Pixels:
        tile_size = self.levels[level].tile_size
        rows = NO_TILES_BAND if tile_size is None else tile_size.height
        return shrink(functools.partial(self.read_level, level), window, size, rows)


def floor_div(position: int, downsample: float) -> int:
    """Return the px of a level that holds a level-0 position.

    Whole downsamples are computed in integers; for others a position that falls short of
    a px by rounding alone (1e-6 px) counts as that px.
    """
    whole = int(downsample)
    if whole == downsample:
        return position // whole
    return math.floor(position / downsample + 1e-6)


def _name_of(path: str) -> str:
    name = path.partition("?")[0].rstrip("/").rpartition("/")[2]
    for suffix in (".ome.zarr", ".ome.tiff", ".ome.tif"):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    # The stem, in the sense of pathlib, which takes ten times as long.
    stem, dot, extension = name.rpartition(".")
    return (stem if stem and dot and extension else name) or path


def _pair(value: Any, name: str) -> tuple[int, int]:
    try:
        x, y = value
        pair = int(x), int(y)
        whole = pair[0] == x and pair[1] == y
    except (TypeError, ValueError, OverflowError):
        pair, whole = (0, 0), False
    if not whole:
        raise UsageError(f"{name} must be a pair of integers, got {value!r}")
    return pair
