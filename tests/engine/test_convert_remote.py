"""``wsistore.convert`` from and to object storage: equal bytes, resuming, races."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import wsistore
from wsistore.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceNotFoundError,
    StoreExistsError,
    StoreMismatchError,
    StoreWriteError,
    UsageError,
)
from wsistore.pyramid import conversion, objectfiles, units
from wsistore.pyramid.conversion import SlideJob, convert_slide
from wsistore.pyramid.options import ConversionOptions
from wsistore.pyramid.units import write_shard
from wsistore.sources import open_place
from wsistore.testing import write_slide
from wsistore.testing.faults import Reset
from wsistore.testing.server import FaultServer

SLIDE = {"size": (700, 500), "tile": 64, "levels": (1, 4), "distinct_tiles": 8}
SHARD = 256
MODES = {
    "copy": {"shard": SHARD},
    "copy, levels added": {"shard": SHARD, "add_levels": True},
    "zstd": {"codec": "zstd", "chunk": 128, "shard": SHARD},
    "jpeg": {"codec": "jpeg", "chunk": 128, "shard": SHARD},
    "0.4": {"codec": "zstd", "format": "0.4", "chunk": 128},
}


def objects(url):
    place = open_place(url)
    return {info.key: place.get(info.key) for info in place.list_tree()}


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("remote") / "s.svs", **SLIDE).path


@pytest.fixture(scope="module")
def stores(slide, tmp_path_factory):
    """Local stores of each mode, which remote ones must equal byte by byte."""
    root, made = tmp_path_factory.mktemp("stores"), {}

    def get(mode):
        if mode not in made:
            target = root / f"{len(made)}.ome.zarr"
            wsistore.convert(slide, target, **MODES[mode]).raise_for_failures()
            made[mode] = files(target)
        return made[mode]

    return get


@pytest.fixture
def uploaded(bucket, slide):
    open_place(bucket).put("in/s.svs", Path(slide).read_bytes())
    return f"{bucket}/in/s.svs"


@pytest.fixture
def puts(monkeypatch):
    """Keys of shards and chunks that were written, counted."""
    counted = Counter()
    put = objectfiles.PartWriter.write

    def write(self, key, pieces):
        put(self, key, pieces)
        counted[key] += 1

    monkeypatch.setattr(objectfiles.PartWriter, "write", write)
    return counted


def only(place):
    """Return the names at the root of a bucket but that of the sources."""
    return [name for name in place.list_names() if name != "in/"]


@pytest.mark.parametrize("mode", MODES)
def test_any_way_gives_the_bytes_of_a_local_conversion(
    mode, slide, uploaded, bucket, stores, tmp_path
):
    expected, options = stores(mode), MODES[mode]
    wsistore.convert(slide, f"{bucket}/up.zarr", **options).raise_for_failures()
    wsistore.convert(uploaded, f"{bucket}/across.zarr", **options).raise_for_failures()
    wsistore.convert(uploaded, tmp_path / "down.zarr", **options).raise_for_failures()
    assert objects(f"{bucket}/up.zarr") == expected
    assert objects(f"{bucket}/across.zarr") == expected
    assert files(tmp_path / "down.zarr") == expected
    assert only(open_place(bucket)) == ["across.zarr/", "up.zarr/"]


@pytest.mark.parametrize("block", [1, 4096, 1 << 20])
def test_large_shards_go_up_in_parts_as_they_come(slide, bucket, stores, monkeypatch, block):
    monkeypatch.setattr(objectfiles, "SINGLE_BYTES", 4096)
    monkeypatch.setattr(objectfiles, "BLOCK_BYTES", block)
    wsistore.convert(slide, f"{bucket}/x.zarr", **MODES["zstd"]).raise_for_failures()
    assert objects(f"{bucket}/x.zarr") == stores("zstd")


def test_a_shard_costs_one_request_to_write(slide, bucket, s3_server, stores, monkeypatch):
    with FaultServer.before(s3_server) as server, monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", server.url)
        patched.setattr(objectfiles, "BLOCK_BYTES", 1024)  # of larger ones
        wsistore.convert(slide, f"{bucket}/x.zarr", **MODES["copy"]).raise_for_failures()
        wrote = [r for r in server.requests if "/x.zarr/" in r.path and "/c/0/" in r.path]
        wrote = [r for r in wrote if "associated" not in r.path]
    shards = {name for name in stores("copy") if "/c/0/" in name and "associated" not in name}
    assert [request.method for request in wrote] == ["PUT"] * len(shards)


def test_batches_are_read_ahead(uploaded, bucket, stores, monkeypatch):
    monkeypatch.setattr("wsistore.pyramid.copying.REMOTE_BATCH_BYTES", 4096)
    wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["copy"]).raise_for_failures()
    assert objects(f"{bucket}/x.zarr") == stores("copy")


def test_processes_convert_remote_slides(uploaded, bucket, stores):
    report = wsistore.convert(
        uploaded, f"{bucket}/x.zarr", scheduler="processes", workers=2, **MODES["copy"]
    )
    report.raise_for_failures()
    assert objects(f"{bucket}/x.zarr") == stores("copy")


class CutError(Exception):
    """Ends a run."""


def job(source, store, mode="copy"):
    return SlideJob(source=source, store=store, options=ConversionOptions(**MODES[mode]))


def run_all(tasks):
    for task in tasks:
        yield write_shard(task)


def cut_after(count):
    left = iter(range(count))

    def run(tasks):
        for task in tasks:
            if next(left, None) is None:
                raise CutError
            yield write_shard(task)

    return run


def cut_short(job, shards):
    with pytest.raises(CutError):
        convert_slide(job, cut_after(shards), lambda event: None)


def test_a_run_that_is_cut_resumes_and_writes_only_what_is_missing(uploaded, bucket, stores, puts):
    wanted = job(uploaded, f"{bucket}/x.zarr")
    cut_short(wanted, 3)
    place = open_place(bucket)
    assert place.get("x.zarr/zarr.json") is None
    assert only(place) == [".x.zarr.partial/", "x.zarr/"]
    first = dict(puts)
    puts.clear()
    result = convert_slide(wanted, run_all, lambda event: None)
    assert (len(first), result.kept) == (3, 3)
    assert not first.keys() & puts.keys()
    assert objects(f"{bucket}/x.zarr") == stores("copy")
    assert only(place) == ["x.zarr/"]


@pytest.mark.parametrize("mode", ["copy", "0.4"])
def test_a_shard_of_equal_size_and_other_bytes_is_noticed_by_its_etag(
    mode, uploaded, bucket, stores, puts
):
    wanted = job(uploaded, f"{bucket}/x.zarr", mode)
    cut_short(wanted, 2)
    key = min(puts)
    place = open_place(bucket)
    data = bytearray(place.get(f"x.zarr/{key}"))
    data[len(data) // 2] ^= 1
    place.put(f"x.zarr/{key}", bytes(data))
    puts.clear()
    assert convert_slide(wanted, run_all, lambda event: None).kept == 1
    assert puts[key] == 1
    assert objects(f"{bucket}/x.zarr") == stores(mode)


def test_a_shard_that_was_taken_away_is_written_again(uploaded, bucket, stores, puts):
    wanted = job(uploaded, f"{bucket}/x.zarr")
    cut_short(wanted, 2)
    open_place(bucket).delete([f"x.zarr/{next(iter(puts))}"])
    assert convert_slide(wanted, run_all, lambda event: None).kept == 1
    assert objects(f"{bucket}/x.zarr") == stores("copy")


def test_shards_are_read_where_the_server_tells_no_etags(uploaded, bucket, stores, monkeypatch):
    monkeypatch.setattr(objectfiles, "plain_etag", lambda etag: "")
    wanted = job(uploaded, f"{bucket}/x.zarr")
    cut_short(wanted, 2)
    place = open_place(bucket)
    for info in list(place.list_tree("x.zarr/0/c")):
        data = bytearray(place.get(info.key))
        data[0] ^= 1
        place.put(info.key, bytes(data))
        break
    assert convert_slide(wanted, run_all, lambda event: None).kept == 1
    assert objects(f"{bucket}/x.zarr") == stores("copy")


def test_a_process_that_is_killed_leaves_work_for_the_next(uploaded, bucket, stores, puts):
    code = f"""
