"""The unit of work of a conversion: one shard. Tasks and receipts travel, pixels don't."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from wsistore.errors import SourceChangedError, StoreCorruptError
from wsistore.geometry import Box
from wsistore.pyramid.chunkfiles import check_chunk_files, chunk_names, write_chunk_files
from wsistore.pyramid.copying import LeftOut, TileCopier
from wsistore.pyramid.headedfolder import HeadedFolder
from wsistore.pyramid.objectfiles import (
    Listing,
    PartWriter,
    check_shard_object,
    mark_of,
    place_of,
)
from wsistore.pyramid.options import BadTilePolicy, NgffVersion
from wsistore.pyramid.planning import LevelPlan
from wsistore.pyramid.reader import OmeZarr
from wsistore.pyramid.shardfile import (
    Chunk,
    ShardSum,
    Write,
    check_shard,
    write_in_folders,
    write_shard_file,
)
from wsistore.pyramid.transcoding import Pixels, halve, transcode
from wsistore.slides import Slide, open_slide
from wsistore.sources import is_url, open_folder

_HALVED_CHUNKS = 4
"""Chunks, side by side, whose finer px are held at a time."""
_OPEN_SLIDES = 4
"""Slides that a process keeps open between tasks."""
_OPENING = [threading.Lock()]


def _renew_lock() -> None:
    """Have a forked child begin with a lock that none of its parent's threads holds."""
    _OPENING[0] = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, slots=True)
class SlideRef:
    """How a worker opens a slide, and knows it for the one that was planned.

    Parameters
    ----------
    path : str
        Path or URL.
    mpp : float, (float, float) or None
        Override of the pixel size.
    magnification : float or None
        Override of the objective power.
    fingerprint : str
        Of the slide; empty where it need not be compared.
    epoch : int
        Differs where the same path has to be opened anew.
    unfinished : bool
        Whether it is the store that is being written, which nobody else may open.
    head : str
        Of such a store: path or URL where its root documents are found.
    """

    path: str
    mpp: float | tuple[float, float] | None = None
    magnification: float | None = None
    fingerprint: str = ""
    epoch: int = 0
    unfinished: bool = False
    head: str = ""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to write; small, and picklable.

    Parameters
    ----------
    slide : SlideRef
        Where tiles or pixels come from: the source, or the store that is being written.
    root : str
        Path or URL of the store that is being written.
    level : LevelPlan
        The level.
    row, column : int
        Of the shard, in the shard grid of the level.
    format : {"0.5", "0.4"}
        NGFF version.
    on_bad_tile : {"fill-missing", "fill", "raise"}
        What becomes of tiles without usable bytes.
    """

    slide: SlideRef
    root: str
    level: LevelPlan
    row: int
    column: int
    format: NgffVersion
    on_bad_tile: BadTilePolicy

    @property
    def key(self) -> str:
        """Name of the shard below the store's root."""
        return unit_key(self.level, self.format, self.row, self.column)

    @property
    def box(self) -> Box:
        """The shard clipped to the level, in level px."""
        width, height = self.level.shard
        whole = Box(self.column * width, self.row * height, width, height)
        return whole.intersect(Box(0, 0, *self.level.size))

    @property
    def chunks(self) -> Box:
        """Columns and rows of the level's chunks that are in the shard."""
        return _chunks(self.level, self.row, self.column)


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """What became of a shard; a line of the ledger.

    Parameters
    ----------
    key : str
        Name of the shard below the store's root.
    level, row, column : int
        Level of the store, and place in its shard grid.
    size : int
        Bytes of the file; 0 where there was nothing to write.
    crc : int
        See `ShardSum.crc`.
    tiles : int
        Chunks in it.
    missing : int
        Tiles that the source lacks.
    damaged : tuple of (column, row, reason)
        Tiles of the source that were left out.
    bytes_in : int
        Bytes of tiles, or of pixels, that were read.
    etag : str
        What the server calls the object, or a hash of that for several; empty for files.
    """

    key: str
    level: int
    row: int
    column: int
    size: int
    crc: int
    tiles: int
    missing: int
    damaged: tuple[tuple[int, int, str], ...]
    bytes_in: int
    etag: str = ""

    def entry(self) -> dict[str, Any]:
        """Return the receipt as JSON for the ledger."""
        return asdict(self)

    @classmethod
    def of(cls, entry: dict[str, Any]) -> ShardReceipt:
        """Return the receipt that a line of the ledger holds."""
        damaged = tuple((int(c), int(r), str(why)) for c, r, why in entry["damaged"])
        return cls(**{**entry, "damaged": damaged})

    @property
    def sum(self) -> ShardSum:
        """What tells the shard from any other."""
        return ShardSum(self.size, self.crc, self.tiles)


