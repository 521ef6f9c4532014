"""LMDB: records, growth, keys, crashes; and databases of py-wsi, whose pickles don't run."""

from __future__ import annotations

import copyreg
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from wsistore.errors import (
    NotReadyError,
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    StoreLockedError,
    UsageError,
)
from wsistore.export.lmdb_reader import LmdbPatches
from wsistore.export.lmdb_record import HEADER_BYTES, pack, unpack
from wsistore.export.lmdb_store import LmdbWriter, meta_path, write_lmdb
from wsistore.export.patches import Patch, PatchEncoding, iter_patches
from wsistore.export.py_wsi import PyWsiPatches, record_fields
from wsistore.geometry import Resolution
from wsistore.slides import Slide, open_slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec

PATCH = Patch("a", 7, 10, -20, 3, 4, -1, "array", 2, 1, bytes(range(6)))


@pytest.fixture(scope="module")
def slide(slide_factory: Callable[..., Any]) -> Slide:
    return open_slide(slide_factory("jpeg_rgb_tables", size=(700, 500), tile=64).path)


@pytest.fixture(scope="module")
def plan(slide: Slide) -> TilePlan:
    return plan_tiles(slide, TileSpec(64, 64, Resolution.level(0)))


def raw(path: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return dict(transaction.cursor())


def test_the_header_is_what_the_docs_say() -> None:
    record = pack(PATCH)
    assert HEADER_BYTES == 56
    assert record[:4] == b"WSP\x01"
    assert np.frombuffer(record[8:16], "<u4").tolist() == [2, 1]
    assert np.frombuffer(record[16:32], "<i8").tolist() == [10, -20]
    assert np.frombuffer(record[32:44], "<i4").tolist() == [3, 4, -1]
    assert np.frombuffer(record[44:52], "<u4").tolist() == [7, 6]
    assert record[56:] == bytes(range(6))
    assert unpack(record, "a", "it") == PATCH


@pytest.mark.parametrize("at", [0, 5, 20, 43, 53, 60])
def test_damage_is_seen_wherever_it_is(at: int) -> None:
    record = bytearray(pack(PATCH))
    record[at] ^= 1
    with pytest.raises(StoreCorruptError):
        unpack(bytes(record), "a", "it")
    with pytest.raises(StoreCorruptError):
        unpack(pack(PATCH)[:-1], "a", "it")


def test_values_are_no_pickles_and_keys_are_as_asked(
    slide: Slide, plan: TilePlan, tmp_path: Path
) -> None:
    write_lmdb([(slide, plan)], tmp_path / "db", keys="grid")
    records = raw(tmp_path / "db")
    wanted = {f"{slide.name}-{c}-{r}".encode() for c, r in zip(plan.column, plan.row, strict=True)}
    assert set(records) == wanted
    assert len(records) == len(plan)
    assert {value[:4] for value in records.values()} == {b"WSP\x01"}
    meta = raw(meta_path(tmp_path / "db"))
    assert set(meta) == {slide.name.encode(), slide.name.encode() + b"\0plan"}
    with LmdbPatches(tmp_path / "db") as store:
        assert store.plan(slide.name) == plan
        found = store.by_key(f"{slide.name}-{plan.column[-1]}-{plan.row[-1]}")
        assert (found.x, found.y) == (plan.x[-1], plan.y[-1])
        with pytest.raises(UsageError, match="no patch"):
            store.by_key(f"{slide.name}-99-99")


def test_the_map_grows_and_nothing_is_lost(slide: Slide, plan: TilePlan, tmp_path: Path) -> None:
    patches = list(iter_patches(slide, plan, PatchEncoding("array")))
    with LmdbWriter(tmp_path / "db", first_map_bytes=64 << 10) as writer:
        assert writer.add(plan, patches) == len(plan)
    assert (tmp_path / "db" / "data.mdb").stat().st_size > 16 * (64 << 10)
    with LmdbPatches(tmp_path / "db") as store:
        assert [p.data for p in store.of_set()] == [p.data for p in patches]


def test_jpeg_tiles_are_moved_unchanged(slide: Slide, plan: TilePlan) -> None:
    copied = list(iter_patches(slide, plan, PatchEncoding("copy"), threads=1))
    exact = list(iter_patches(slide, plan, PatchEncoding("array"), threads=1))
    table = slide.tile_table(0)
    assert table is not None
    for one, two in zip(copied, exact, strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        assert one.codec == "jpeg"
        refs = table.locate(np.array([one.x // 64]), np.array([one.y // 64]))
        # The scan is that of the file; the head has the tables, and says the colour.
        block = table.source(0).read_many(refs.offsets.tolist(), refs.counts.tolist())[0]
        assert bytes(one.data).endswith(bytes(block)[-200:])


def test_tiles_that_lie_across_are_not_moved(slide: Slide) -> None:
    for spec in (
        TileSpec(64, 32, Resolution.level(0)),
        TileSpec(128, 128, Resolution.level(0)),
        TileSpec(32, 32, Resolution.level(0)),
    ):
        plan = plan_tiles(slide, spec)
        with pytest.raises(UsageError, match="can't be copied"):
            next(iter_patches(slide, plan, PatchEncoding("copy")))


def test_a_padded_edge_is_encoded(slide: Slide) -> None:
    plan = plan_tiles(slide, TileSpec(64, 64, Resolution.level(0), edge="pad"))
    assert (plan.valid_fraction < 1).any()
    copied = list(iter_patches(slide, plan, PatchEncoding("copy", 100)))
    exact = list(iter_patches(slide, plan, PatchEncoding("array")))
    for one, two in zip(copied, exact, strict=True):
        cut = plan.valid_fraction[one.index] < 1
        difference = np.abs(one.pixels.astype(int) - two.pixels.astype(int)).max()
        assert difference <= (12 if cut else 0)


def test_slides_are_added_replaced_and_never_mixed(
    slide: Slide, plan: TilePlan, tmp_path: Path
) -> None:
    path = tmp_path / "db"
    write_lmdb([(slide, plan)], path)
    with pytest.raises(StoreExistsError, match="already"):
        write_lmdb([(slide, plan)], path)
    few = plan[:5]
    write_lmdb([(slide, few)], path, overwrite=True)
    assert len(raw(path)) == 5
    with pytest.raises(UsageError, match="keys by index"):
        write_lmdb([(slide, few)], path, keys="grid")
    with LmdbPatches(path) as store:
        assert len(store) == 5


def test_a_slide_is_there_when_all_of_it_is(slide: Slide, plan: TilePlan, tmp_path: Path) -> None:
    path = tmp_path / "db"
    patches = list(iter_patches(slide, plan))

    def broken() -> Any:
        yield from patches[:10]
        raise StoreCorruptError("the slide ended")

    with LmdbWriter(path) as writer:
        with pytest.raises(StoreCorruptError, match="ended"):
            writer.add(plan, broken())
        assert writer.slides() == ()
        with pytest.raises(UsageError, match="9 patches came"):
            writer.add(plan, patches[:9])
        assert writer.slides() == ()
        writer.add(plan, patches)
    assert len(raw(path)) == len(plan)
    with LmdbPatches(path) as store:
        assert len(store) == len(plan)


def test_a_killed_run_leaves_a_whole_store(slide: Slide, plan: TilePlan, tmp_path: Path) -> None:
    path = tmp_path / "db"
    write_lmdb([(slide, plan[:3])], path)
    script = textwrap.dedent(
        """
        import os, sys
        from dataclasses import replace
        from pathlib import Path
        from wsistore.export import lmdb_store
        from wsistore.export.patches import iter_patches
        from wsistore.geometry import Resolution
        from wsistore.slides import open_slide
        from wsistore.tiles.planning import plan_tiles
        from wsistore.tiles.spec import TileSpec

        lmdb_store.TRANSACTION_BYTES = 1
        slide = open_slide(sys.argv[1])
        plan = plan_tiles(slide, TileSpec(64, 64, Resolution.level(0)))
        plan = replace(plan, slide=replace(plan.slide, name="other"))
        def some():
            for patch in iter_patches(slide, plan):
                if patch.index == 20:
                    os.kill(os.getpid(), 9)
                yield patch
        lmdb_store.LmdbWriter(Path(sys.argv[2])).add(plan, some())
        """
    )
    done = subprocess.run([sys.executable, "-c", script, slide.path, str(path)], check=False)
    assert done.returncode == -9
    assert len(raw(path)) > 3
    with LmdbPatches(path) as store:
        assert store.slides == (slide.name,)
        assert len(list(store.of_set())) == 3
    other = replace(plan, slide=replace(plan.slide, name="other"))
    with LmdbWriter(path) as writer:
        writer.add(other, (replace(p, slide="other") for p in iter_patches(slide, plan)))
    with LmdbPatches(path) as store:
        assert len(store) == 3 + len(plan)


def test_lattices_that_repeat_cells_need_other_keys(
    slide: Slide, plan: TilePlan, tmp_path: Path
) -> None:
    same = replace(plan, column=np.zeros(len(plan), np.int32))
    unknown = replace(plan[:1], column=np.full(1, -1, np.int32))
    for bad, why in ((same, "one column and row"), (unknown, "no place in a lattice")):
        with pytest.raises(UsageError, match=why):
            write_lmdb([(slide, bad)], tmp_path / why[:3], keys="grid")
        assert write_lmdb([(slide, bad)], tmp_path / f"{why[:3]}-index") == len(bad)


def test_open_twice_closed_once(slide: Slide, plan: TilePlan, tmp_path: Path) -> None:
    path = tmp_path / "db"
    write_lmdb([(slide, plan[:4])], path)
    one, two = LmdbPatches(path), LmdbPatches(path)
    one.close()
    one.close()
    assert two.patch(slide.name, 0).index == 0
    with pytest.raises(NotReadyError, match="closed"):
        one.patch(slide.name, 0)
    with pytest.raises(StoreLockedError, match="open in this process"):
        LmdbWriter(path)
    two.close()
    with LmdbWriter(path) as writer, pytest.raises(StoreLockedError):
        LmdbPatches(path)
    assert writer.slides  # closed: locks are free again
    with LmdbPatches(path) as store:
        assert len(store) == 4


def test_children_of_a_fork_read_on(slide: Slide, plan: TilePlan, tmp_path: Path) -> None:
    path = tmp_path / "db"
    write_lmdb([(slide, plan[:4])], path)
    with LmdbPatches(path) as store:
        wanted = store.patch(slide.name, 2).data
        pid = os.fork()
        if pid == 0:
            os._exit(0 if store.patch(slide.name, 2).data == wanted else 1)
        assert os.waitpid(pid, 0)[1] == 0


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        LmdbPatches(tmp_path)
    for place in (tmp_path / "bad", tmp_path / "bad_meta"):
        place.mkdir()
        (place / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreCorruptError):
        LmdbPatches(tmp_path / "bad")


# Databases of py-wsi


def py_wsi_record(label: int | None, protocol: int, pixels: np.ndarray, kind: str) -> bytes:
    """Pickle a record as py-wsi would, without py-wsi: its class is named, not imported."""
    module, name = "py_wsi.item", "Item"
    cls = type(name, (), {"__module__": module})
    item = cls()
    item.channels = 3
    item.size = pixels.shape[:2] if kind == "pair" else np.int64(pixels.shape[0])
    item.data = pixels.tobytes() if kind != "array" else pixels
    item.label = label
    item.coords = (np.int64(3), 4)
    import types

    fake, parent = types.ModuleType(module), types.ModuleType("py_wsi")
    setattr(fake, name, cls)
    sys.modules |= {module: fake, "py_wsi": parent}
    try:
        return pickle.dumps(item, protocol=protocol)
    finally:
        del sys.modules[module], sys.modules["py_wsi"]


def old_database(path: Path, values: dict[str, bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["pair", "one", "array"])
def test_old_records_are_read_to_the_last_row(protocol: int, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tiles = {
        f"{stem}-{c}-{r}": rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
        for stem in ("a", "a-1")
        for c in range(3)
        for r in range(2)
    }
    values = {k: py_wsi_record(None if k == "a-0-0" else 2, protocol, v, kind)
              for k, v in tiles.items()}  # fmt: skip
    path = old_database(tmp_path / "old", values)
    with pytest.raises(UsageError, match="pickles"):
        PyWsiPatches(path)
    with pytest.raises(UsageError, match=r"py_wsi"):
        LmdbPatches(_with_meta(path, protocol))
    with PyWsiPatches(path, allow_pickle=True) as store:
        assert store.slides == ("a", "a-1")
        assert len(store) == 12
        for patch in store.of_set():
            np.testing.assert_array_equal(
                patch.pixels, tiles[f"{patch.slide}-{patch.column}-{patch.row}"]
            )
        assert store.by_key("a-0-0").label == -1
        assert store.by_key("a-1-2-1").label == 2
        assert store.by_key("a-1-2-1").slide == "a-1"


def _with_meta(path: Path, protocol: int) -> Path:
    old_database(meta_path(path), {"a": pickle.dumps([3, 2], protocol=protocol)})
    return path


class Evil:
    """Its pickle calls something when it is read."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_does_not_run(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    calls = [
        Evil(os.system, f"touch {mark}"),
        Evil(os.mkdir, str(mark)),
        Evil(eval, f"open({str(mark)!r}, 'w')"),
        Evil(exec, f"open({str(mark)!r}, 'w')"),
        Evil(getattr, "a", "upper"),
        Evil(__import__, "os"),
        Evil(np.load, str(mark)),
        Evil(pickle.loads, pickle.dumps(Evil(os.mkdir, str(mark)))),
        Evil(copyreg._reconstructor, subprocess.Popen, object, None),  # type: ignore[attr-defined]
        Evil(type, "Made", (), {}),
    ]
    for number, evil in enumerate(calls):
        for payload in (evil, {"data": evil}, [evil]):
            try:
                data = pickle.dumps(payload, protocol=protocol)
            except pickle.PicklingError:  # of old protocols
                continue
            with pytest.raises(StoreCorruptError):
                record_fields(data, "it")
            if number == 0 and payload is evil:
                path = old_database(tmp_path / f"db{protocol}", {"a-0-0": data})
                store = PyWsiPatches(path, allow_pickle=True)
                with store, pytest.raises(StoreCorruptError, match="names"):
                    store.patch("a", 0)
    assert not mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cpy_wsi.item\nos.system\n(S'true'\ntR.",
        b"\x80\x04P1\n.",
        b"\x80\x02\x82\x01.",
        b"cnumpy\ndtype\n(S'O'\ntR.",
        b"",
        b"\x80\x04.",
        b"\xff" * 50,
        pickle.dumps(3),
        pickle.dumps({"a": np.array([object], dtype=object)}),
    ],
)
def test_no_opcode_gets_through(code: bytes) -> None:
    with pytest.raises(StoreCorruptError):
        record_fields(code, "it")


@pytest.mark.parametrize("keys", ["grid", "index"])
def test_replacing_a_slide_leaves_those_whose_names_begin_like_it(
    keys: Any, slide: Slide, plan: TilePlan, tmp_path: Path
) -> None:
    few = plan[:6]
    sources = [
        (slide, replace(few, slide=replace(few.slide, name=name))) for name in ("a", "a-1", "a-1-2")
    ]
    path = tmp_path / "db"
    write_lmdb(sources, path, keys=keys)
    write_lmdb(sources[:1], path, keys=keys, overwrite=True)
    assert len(raw(path)) == 18
    with LmdbPatches(path) as store:
        assert [len(list(store.of_slide(name))) for name in store.slides] == [6, 6, 6]