import os, signal, threading
from wsistore.pyramid import units
from wsistore.pyramid.conversion import SlideJob, convert_slide
from wsistore.pyramid.options import ConversionOptions
from wsistore.sources import open_place

Place = type(open_place({bucket!r}))
put, receipt = Place.put, threading.Event()

def putting(self, key, data):
    written = put(self, key, data)
    if "/done/" in key:
        receipt.set()
    return written

Place.put = putting

def run(tasks):
    for number, task in enumerate(tasks):
        if number == 4:
            assert receipt.wait(60)
            os.kill(os.getpid(), signal.SIGKILL)
        yield units.write_shard(task)

options = ConversionOptions(shard={SHARD})
wanted = SlideJob(source={uploaded!r}, store={bucket + "/x.zarr"!r}, options=options)
convert_slide(wanted, run, print)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert open_place(bucket).get("x.zarr/zarr.json") is None
    report = wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["copy"])
    report.raise_for_failures()
    kept = sum(key[0].isdigit() and "/c/" in key for key in stores("copy")) - puts.total()
    # Receipts go up beside the shards: one is waited for, the others may be missing.
    assert 1 <= kept <= 4
    assert f"{kept} shards kept" in report.outcomes[0].detail
    assert objects(f"{bucket}/x.zarr") == stores("copy")
    assert only(open_place(bucket)) == ["x.zarr/"]


