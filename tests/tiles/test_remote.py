"""Batches from object storage: equal to local ones, faults in their place."""

import functools
import http.server
import itertools
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import wsistore
from wsistore.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceUnavailableError,
    WsistoreError,
)
from wsistore.sources import open_place
from wsistore.sources.configuring import VARIABLE
from wsistore.testing.faults import Status
from wsistore.testing.server import FaultServer
from wsistore.tiles import SlideCache, TileIndex, TileLoader, TileSampler, iter_tiles, read_tiles

SIDE = 64


def upload(folder, url):
    place = open_place(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place.put(path.relative_to(folder).as_posix(), path.read_bytes())


@pytest.fixture(scope="module")
def folder(aperio, tmp_path_factory):
    """Three SVS files and a converted copy of each."""
    folder = tmp_path_factory.mktemp("slides")
    for seed in (1, 2, 3):
        slide = aperio("jpeg_rgb_tables", size=(430, 300), tile=64, levels=(1, 4), seed=seed)
        (folder / f"{seed}.svs").write_bytes(Path(slide.path).read_bytes())
        wsistore.convert(folder / f"{seed}.svs", folder / f"{seed}.ome.zarr").raise_for_failures()
    return folder


@pytest.fixture
def remote(folder, bucket):
    upload(folder, bucket)
    return bucket


def paths(root, suffix):
    return [f"{root}/{seed}{suffix}" for seed in (1, 2, 3)]


def places(count, seed=0):
    rng = np.random.default_rng(seed)
    return [(i % 3, *map(int, rng.integers(-40, (420, 290)))) for i in range(count)]


def index_of(root, suffix=".svs"):
    return TileIndex.from_positions(
        [
            (path, np.random.default_rng(seed).integers(0, (360, 230), (16, 2)))
            for seed, path in enumerate(paths(root, suffix))
        ]
    )


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder with ranges; notes what is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, asked = path.read_bytes(), self.headers.get("Range")
        self.server.log.append((path.name, asked))
        first, last = 0, len(data) - 1
        if asked is not None:
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            if start:
                first, last = int(start), min(int(stop), len(data) - 1)
            else:
                first = max(0, len(data) - int(stop))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *_):
        pass


