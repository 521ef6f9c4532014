"""Where tiles lie: right, lazily, and never outside of the file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from wsistore.errors import CorruptSlideError
from wsistore.slides.tiff import TiffTileTable
from wsistore.slides.tiff import table as table_module
from wsistore.slides.tiff.index import TiffIndex
from wsistore.slides.tiff.page import Page


@pytest.fixture
def table_of(tiffs: Any) -> Any:
    """Return the tile table of a hand-made page, and the source it reads."""

    def make(spec: Any, **layout: Any) -> tuple[TiffTileTable, Any]:
        source = tiffs.MemorySource(tiffs.build(spec, **layout))
        index = TiffIndex(source)
        page = Page(index.ifds[0])
        table = TiffTileTable(
            source, index.layout, page.segments(), page.size, page.block_format(), 3
        )
        source.reads.clear()
        return table, source

    return make


def columns_rows(*pairs: tuple[int, int]) -> tuple[Any, Any]:
    columns, rows = np.array(pairs, np.int64).reshape(-1, 2).T
    return columns, rows


def test_finds_the_tiles_of_all_layouts(tiffs: Any, table_of: Any, layout: dict[str, Any]) -> None:
    table, source = table_of(tiffs.tiled_page(), **layout)
    assert (table.grid, table.tile_size, table.size) == ((4, 3), (32, 32), (100, 70))
    refs = table.locate(*columns_rows((3, 2), (0, 0), (1, 2)))
    assert refs.parts.dtype == np.int32
    assert refs.offsets.dtype == refs.counts.dtype == np.int64
    assert not refs.parts.any()
    for number, offset, count in zip((11, 0, 9), refs.offsets, refs.counts, strict=True):
        assert source.data[offset : offset + count] == bytes([number]) * 3072
    whole = table.locate_all()
    assert whole.offsets.shape == whole.counts.shape == whole.parts.shape == (3, 4)
    assert whole.offsets[2, 3] == refs.offsets[0]
    np.testing.assert_array_equal(table.offsets, whole.offsets)
    np.testing.assert_array_equal(table.counts, whole.counts)
    assert table.source(0) is source
    with pytest.raises(IndexError):
        table.source(1)


@pytest.mark.parametrize("kind", [1, 3, 4, 16])
def test_counts_of_all_integer_types(tiffs: Any, table_of: Any, kind: int) -> None:
    counts = [number * 20 for number in range(12)]
    table, _ = table_of(tiffs.tiled_page(t325=(kind, counts)), big=True)
    assert table.counts.ravel().tolist() == counts


def test_missing_tiles_have_neither_offset_nor_count(tiffs: Any, table_of: Any) -> None:
    offsets, counts = [16] * 12, [5] * 12
    offsets[4], counts[4] = 0, 0
    offsets[5], counts[5] = 2**31, 0  # an offset without bytes leads nowhere, and may
    table, _ = table_of(tiffs.tiled_page(t324=(4, offsets), t325=(4, counts)))
    refs = table.locate(*columns_rows((0, 1), (1, 1), (2, 1)))
    assert refs.offsets.tolist() == [0, 0, 16]
    assert refs.counts.tolist() == [0, 0, 5]
    assert table.locate_all().offsets.ravel().tolist()[4:7] == [0, 0, 16]
    assert not table.is_outside().any()


LARGEST = 4 * 32 * 32 * 3 + 65536


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, 10),
        (7, 1),
        (10**6, 10),
        (2**62, 10),
        (2**63 - 1, 10),
        (2**64 - 1, 10),
        (2**64 - 5, 2**64 - 5),
        (16, 2**64 - 1),
        (16, LARGEST + 1),
        (16, 10**6),
    ],
)
def test_entries_that_point_outside_are_refused(
    tiffs: Any, table_of: Any, offset: int, count: int
) -> None:
    offsets, counts = [16] * 12, [5] * 12
    offsets[6], counts[6] = offset, count
    spec = tiffs.tiled_page(t324=(16, offsets), t325=(16, counts), t65000=(7, bytes(LARGEST)))
    table, _ = table_of(spec, big=True)
    assert table.locate(*columns_rows((1, 1), (3, 1))).counts.tolist() == [5, 5]
    message = r"memory.tif: level 3, tile column 2, row 1: .* expected at most 77824 bytes within"
    with pytest.raises(CorruptSlideError, match=message):
        table.locate(*columns_rows((1, 1), (2, 1)))
    with pytest.raises(CorruptSlideError, match=message):
        table.locate_all()
    assert np.flatnonzero(table.is_outside()).tolist() == [6]


def test_the_largest_tile_and_the_last_byte_are_inside(tiffs: Any, table_of: Any) -> None:
    def outside(offset: int, count: int) -> list[int]:
        spec = tiffs.tiled_page(
            t324=(4, [offset] + [16] * 11),
            t325=(4, [count] + [5] * 11),
            t65000=(7, bytes(LARGEST)),
        )
        table, source = table_of(spec)
        assert source.size == size
        return np.flatnonzero(table.is_outside()).tolist()

    size = len(tiffs.build(tiffs.tiled_page(t324=(4, [16] * 12), t65000=(7, bytes(LARGEST)))))
    assert outside(16, LARGEST) == []
    assert outside(16, LARGEST + 1) == [0]
    assert outside(size - 5, 5) == []
    assert outside(size - 4, 5) == [0]
    assert outside(8, 5) == []
    assert outside(7, 5) == [0]


def test_coordinates_outside_of_the_grid_are_refused(tiffs: Any, table_of: Any) -> None:
    table, _ = table_of(tiffs.tiled_page())
    for pair in ((4, 0), (0, 3), (-1, 1), (1, -1)):
        with pytest.raises(IndexError, match="outside of the grid of 4 x 3"):
            table.locate(*columns_rows(pair))
    with pytest.raises(IndexError, match="differ in shape"):
        table.locate(np.zeros(2, np.int64), np.zeros(3, np.int64))


def test_no_tiles_are_nowhere(tiffs: Any, table_of: Any) -> None:
    table, source = table_of(tiffs.tiled_page())
    refs = table.locate(*columns_rows())
    assert refs.offsets.shape == refs.counts.shape == refs.parts.shape == (0,)
    assert not source.reads


@pytest.fixture
def large(tiffs: Any, table_of: Any) -> tuple[TiffTileTable, Any]:
    """Return the table of 100 x 80 tiles, whose count is their number, and its source."""
    counts = np.arange(8000).tolist()
    spec = tiffs.tiled_page(
        1600, 1280, 16, t324=(4, [8] * 8000), t325=(4, counts), t65000=(7, bytes(10000))
    )
    table, source = table_of(tiffs.PageSpec(spec.tags))
    return table, source


def test_a_patch_reads_two_short_runs(large: tuple[TiffTileTable, Any]) -> None:
    table, source = large
    refs = table.locate(*columns_rows((50, 40), (51, 40), (50, 41), (51, 41)))
    assert refs.counts.tolist() == [4050, 4051, 4150, 4151]
    assert [count for _, count in source.reads] == [102 * 4, 102 * 4]


def test_many_lookups_or_a_wide_one_read_the_arrays_once(large: tuple[TiffTileTable, Any]) -> None:
    table, source = large
    corner = columns_rows((0, 0), (99, 79))
    assert table.locate(*corner).counts.tolist() == [0, 7999]
    assert [count for _, count in source.reads] == [32000, 32000]
    table.locate(*corner)
    table.locate(*columns_rows((50, 40)))
    assert len(source.reads) == 2


def test_lookups_by_runs_end(large: tuple[TiffTileTable, Any]) -> None:
    table, source = large
    for number in range(table_module.SPAN_LOOKUPS + 5):
        refs = table.locate(*columns_rows((number + 1, 2)))
        assert refs.counts.tolist() == [201 + number]
    assert len(source.reads) == 2 * table_module.SPAN_LOOKUPS + 2
    assert source.reads[-1][1] == 32000


def test_threads_agree(large: tuple[TiffTileTable, Any]) -> None:
    table, _ = large

    def look(seed: int) -> bool:
        chance = np.random.default_rng(seed)
        columns, rows = chance.integers(0, 100, 50), chance.integers(0, 80, 50)
        return table.locate(columns, rows).counts.tolist() == (rows * 100 + columns).tolist()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, range(64)))


def test_callers_can_not_change_the_table(tiffs: Any, table_of: Any) -> None:
    table, _ = table_of(tiffs.tiled_page())
    before = table.locate_all().offsets.copy()
    table.locate_all().offsets[:] = 0
    table.locate_all().counts[:] = 0
    table.locate(*columns_rows((1, 1))).offsets[:] = 0
    np.testing.assert_array_equal(table.locate_all().offsets, before)
    assert (table.counts == 3072).all()


def test_a_few_tiles_are_found_as_many_are(
    tiffs: Any, table_of: Any, layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tiffs.tiled_page()
    missing = page.having(t325=(4, tuple(0 if n in (2, 7) else 3072 for n in range(12))))
    table, _ = table_of(missing, **layout)
    cells = columns_rows((3, 2), (2, 0), (0, 0), (3, 1), (0, 0))
    few = table.locate(*cells)
    assert (
        (few.offsets == 0).tolist()
        == (few.counts == 0).tolist()
        == [False, True, False, True, False]
    )
    monkeypatch.setattr(table_module, "FEW", 0)
    many = table.locate(*cells)
    for name in ("parts", "offsets", "counts"):
        found, expected = getattr(few, name), getattr(many, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("few", [0, 64])
@pytest.mark.parametrize("counts", [10**6, 2**32 - 1])
def test_few_or_many_a_tile_outside_is_refused(
    tiffs: Any, table_of: Any, monkeypatch: pytest.MonkeyPatch, few: int, counts: int
) -> None:
    monkeypatch.setattr(table_module, "FEW", few)
    page = tiffs.tiled_page().having(t325=(4, (3072,) * 5 + (counts,) + (3072,) * 6))
    table, _ = table_of(page)
    assert table.locate(*columns_rows((0, 1), (2, 1))).counts.tolist() == [3072, 3072]
    with pytest.raises(CorruptSlideError, match=f"tile column 1, row 1: {counts} bytes at"):
        table.locate(*columns_rows((0, 1), (1, 1)))
    for cell in ((4, 0), (0, 3), (-1, 0), (0, -1)):
        with pytest.raises(IndexError, match="outside of the grid of 4 x 3"):
            table.locate(*columns_rows((0, 0), cell))