def test_two_runs_at_once_end_whole(uploaded, bucket, stores):
    meet = threading.Barrier(2)

    def run(tasks):
        for number, task in enumerate(tasks):
            if not number:
                meet.wait(timeout=30)
            yield write_shard(task)

    results = []

    def convert():
        results.append(convert_slide(job(uploaded, f"{bucket}/x.zarr"), run, lambda event: None))

    threads = [threading.Thread(target=convert) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.status for result in results} <= {"done", "skipped"}
    assert "done" in {result.status for result in results}
    assert len(results) == 2
    assert objects(f"{bucket}/x.zarr") == stores("copy")
    assert only(open_place(bucket)) == ["x.zarr/"]


@pytest.mark.parametrize("mode", ["copy", "copy, levels added", "0.4"])
def test_who_comes_second_finds_the_store_made(mode, uploaded, bucket, stores):
    wanted, met = job(uploaded, f"{bucket}/x.zarr", mode), []

    def overtaken(tasks):
        for task in tasks:
            yield write_shard(task)
            if not met:
                met.append(convert_slide(wanted, run_all, lambda event: None))

    assert convert_slide(wanted, overtaken, lambda event: None).status == "skipped"
    assert met[0].status == "done"
    assert objects(f"{bucket}/x.zarr") == stores(mode)
    assert only(open_place(bucket)) == ["x.zarr/"]


def test_a_run_with_other_settings_is_refused_by_name(uploaded, bucket, stores):
    cut_short(job(uploaded, f"{bucket}/x.zarr"), 2)
    with pytest.raises(StoreMismatchError, match=r"options\.codec") as raised:
        convert_slide(job(uploaded, f"{bucket}/x.zarr", "zstd"), run_all, lambda event: None)
    assert f"{bucket}/x.zarr" in raised.value.message
    convert_slide(job(uploaded, f"{bucket}/x.zarr"), run_all, lambda event: None)
    assert objects(f"{bucket}/x.zarr") == stores("copy")
    with pytest.raises(StoreMismatchError, match=r"options\.codec"):
        convert_slide(job(uploaded, f"{bucket}/x.zarr", "zstd"), run_all, lambda event: None)


def test_a_run_that_lost_its_name_to_another_makes_no_store(uploaded, bucket, monkeypatch):
    monkeypatch.setattr("wsistore.durable.objects._WATCH_S", 0.0)

    def displaced(tasks):
        for number, task in enumerate(tasks):
            if number == 1:
                place = open_place(bucket)
                place.delete([".x.zarr.partial/settings.json"])
                place.create(".x.zarr.partial/settings.json", b'{"layout": 0}')
            yield write_shard(task)

    with pytest.raises(StoreMismatchError, match="layout"):
        convert_slide(job(uploaded, f"{bucket}/x.zarr"), displaced, lambda event: None)
    assert open_place(bucket).get("x.zarr/zarr.json") is None


def test_shards_that_another_changes_meanwhile_are_no_store(uploaded, bucket, stores):
    def disturbed(tasks):
        for number, task in enumerate(tasks):
            receipt = write_shard(task)
            if number == 1:
                open_place(bucket).put(f"x.zarr/{receipt.key}", bytes(receipt.size))
            yield receipt

    wanted = job(uploaded, f"{bucket}/x.zarr")
    with pytest.raises(StoreWriteError, match=r"1 of .* shards .* by others"):
        convert_slide(wanted, disturbed, lambda event: None)
    assert open_place(bucket).get("x.zarr/zarr.json") is None
    convert_slide(wanted, run_all, lambda event: None)
    assert objects(f"{bucket}/x.zarr") == stores("copy")