def unit_key(level: LevelPlan, version: NgffVersion, row: int, column: int) -> str:
    """Return the name of a shard, or of a block of chunk files in NGFF 0.4."""
    if version == "0.5":
        return f"{level.index}/c/0/{row}/{column}"
    block = _chunks(level, row, column)
    return f"{level.index}/0/{block.y}-{block.bottom}/{block.x}-{block.right}"


def check_unit(task: ShardTask) -> ShardSum:
    """Read a shard (or block of chunk files) that exists, and sum it up.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If it is missing, or not what was written.
    wsistore.errors.SourceError
        If an object can't be had.
    """
    columns, rows = task.level.shard_chunks
    if is_url(task.root):
        place = place_of(task.root, task.slide.epoch)
        if task.format == "0.5":
            return check_shard_object(place, task.key, columns * rows)
        return check_chunk_files(f"{task.level.index}/0", task.chunks, place.get)
    if task.format == "0.5":
        return check_shard(f"{task.root}/{task.key}", columns * rows)
    return check_chunk_files(f"{task.root}/{task.level.index}/0", task.chunks)


def is_unit_listed(
    task: ShardTask, receipt: ShardReceipt, listing: Listing, *, reading: bool = True
) -> bool:
    """Return whether the objects of a part are still those that were written.

    Parameters
    ----------
    task : ShardTask
        The part.
    receipt : ShardReceipt
        What was noted when it was written.
    listing : mapping
        Size and ETag of the objects of the store.
    reading : bool
        Whether objects are read where the server tells no ETags; else their size will do.

    Raises
    ------
    wsistore.errors.SourceError
        If they can't be had.
    """
    names = [task.key]
    if task.format == "0.4":
        names = list(chunk_names(f"{task.level.index}/0", task.chunks))
    found = {name: listing[name] for name in names if name in listing}
    if sum(size for size, _ in found.values()) != receipt.size:
        return False
    mark = mark_of(found)
    if not found or (mark and receipt.etag):
        return mark == receipt.etag
    if not reading:
        return True
    try:
        return check_unit(task) == receipt.sum
    except StoreCorruptError:
        return False


def _chunks(level: LevelPlan, row: int, column: int) -> Box:
    columns, rows = level.shard_chunks
    whole = Box(column * columns, row * rows, columns, rows)
    return whole.intersect(Box(0, 0, *level.grid))


def write_shard(task: ShardTask) -> ShardReceipt:
    """Write one shard.

    Plain and without state but for slides that are kept open, so any scheduler can run it.

    Raises
    ------
    wsistore.errors.WsistoreError
        If tiles or pixels can't be had, or the shard can't be written.
    """
    left_out = LeftOut()
    chunks = (_copied if task.level.copies else _transcoded)(task, left_out)
    found, etag = _write(task, chunks)
    if task.level.pixels == "slide":
        _note_painted(slide_of(task.slide), task, left_out)
    return ShardReceipt(
        key=task.key,
        level=task.level.index,
        row=task.row,
        column=task.column,
        size=found.size,
        crc=found.crc,
        tiles=found.chunks,
        missing=left_out.missing,
        damaged=tuple(left_out.damaged),
        bytes_in=left_out.bytes_in,
        etag=etag,
    )


def slide_of(ref: SlideRef) -> Slide:
    """Return an open slide; the last few are kept open.

    Of remote ones, workers of the same process meet the slide that was planned, for opening
    costs requests, and every answer tells whether the object is still the same.

    Raises
    ------
    wsistore.errors.SourceChangedError
        If it is not the slide that was planned.
    wsistore.errors.WsistoreError
        If it can't be opened.
    """
    # Many threads may ask at once, and one opening is enough.
    with _OPENING[0]:
        slide = _opened(replace(ref, fingerprint="") if is_url(ref.path) else ref)
        # Not all threads at once: it is computed by the first one.
        if ref.fingerprint and slide.fingerprint != ref.fingerprint:
            raise SourceChangedError(
                f"{slide.name} is not the slide that the conversion began with",
                hint="Leave the file alone while it is converted, and start again.",
            )
    return slide


