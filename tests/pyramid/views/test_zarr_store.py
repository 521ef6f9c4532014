"""Slides as stores of zarr-python."""

import asyncio
import inspect
import pickle
import threading

import numpy as np
import pytest
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

import wsistore
from wsistore.errors import DamagedTileError, SourceChangedError, UsageError, WsistoreError
from wsistore.pyramid.views.model import ViewFolder
from wsistore.pyramid.views.zarr_store import REMOTE_READS, FolderStore, as_zarr
from wsistore.testing import VARIANTS

SMALL = {"size": (300, 220), "tile": 64}


def whole(slide, level):
    return slide.read_level(level, (0, 0, *slide.levels[level].size))


def assert_equal_to(slide, group):
    for level in range(slide.level_count):
        pixels = group[str(level)][:]
        np.testing.assert_array_equal(pixels.transpose(1, 2, 0), whole(slide, level))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_pixels_equal_those_of_the_slide_in_every_variant(aperio, variant):
    tile = 256 if variant.startswith("j2k_33003_422") else 64  # there are no others
    made = aperio(variant, size=(300, 220), tile=tile)
    with wsistore.open_slide(made.path) as slide:
        for codec in ("unchanged", "portable"):
            assert_equal_to(slide, zarr.open_group(as_zarr(slide, codec=codec), mode="r"))


def test_a_store_pickles_small_and_opens_the_slide_once(aperio):
    made = aperio(**SMALL)
    store = as_zarr(made.path)
    data = pickle.dumps(store)
    assert len(data) < 2000
    again, twice = pickle.loads(data), pickle.loads(data)
    assert again == store
    assert hash(again) == hash(store)
    assert again.folder.slide is twice.folder.slide
    assert again.folder.slide is not store.folder.slide
    assert store != as_zarr(made.path, codec="portable")
    assert store != as_zarr(made.path, levels=[0])
    array = zarr.open_group(store, mode="r")["1"]
    data = pickle.dumps(array)
    assert len(data) < 10_000
    np.testing.assert_array_equal(pickle.loads(data)[:], array[:])


def test_a_slide_that_changed_is_refused_in_the_other_process(aperio, tmp_path):
    path = tmp_path / "changing.svs"
    path.write_bytes(aperio(**SMALL).path.read_bytes())
    store = as_zarr(path)
    data = pickle.dumps(store)
    path.write_bytes(aperio("lzw", **SMALL).path.read_bytes())
    with pytest.raises(SourceChangedError):
        pickle.loads(data)


def test_closing_the_store_closes_what_it_opened(aperio):
    made = aperio(**SMALL)
    with as_zarr(made.path) as store:
        group = zarr.open_group(store, mode="r")
        assert group["1"][0, 0, 0] >= 0
    with pytest.raises(WsistoreError, match="closed"):
        group["0"][:]
    with wsistore.open_slide(made.path) as slide:
        as_zarr(slide).close()
        assert slide.read_level(0, (0, 0, 1, 1)).shape == (1, 1, 3)
        with pytest.raises(UsageError, match="open already"):
            as_zarr(slide, mpp=0.5)
    with pytest.raises(UsageError, match="codec"):
        as_zarr(made.path, codec="png")


def test_options_are_those_of_opening(aperio):
    group = zarr.open_group(as_zarr(aperio(**SMALL).path, mpp=0.3), mode="r")
    transforms = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert transforms[0]["scale"] == [1.0, 0.3, 0.3]


def test_damage_is_an_error_when_zarr_reads_it(aperio, tmp_path):
    made = aperio(**SMALL)
    data = bytearray(made.path.read_bytes())
    with wsistore.open_slide(made.path) as slide:
        table = slide.tile_table(0)
        end = int(table.offsets[1, 1] + table.counts[1, 1])
    data[end - 60 : end] = bytes(60)  # of the entropy-coded data
    path = tmp_path / "damaged.svs"
    path.write_bytes(data)
    array = zarr.open_group(as_zarr(path), mode="r")["0"]
    assert array[:, :64, :64].shape == (3, 64, 64)
    with pytest.raises(DamagedTileError):
        array[:, 64:128, 64:128]


@pytest.mark.parametrize("codec", ["unchanged", "portable"])
def test_validators_accept_it(aperio, codec):
    import yaozarrs
    from ome_zarr_models.v05 import Image

    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        group = zarr.open_group(as_zarr(slide, codec=codec), mode="r")
        assert len(Image.from_zarr(group).attributes.ome.multiscales[0].datasets) == 2
        document = group.metadata.to_dict()
        yaozarrs.v05.OMEZarrGroupJSON.model_validate(document)


def test_dask_reads_it(aperio):
    da = pytest.importorskip("dask.array")
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        store = as_zarr(slide)
        for array in (
            da.from_zarr(zarr.open_group(store, mode="r")["0"]),
            da.from_zarr(store, component="0"),
        ):
            assert array.chunksize == (3, 64, 64)
            again = pickle.loads(pickle.dumps(array))
            pixels = again.compute(scheduler="threads")
            np.testing.assert_array_equal(pixels.transpose(1, 2, 0), whole(slide, 0))


