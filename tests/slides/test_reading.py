"""Reading over a tile table: each tile once, bounded portions, policies, checksums."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsistore.codecs import BlockFormat, append_crc32c
from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    MissingTileError,
    SourceRangeError,
    UnsupportedCodecError,
    UsageError,
)
from wsistore.geometry import Box, Size
from wsistore.slides import Container, LevelShape, Slide, TileRefs, TileTable, reading
from wsistore.slides import slide as slide_module
from wsistore.slides.reading import make_policy, portions
from wsistore.sources import Source

Pixels = NDArray[np.uint8]
SIDE = 16


class MemorySource(Source):
    """Bytes in memory that remember what was asked."""

    def __init__(self, data: bytes) -> None:
        self.name, self.data, self.size = "memory", data, len(data)
        self.asked: list[list[int]] = []
        self.lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        if offset + count > self.size:
            raise SourceRangeError("outside")
        return self.data[offset : offset + count]

    def read_many(self, offsets: Sequence[int], counts: Sequence[int]) -> list[memoryview]:
        with self.lock:
            self.asked.append(list(counts))
        return [memoryview(self.read(o, c)) for o, c in zip(offsets, counts, strict=True)]

    def close(self) -> None:
        self.data = b""


class MemoryTable(TileTable):
    """Raw tiles in one or more sources, dealt out in turn."""

    def __init__(self, pixels: Pixels, *, parts: int = 1, checksum: str = "", codec: str = "none"):
        height, width = pixels.shape[:2]
        super().__init__(Size(width, height), BlockFormat(codec, SIDE, SIDE), checksum)
        columns, rows = self.grid
        padded = np.zeros((rows * SIDE, columns * SIDE, 3), np.uint8)
        padded[:height, :width] = pixels
        self.refs = TileRefs(
            np.zeros((rows, columns), np.int32),
            np.zeros((rows, columns), np.int64),
            np.zeros((rows, columns), np.int64),
        )
        blobs = [bytearray() for _ in range(parts)]
        for i in range(rows * columns):
            row, column = divmod(i, columns)
            tile = padded[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            block = append_crc32c(tile.tobytes()) if checksum else tile.tobytes()
            blob = blobs[i % parts]
            self.refs.parts[row, column] = i % parts
            self.refs.offsets[row, column] = len(blob)
            self.refs.counts[row, column] = len(block)
            blob += block
        self.sources = [MemorySource(bytes(blob)) for blob in blobs]
        self.lost: set[tuple[int, int]] = set()

    def locate(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> TileRefs:
        if any(cell in self.lost for cell in zip(columns.tolist(), rows.tolist(), strict=True)):
            raise CorruptSlideError("an entry points outside of the file")
        r = self.refs
        return TileRefs(r.parts[rows, columns], r.offsets[rows, columns], r.counts[rows, columns])

    def source(self, part: int) -> Source:
        return self.sources[part]


class MemoryContainer(Container):
    format = "memory"
    mpp = None
    magnification = None

    def __init__(self, table: TileTable) -> None:
        self.levels = (LevelShape(table.size, 1.0, table.tile_size),)
        self.properties = MappingProxyType({})
        self.associated = MappingProxyType({})
        self.table = table

    def tile_table(self, level: int) -> TileTable:
        return self.table

    def fingerprint(self) -> str:
        return "memory"

    def close(self) -> None:
        pass


def _pixels(width: int = 100, height: int = 70) -> Pixels:
    return np.random.default_rng(3).integers(0, 255, (height, width, 3), np.uint8)


def _slide(table: TileTable, **options: object) -> Slide:
    return Slide(MemoryContainer(table), "memory.slide", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("checksum", ["", "crc32c"])
@pytest.mark.parametrize("threads", [1, 4])
def test_regions_come_back_as_they_are(parts: int, checksum: str, threads: int) -> None:
    pixels = _pixels()
    slide = _slide(MemoryTable(pixels, parts=parts, checksum=checksum))
    whole = slide.read_level(0, Box(0, 0, 100, 70), threads=threads)
    assert np.array_equal(whole, pixels)
    part = slide.read_level(0, Box(13, 17, 60, 40), threads=threads)
    assert np.array_equal(part, pixels[17:57, 13:73])


@given(st.lists(st.integers(-1, 50), max_size=60), st.integers(1, 120))
def test_portions_hold_all_tiles_in_order_within_the_budget(counts: list[int], budget: int) -> None:
    array = np.array(counts, np.int64)
    cut = list(portions(array, budget))
    assert [i for part in cut for i in range(part.start, part.stop)] == list(range(len(counts)))
    for part in cut:
        held = np.maximum(array[part], 0)
        assert held.sum() <= budget or len(held) == 1
    sums = [int(np.maximum(array[part], 0).sum()) for part in cut]
    firsts = [max(0, counts[part.start]) for part in cut[1:]]
    assert all(a + b > budget for a, b in zip(sums, firsts, strict=False))  # none too small


@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_read_is_fetched_in_portions_and_each_tile_once(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    block = SIDE * SIDE * 3
    monkeypatch.setattr(reading, "PORTION_BYTES", 5 * block)
    monkeypatch.setattr(reading, "PORTION_TILES", 12)
    pixels = _pixels()
    table = MemoryTable(pixels)
    got = _slide(table).read_level(0, Box(0, 0, 100, 70), threads=threads)
    assert np.array_equal(got, pixels)
    asked = table.sources[0].asked
    assert sum(map(len, asked)) == 35
    assert max(sum(counts) for counts in asked) <= 5 * block


def test_a_region_asks_for_its_own_tiles_alone() -> None:
    table = MemoryTable(_pixels())
    _slide(table).read_region((17, 17), 0, (16, 16))
    assert [len(counts) for counts in table.sources[0].asked] == [4]


def _with_bad_tiles() -> tuple[MemoryTable, Pixels]:
    """Return a table without tile (1, 2), with tile (3, 1) cut short, and its true pixels."""
    pixels = _pixels()
    table = MemoryTable(pixels)
    table.refs.counts[2, 1] = 0
    table.refs.counts[1, 3] -= 5
    return table, pixels


@pytest.mark.parametrize(
    ("policy", "missing", "damaged"),
    [("fill-missing", "fill", "raise"), ("raise", "raise", "raise"), ("fill", "fill", "fill")],
)
@pytest.mark.parametrize("by_call", [False, True])
def test_what_becomes_of_bad_tiles(policy: str, missing: str, damaged: str, by_call: bool) -> None:
    table, pixels = _with_bad_tiles()
    other = "raise" if policy == "fill" else "fill"
    slide = _slide(table, on_bad_tile=other if by_call else policy, fill=(9, 8, 7))
    override = policy if by_call else None
    for (column, row), fate, error in (
        ((1, 2), missing, MissingTileError),
        ((3, 1), damaged, DamagedTileError),
    ):
        x, y = column * SIDE - 3, row * SIDE - 3
        if fate == "raise":
            with pytest.raises(
                error, match=rf"^memory: level 0, tile column {column}, row {row}: "
            ):
                slide.read_region((x, y), 0, (20, 20), on_bad_tile=override)
            continue
        got = slide.read_region((x, y), 0, (20, 20), on_bad_tile=override)
        expected = pixels[y : y + 20, x : x + 20].copy()
        expected[3:19, 3:19] = (9, 8, 7)
        assert np.array_equal(got, expected)
        assert (0, column, row) in {(bad.level, bad.column, bad.row) for bad in slide.bad_tiles}
    reasons = [bad.reason for bad in slide.bad_tiles]
    assert ("missing" in reasons) is (missing == "fill")
    assert len(reasons) == (missing == "fill") + (damaged == "fill")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_tile_is_listed_once_however_often_it_is_met(threads: int) -> None:
    table, _ = _with_bad_tiles()
    slide = _slide(table, on_bad_tile="fill")
    for _ in range(3):
        slide.read_level(0, Box(0, 0, 100, 70), threads=threads)
    assert sorted((bad.column, bad.row) for bad in slide.bad_tiles) == [(1, 2), (3, 1)]


def test_the_list_of_bad_tiles_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_module, "MAX_BAD_TILES", 4)
    table = MemoryTable(_pixels())
    table.refs.counts[:] = 0
    slide = _slide(table)
    assert slide.notes == ()
    got = slide.read_level(0, Box(0, 0, 100, 70))
    assert np.unique(got).tolist() == [255]
    assert len(slide.bad_tiles) == 4
    assert "more tiles are bad" in slide.notes[-1]


def test_an_error_in_one_of_many_threads_is_raised() -> None:
    table, _ = _with_bad_tiles()
    with pytest.raises(DamagedTileError, match="column 3, row 1"):
        _slide(table).read_level(0, Box(0, 0, 100, 70), threads=4)


def test_an_entry_that_leads_nowhere_costs_that_tile_alone() -> None:
    pixels = _pixels()
    table = MemoryTable(pixels)
    table.lost = {(2, 0)}
    with pytest.raises(CorruptSlideError):
        _slide(table).read_region((0, 0), 0, (64, 16))
    slide = _slide(table, on_bad_tile="fill")
    got = slide.read_region((0, 0), 0, (64, 16))
    expected = pixels[:16, :64].copy()
    expected[:, 32:48] = 255
    assert np.array_equal(got, expected)
    (bad,) = slide.bad_tiles
    assert (bad.column, bad.row) == (2, 0)
    assert "outside of the file" in bad.reason


def test_a_checksum_that_does_not_match_is_damage() -> None:
    table = MemoryTable(_pixels(), checksum="crc32c")
    data = bytearray(table.sources[0].data)
    data[100] ^= 1
    table.sources[0].data = bytes(data)
    with pytest.raises(DamagedTileError, match=r"row 0: .*crc32c"):
        _slide(table).read_region((0, 0), 0, (4, 4))


@pytest.mark.parametrize(("checksum", "integrity"), [("", "strict"), ("crc32c", "fast")])
def test_decoding_may_stop_early_only_where_a_checksum_vouches(
    checksum: str, integrity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spy(*args: object, integrity: str = "strict", **options: object) -> None:
        seen.append(integrity)

    monkeypatch.setattr(reading, "decode", spy)
    _slide(MemoryTable(_pixels(), checksum=checksum)).read_region((0, 0), 0, (4, 4))
    assert seen == [integrity]


def test_a_missing_tile_has_no_checksum_either() -> None:
    table = MemoryTable(_pixels(), checksum="crc32c")
    table.refs.counts[0, 0] = 0
    slide = _slide(table)
    slide.read_region((0, 0), 0, (4, 4))
    assert [bad.reason for bad in slide.bad_tiles] == ["missing"]


def test_a_missing_decoder_is_never_painted_over() -> None:
    table = MemoryTable(_pixels(), codec="hologram")
    with pytest.raises(UnsupportedCodecError):
        _slide(table, on_bad_tile="fill").read_region((0, 0), 0, (4, 4))


def test_fetching_errors_are_not_bad_tiles() -> None:
    table = MemoryTable(_pixels())
    table.refs.offsets[0, 0] = 10**9
    with pytest.raises(SourceRangeError):
        _slide(table, on_bad_tile="fill").read_region((0, 0), 0, (4, 4))


@pytest.mark.parametrize("fill", [-1, 256, 0.5, "red", (1, 2), None, (0, 0, 300)])
def test_colours_that_are_none(fill: object) -> None:
    with pytest.raises(UsageError, match="fill"):
        make_policy("fill", fill)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["", "ignore", "Fill", None])
def test_policies_that_are_none(word: str) -> None:
    with pytest.raises(UsageError, match="on_bad_tile"):
        make_policy(word, 255)