def test_no_root_document_before_all_else(uploaded, bucket, monkeypatch):
    order = []
    place_type = type(open_place(bucket))
    for name in ("put", "create"):
        call = getattr(place_type, name)

        def noted(self, key, data, *more, _call=call, **options):
            found = _call(self, key, data, *more, **options)
            order.append(key.removeprefix("x.zarr/"))
            return found

        monkeypatch.setattr(place_type, name, noted)
    wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["copy"]).raise_for_failures()
    assert order[-2:] == [".x.zarr.partial/settings.json", "zarr.json"]
    # What is written before, is side by side; all of it has been written by then.
    assert {f"x.zarr/{key}" for key in order if not key.startswith(".")} == {
        info.key for info in open_place(bucket).list_tree("x.zarr/")
    }
    assert order.count("zarr.json") == 1


def test_an_error_at_the_first_shard_leaves_nothing(uploaded, bucket):
    cut_short(job(uploaded, f"{bucket}/x.zarr"), 0)
    assert only(open_place(bucket)) == []


def test_a_finished_store_is_skipped_and_its_leftovers_go(uploaded, bucket, puts):
    wanted = job(uploaded, f"{bucket}/x.zarr")
    cut_short(wanted, 2)
    place = open_place(bucket)
    settings = place.get(".x.zarr.partial/settings.json")
    convert_slide(wanted, run_all, lambda event: None)
    place.put(".x.zarr.partial/settings.json", settings)
    place.put(".x.zarr.partial/done/a", b"left by a run that was killed")
    puts.clear()
    assert convert_slide(wanted, run_all, lambda event: None).status == "skipped"
    assert not puts
    assert only(place) == ["x.zarr/"]


@pytest.mark.parametrize("before", ["zstd", "0.4", "copy"])
def test_overwriting_leaves_nothing_of_the_old_store(before, uploaded, bucket, stores):
    store = f"{bucket}/x.zarr"
    wsistore.convert(uploaded, store, **MODES[before]).raise_for_failures()
    open_place(store).put("0/c/0/99/99", b"of the old one")
    report = wsistore.convert(uploaded, store, overwrite=True, **MODES["copy"])
    report.raise_for_failures()
    assert objects(store) == stores("copy")
    assert only(open_place(bucket)) == ["x.zarr/"]


def test_overwriting_that_is_cut_goes_on(uploaded, bucket, stores):
    store = f"{bucket}/x.zarr"
    wsistore.convert(uploaded, store, **MODES["0.4"]).raise_for_failures()
    wanted = SlideJob(
        source=uploaded, store=store, options=ConversionOptions(**MODES["copy"]), overwrite=True
    )
    cut_short(wanted, 3)
    assert open_place(store).get("0/.zarray") is None
    result = convert_slide(wanted, run_all, lambda event: None)
    assert result.kept == 3
    assert objects(store) == stores("copy")


def test_other_unfinished_work_goes_where_overwriting(uploaded, bucket, stores):
    store = f"{bucket}/x.zarr"
    cut_short(job(uploaded, store, "zstd"), 2)
    wsistore.convert(uploaded, store, overwrite=True, **MODES["copy"]).raise_for_failures()
    assert objects(store) == stores("copy")


def test_what_is_no_store_is_not_written_over(uploaded, bucket):
    open_place(bucket).put("x/notes.txt", b"mine")
    for overwrite in (False, True):
        wanted = SlideJob(source=uploaded, store=f"{bucket}/x", overwrite=overwrite)
        with pytest.raises(StoreExistsError):
            convert_slide(wanted, run_all, lambda event: None)
    assert objects(f"{bucket}/x") == {"notes.txt": b"mine"}


def test_stores_lie_beside_slides_and_stores(uploaded, bucket):
    store = f"{bucket}/x.zarr"
    wsistore.convert(uploaded, store, **MODES["copy"]).raise_for_failures()
    for source, target in (
        (store, store),
        (store, f"{store}/inner.zarr"),
        (uploaded, uploaded),
        (f"{bucket}/in/%73.svs", uploaded),
    ):
        with pytest.raises(UsageError, match="in one place"):
            convert_slide(SlideJob(source=source, store=target), run_all, lambda event: None)
    with pytest.raises(StoreExistsError, match="within the finished store"):
        convert_slide(job(uploaded, f"{store}/deep/y.zarr"), run_all, lambda event: None)
    with pytest.raises(UsageError, match="is a bucket"):
        convert_slide(job(uploaded, bucket), run_all, lambda event: None)
    with pytest.raises(UsageError, match="query"):
        convert_slide(job(uploaded, f"{bucket}/y?x=1"), run_all, lambda event: None)


