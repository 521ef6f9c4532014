"""Random reads of patches from LMDB, HDF5, images, tar shards and Zarr, side by side.

    python benchmarks/stores.py [--tiles 3000] [--reads 2000] [--rounds 3] [--json]

All stores hold the same 256 px tiles of one synthetic slide: JPEG in LMDB, tar and image
files, plain samples in HDF5, and zstd chunks in Zarr, as `wsistore convert` writes them.
Rounds are interleaved. Told are CPU and wall time a patch, decoded, and bytes on the disk;
and, for LMDB, tar and images, the same without decoding. The page cache is hot.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wsistore.export.images import ImagePatches, write_images
from wsistore.export.lmdb_reader import LmdbPatches
from wsistore.export.lmdb_store import write_lmdb
from wsistore.export.patch_store import PatchStore
from wsistore.export.patches import PatchEncoding
from wsistore.export.patches_hdf5 import H5Patches, write_patches_h5
from wsistore.export.tar_reader import TarPatches
from wsistore.export.tar_shards import write_shards
from wsistore.geometry import Resolution
from wsistore.slides import open_slide
from wsistore.testing import write_slide
from wsistore.tiles.planning import plan_tiles
from wsistore.tiles.spec import TileSpec

TILE = 256


def bytes_of(place: Path) -> int:
    """Return the bytes that a file or folder takes on the disk."""
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)


def make(folder: Path, tiles: int) -> dict[str, tuple[Path, float]]:
    """Write all stores; return their places and the seconds that took."""
    import zarr

    side = int(np.ceil(np.sqrt(tiles)))
    source = folder / "slide.svs"
    write_slide(
        source,
        "jpeg_rgb_tables",
        size=(side * TILE, side * TILE),
        tile=TILE,
        levels=(1,),
        distinct_tiles=64,
    )
    slide = open_slide(source)
    plan = plan_tiles(slide, TileSpec(TILE, TILE, Resolution.level(0)))[:tiles]
    found: dict[str, tuple[Path, float]] = {}

    def timed(name: str, work: Callable[[Path], Any]) -> None:
        place = folder / name
        begun = time.perf_counter()
        work(place)
        found[name] = place, time.perf_counter() - begun

    jpeg = PatchEncoding("jpeg", 80)
    timed("lmdb", lambda p: write_lmdb([(slide, plan)], p, encoding=jpeg))
    timed("lmdb-copied", lambda p: write_lmdb([(slide, plan)], p, encoding=PatchEncoding("copy")))
    timed("tar", lambda p: write_shards([(slide, plan)], p, encoding=jpeg))
    timed("images", lambda p: write_images(slide, plan, p, format="jpeg", quality=80))
    timed("hdf5", lambda p: write_patches_h5(slide, plan, p))

    def chunks(place: Path) -> None:
        array = zarr.create_array(
            str(place),
            shape=(tiles, TILE, TILE, 3),
            chunks=(1, TILE, TILE, 3),
            shards=(min(tiles, 256), TILE, TILE, 3),
            dtype="uint8",
            compressors=[zarr.codecs.ZstdCodec(level=3)],
        )
        with H5Patches(found["hdf5"][0]) as store:
            for at in range(0, tiles, 256):
                part = range(at, min(tiles, at + 256))
                array[at : part.stop] = np.stack([store.patch("slide", i).pixels for i in part])

    timed("zarr", chunks)
    return found


def readers(
    places: dict[str, tuple[Path, float]],
) -> tuple[dict[str, Callable[[int], Any]], list[PatchStore]]:
    """Return what reads one patch of each store by its number."""
    import zarr

    stores: dict[str, PatchStore] = {
        "lmdb": LmdbPatches(places["lmdb"][0]),
        "lmdb-copied": LmdbPatches(places["lmdb-copied"][0]),
        "tar": TarPatches(places["tar"][0]),
        "images": ImagePatches(places["images"][0]),
        "hdf5": H5Patches(places["hdf5"][0]),
    }
    found: dict[str, Callable[[int], Any]] = {
        name: (lambda i, s=store: s.patch("slide", i).pixels) for name, store in stores.items()
    }
    for name in ("lmdb", "tar", "images"):
        found[f"{name}, bytes"] = lambda i, s=stores[name]: s.patch("slide", i).data
    array = zarr.open_array(str(places["zarr"][0]), mode="r")
    found["zarr"] = lambda i: array[i]
    return found, list(stores.values())


def measure(tiles: int, reads: int, rounds: int) -> list[dict[str, Any]]:
    """Return a record for each store."""
    with tempfile.TemporaryDirectory() as name:
        places = make(Path(name), tiles)
        calls, stores = readers(places)
        order = np.random.default_rng(0).integers(0, tiles, reads).tolist()
        cpu = {key: [] for key in calls}
        wall = {key: [] for key in calls}
        for call in calls.values():
            call(0)
        for _ in range(rounds):
            for key, call in calls.items():
                begun, used = time.perf_counter(), time.process_time()
                for index in order:
                    call(index)
                wall[key].append((time.perf_counter() - begun) / reads)
                cpu[key].append((time.process_time() - used) / reads)
        for store in stores:
            store.close()
        return [
            {
                "store": key,
                "us_wall": 1e6 * min(wall[key]),
                "us_cpu": 1e6 * min(cpu[key]),
                "patches_per_s": 1 / min(wall[key]),
                "bytes": bytes_of(places[key.partition(",")[0]][0]),
                "s_write": places[key.partition(",")[0]][1],
            }
            for key in calls
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiles", type=int, default=3000)
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.tiles, args.reads, args.rounds)
    if args.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{args.tiles} tiles of {TILE} px, {args.reads} random reads, best of {args.rounds}")
    print(f"{'store':<16}{'µs CPU':>9}{'µs wall':>9}{'patch/s':>9}{'MB':>8}{'s to write':>12}")
    for row in found:
        print(
            f"{row['store']:<16}{row['us_cpu']:>9.0f}{row['us_wall']:>9.0f}"
            f"{row['patches_per_s']:>9.0f}{row['bytes'] / 1e6:>8.1f}{row['s_write']:>12.2f}"
        )


if __name__ == "__main__":
    main()
