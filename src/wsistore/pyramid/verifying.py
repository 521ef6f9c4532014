"""Vouching for a finished store: its checksums, and its tiles against the source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from wsistore.codecs import CRC32C_BYTES, crc32c
from wsistore.errors import (
    SlideError,
    SourceError,
    StoreCorruptError,
    TileError,
    UsageError,
)
from wsistore.geometry import Box, Size
from wsistore.pyramid.checksums import Checksums, read_checksums
from wsistore.pyramid.coding import COPIED
from wsistore.pyramid.naming import is_group
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.pyramid.options import LOSSLESS
from wsistore.pyramid.readahead import read_ahead
from wsistore.pyramid.shardfile import ShardSum
from wsistore.pyramid.storefiles import StoreFiles, files_of
from wsistore.pyramid.tilecodec import Completer, completer, stored_codec
from wsistore.pyramid.unfinished import unfinished_at
from wsistore.slides import Slide, TileTable, open_slide
from wsistore.sources import is_url, open_folder, redact

LOSSY_LIMIT = 12.0
"""Mean absolute difference in grey levels above which a lossy level is no likeness."""
_BAND_ROWS = 1024
_NO_SHARDS = (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
"""What the documents of an array raise that is not sharded, or not there."""
_MAX_BLOCK = 1 << 24
"""Chunks of the largest block: a shard of 65536 px of chunks of 16 px."""
_BLOCK = re.compile(r"\d{1,4}/0/(\d{1,9})-(\d{1,9})/(\d{1,9})-(\d{1,9})", re.ASCII)
_TILES_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written.

    Parameters
    ----------
    where : str
        File, shard or tile below the store's root.
    what : str
        What is wrong with it.
    """

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """How a level that was encoded anew differs from the source.

    Parameters
    ----------
    level : int
        Level of the store.
    mean : float
        Mean absolute difference in grey levels.
    largest : int
        Largest difference.
    """

    level: int
    mean: float
    largest: int


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a verification is.

    Parameters
    ----------
    step : {"checksums", "source"}
        What is being done.
    done, total : int
        Shards, or bands of tiles.
    """

    step: str
    done: int
    total: int


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Parameters
    ----------
    store : str
        The store.
    shards, chunks : int
        How many were checked against their checksums.
    compared_tiles : int
        Tiles that were compared with the source, byte by byte.
    findings : tuple of Finding
        What is not as it was written; empty where all is well.
    differences : tuple of LevelDifference
        Of levels that hold pixels of the source, encoded anew.
    """

    store: str
    shards: int
    chunks: int
    compared_tiles: int = 0
    findings: tuple[Finding, ...] = ()
    differences: tuple[LevelDifference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0 where nothing was found, else 1."""
        return 0 if self.ok else 1


OnProgress = Callable[[VerifyProgress], None]


def verify(
    store: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    *,
    on_event: OnProgress | None = None,
) -> VerifyReport:
    """Check a store that `wsistore.convert` made.

    Always: every chunk and shard index against its checksum, every file against the
    store's checksum document, and that there are no other files. With a source: that it
    is the slide which the store was made from, every copied tile byte by byte, and the
    pixels of levels that were encoded anew (lossless ones have to be equal).

    Parameters
    ----------
    store : path
        A store, local or by URL.
    against : path, optional
        The slide that it was made from, local or by URL.
    on_event : callable, optional
        Is told `VerifyProgress`.

    Raises
    ------
    UsageError
        If this is no store with a checksum document.
    StoreUnfinishedError
        If a run has begun it, and has not come to its end.
    wsistore.errors.WsistoreError
        If the source can't be opened, or objects can't be had.
    """
    told = os.fspath(store)
    root = told.rstrip("/") if is_url(told) else os.path.abspath(told)  # noqa: PTH100 (keeps links)
    shown = redact(root)
    tell = on_event or _ignore
    # Its checksums may be there before it is finished.
    if not is_group(root) and (unfinished := unfinished_at(root)) is not None:
        raise unfinished
    try:
        sums = read_checksums(root)
    except StoreCorruptError as error:
        return VerifyReport(shown, 0, 0, findings=(Finding(CHECKSUMS, error.message),))
    if sums is None:
        raise UsageError(
            f"{redact(told)} has no {CHECKSUMS}",
            hint="Only stores made by wsistore convert can be verified.",
        )
    checked = _Checked(root, sums, files_of(root))
    checked.check(tell)
    if against is not None and not checked.findings:
        with open_slide(against) as source, open_slide(root) as copy:
            try:
                _Comparison(source, copy, checked).run(tell)
            except StoreCorruptError as error:
                checked.note("zarr.json", error.message)
    return VerifyReport(
        shown,
        len(sums.shards),
        sum(value.chunks for value in sums.shards.values()),
        checked.compared_tiles,
        tuple(checked.findings),
        tuple(checked.differences),
    )


@dataclass
class _Checked:
    """What is known of a store so far."""

    root: str
    sums: Checksums
    files: StoreFiles
    findings: list[Finding] = field(default_factory=list)
    differences: list[LevelDifference] = field(default_factory=list)
    compared_tiles: int = 0

    def note(self, where: str, what: str) -> None:
        self.findings.append(Finding(where, what))

    def check(self, tell: OnProgress) -> None:
        """Compare every file with the checksum document."""
        total = len(self.sums.shards)
        for name, expected in self.sums.files.items():
            self._check_file(name, expected)
        if self.findings:
            return  # without its metadata nobody can tell what a shard is
        try:
            slots = _slots(self.root, self.sums)
        except _NO_SHARDS as error:
            self.note("zarr.json", f"metadata and shards don't go together: {error!r}")
            return
        check = partial(self._shard_fault, slots)
        keys = sorted(self.sums.shards)
        for number, (key, fault) in enumerate(read_ahead(check, keys, self.files.ahead), start=1):
            if fault:
                self.note(key, fault)
            tell(VerifyProgress("checksums", number, total))
        self._check_strangers()

    def _check_file(self, name: str, expected: ShardSum) -> None:
        try:
            data = self.files.read(name, expected.size)
        except StoreCorruptError as error:
            self.note(name, error.message)
            return
        if (len(data), crc32c(data)) != (expected.size, expected.crc):
            self.note(name, "does not match its checksum")

    def _shard_fault(self, slots: dict[str, int], key: str) -> str:
        """Return what is wrong with a shard, empty where nothing is."""
        expected, block = self.sums.shards[key], _block(key)
        level = key.partition("/")[0]
        try:
            if block is None:
                found = self.files.check_shard(key, slots[level], expected)
            else:
                found = self.files.check_block(f"{level}/0", block)
        except StoreCorruptError as error:
            return error.message
        if found == expected:
            return ""
        return (
            f"is whole, but not what was written: {found.size} bytes and {found.chunks} "
            f"chunks, expected {expected.size} and {expected.chunks}"
        )

    def _check_strangers(self) -> None:
        """Note files that nobody wrote: they would be read as tiles.

        Label images (``labels/``) come later and are other work: not looked at.
        """
        known = {*self.sums.files, *self.sums.shards, CHECKSUMS}
        for key in self.sums.shards:
            block = _block(key)
            if block is not None:
                plane = f"{key.partition('/')[0]}/0"
                known.update(
                    f"{plane}/{row}/{column}"
                    for row in range(block.y, block.bottom)
                    for column in range(block.x, block.right)
                )
        for name in self.files.names():
            if name not in known:
                self.note(name, "is no file of this store")


def _block(key: str) -> Box | None:
    """Return the chunks of a unit of NGFF 0.4 (``0/0/0-16/16-32``), None for a shard."""
    found = _BLOCK.fullmatch(key)
    if found is None:
        return None
    y, bottom, x, right = map(int, found.groups())
    block = Box(x, y, right - x, bottom - y)
    return block if block.width * block.height <= _MAX_BLOCK else None


def _slots(root: str, sums: Checksums) -> dict[str, int]:
    """Return the number of inner chunks of a shard, by level."""
    from json import loads

    folder = open_folder(root)
    found = {}
    for key in sums.shards:
        level = key.partition("/")[0]
        if level in found or _block(key) is not None:
            continue
        document: dict[str, Any] = loads(folder.get(f"{level}/zarr.json") or b"")
        shard = document["chunk_grid"]["configuration"]["chunk_shape"]
        chunk = document["codecs"][0]["configuration"]["chunk_shape"]
        found[level] = int((shard[1] // chunk[1]) * (shard[2] // chunk[2]))
    return found


class _Comparison:
    """Compares a store with the slide that it was made from."""

    def __init__(self, source: Slide, copy: Slide, checked: _Checked) -> None:
        self._source = source
        self._copy = copy
        self._checked = checked
        self._notes: list[dict[str, Any]] = _level_notes(checked.root)

    def run(self, tell: OnProgress) -> None:
        expected = self._checked.sums.settings.get("source")
        if self._source.fingerprint != expected:
            self._checked.note(
                self._source.name, "is another slide than the one that the store was made from"
            )
            return
        for index, note in enumerate(self._notes):
            if note["pixels"] == "tiles":
                self._compare_tiles(index, note, tell)
            elif note["pixels"] == "slide":
                self._compare_pixels(index, note, tell)

    def _compare_tiles(self, index: int, note: dict[str, Any], tell: OnProgress) -> None:
        level = int(note["source_level"])
        theirs, ours = self._source.tile_table(level), self._copy.tile_table(index)
        if theirs is None or ours is None or note["codec"] not in COPIED:
            self._checked.note(str(index), "its tiles can't be had directly")
            return
        left_out = _damaged(self._checked.root, index)
        complete = completer(theirs, stored_codec(theirs) or note["codec"])
        batches = list(_batches(theirs.grid))
        fetched = read_ahead(partial(_read_pairs, theirs, ours), batches, self._checked.files.ahead)
        for number, ((columns, rows), pairs) in enumerate(fetched, start=1):
            for column, row, (before, after) in zip(
                columns.tolist(), rows.tolist(), pairs, strict=True
            ):
                if theirs.checksum:
                    before = before[:-CRC32C_BYTES]  # noqa: PLW2901 (checked by its own table)
                if (column, row) not in left_out and not _same(complete, before, after):
                    self._checked.note(
                        f"{index}, tile column {column}, row {row}", "is not that of the source"
                    )
                self._checked.compared_tiles += 1
            tell(VerifyProgress("source", number, len(batches)))

    def _compare_pixels(self, index: int, note: dict[str, Any], tell: OnProgress) -> None:
        level = int(note["source_level"])
        width, height = self._copy.levels[index].size
        total, largest = 0, 0
        tops = range(0, height, _BAND_ROWS)
        for number, y in enumerate(tops, start=1):
            box = Box(0, y, width, min(_BAND_ROWS, height - y))
            try:
                before = self._source.read_level(level, box, on_bad_tile="fill").astype(np.int16)
                after = self._copy.read_level(index, box)
            except (TileError, SlideError, SourceError) as error:
                self._checked.note(str(index), error.message)
                return
            difference = np.abs(before - after)
            total += int(difference.sum(dtype=np.int64))
            largest = max(largest, int(difference.max()))
            tell(VerifyProgress("source", number, len(tops)))
        mean = total / (width * height * 3)
        self._checked.differences.append(LevelDifference(index, mean, largest))
        if note["codec"] in LOSSLESS and largest:
            self._checked.note(
                str(index), f"pixels differ by up to {largest}, though {note['codec']} is lossless"
            )
        elif mean > LOSSY_LIMIT:
            self._checked.note(str(index), f"pixels differ by {mean:.1f} grey levels in the mean")


def _same(complete: Completer, before: memoryview, after: memoryview) -> bool:
    """Return whether a stored tile (its checksum behind it) is the source's, completed."""
    if not before or not after:
        return len(before) == len(after)
    try:
        pieces, _ = complete.complete(before)
    except TileError:
        return False
    return b"".join(pieces) == after[:-CRC32C_BYTES]


def _batches(grid: Size) -> Iterator[tuple[Any, Any]]:
    count = grid.width * grid.height
    for start in range(0, count, _TILES_AT_A_TIME):
        numbers = np.arange(start, min(count, start + _TILES_AT_A_TIME), dtype=np.int64)
        rows, columns = np.divmod(numbers, grid.width)
        yield columns, rows


def _read_pairs(
    theirs: TileTable, ours: TileTable, batch: tuple[Any, Any]
) -> list[tuple[memoryview, memoryview]]:
    return list(zip(_read(theirs, *batch), _read(ours, *batch), strict=True))


def _read(table: TileTable, columns: Any, rows: Any) -> list[memoryview]:
    refs = table.locate(columns, rows)
    blocks = [memoryview(b"")] * len(columns)
    for part in np.unique(refs.parts[refs.counts > 0]).tolist():
        mine = np.flatnonzero((refs.parts == part) & (refs.counts > 0))
        views = table.source(part).read_many(
            refs.offsets[mine].tolist(), refs.counts[mine].tolist()
        )
        for number, view in zip(mine.tolist(), views, strict=True):
            blocks[number] = view
    return blocks


def _private(root: str) -> dict[str, Any]:
    from json import loads

    folder = open_folder(root)
    data = folder.get("zarr.json")
    if data is not None:
        private: dict[str, Any] = loads(data)["attributes"]["wsistore"]
    else:
        private = loads(folder.get(".zattrs") or b"")["wsistore"]
    return private


def _level_notes(root: str) -> list[dict[str, Any]]:
    """Return what the store says of its levels.

    Raises
    ------
    StoreCorruptError
        If it does not say where their pixels come from.
    """
    try:
        notes = _private(root)["levels"]
        return [
            {
                "pixels": str(note["pixels"]),
                "source_level": int(note["source_level"]),
                "codec": str(note["codec"]),
            }
            for note in notes
        ]
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise StoreCorruptError(
            f"{redact(root)} does not say where its levels come from ({error!r})"
        ) from error


def _damaged(root: str, level: int) -> set[tuple[int, int]]:
    try:
        return {
            (int(tile["column"]), int(tile["row"]))
            for tile in _private(root)["damaged_tiles"]
            if tile["level"] == level
        }
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{root} does not say which tiles it lacks ({error!r})") from error


def _ignore(progress: VerifyProgress) -> None:
    del progress