@lru_cache(maxsize=_OPEN_SLIDES)
def _opened(ref: SlideRef) -> Slide:
    if ref.unfinished:
        folder = open_folder(ref.path)
        if ref.head != ref.path:
            folder = HeadedFolder(folder, open_folder(ref.head))
        return Slide(OmeZarr(folder), ref.path)
    return open_slide(ref.path, mpp=ref.mpp, magnification=ref.magnification)


@lru_cache(maxsize=_OPEN_SLIDES)
def _copier(ref: SlideRef, source_level: int, codec: str, policy: BadTilePolicy) -> TileCopier:
    slide = slide_of(ref)
    table = slide.tile_table(source_level)
    if table is None:
        raise SourceChangedError(f"{slide.name}: level {source_level} has lost its tiles")
    where = f"{slide.name}: level {source_level}"
    return TileCopier(table, codec, where, policy, remote=is_url(ref.path))


def _write(task: ShardTask, chunks: Iterator[Chunk]) -> tuple[ShardSum, str]:
    """Write a part; return what it is, and what the server calls it."""
    if not is_url(task.root):
        return _put_together(task, f"{task.root}/", chunks, write_in_folders), ""
    writer = PartWriter(place_of(task.root, task.slide.epoch))
    if task.format == "0.5":
        found = _put_together(task, "", chunks, writer.write)
    else:
        found = writer.write_all(chunks, partial(_put_together, task, ""))
    return found, writer.mark


def _put_together(task: ShardTask, prefix: str, chunks: Iterable[Chunk], write: Write) -> ShardSum:
    columns, rows = task.level.shard_chunks
    if task.format == "0.5":
        return write_shard_file(f"{prefix}{task.key}", columns * rows, chunks, write)
    plane = f"{prefix}{task.level.index}/0"
    return write_chunk_files(plane, task.chunks, columns, chunks, write)


def _copied(task: ShardTask, left_out: LeftOut) -> Iterator[Chunk]:
    level = task.level
    copier = _copier(task.slide, level.source_level, level.codec, task.on_bad_tile)
    return copier.chunks(task.chunks, level.shard_chunks.width, left_out)


def _transcoded(task: ShardTask, left_out: LeftOut) -> Iterator[Chunk]:
    slide = slide_of(task.slide)
    level = task.level
    left_out.bytes_in = task.box.width * task.box.height * 3
    if level.pixels == "store":
        return transcode(level, task.box, partial(_halved, slide, level))
    table = slide.tile_table(level.source_level)
    return transcode(
        level,
        task.box,
        partial(_pixels, slide, level, task.on_bad_tile),
        tile_height=None if table is None else table.tile_size.height,
    )


def _pixels(slide: Slide, level: LevelPlan, on_bad_tile: BadTilePolicy, box: Box) -> Pixels:
    return slide.read_level(level.source_level, box, on_bad_tile=on_bad_tile, threads=1)


def _halved(slide: Slide, level: LevelPlan, box: Box) -> Pixels:
    """Return the 2x average of the px of the finer level of the store that make up a box."""
    out = np.empty((box.height, box.width, 3), np.uint8)
    bounds = Box(0, 0, *slide.levels[level.source_level].size)
    # Few columns at a time, since the finer px are four times as many.
    step = _HALVED_CHUNKS * level.chunk.width
    for x in range(0, box.width, step):
        width = min(step, box.width - x)
        double = Box(2 * (box.x + x), 2 * box.y, 2 * width, 2 * box.height).intersect(bounds)
        pixels = slide.read_level(level.source_level, double, threads=1)
        out[:, x : x + width] = halve(pixels)
    return out


def _note_painted(slide: Slide, task: ShardTask, left_out: LeftOut) -> None:
    """Note the bad tiles of the source whose first pixel lies in the shard.

    So each is counted once, though it may reach into several shards.
    """
    box = task.box
    tile = slide.levels[task.level.source_level].tile_size or (1, 1)
    for bad in slide.bad_tiles:
        if bad.level != task.level.source_level:
            continue
        x, y = bad.column * tile[0], bad.row * tile[1]
        if bad.column >= 0 and not (box.x <= x < box.right and box.y <= y < box.bottom):
            continue
        if bad.reason == "missing":
            left_out.missing += 1
        else:
            left_out.damaged.append((bad.column, bad.row, bad.reason))
    left_out.damaged.sort()