def test_xarray_opens_a_level(aperio):
    xarray = pytest.importorskip("xarray")
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        for opened in (
            xarray.open_zarr(as_zarr(slide, levels=[1]), chunks=None),
            xarray.open_zarr(as_zarr(slide), drop_variables=["0"], chunks=None),
            xarray.open_datatree(as_zarr(slide, levels=[1]), engine="zarr"),
        ):
            assert opened["1"].dims == ("c", "y", "x")
            pixels = opened["1"].transpose("y", "x", "c").values
            np.testing.assert_array_equal(pixels, whole(slide, 1))


def test_a_slide_in_a_bucket_is_read_in_place(aperio, bucket):
    obstore = pytest.importorskip("obstore")
    from obstore.store import from_url

    made = aperio(**SMALL)
    obstore.put(from_url(bucket), "slide.svs", made.path.read_bytes())
    with wsistore.open_slide(made.path) as slide:
        store = as_zarr(f"{bucket}/slide.svs")
        assert store.folder.remote
        assert_equal_to(slide, zarr.open_group(store, mode="r"))
        data = pickle.dumps(store)
        assert b"canary" not in data
        assert "canary" not in repr(store) + str(store)
        assert_equal_to(slide, zarr.open_group(pickle.loads(data), mode="r"))


class Waiting(ViewFolder):
    """A remote folder whose answers come when all of them are asked for."""

    name = "waiting"
    remote = True

    def __init__(self):
        self.barrier = threading.Barrier(REMOTE_READS)

    def get(self, key):
        self.barrier.wait(10)
        return key.encode()

    def contains(self, key):
        return True

    def list_keys(self, prefix=""):
        return iter(())

    def list_names(self, prefix=""):
        return []

    def source(self, key):
        raise NotImplementedError


def test_chunks_are_fetched_side_by_side():
    keys = [str(number) for number in range(REMOTE_READS)]

    async def fetch():
        store = FolderStore(Waiting())
        wanted = [(key, None) for key in keys]
        return await store.get_partial_values(default_buffer_prototype(), wanted)

    assert [found.to_bytes().decode() for found in asyncio.run(fetch())] == keys


# zarr-python's own tests of stores: those of reading, over a view that tests can fill


class Objects(ViewFolder):
    name = "objects"

    def __init__(self):
        self.objects = {}

    def get(self, key):
        return self.objects.get(key)

    def contains(self, key):
        return key in self.objects

    def list_keys(self, prefix=""):
        return (key for key in self.objects if key.startswith(prefix))

    def list_names(self, prefix=""):
        start = f"{prefix}/" if prefix else ""
        rest = [key.removeprefix(start) for key in self.objects if key.startswith(start)]
        return sorted({r.partition("/")[0] + "/" * ("/" in r) for r in rest})

    def source(self, key):
        raise NotImplementedError


class FillableStore(FolderStore):
    async def set(self, key, value):
        self.folder.objects[key] = value.to_bytes()


class Conformance(StoreTests):
    """Its methods are called below: no plugin for coroutines is needed."""

    __test__ = False
    store_cls = FillableStore
    buffer_cls = cpu.Buffer

    async def set(self, store, key, value):
        store.folder.objects[key] = value.to_bytes()

    async def get(self, store, key):
        return self.buffer_cls.from_bytes(store.folder.objects[key])

    def test_store_repr(self, store):
        assert "objects" in str(store)

    def test_store_supports_writes(self, store):
        assert not store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


RANGES = [None, RangeByteRequest(1, 4), OffsetByteRequest(1), SuffixByteRequest(1)]
BYTES = b"\x01\x02\x03\x04"
ASKED = [
    {"key_ranges": []},
    {"key_ranges": [("zarr.json", RangeByteRequest(0, 2))]},
    {"key_ranges": [("c/0", RangeByteRequest(0, 2)), ("zarr.json", None)]},
    {"key_ranges": [("c/0/1", SuffixByteRequest(2)), ("c/0/2", OffsetByteRequest(2))]},
]
PLAIN = """repr supports_writes supports_listing supports_partial_writes type"""
READING = """get_raises get_many getsize_prefix getsize_raises exists is_empty list list_prefix
    list_empty_path list_dir"""
CASES = [
    *[("test_get", {"key": "c/0", "data": BYTES, "byte_range": span}) for span in RANGES],
    ("test_get", {"key": "foo/c/0.0", "data": b"", "byte_range": None}),
    *[("test_get_partial_values", asked) for asked in ASKED],
    *[("test_getsize", {"key": "foo/0/0", "data": data}) for data in (BYTES, b"")],
    *[(f"test_store_{name}", {}) for name in PLAIN.split()],
    *[(f"test_{name}", {}) for name in READING.split()],
]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_conformance_of_reading(name, arguments):
    async def run():
        store = await FillableStore.open(folder=Objects())
        found = getattr(Conformance(), name)(store=store, **arguments)
        if inspect.isawaitable(found):
            await found

    asyncio.run(run())


def test_conformance_of_life():
    tests, folder = Conformance(), Objects()
    tests.test_store_eq(FillableStore(folder), {"folder": folder})
    asyncio.run(tests.test_get_not_open(FillableStore(folder)))
    asyncio.run(tests.test_store_context_manager({"folder": folder}))
    tests.store_cls = FolderStore
    asyncio.run(tests.test_read_only_store_raises({"folder": folder}))
    asyncio.run(tests.test_with_read_only_store({"folder": folder}))
    with pytest.raises(UsageError, match="only be read"):
        FolderStore(folder, read_only=False)
    assert FolderStore(folder).with_read_only(read_only=True) == FolderStore(folder)