def test_a_dry_run_writes_nothing(uploaded, bucket):
    report = wsistore.convert(uploaded, f"{bucket}/x.zarr", dry_run=True)
    report.raise_for_failures()
    assert list(report.plans) == [uploaded]
    assert only(open_place(bucket)) == []


def test_a_store_in_a_bucket_is_a_source_too(uploaded, bucket, tmp_path):
    wsistore.convert(uploaded, f"{bucket}/a.zarr", **MODES["copy"]).raise_for_failures()
    wsistore.convert(f"{bucket}/a.zarr", f"{bucket}/b.zarr", **MODES["zstd"]).raise_for_failures()
    wsistore.convert(f"{bucket}/a.zarr", tmp_path / "b.zarr", **MODES["zstd"]).raise_for_failures()
    assert objects(f"{bucket}/b.zarr") == files(tmp_path / "b.zarr")


def test_slides_below_a_prefix_are_found_and_stores_named_after_them(slide, bucket):
    place, data = open_place(bucket), Path(slide).read_bytes()
    for key in ("in/a.svs", "in/b c.SVS", "in/deep/50%.svs", "in/note.txt", "in/.hidden.svs"):
        place.put(key, data)
    report = wsistore.convert(f"{bucket}/in/", f"{bucket}/out/", **MODES["copy"])
    report.raise_for_failures()
    assert place.list_names("out") == ["a.ome.zarr/", "b c.ome.zarr/"]
    report = wsistore.convert(
        f"{bucket}/in", f"{bucket}/out/", recursive=True, keep_tree=True, **MODES["copy"]
    )
    report.raise_for_failures()
    assert [outcome.status for outcome in report.outcomes] == ["skipped", "skipped", "done"]
    assert place.list_names("out/deep") == ["50%.ome.zarr/"]


def test_stores_are_sources_and_results_are_not(uploaded, bucket):
    folder = f"{bucket}/in/"
    wsistore.convert(folder, folder, **MODES["copy"]).raise_for_failures()
    again = wsistore.convert(folder, folder, **MODES["copy"])
    assert [outcome.status for outcome in again.outcomes] == ["skipped"]
    wsistore.convert(uploaded, f"{bucket}/made/a.zarr", **MODES["copy"]).raise_for_failures()
    report = wsistore.convert(f"{bucket}/made/", f"{bucket}/out/", dry_run=True)
    assert [outcome.unit for outcome in report.outcomes] == [f"{bucket}/made/a.zarr"]


def test_prefixes_without_slides_and_names_of_nothing(bucket):
    open_place(bucket).put("in/note.txt", b"no slide")
    with pytest.raises(UsageError, match="no slide in the folder"):
        wsistore.convert(f"{bucket}/in/", f"{bucket}/out/")
    with pytest.raises(SourceNotFoundError):
        wsistore.convert(f"{bucket}/nothing", f"{bucket}/out/")


def test_the_slide_that_was_planned_is_read(uploaded, bucket, s3_server, monkeypatch):
    with FaultServer.before(s3_server) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        wsistore.open_slide(uploaded).fingerprint  # noqa: B018 (for its requests)
        opening = len(server.requests)
        server.reset()
        wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["copy"]).raise_for_failures()
        of_slide = [request.range for request in server.requests if "s.svs" in request.path]
        shards = [r for r in server.requests if r.method == "PUT" and "x.zarr/" in r.path]
        shards = [r for r in shards if "/c/" in r.path and ".x.zarr" not in r.path]
        # It opens and plans, reads once for each shard, and the associated image once.
        assert len(of_slide) <= opening + len(shards) + 2
        assert of_slide.count(of_slide[0]) == 1


def test_a_slide_that_changes_after_it_was_planned_is_an_error(uploaded, bucket, monkeypatch):
    place, begin = open_place(bucket), conversion._begin

    def change_then_begin(*told):
        place.put("in/s.svs", place.get("in/s.svs") + b" ")
        return begin(*told)

    monkeypatch.setattr(conversion, "_begin", change_then_begin)
    report = wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["copy"])
    assert [type(error) for error in report.errors] == [SourceChangedError]
    assert only(place) == []


