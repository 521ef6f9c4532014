"""Writing synthetic slides: Aperio SVS, generic pyramids and OME-TIFF."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Size, ceil_div
from wsistore.testing import associated as extra
from wsistore.testing import describe
from wsistore.testing.encode import FIXTURE_TILE, Encoded, encode
from wsistore.testing.rawtiff import (
    ASCII,
    IFD8,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    RawTiff,
    Tag,
)
from wsistore.testing.slide import Kind, SyntheticSlide, WrittenLevel
from wsistore.testing.source import Edge, Source
from wsistore.testing.variants import VARIANTS, Variant

SPARSE_GAP = 5 << 30
"""Hole in front of the first tile of a sparse slide, bytes: beyond 4 GiB."""

Order = Literal["rows", "shuffled"]


def write_slide(
    path: str | os.PathLike[str],
    variant: str = "jpeg_rgb_tables",
    *,
    size: tuple[int, int] = (1200, 900),
    tile: int = 256,
    levels: Iterable[int] = (1, 4),
    quality: int = 75,
    magnification: str | None = "20",
    mpp: str | None = "0.4990",
    thumbnail: bool = True,
    label: bool = True,
    macro: bool = True,
    bigtiff: bool = False,
    sparse: bool = False,
    missing: Iterable[tuple[int, int, int]] = (),
    edge: Edge = "garbage",
    icc_profile: bytes | None = None,
    seed: int = 0,
    distinct_tiles: int | None = None,
    order: Order = "rows",
    kind: Kind = "aperio",
) -> SyntheticSlide:
    """Write a synthetic slide; the same arguments give the same bytes.

    Parameters
    ----------
    path : path-like
        File to write; replaced where it exists.
    variant : str
        Key in `VARIANTS`.
    size : (int, int)
        Width and height of level 0, px.
    tile : int
        Side of the tiles, px: a multiple of 16.
    levels : iterable of int
        Downsamples, 1 first. Reduced sizes are floors, as Aperio has them.
    quality : int
        JPEG and WebP quality, 1-100; JPEG 2000 aims at ``25 + quality // 5`` dB.
    magnification, mpp : str or None
        Objective power and µm/px, written verbatim ("0,4990" and absurd values too); None
        leaves them out. A generic TIFF states mpp by its resolution tags, and only where
        it is a positive number.
    thumbnail, label, macro : bool
        Which associated images are written; a generic TIFF has none.
    bigtiff : bool
        Write a BigTIFF.
    sparse : bool
        Leave a hole of 5 GiB in front of the first tile: all offsets lie beyond 4 GiB.
        Implies `bigtiff`; takes no space on file systems with sparse files.
    missing : iterable of (level, column, row)
        Tiles with byte count and offset 0.
    edge : {"garbage", "white", "black"}
        What edge tiles hold beyond the image; "garbage" are pixels of another tile.
    icc_profile : bytes or None
        Tag 34675 of the first page.
    seed : int
        Seed of the texture.
    distinct_tiles : int or None
        Encode about this many tiles and repeat them, for large slides; None encodes all.
    order : {"rows", "shuffled"}
        Where tiles lie in the file: row by row without gaps, or in another order with
        some bytes between them, which TIFF allows.
    kind : {"aperio", "generic", "ome-tiff"}
        Container: Aperio SVS; a pyramid without vendor marks; OME-XML with SubIFDs.

    Returns
    -------
    SyntheticSlide

    Raises
    ------
    ValueError
        If an argument can't be written.
    """
    plan = _Plan(
        path=Path(path),
        variant_name=variant,
        source=_source(size, tile, seed, edge, distinct_tiles),
        levels=tuple(levels),
        quality=quality,
        magnification=magnification,
        mpp=mpp,
        wanted=tuple(
            name
            for name, wanted in (("thumbnail", thumbnail), ("label", label), ("macro", macro))
            if wanted and kind != "generic"
        ),
        big=bigtiff or sparse,
        gap=SPARSE_GAP if sparse else 0,
        missing=frozenset(missing),
        icc_profile=icc_profile,
        order=order,
        kind=kind,
    )
    plan.check()
    return _Writing(plan).run()


def _source(
    size: tuple[int, int], tile: int, seed: int, edge: Edge, distinct: int | None
) -> Source:
    period = None
    if distinct is not None:
        if distinct < 1:
            raise ValueError(f"distinct_tiles must be at least 1, got {distinct}")
        across = math.isqrt(distinct)
        period = (across, distinct // across)
    if edge not in get_args(Edge):
        raise ValueError(f"edge must be one of {get_args(Edge)}, got {edge!r}")
    return Source(Size(*size), tile, seed, edge, period)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The arguments of `write_slide`, put in order."""

    path: Path
    variant_name: str
    source: Source
    levels: tuple[int, ...]
    quality: int
    magnification: str | None
    mpp: str | None
    wanted: tuple[str, ...]
    big: bool
    gap: int
    missing: frozenset[tuple[int, int, int]]
    icc_profile: bytes | None
    order: Order
    kind: Kind

    @property
    def variant(self) -> Variant:
        return VARIANTS[self.variant_name]

    def level_size(self, level: int) -> Size:
        size, downsample = self.source.size, self.levels[level]
        return Size(size.width // downsample, size.height // downsample)

    def grid(self, level: int) -> tuple[int, int]:
        size = self.level_size(level)
        return ceil_div(size.width, self.source.tile), ceil_div(size.height, self.source.tile)

    def check(self) -> None:
        """Raise ValueError on arguments that can't be written."""
        if self.variant_name not in VARIANTS:
            raise ValueError(f"no variant {self.variant_name!r}; see wsistore.testing.VARIANTS")
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        if self.order not in get_args(Order):
            raise ValueError(f"order must be one of {get_args(Order)}, got {self.order!r}")
        if self.source.tile < 16 or self.source.tile % 16:
            raise ValueError(f"tile must be a multiple of 16 px, got {self.source.tile}")
        if not self.levels or self.levels[0] != 1 or sorted(set(self.levels)) != list(self.levels):
            raise ValueError(f"levels must ascend from 1, got {self.levels}")
        for level in range(len(self.levels)):
            if min(self.level_size(level)) < 1:
                raise ValueError(f"level {level} of a slide of {self.source.size} has no pixels")
        subsampled = self.variant.codec == "jpeg2000" and self.variant.subsampling != (1, 1)
        if subsampled and self.source.tile != FIXTURE_TILE:
            raise ValueError(f"{self.variant_name} has tiles of {FIXTURE_TILE} px only")
        self._check_missing()

    def _check_missing(self) -> None:
        for level, column, row in self.missing:
            columns, rows = self.grid(level) if 0 <= level < len(self.levels) else (0, 0)
            if not (0 <= column < columns and 0 <= row < rows):
                raise ValueError(f"missing names a tile that isn't there: {(level, column, row)}")


class _Writing:
    """One slide being written."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._truth: dict[str, NDArray[np.uint8]] = {}
        self._written: list[WrittenLevel] = []
        self._description = ""

    def run(self) -> SyntheticSlide:
        plan = self._plan
        with RawTiff(plan.path, big=plan.big) as tiff:
            tiff.skip(plan.gap)
            write = {
                "aperio": self._write_aperio,
                "generic": self._write_generic,
                "ome-tiff": self._write_ome,
            }
            write[plan.kind](tiff)
        return SyntheticSlide(
            path=plan.path,
            variant_name=plan.variant_name,
            variant=plan.variant,
            size=plan.source.size,
            tile=plan.source.tile,
            levels=plan.levels,
            kind=plan.kind,
            magnification=plan.magnification,
            mpp=plan.mpp,
            missing=plan.missing,
            written=tuple(self._written),
            associated=self._truth,
            description=self._description,
            icc_profile=plan.icc_profile,
            bigtiff=plan.big,
        )

    # -------------------------------------------------------------- containers

    def _write_aperio(self, tiff: RawTiff) -> None:
        """Write pages as Aperio orders them: baseline, thumbnail, reduced levels, label, macro."""
        plan = self._plan
        size, tile = plan.source.size, plan.source.tile
        encoding = plan.variant.aperio_name
        if plan.variant.codec == "jpeg":
            encoding += f" Q={plan.quality}"
        self._description = describe.aperio_baseline(
            size, tile, encoding, magnification=plan.magnification, mpp=plan.mpp
        )
        for level in range(len(plan.levels)):
            text = self._description
            if level:
                text = describe.aperio_reduced(size, tile, plan.level_size(level), encoding)
            tiff.add_ifd([*self._level_tags(tiff, level), Tag(270, ASCII, text)])
            if level == 0:
                self._add_associated(tiff, "thumbnail", 0)
        self._add_associated(tiff, "label", 1)
        self._add_associated(tiff, "macro", 9)

    def _write_generic(self, tiff: RawTiff) -> None:
        """Write a pyramid in the chain of pages: resolution tags, no vendor's marks."""
        private = [
            Tag(269, ASCII, describe.FILE_NAME),
            Tag(306, ASCII, describe.DATE),
            Tag(315, ASCII, describe.USER),
            Tag(316, ASCII, describe.HOST),
        ]
        for level, downsample in enumerate(self._plan.levels):
            tags = self._level_tags(tiff, level) + self._resolution(downsample)
            tiff.add_ifd(tags + (private if level == 0 else []))

    def _write_ome(self, tiff: RawTiff) -> None:
        """Write OME-XML in the first page; reduced levels hang below it as SubIFDs."""
        plan = self._plan
        first = self._level_tags(tiff, 0)
        below = [
            tiff.add_ifd(self._level_tags(tiff, level), chained=False)
            for level in range(1, len(plan.levels))
        ]
        channels = plan.variant.channels
        images = [(describe.FILE_NAME, plan.source.size, channels)]
        images += [(name, extra.image_size(name, plan.source), 3) for name in plan.wanted]
        self._description = describe.ome_xml(images, magnification=plan.magnification, mpp=plan.mpp)
        if below:
            first.append(Tag(330, IFD8 if plan.big else LONG, below))
        tiff.add_ifd([*first, Tag(270, ASCII, self._description), Tag(315, ASCII, describe.USER)])
        for name in plan.wanted:
            self._add_associated(tiff, name, 0)

    def _add_associated(self, tiff: RawTiff, name: str, subfile: int) -> None:
        plan = self._plan
        if name not in plan.wanted:
            return
        image = extra.build(name, plan.source)
        self._truth[name] = image.pixels
        tags = [Tag(254, LONG, subfile), *extra.write_strips(tiff, image)]
        if plan.kind == "aperio":
            height, width = image.pixels.shape[:2]
            text = describe.aperio_associated(name, Size(width, height))
            if name == "thumbnail":
                text = describe.aperio_reduced(plan.source.size, None, Size(width, height), "-")
            tags.append(Tag(270, ASCII, text))
        tiff.add_ifd(tags)

    # -------------------------------------------------------------- one level

    def _level_tags(self, tiff: RawTiff, level: int) -> list[Tag]:
        """Write the tiles of a level and return the tags of its page."""
        plan, variant = self._plan, self._plan.variant
        size, channels = plan.level_size(level), variant.channels
        written = self._write_tiles(tiff, level)
        self._written.append(written)
        reduced = level > 0 and plan.kind != "aperio"  # Aperio's levels don't say it
        tags = [
            Tag(254, LONG, int(reduced)),
            Tag(256, LONG, size.width),
            Tag(257, LONG, size.height),
            Tag(258, SHORT, (8,) * channels),
            Tag(259, SHORT, variant.compression),
            Tag(262, SHORT, variant.photometric),
            Tag(277, SHORT, channels),
            Tag(284, SHORT, 1),
            Tag(322, SHORT, plan.source.tile),
            Tag(323, SHORT, plan.source.tile),
            Tag(324, tiff.offset_type, written.offsets.ravel().tolist()),
            Tag(325, LONG, written.counts.ravel().tolist()),
        ]
        if plan.kind == "aperio":
            tags.append(Tag(32997, LONG, 1))  # ImageDepth
        if variant.predictor != 1:
            tags.append(Tag(317, SHORT, variant.predictor))
        if written.tables:
            tags.append(Tag(347, UNDEFINED, written.tables))
        if variant.subsampling_tag is not None:
            tags.append(Tag(530, SHORT, variant.subsampling_tag))
        if level == 0 and plan.icc_profile is not None:
            tags.append(Tag(34675, UNDEFINED, plan.icc_profile))
        return tags

    def _write_tiles(self, tiff: RawTiff, level: int) -> WrittenLevel:
        plan = self._plan
        columns, rows = plan.grid(level)
        offsets = np.zeros((rows, columns), np.uint64)
        counts = np.zeros((rows, columns), np.uint32)
        checksums = np.zeros((rows, columns), np.uint32)
        known: dict[tuple[int, ...], Encoded] = {}
        tables = b""
        indices = np.arange(rows * columns)
        if plan.order == "shuffled":
            indices = np.random.default_rng(level).permutation(indices)
        for row, column in (divmod(int(index), columns) for index in indices):
            if plan.order == "shuffled":
                tiff.add_block(b"between tiles")
            if (level, column, row) in plan.missing:
                continue
            block, tables = self._encoded(level, column, row, known)
            offsets[row, column] = tiff.add_block(block)
            counts[row, column] = len(block)
            checksums[row, column] = zlib.crc32(block)
        return WrittenLevel(offsets, counts, checksums, tables)

    def _encoded(
        self, level: int, column: int, row: int, known: dict[tuple[int, ...], Encoded]
    ) -> Encoded:
        plan = self._plan
        downsample = plan.levels[level]
        key = plan.source.key(downsample, column, row)
        if key is not None and key in known:
            return known[key]
        pixels = plan.source.tile_pixels(downsample, column, row)
        result = encode(pixels, plan.variant, plan.quality)
        if key is not None:
            known[key] = result
        return result

    def _resolution(self, downsample: int) -> list[Tag]:
        """Return the resolution tags, px per cm, where mpp is a positive number."""
        try:
            mpp = float(self._plan.mpp or "")
        except ValueError:
            return []
        if not (math.isfinite(mpp) and mpp > 0):
            return []
        per_cm = (round(1e4 / (mpp * downsample) * 1000), 1000)
        return [Tag(282, RATIONAL, per_cm), Tag(283, RATIONAL, per_cm), Tag(296, SHORT, 3)]
