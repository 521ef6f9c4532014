"""The public names, and what importing them costs."""

import importlib
import importlib.util
import subprocess
import sys

import pytest

import wsistore

HEAVY = ["cv2", "dask", "distributed", "h5py", "imagecodecs", "numcodecs", "obstore", "tifffile"]
HEAVY += ["torch", "xarray", "zarr"]
EXPECTED = [
    "Box",
    "FeatureCohort",
    "Level",
    "Resolution",
    "Size",
    "Slide",
    "SlideCache",
    "TileExtractor",
    "TileIndex",
    "TileLoader",
    "TilePlan",
    "TileSampler",
    "TileSpec",
    "WsistoreError",
    "__version__",
    "as_xarray",
    "as_zarr",
    "convert",
    "embed",
    "export_store",
    "grid_tiles",
    "iter_tiles",
    "list_features",
    "open_features",
    "open_patches",
    "open_slide",
    "plan_tiles",
    "process_slides",
    "read_context",
    "read_tile",
    "read_tiles",
    "verify_features",
]
OF_TORCH = ["TileDataset", "TileStream"]

SOURCES = "Folder LocalFolder LocalSource Source is_url open_folder open_source redact"
DURABLE = """TEMP_SUFFIX FileLock Ledger LedgerScan ObjectWork Objects Outcome Work WorkFolder
    atomic_write canonical check_settings clear_leftovers exit_code free_bytes
    partial_name plain_etag unfinished_folder unfinished_objects write_error"""


def imported_after(statement):
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import wsistore; dir(wsistore)",
        "import wsistore.cli",
        "import wsistore.sources, wsistore.durable, wsistore.geometry, wsistore.errors",
    ],
)
def test_importing_stays_light(statement):
    assert imported_after(statement).isdisjoint(HEAVY)


def test_import_wsistore_alone_pulls_no_room_in():
    found = {name for name in imported_after("import wsistore") if name.startswith("wsistore")}
    assert found == {"wsistore", "wsistore._version"}


def test_the_public_names():
    assert sorted(wsistore.__all__) == EXPECTED
    assert dir(wsistore) == sorted(EXPECTED + OF_TORCH)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = wsistore.nothing_such


@pytest.mark.parametrize("name", EXPECTED)
def test_every_public_name_is_there(name):
    assert getattr(wsistore, name) is not None


@pytest.mark.parametrize("name", OF_TORCH)
def test_the_names_of_torch_need_torch(name):
    if importlib.util.find_spec("torch") is not None:
        assert getattr(wsistore, name) is not None
        return
    with pytest.raises(wsistore.WsistoreError, match=r"wsistore\[torch\]"):
        getattr(wsistore, name)


@pytest.mark.parametrize(
    ("room", "names"),
    [
        (
            "sources",
            [
                "Folder",
                "LocalFolder",
                "LocalSource",
                "ObjectInfo",
                "ObjectPlace",
                "RequestCounts",
                "Source",
                "configure_storage",
                "is_url",
                "open_folder",
                "open_place",
                "open_source",
                "parse_storage_options",
                "redact",
                "request_counts",
            ],
        ),
        ("durable", DURABLE.split()),
    ],
)
def test_the_names_of_a_room(room, names):
    module = importlib.import_module(f"wsistore.{room}")
    assert module.__all__ == names
    assert all(hasattr(module, name) for name in names)