@pytest.fixture
def web(folder):
    """HTTP server of the slides; its `log` holds the GETs."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.log = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("suffix", [".svs", ".ome.zarr"])
def test_over_http_batches_are_equal_and_tile_tables_are_read_once(folder, web, suffix):
    root = f"http://127.0.0.1:{web.server_port}"
    cache = SlideCache()
    for seed in (0, 1):
        local = [(paths(folder, suffix)[s], x, y) for s, x, y in places(30, seed)]
        far = [(paths(root, suffix)[s], x, y) for s, x, y in places(30, seed)]
        if seed == 0:  # every tile's place becomes known
            for path in paths(root, suffix):
                wsistore.open_slide(path)
                cache.get(path).tile_table(0).locate_all()
        web.log.clear()
        got, report = read_tiles(far, SIDE, 0, cache=cache, return_report=True)
        assert np.array_equal(got, read_tiles(local, SIDE, 0))
        assert len(web.log) == report.requests


@pytest.mark.parametrize("suffix", [".svs", ".ome.zarr"])
def test_remote_batches_equal_local_ones(folder, remote, suffix):
    cases = [
        {"resolution": 0},
        {"resolution": 0, "layout": "nchw", "threads": 3},
        {"resolution": 1, "threads": 1},
        {"resolution": "20x", "integrity": "fast"},
    ]
    for case in cases:
        local = [(paths(folder, suffix)[s], x, y) for s, x, y in places(40)]
        far = [(paths(remote, suffix)[s], x, y) for s, x, y in places(40)]
        expected, told = read_tiles(local, SIDE, return_report=True, **case)
        got, report = read_tiles(far, SIDE, return_report=True, **case)
        assert np.array_equal(got, expected)
        assert np.array_equal(report.valid_fraction, told.valid_fraction)
        assert report.tiles_decoded == told.tiles_decoded
        assert report.bytes_read == told.bytes_read
        assert told.requests == told.bytes_fetched == 0
        assert 0 < report.requests <= report.tiles_decoded
        assert report.bytes_fetched >= report.bytes_read


def test_batches_of_local_and_remote_slides_are_mixed(folder, remote):
    roots = (remote, folder)
    mixed = [(paths(roots[i % 2], ".svs")[s], x, y) for i, (s, x, y) in enumerate(places(20))]
    local = [(paths(folder, ".svs")[s], x, y) for s, x, y in places(20)]
    assert np.array_equal(read_tiles(mixed, SIDE, 0), read_tiles(local, SIDE, 0))


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("suffix", [".svs", ".ome.zarr"])
def test_a_loader_gives_the_same_stream_however_far_it_fetches_ahead(
    folder, remote, suffix, prefetch
):
    def stream(root, **options):
        sampler = TileSampler(index_of(root, suffix), 8, seed=3)
        return TileLoader(sampler, SIDE, 0, **options)

    far = stream(remote, prefetch=prefetch, prefetch_bytes=30_000)
    pairs = list(zip(far, stream(folder), strict=True))
    assert len(pairs) == 6
    for got, expected in pairs:
        assert got["number"] == expected["number"]
        assert np.array_equal(got["row"], expected["row"])
        assert np.array_equal(got["image"], expected["image"])
    assert far.fetch_stats.requests > 0
    assert far.fetch_stats.peak_bytes <= 30_000


@pytest.mark.parametrize("cache_bytes", [0, 30_000, 1 << 20])
def test_walks_equal_local_ones_and_fetch_a_tile_once(folder, remote, cache_bytes):
    grid = [(x, y) for y in range(0, 240, 50) for x in range(0, 370, 50)]
    options = {"batch_size": 7, "prefetch": 3, "cache_bytes": cache_bytes}
    got = list(iter_tiles(f"{remote}/1.svs", grid, SIDE, 0, **options))
    expected = list(iter_tiles(folder / "1.svs", grid, SIDE, 0, **options))
    assert [b.start for b in got] == [b.start for b in expected]
    assert all(np.array_equal(g.pixels, e.pixels) for g, e in zip(got, expected, strict=True))
    if cache_bytes == 1 << 20:
        tiles = 7 * 5  # of 64 px on 430 x 300
        assert sum(b.report.tiles_decoded for b in got) == tiles


def test_a_slide_that_changes_under_the_sampler_is_an_error(folder, remote):
    cache = SlideCache()
    url = f"{remote}/1.svs"
    read_tiles([(url, 0, 0)], SIDE, 0, cache=cache)
    other = bytearray((folder / "1.svs").read_bytes())
    other[-1] ^= 1
    open_place(remote).put("1.svs", bytes(other))
    with pytest.raises(SourceChangedError, match=r"1\.svs"):
        read_tiles([(url, 200, 200)], SIDE, 0, cache=cache)


def test_what_was_deleted_raises_or_is_filled_and_reported(remote, folder):
    cache = SlideCache()
    far = [(paths(remote, ".svs")[s], x, y) for s, x, y in places(30)]
    read_tiles(far, SIDE, 0, cache=cache)
    open_place(remote).delete(["2.svs"])
    with pytest.raises(WsistoreError, match=r"2\.svs"):
        read_tiles(far, SIDE, 0, cache=cache)
    got, report = read_tiles(
        far, SIDE, 0, cache=cache, on_bad_tile="fill", fill=7, return_report=True
    )
    local = [(paths(folder, ".svs")[s], x, y) for s, x, y in places(30)]
    expected = read_tiles(local, SIDE, 0, fill=7)
    for number, (slide, _, _) in enumerate(places(30)):
        if slide == 1:
            assert (got[number] == 7).all()
            assert report.valid_fraction[number] == 0
        else:
            assert np.array_equal(got[number], expected[number])
    assert {far[fault.request][0] for fault in report.faults} == {f"{remote}/2.svs"}


def test_one_absent_slide_costs_only_its_own_patches(remote):
    far = [(f"{remote}/1.svs", 0, 0), (f"{remote}/absent.svs", 0, 0)]
    with pytest.raises(SourceError):
        read_tiles(far, SIDE, 0, cache=SlideCache())
    got, report = read_tiles(
        far, SIDE, 0, cache=SlideCache(), on_bad_tile="fill", return_report=True
    )
    assert report.valid_fraction.tolist() == [1.0, 0.0]
    assert not (got[0] == 255).all()
    assert [fault.request for fault in report.faults] == [1]


def test_an_error_comes_in_its_batchs_place(remote):
    cache = SlideCache()
    index = TileIndex.from_positions([(path, [(0, 0)] * 4) for path in paths(remote, ".svs")])
    sampler = TileSampler(index, 2, seed=1)
    first_bad = next(d.number for d in sampler.batches(0) if (index.slide[d.rows] == 1).any())
    for path in paths(remote, ".svs"):
        cache.get(path)
    open_place(remote).delete(["2.svs"])
    loader = TileLoader(sampler, SIDE, 0, prefetch=4, cache=cache)
    seen = []
    with pytest.raises(WsistoreError, match=r"2\.svs"):
        seen += [batch["number"] for batch in loader]
    assert loader.sampler.done == first_bad
    assert loader.state_dict()["done"] == first_bad


def test_a_loader_left_early_ends_its_fetches(remote):
    loader = TileLoader(TileSampler(index_of(remote), 2, seed=3), SIDE, 0, prefetch=8)
    walk = iter(loader)
    next(walk)
    walk.close()
    after = loader.fetch_stats.requests
    assert after < 24 * 8  # of the whole epoch
    assert len(list(loader)) == 24  # the next epoch is none the worse


FORKED = """
    import os, sys
    import numpy as np
    from wsistore.errors import SourceError
    from wsistore.tiles import read_tiles
    request = [(sys.argv[1], 0, 0)]
    read_tiles(request, 64, 0)
    pid = os.fork()
    if pid == 0:
        try:
            read_tiles(request, 64, 0)
        except SourceError as error:
            os._exit(7 if "fork" in error.message else 8)
        os._exit(9)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_forked_child_is_told_instead_of_waiting_forever(remote):
    command = [sys.executable, "-c", textwrap.dedent(FORKED), f"{remote}/1.svs"]
    assert subprocess.run(command, check=False, timeout=60, env=os.environ).returncode == 7


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["map", "stream"])
def test_spawned_workers_of_a_data_loader_read_remote_slides(folder, remote, kind):
    torch_data = pytest.importorskip("torch.utils.data")
    from wsistore.tiles import TileDataset, TileStream, collate_tiles

    def batches(root, workers):
        sampler = TileSampler(index_of(root), 8, seed=3)
        options = {"num_workers": workers}
        if workers:
            options["multiprocessing_context"] = multiprocessing.get_context("spawn")
        if kind == "map":
            data = TileDataset(sampler.index, SIDE, 0)
            options |= {"batch_sampler": sampler, "collate_fn": collate_tiles}
        else:
            data = TileStream(sampler, SIDE, 0)
            options |= {"batch_size": None}
        return list(torch_data.DataLoader(data, **options))

    got = {int(b["number"]): b["image"].numpy() for b in batches(remote, 2)}
    expected = {int(b["number"]): b["image"].numpy() for b in batches(folder, 0)}
    assert got.keys() == expected.keys()
    assert all(np.array_equal(got[number], expected[number]) for number in got)


def test_an_outage_is_never_painted_over(remote, monkeypatch):
    # What was painted while a server failed would look like a damaged slide for ever.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(VARIABLE, '{"": {"deadline_s": 0.2}}')
    with pytest.raises(SourceUnavailableError, match=r"1\.svs"):
        read_tiles([(f"{remote}/1.svs", 0, 0)], SIDE, 0, cache=SlideCache(), on_bad_tile="fill")


def test_what_may_not_be_read_any_more_is_never_painted_over(folder):
    cache = SlideCache()
    with FaultServer(folder) as server:
        url = f"{server.url}/1.svs"
        cache.get(url)
        server.play(itertools.repeat(Status(403)))
        with pytest.raises(SourceAccessError, match=r"1\.svs"):
            read_tiles([(url, 200, 200)], SIDE, 0, cache=cache, on_bad_tile="fill")
