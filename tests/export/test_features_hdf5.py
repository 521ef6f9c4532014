"""Features in HDF5: layouts of five tools, read back; crash safety; bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreMismatchError,
    UsageError,
)
from wsistore.export.features_hdf5 import (
    add_features_h5,
    feature_names,
    read_features_h5,
    write_features_h5,
)
from wsistore.export.features_mil import (
    write_clam_features,
    write_stamp_features,
    write_trident_features,
)
from wsistore.export.h5_stream import stream_h5
from wsistore.export.slide_features import SlideFeatures, chunks
from wsistore.export.tensors import read_pt
from wsistore.geometry import Resolution
from wsistore.slides import open_slide
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec


@pytest.fixture(scope="module")
def slide_path(slide_factory: Callable[..., Any]) -> Path:
    return Path(
        slide_factory("jpeg_rgb_tables", size=(1100, 700), mpp="0.5", magnification="20").path
    )


def make(slide_path: Path, stride: int = 64, **sets: int) -> SlideFeatures:
    with open_slide(slide_path) as slide:
        plan = plan_tiles(slide, TileSpec(64, stride, Resolution.magnification(10)))
    rng = np.random.default_rng(7)
    tables = {
        name: rng.standard_normal((len(plan), width)).astype(np.float32)
        for name, width in (sets or {"resnet18": 12}).items()
    }
    return SlideFeatures(plan, tables, {name: {"weights": "random"} for name in tables})


def same(found: SlideFeatures, data: SlideFeatures) -> None:
    assert found.plan == data.plan
    assert set(found.features) == set(data.features)
    for name, table in data.features.items():
        np.testing.assert_array_equal(found.features[name][:], table)


@pytest.mark.parametrize("layout", ["slideprocessor", "atlaspatch"])
@pytest.mark.parametrize("stride", [64, 40])
def test_both_layouts_give_back_what_was_stored(
    slide_path: Path, tmp_path: Path, layout: str, stride: int
) -> None:
    data = make(slide_path, stride, resnet18=12, clip_vit_b_32=5)
    path = tmp_path / "a.h5"
    write_features_h5(data, path, layout=layout)
    same(read_features_h5(path), data)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    with h5py.File(path) as file:
        width = 2 if layout == "slideprocessor" else 5
        assert file["coords"].shape == (len(data.plan), width)
        assert file["coords"].dtype == np.int32
        for name, table in data.features.items():
            dataset = file[f"features/{name}"]
            assert dataset.dtype == np.float32
            assert dataset.shape == table.shape
            assert dataset.attrs["weights"] == "random"
        if layout == "slideprocessor":
            sets = json.loads(file.attrs["feature_sets"])
            assert {entry["name"]: entry["embedding_dim"] for entry in sets} == {
                "resnet18": 12,
                "clip_vit_b_32": 5,
            }
            assert all(file[entry["dataset"]].shape[0] == len(data.plan) for entry in sets)
        else:
            assert file["passports"].dtype == np.dtype("S160")


def test_an_encoder_is_added_and_the_others_stay(slide_path: Path, tmp_path: Path) -> None:
    data = make(slide_path, resnet18=12)
    path = tmp_path / "a.h5"
    write_features_h5(data, path)
    with h5py.File(path, "a") as file:  # what a killed run of the other tool leaves
        file["features"].create_dataset("__tmp_uni", data=np.zeros((3, 4), np.float32))
    more = make(slide_path, uni_v1=7)
    add_features_h5(more, path)
    assert feature_names(path) == {"resnet18": (len(data.plan), 12), "uni_v1": (len(data.plan), 7)}
    found = read_features_h5(path)
    np.testing.assert_array_equal(found.features["resnet18"][:], data.features["resnet18"])
    np.testing.assert_array_equal(found.features["uni_v1"][:], more.features["uni_v1"])
    with h5py.File(path) as file:
        assert "__tmp_uni" not in file["features"]
        assert len(json.loads(file.attrs["feature_sets"])) == 2


def test_features_of_other_tiles_are_refused_and_the_file_stays(
    slide_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    write_features_h5(make(slide_path), path)
    before = path.read_bytes()
    other = make(slide_path, 40, other=3)
    with pytest.raises(StoreMismatchError, match="tiles"):
        add_features_h5(other, path)
    same_count = make(slide_path, other=3)
    moved = TilePlan.from_columns(
        same_count.plan.columns | {"x": same_count.plan.x + 1}, same_count.plan.provenance
    )
    with pytest.raises(StoreMismatchError, match="are not those"):
        add_features_h5(SlideFeatures(moved, same_count.features), path)
    assert path.read_bytes() == before


def test_features_without_a_row_for_each_tile_are_not_finished(
    slide_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    write_features_h5(make(slide_path), path)
    with h5py.File(path, "a") as file:
        file["features"].create_dataset("short", data=np.zeros((3, 4), np.float32))
    assert set(feature_names(path)) == {"resnet18"}


def test_clam(slide_path: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    data = make(slide_path, resnet18=12)
    h5, pt = write_clam_features(data, tmp_path)
    assert (h5.parent.name, pt.parent.name) == ("h5_files", "pt_files")
    assert h5.stem == pt.stem == data.name
    tensor = torch.load(pt, weights_only=True)
    assert type(tensor) is torch.Tensor
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), data.features["resnet18"])
    np.testing.assert_array_equal(read_pt(pt), data.features["resnet18"])
    same(read_features_h5(h5), data)
    with h5py.File(h5) as file:
        np.testing.assert_array_equal(file["coords"][:, 0], data.plan.x)
        assert file["features"].shape == (len(data.plan), 12)


def test_a_bare_file_of_clam_is_read_with_its_plan_in_any_order(
    slide_path: Path, tmp_path: Path
) -> None:
    data = make(slide_path, features=4)
    order = np.random.default_rng(1).permutation(len(data.plan))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["coords"] = np.stack([data.plan.x, data.plan.y], axis=1)[order]
        file["features"] = data.features["features"][:][order]
    found = read_features_h5(path, plan=data.plan)
    np.testing.assert_array_equal(found.features["features"][:], data.features["features"])
    with pytest.raises(StoreMismatchError, match="not those of the plan"):
        read_features_h5(path, plan=make(slide_path, 40).plan)


def test_a_tensor_file_runs_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import pickle

    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Bad(), protocol=2))
    with pytest.raises(StoreCorruptError):
        read_pt(path)
    assert not (tmp_path / "ran").exists()


def test_trident(slide_path: Path, tmp_path: Path) -> None:
    data = make(slide_path, uni_v1=6)
    path = write_trident_features(data, tmp_path)
    assert path == tmp_path / "features_uni_v1" / f"{data.name}.h5"
    found = read_features_h5(path)
    same(found, data)
    with h5py.File(path) as file:
        attrs = dict(file["coords"].attrs)
        assert attrs["patch_size"] == 64
        assert attrs["patch_size_level0"] == 128
        assert attrs["target_magnification"] == 10
        assert file["features"].attrs["name"] == data.name
    write_trident_features(data, tmp_path, extras=False)
    bare = read_features_h5(path)
    assert list(bare.features) == ["uni_v1"]
    np.testing.assert_array_equal(bare.plan.x, data.plan.x)
    np.testing.assert_array_equal(bare.features["uni_v1"][:], data.features["uni_v1"])


def test_stamp(slide_path: Path, tmp_path: Path) -> None:
    data = make(slide_path, ctranspath=6)
    path = write_stamp_features(data, tmp_path)
    same(read_features_h5(path), data)
    with h5py.File(path) as file:
        assert file["feats"].shape == (len(data.plan), 6)
        np.testing.assert_allclose(file["coords"][:, 0], data.plan.x * 0.5)
        assert file.attrs["tile_size_um"] == 64.0
        assert (file.attrs["unit"], file.attrs["extractor"]) == ("um", "ctranspath")
    write_stamp_features(data, tmp_path, extras=False)
    with pytest.raises(UsageError, match="µm"):
        read_features_h5(path)
    with open_slide(slide_path) as slide:
        bare = read_features_h5(path, slide)
    np.testing.assert_array_equal(bare.plan.x, data.plan.x)
    assert bare.plan.size_level0 == data.plan.size_level0
    np.testing.assert_array_equal(bare.features["ctranspath"][:], data.features["ctranspath"])


def test_an_empty_plan_is_stored_too(slide_path: Path, tmp_path: Path) -> None:
    data = make(slide_path)
    none = SlideFeatures(data.plan[0:0], {"resnet18": np.zeros((0, 12), np.float32)})
    for layout in ("slideprocessor", "atlaspatch"):
        write_features_h5(none, tmp_path / "a.h5", layout=layout)
        assert feature_names(tmp_path / "a.h5") == {"resnet18": (0, 12)}
        same(read_features_h5(tmp_path / "a.h5"), none)


class Far:
    """Rows that are made when they are asked for, a few at a time."""

    def __init__(self, count: int, width: int) -> None:
        self.shape = (count, width)
        self.most = 0

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        self.most = max(self.most, stop - start)
        return np.repeat(np.arange(start, stop, dtype=np.float32)[:, None], self.shape[1], 1)


def test_rows_are_read_a_few_at_a_time() -> None:
    rows = Far(10_000, 3)
    parts = list(chunks(rows, 1000))
    assert rows.most == 1000
    np.testing.assert_array_equal(np.concatenate([v[:, 0] for _, v in parts]), np.arange(10_000))


def test_tables_must_have_a_row_for_each_tile(slide_path: Path) -> None:
    plan = make(slide_path).plan
    with pytest.raises(UsageError, match="shape"):
        SlideFeatures(plan, {"a": np.zeros((len(plan) - 1, 3), np.float32)})
    with pytest.raises(UsageError, match="named"):
        SlideFeatures(plan, {"a/b": np.zeros((len(plan), 3), np.float32)})


def test_a_full_disk_leaves_the_old_file_and_a_sound_process(tmp_path: Path) -> None:
    """HDF5 itself may crash at exit here: the file size limit stands for a full disk."""
    path = tmp_path / "a.h5"
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from wsistore.errors import StoreWriteError
        from wsistore.export.h5_stream import put_table, stream_h5

        def fill(rows):
            def inner(file, check):
                put_table(file, "a", np.ones((rows, 256), np.float32), check, chunk=1024)
                file.create_group("g").attrs["x"] = "y" * 1000
            return inner

        path = Path(sys.argv[1])
        stream_h5(path, fill(10))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        for rows in (1025, 5000, 20000):
            try:
                stream_h5(path, fill(rows))
            except StoreWriteError as error:
                print(error.code)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["WSI505"] * 3, "")
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    with h5py.File(path) as file:
        assert file["a"].shape == (10, 256)


def test_an_error_of_the_rows_goes_through_and_leaves_no_file(tmp_path: Path) -> None:
    def fill(file: Any, check: Callable[[], None]) -> None:
        file["a"] = np.zeros(10)
        raise SourceNotFoundError("there is no store")

    with pytest.raises(SourceNotFoundError, match="no store"):
        stream_h5(tmp_path / "a.h5", fill)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_of_features(slide_path: Path, tmp_path: Path) -> None:
    from wsistore.export import write_plan

    with pytest.raises(SourceNotFoundError):
        read_features_h5(tmp_path / "none.h5")
    (tmp_path / "bad.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(StoreCorruptError):
        read_features_h5(tmp_path / "bad.h5")
    write_plan(make(slide_path).plan, tmp_path / "plan.h5")
    with pytest.raises(UsageError, match="no features"):
        read_features_h5(tmp_path / "plan.h5")
