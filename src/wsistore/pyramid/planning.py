"""What a conversion will write: levels, chunks, shards, codecs, sizes. No pixel is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from wsistore.errors import UsageError
from wsistore.geometry import Size, ceil_div
from wsistore.pyramid.coding import RATIO
from wsistore.pyramid.options import LOSSY_QUALITY, ConversionOptions, NgffVersion
from wsistore.pyramid.tilecodec import stored_codec

if TYPE_CHECKING:
    from wsistore.slides import Level, Slide
    from wsistore.slides.model import TileTable

DEFAULT_CHUNK = 512
SHARD_CHUNKS = 16
ADDED_LEVEL_QUALITY = 80
"""JPEG quality of levels that are added to a copy: that of the scanners, more or less."""
_CHUNK_RANGE = (64, 2048)
"""Source tiles outside of it (strips, whole images) make no good chunks."""
_COPY_OVERHEAD = 600
"""Bytes that a copied tile gains: its JPEG tables, 4 of checksum, 16 of index."""

Pixels = Literal["tiles", "slide", "store"]


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """What one level of the store will be.

    Parameters
    ----------
    index : int
        Level in the store; its array has this name.
    size : Size
        Width and height, px of the level.
    downsample : float
        Level-0 px per px of the level.
    chunk : Size
        Inner chunk, px.
    shard : Size
        Shard, px; a multiple of the chunk. In NGFF 0.4, the block of chunks that is
        written as one unit.
    codec : str
        How chunks are stored; see `wsistore.pyramid.coding.inner_codecs`.
    quality : int or None
        Of lossy codecs that encode anew.
    pixels : {"tiles", "slide", "store"}
        Where they come from: the slide's encoded tiles as they are, the slide's pixels,
        or the 2x average of a level of the store.
    source_level : int
        Level of the slide, or of the store, that they come from.
    estimated_bytes : int
        Exact within a percent for tiles, rough for the rest.
    """

    index: int
    size: Size
    downsample: float
    chunk: Size
    shard: Size
    codec: str
    quality: int | None
    pixels: Pixels
    source_level: int
    estimated_bytes: int

    @property
    def copies(self) -> bool:
        """Whether encoded tiles are moved rather than decoded."""
        return self.pixels == "tiles"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array: (3, height, width)."""
        return (3, self.size.height, self.size.width)

    @property
    def grid(self) -> Size:
        """Number of chunk columns and rows."""
        return _grid(self.size, self.chunk)

    @property
    def shard_grid(self) -> Size:
        """Number of shard columns and rows."""
        return _grid(self.size, self.shard)

    @property
    def shard_chunks(self) -> Size:
        """Columns and rows of chunks in a shard."""
        return Size(self.shard.width // self.chunk.width, self.shard.height // self.chunk.height)

    def shards(self) -> Iterator[tuple[int, int]]:
        """Return all (row, column) of the shard grid, row by row."""
        columns, rows = self.shard_grid
        return ((row, column) for row in range(rows) for column in range(columns))

    def key(self, row: int, column: int) -> str:
        """Return the name of a shard below the store's root."""
        return f"{self.index}/c/0/{row}/{column}"


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """What a conversion will write.

    Parameters
    ----------
    levels : tuple of LevelPlan
        Finest first.
    format : {"0.5", "0.4"}
        NGFF version.
    associated : tuple of str
        Associated images that the slide has and that will be kept.
    """

    levels: tuple[LevelPlan, ...]
    format: NgffVersion
    associated: tuple[str, ...]

    @property
    def copies(self) -> bool:
        """Whether the full-resolution level is copied."""
        return self.levels[0].copies

    @property
    def codecs(self) -> tuple[str, ...]:
        """The stored codecs, each once, level 0's first."""
        return tuple(dict.fromkeys(level.codec for level in self.levels))

    @property
    def estimated_bytes(self) -> int:
        """Sum over the levels."""
        return sum(level.estimated_bytes for level in self.levels)

    @property
    def shard_count(self) -> int:
        """Number of shards (blocks of chunks in NGFF 0.4)."""
        return sum(level.shard_grid.width * level.shard_grid.height for level in self.levels)

    @property
    def object_count(self) -> int:
        """Number of files or objects at most; shards without a tile are not written."""
        arrays = len(self.levels) + len(self.associated)
        groups = 1 + bool(self.associated)
        if self.format == "0.5":
            return self.shard_count + arrays + len(self.associated) + groups + 1
        chunks = sum(level.grid.width * level.grid.height for level in self.levels)
        return chunks + 2 * arrays + len(self.associated) + 2 * groups + 1


def plan_conversion(slide: Slide, options: ConversionOptions) -> ConversionPlan:
    """Return what converting this slide will write; no pixel is read.

    Parameters
    ----------
    slide : Slide
        Opened.
    options : ConversionOptions
        What is asked for.

    Raises
    ------
    UsageError
        If the slide's tiles can't be copied and ``codec="copy"`` asks for it, or the
        shard is no multiple of a level's chunk.
    """
    stored = [_copied_codec(slide, level, options) for level in slide.levels]
    if options.codec == "copy" and stored[0] is None:
        raise UsageError(_why_no_copy(slide), hint="Use codec zstd, or another that encodes.")
    if stored[0] is not None:
        levels = _copy_levels(slide, options, stored)
    else:
        levels = _transcode_levels(slide, options)
    associated = tuple(name for name in options.associated if name in slide.associated)
    return ConversionPlan(tuple(levels), options.format, associated)


def _copied_codec(slide: Slide, level: Level, options: ConversionOptions) -> str | None:
    if options.codec not in ("auto", "copy") or options.format != "0.5":
        return None
    if options.chunk is not None and level.tile_size != (options.chunk, options.chunk):
        return None
    table = slide.tile_table(level.index)
    return None if table is None else stored_codec(table)


def _why_no_copy(slide: Slide) -> str:
    table = slide.tile_table(0)
    if table is None:
        return f"{slide.name} has no encoded tiles that could be copied"
    form = table.block_format
    return (
        f"tiles of {slide.name} can't be copied as they are: codec {form.codec!r}, "
        f"{form.channels} channels, {form.width}x{form.height} px"
    )


def _copy_levels(
    slide: Slide, options: ConversionOptions, stored: list[str | None]
) -> list[LevelPlan]:
    plans: list[LevelPlan] = []
    for level, codec in zip(slide.levels, stored, strict=True):
        if options.add_levels and plans:
            _add_between(plans, level.downsample, options)
        if codec is not None:
            plans.append(_copied(len(plans), slide, level, codec, options))
        else:
            plans.append(_from_slide(len(plans), level, "zstd", options))
    if options.add_levels:
        _add_between(plans, float("inf"), options)
    return plans


def _add_between(plans: list[LevelPlan], downsample: float, options: ConversionOptions) -> None:
    """Append 2x levels until the next one is at most 2x away, or one chunk is enough."""
    while plans[-1].downsample * 4 <= downsample * 1.01 and not _fits(plans[-1]):
        plans.append(_halved(plans[-1], "jpeg", ADDED_LEVEL_QUALITY, plans[0].chunk, options))


def _transcode_levels(slide: Slide, options: ConversionOptions) -> list[LevelPlan]:
    codec = "zstd" if options.codec == "auto" else options.codec
    if options.keep_levels:
        return [
            _from_slide(number, level, codec, options) for number, level in enumerate(slide.levels)
        ]
    plans = [_from_slide(0, slide.levels[0], codec, options)]
    while not _fits(plans[-1]):
        last = plans[-1]
        plans.append(_halved(last, codec, last.quality, last.chunk, options))
    return plans


def _fits(plan: LevelPlan) -> bool:
    """Return whether a level's longest side is within one chunk."""
    return max(plan.size) <= max(plan.chunk)


def _copied(
    index: int, slide: Slide, level: Level, codec: str, options: ConversionOptions
) -> LevelPlan:
    table = slide.tile_table(level.index)
    if table is None:  # pragma: no cover (its codec was read from it)
        raise UsageError(f"level {level.index} has no tile table")
    chunk = table.tile_size
    return LevelPlan(
        index=index,
        size=level.size,
        downsample=level.downsample,
        chunk=chunk,
        shard=_shard(chunk, level.size, options),
        codec=codec,
        quality=None,
        pixels="tiles",
        source_level=level.index,
        estimated_bytes=_copied_bytes(table),
    )


def _copied_bytes(table: TileTable) -> int:
    counts = table.counts
    return int(counts.sum()) + int(np.count_nonzero(counts)) * _COPY_OVERHEAD


def _from_slide(index: int, level: Level, codec: str, options: ConversionOptions) -> LevelPlan:
    chunk = _chunk(level, options)
    return LevelPlan(
        index=index,
        size=level.size,
        downsample=level.downsample,
        chunk=chunk,
        shard=_shard(chunk, level.size, options),
        codec=codec,
        quality=_quality(codec, options),
        pixels="slide",
        source_level=level.index,
        estimated_bytes=_encoded_bytes(level.size, codec),
    )


def _halved(
    finer: LevelPlan, codec: str, quality: int | None, chunk: Size, options: ConversionOptions
) -> LevelPlan:
    size = Size(ceil_div(finer.size.width, 2), ceil_div(finer.size.height, 2))
    return LevelPlan(
        index=finer.index + 1,
        size=size,
        downsample=finer.downsample * 2,
        chunk=chunk,
        shard=_shard(chunk, size, options),
        codec=codec,
        quality=quality,
        pixels="store",
        source_level=finer.index,
        estimated_bytes=_encoded_bytes(size, codec),
    )


def _chunk(level: Level, options: ConversionOptions) -> Size:
    if options.chunk is not None:
        return Size(options.chunk, options.chunk)
    low, high = _CHUNK_RANGE
    if level.tile_size is not None and all(low <= side <= high for side in level.tile_size):
        return level.tile_size
    return Size(DEFAULT_CHUNK, DEFAULT_CHUNK)


def _shard(chunk: Size, size: Size, options: ConversionOptions) -> Size:
    """Return the shard: as asked or 16 chunks, and no larger than covers the level."""
    sides = []
    for side, whole in zip(chunk, size, strict=True):
        if options.shard is not None and options.shard % side:
            raise UsageError(
                f"shard of {options.shard} px is no multiple of the chunk of {side} px",
                hint=f"Use {max(1, options.shard // side) * side}.",
            )
        count = SHARD_CHUNKS if options.shard is None else options.shard // side
        sides.append(side * min(count, ceil_div(whole, side)))
    return Size(*sides)


def _quality(codec: str, options: ConversionOptions) -> int | None:
    if codec not in LOSSY_QUALITY:
        return None
    return options.quality or LOSSY_QUALITY[codec]


def _encoded_bytes(size: Size, codec: str) -> int:
    return int(size.width * size.height * 3 * RATIO[codec])


def _grid(size: Size, step: Size) -> Size:
    return Size(ceil_div(size.width, step.width), ceil_div(size.height, step.height))
