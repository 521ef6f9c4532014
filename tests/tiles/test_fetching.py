"""Fetching ahead against sources in memory: budget, order, joining, cancelling."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from wsistore.codecs import BlockFormat
from wsistore.errors import CorruptSlideError, SourceError, UsageError
from wsistore.geometry import Resolution, Size
from wsistore.slides.model import TileRefs, TileTable
from wsistore.sources import Source, io_threads
from wsistore.tiles.engine import Use, Work
from wsistore.tiles.fetching import FetchQueue
from wsistore.tiles.model import NormalRequest
from wsistore.tiles.remote_plan import GROUP_TILES, FetchLimits, cells_of, find_wanted, is_remote
from wsistore.tiles.views import View

TILE = 10
COUNT = 1000
"""Bytes of each encoded tile."""
RESOLUTION = Resolution.level(0)


class Memory(Source):
    """An object in memory that notes what is asked of it, and can be held back."""

    def __init__(self, name, size):
        self.name, self.size = name, size
        self.data = np.random.default_rng(size).bytes(size)
        self.asked = []
        self.open = threading.Event()
        self.open.set()
        self.broken = None

    def read(self, offset, count):
        return bytes(self.read_many([offset], [count])[0])

    def read_many(self, offsets, counts):
        self.asked.append((offsets[0], counts[0]))
        assert self.open.wait(30)
        if self.broken is not None and offsets[0] <= self.broken < offsets[0] + counts[0]:
            raise SourceError(f"{self.name}: no answer")
        return [memoryview(self.data)[o : o + c] for o, c in zip(offsets, counts, strict=True)]

    def close(self):
        pass


class Table(TileTable):
    """A grid of tiles one after the other, `pause` bytes between two; some are missing."""

    def __init__(self, columns, rows, pause=0, missing=()):
        form = BlockFormat("none", TILE, TILE, 3)
        super().__init__(Size(columns * TILE, rows * TILE), form)
        self.pause, self.missing = pause, missing
        self.memory = Memory("memory://slide", columns * rows * (COUNT + pause))
        self.refused = ()

    def locate(self, columns, rows):
        numbers = rows * self.grid.width + columns
        if any(int(number) in self.refused for number in numbers):
            raise CorruptSlideError("an entry points outside")
        counts = np.where(np.isin(numbers, self.missing), 0, COUNT)
        parts = np.zeros(len(numbers), np.int32)
        return TileRefs(parts, numbers * (COUNT + self.pause), counts.astype(np.int64))

    def source(self, part):
        return self.memory

    def block(self, row, column):
        start = (row * self.grid.width + column) * (COUNT + self.pause)
        return self.memory.data[start : start + COUNT]


class Reader:
    """Views over tables in memory, by the name of the slide."""

    def __init__(self, **tables):
        self.views = {f"memory://{name}": self.make(t) for name, t in tables.items()}

    def make(self, table):
        slide = SimpleNamespace(
            name="slide",
            tile_table=lambda level: table,
            levels=[SimpleNamespace(size=table.size)],
        )
        return View(slide, 0, 1.0, 1, 1.0, False)

    def view(self, slide, resolution):
        return self.views[slide]

    def window(self, view):
        return Size(TILE, TILE)


def requests(*places, slide="a"):
    return [NormalRequest(f"memory://{slide}", x, y, RESOLUTION) for x, y in places]


def work_of(reader, batch):
    """Return the work of a batch, as the engine plans it."""
    works = {}
    for number, request in enumerate(batch):
        view = reader.view(request.slide, request.resolution)
        work = works.setdefault(id(view), Work(view))
        for cell in cells_of(view, request, reader.window(view)):
            work.uses.setdefault(cell, []).append(Use(number, 0, 0, None))
    return list(works.values())


def decode(reader, batch, fetched):
    """Take all units of a batch; return their blocks by cell."""
    got = {}
    for unit in fetched.units(work_of(reader, batch)):
        got.update(zip(unit.cells, fetched.blocks(unit.work.view, unit.cells), strict=True))
        got = {cell: bytes(block) for cell, block in got.items()}
        fetched.done(unit)
    return got


@pytest.mark.parametrize("budget", [COUNT, 3 * COUNT, 100 * COUNT])
def test_no_more_than_the_budget_is_in_flight_or_waits(budget):
    table = Table(40, 40, pause=500)
    reader = Reader(a=table)
    rng = np.random.default_rng(4)
    batches = [requests(*rng.integers(0, 380, (8, 2)).tolist()) for _ in range(6)]
    table.memory.open.clear()
    with FetchQueue(FetchLimits(gap=0, budget=budget)) as queue:
        begun = [queue.begin(reader, batch) for batch in batches]
        held = []
        real = table.memory.read_many

        def read_many(offsets, counts):
            held.append(queue.held_bytes)
            return real(offsets, counts)

        table.memory.read_many = read_many
        table.memory.open.set()
        for batch, fetched in zip(batches, begun, strict=True):
            got = decode(reader, batch, fetched)
            assert got == {cell: table.block(*cell) for cell in got}
            assert got.keys() == {c for w in work_of(reader, batch) for c in w.uses}
            fetched.close()
        assert max(held) <= budget
        assert queue.held_bytes == 0
        assert queue.stats.peak_bytes <= budget
        wanted = sum(len(w.uses) for batch in batches for w in work_of(reader, batch))
        assert queue.stats.bytes_needed == queue.stats.bytes_fetched == wanted * COUNT


def test_what_is_begun_waits_for_its_bytes_to_be_given_back():
    reader = Reader(a=Table(40, 1))
    first, second = requests((0, 0)), requests((200, 0))
    with FetchQueue(FetchLimits(budget=COUNT)) as queue:
        a = queue.begin_now(reader, first)
        b = queue.begin_now(reader, second)
        (unit,) = a.units(work_of(reader, first))
        assert queue.stats.requests == 1  # the second batch has to wait
        a.done(unit)
        assert queue.stats.requests == 2
        assert decode(reader, second, b) == {(0, 20): reader.views["memory://a"].table.block(0, 20)}


def test_a_tile_larger_than_the_budget_is_let_through_alone():
    reader = Reader(a=Table(4, 1))
    batch = requests((5, 0), (20, 0))
    with FetchQueue(FetchLimits(budget=10)) as queue:
        fetched = queue.begin(reader, batch)
        assert len(decode(reader, batch, fetched)) == 3
        assert queue.stats.peak_bytes == COUNT


@pytest.mark.parametrize(("gap", "asked"), [(0, 4), (499, 4), (500, 2), (18 * 1500 + 500, 1)])
def test_tiles_are_joined_up_to_the_gap(gap, asked):
    table = Table(20, 2, pause=500)
    reader = Reader(a=table)
    batch = requests((5, 5))  # two tiles in each of two rows
    with FetchQueue(FetchLimits(gap=gap)) as queue:
        decode(reader, batch, queue.begin_now(reader, batch))
        assert queue.stats.requests == len(table.memory.asked) == asked
        assert queue.stats.bytes_needed == 4 * COUNT
        assert queue.stats.bytes_fetched == sum(count for _, count in table.memory.asked)


def test_groups_are_small_enough_for_decoding_to_start_early():
    reader = Reader(a=Table(100, 1, pause=100))
    wanted = find_wanted(
        reader, requests(*((10 * i, 0) for i in range(100))), _at_once, FetchLimits(gap=0)
    )
    assert [len(list(g.cells())) for g in wanted.groups] == [GROUP_TILES] * 6 + [4]


def test_slides_are_asked_side_by_side_and_decoded_as_they_come():
    tables = {name: Table(4, 4) for name in "abc"}
    reader = Reader(**tables)
    batch = [r for name in "abc" for r in requests((0, 0), slide=name)]
    tables["a"].memory.open.clear()
    with FetchQueue() as queue:
        fetched = queue.begin_now(reader, batch)
        units = fetched.units(work_of(reader, batch))
        first = {id(next(units).work.view) for _ in range(2)}
        assert first == {id(reader.views["memory://b"]), id(reader.views["memory://c"])}
        tables["a"].memory.open.set()
        assert next(units).work.view is reader.views["memory://a"]


def test_missing_tiles_ask_for_nothing():
    table = Table(4, 1, missing=(1,))
    reader = Reader(a=table)
    batch = requests((5, 0))
    with FetchQueue() as queue:
        got = decode(reader, batch, queue.begin_now(reader, batch))
    assert got == {(0, 0): table.block(0, 0), (0, 1): b""}
    assert table.memory.asked == [(0, COUNT)]


def test_requests_run_in_the_threads_that_all_remote_readers_share():
    table, threads = Table(40, 1, pause=100_000), set()
    read = table.memory.read_many

    def noting(offsets, counts):
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return read(offsets, counts)

    table.memory.read_many = noting
    reader = Reader(a=table)
    wanted = requests(*((50 * number, 0) for number in range(8)))
    with FetchQueue() as queue, queue.begin(reader, wanted) as batch:
        decode(reader, wanted, batch)
    shared = io_threads.submit(threading.current_thread).result()
    assert threads == {shared.name.rpartition("_")[0]}


def test_errors_are_those_of_the_tiles_that_they_befell():
    table = Table(9, 1, pause=10)
    table.memory.broken = 2 * 1010
    table.refused = (5,)
    reader = Reader(a=table)
    view = reader.views["memory://a"]
    batch = requests((0, 0), (20, 0), (50, 0))
    with FetchQueue(FetchLimits(gap=0)) as queue:
        fetched = queue.begin_now(reader, batch)
        units = list(fetched.units(work_of(reader, batch)))
        assert sorted(c for unit in units for c in unit.cells) == [(0, 0), (0, 2), (0, 5)]
        assert bytes(fetched.blocks(view, [(0, 0)])[0]) == table.block(0, 0)
        with pytest.raises(SourceError, match="no answer"):
            fetched.blocks(view, [(0, 0), (0, 2)])
        with pytest.raises(CorruptSlideError, match="points outside"):
            fetched.blocks(view, [(0, 5)])


def test_closing_drops_what_has_not_begun():
    table = Table(100, 1, pause=10)
    reader = Reader(a=table)
    table.memory.open.clear()
    queue = FetchQueue(FetchLimits(gap=0, budget=2 * COUNT))
    fetched = queue.begin_now(reader, requests(*((10 * i, 0) for i in range(90))))
    later = queue.begin_now(reader, requests((950, 0)))
    queue.close()
    assert fetched.closed
    assert later.closed
    table.memory.open.set()
    with pytest.raises(SourceError, match="cancelled"):
        next(fetched.units(work_of(reader, requests((0, 0)))))
    assert queue.stats.requests <= GROUP_TILES
    assert len(table.memory.asked) <= GROUP_TILES


def test_walks_want_each_tile_once():
    table = Table(10, 1)
    reader = Reader(a=table)
    with FetchQueue(once=True) as queue:
        for x in (0, 5, 12):
            queue.begin_now(reader, requests((x, 0)))
    assert queue.stats.bytes_needed == 3 * COUNT


def test_local_batches_are_not_queued():
    with FetchQueue() as queue:
        assert queue.begin(Reader(), [NormalRequest("/a/slide.svs", 0, 0, RESOLUTION)]) is None


@pytest.mark.parametrize(
    ("name", "remote"),
    [("/a/b.svs", False), ("s3://b/a.svs", True), ("https://h/a", True), ("file:///a", False)],
)
def test_what_is_remote(name, remote):
    assert is_remote(name) is remote


@pytest.mark.parametrize("limits", [{"gap": -1}, {"budget": 0}, {"request": 0}])
def test_limits_must_make_sense(limits):
    with pytest.raises(UsageError, match="limits"):
        FetchQueue(FetchLimits(**limits))


def _at_once(function, *arguments):
    from concurrent.futures import Future

    future = Future()
    future.set_result(function(*arguments))
    return future