def test_threads_open_a_remote_slide_once(uploaded, bucket, monkeypatch):
    opened = []
    real = units.open_slide

    def counting(path, **options):
        opened.append(path)
        return real(path, **options)

    monkeypatch.setattr(units, "open_slide", counting)
    wsistore.convert(uploaded, f"{bucket}/x.zarr", workers=8, **MODES["copy"]).raise_for_failures()
    assert len(opened) == 1  # the one that was planned


def uploads(bucket):
    """Return the uploads in parts that have neither been completed nor given up."""
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    found = client.list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    client.close()
    return found.get("Uploads", [])


def test_parts_of_a_shard_that_fails_are_given_up(bucket):
    def pieces(count):
        for _ in range(count):
            yield bytes(6 << 20)
        raise CutError

    for count in (0, 1, 3):
        with pytest.raises(CutError):
            objectfiles.PartWriter(open_place(bucket)).write("0/c/0/0/0", pieces(count))
    assert uploads(bucket) == []
    assert list(open_place(bucket).list_tree()) == []


def test_large_parts_are_whole_and_known_by_their_etag(bucket):
    place = open_place(bucket)
    writer = objectfiles.PartWriter(place)
    blocks = [bytes([number]) * (6 << 20) for number in range(3)]
    writer.write("x", iter(blocks))
    (info,) = place.list_tree()
    assert place.get("x") == b"".join(blocks)
    assert writer.mark == info.etag.strip('"')
    assert uploads(bucket) == []


def test_few_objects_are_written_in_parts_at_a_time(monkeypatch):
    most, inside, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2, timeout=20)

    class Place:
        def put(self, key, data):
            nonlocal most, inside
            with lock:
                inside += 1
                most = max(most, inside)
            together.wait()  # so long that others would come, if they might
            size = sum(map(len, data))
            with lock:
                inside -= 1
            assert size == 9
            return "etag"

    monkeypatch.setattr(objectfiles, "SINGLE_BYTES", 5)
    monkeypatch.setattr(objectfiles, "BLOCK_BYTES", 2)
    monkeypatch.setattr(objectfiles, "_IN_PARTS", threading.BoundedSemaphore(2))
    writer = objectfiles.PartWriter(Place())
    with ThreadPoolExecutor(8) as threads:
        for key in [threads.submit(writer.write, str(n), iter([b"123"] * 3)) for n in range(40)]:
            key.result()
    assert most <= 2
    assert len(writer._written) == 40
    assert {size for size, _ in writer._written.values()} == {9}


def test_who_may_use_a_prefix_only_can_write_there(uploaded, bucket, monkeypatch):
    place_type = type(open_place(bucket))
    get = place_type.get

    def guarded(self, key):
        if self.name == bucket and key == "wsistore-checksums.json":
            raise SourceAccessError(f"{bucket}/{key}: access denied")
        return get(self, key)

    monkeypatch.setattr(place_type, "get", guarded)
    wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["copy"]).raise_for_failures()


def test_a_chunk_that_can_not_be_written_fails_its_slide(uploaded, bucket, monkeypatch):
    write = objectfiles.PartWriter.write

    def failing(self, key, pieces):
        if key == "0/0/1/1":
            raise StoreWriteError(f"writing failed: {key}")
        write(self, key, pieces)

    monkeypatch.setattr(objectfiles.PartWriter, "write", failing)
    report = wsistore.convert(uploaded, f"{bucket}/x.zarr", **MODES["0.4"])
    assert [(outcome.status, outcome.code) for outcome in report.outcomes] == [
        ("failed", StoreWriteError.code)
    ]
    assert open_place(bucket).get("x.zarr/.zattrs") is None


def test_lost_answers_to_the_documents_that_only_one_may_write(
    slide, bucket, s3_server, stores, monkeypatch
):
    expected = stores("copy")
    with FaultServer.before(s3_server) as server, monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", server.url)
        server.play(itertools.repeat(Reset()), lambda r: "if-none-match" in r.headers)
        report = wsistore.convert(slide, f"{bucket}/s.zarr", **MODES["copy"])
        report.raise_for_failures()
        assert [outcome.status for outcome in report.outcomes] == ["done"]
        creating = [r.path for r in server.requests if "if-none-match" in r.headers]
        assert len(creating) == 3  # its settings, its settings again at the end, its root
    assert objects(f"{bucket}/s.zarr") == expected
    assert open_place(bucket).list_names() == ["s.zarr/"]
