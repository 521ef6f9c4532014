"""OME-Zarr as a slide: stores made here, stores of others, and damaged ones."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import obstore
import pytest
import zarr
from obstore.store import MemoryStore

from wsistore.codecs import BlockFormat, decode
from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    MetadataError,
    MissingTileError,
    SourceNotFoundError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.geometry import Box, Mpp, Size
from wsistore.pyramid import ngff
from wsistore.pyramid.layout import array_document, group_document, to_json
from wsistore.pyramid.reader import FORMAT, open_ome_zarr
from wsistore.pyramid.tile_tables import ZarrTileTable
from wsistore.slides import Slide, open_slide
from wsistore.testing import texture

LOSSLESS = ["jpeg2000", "jpegxl", "zstd", "blosc", "gzip", "none"]
LOSSY = ["jpeg", "jpeg-rgb"]


def _level(slide: Slide, index: int = 0, **more: Any) -> Any:
    return slide.read_level(index, (0, 0, *slide.levels[index].size), **more)


def _plain(path: Path, level: int = 0) -> Any:
    return zarr.open_group(path, mode="r")[str(level)][:].transpose(1, 2, 0)


# Stores of the kind that is made here


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("codec", LOSSLESS + LOSSY)
def test_levels_are_read_from_their_tiles(
    write_store: Callable[..., Any], codec: str, shard: int | None
) -> None:
    store = write_store(codec, shard=shard)
    with open_slide(store.path) as slide:
        assert slide.format == "ome-zarr"
        assert [level.size for level in slide.levels] == [(300, 200), (75, 50)]
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]
        for index, pixels in enumerate(store.levels):
            assert isinstance(slide.tile_table(index), ZarrTileTable)
            seen = _level(slide, index)
            assert (seen == _plain(store.path, index)).all()
            if codec in LOSSLESS:
                assert (seen == pixels).all()
            else:
                assert np.abs(seen.astype(int) - pixels).mean() < 8


def test_metadata_come_with_their_origins(write_store: Callable[..., Any]) -> None:
    with open_slide(write_store().path) as slide:
        assert slide.mpp == (0.5, 0.25)
        assert slide.mpp is not None
        assert slide.mpp.origin == "ome-zarr scale (aperio.MPP)"
        assert slide.magnification == 20
        assert slide.magnification is not None
        assert slide.magnification.origin == "ome-zarr (aperio.AppMag)"
        assert slide.properties["aperio.AppMag"] == "20"
        assert slide.properties["wsistore.source.format"] == "aperio"
        assert slide.notes[:1] == () or "contradict" in slide.notes[0]


def test_origins_do_not_pile_up(write_store: Callable[..., Any]) -> None:
    store = write_store(mpp=Mpp(0.5, 0.5, "ome-zarr scale (aperio.MPP)"))
    with open_slide(store.path) as slide:
        assert slide.mpp is not None
        assert slide.mpp.origin == "ome-zarr scale (aperio.MPP)"


def test_a_store_without_pixel_size_says_so(write_store: Callable[..., Any]) -> None:
    container = open_ome_zarr(write_store(mpp=None).path)
    assert container.mpp is None
    assert "unit" in container.notes[0]


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_an_absurd_pixel_size_is_not_believed(
    write_store: Callable[..., Any], scale: float
) -> None:
    store = write_store()
    _change(
        store.path,
        lambda a: a["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(
            scale=[1, scale, scale]
        ),
    )
    container = open_ome_zarr(store.path)
    assert container.mpp is None
    assert "µm/px" in container.notes[0]


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((path / "zarr.json").read_bytes())
    change(document["attributes"])
    (path / "zarr.json").write_bytes(to_json(document))


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_absent_chunks_of_copies_are_missing_tiles(
    write_store: Callable[..., Any], codec: str, shard: int | None
) -> None:
    # The first four make up a whole shard, which is not written then.
    skip = {(0, 0), (0, 1), (1, 0), (1, 1), (2, 3)}
    store = write_store(codec, shard=shard, skip=skip)
    with open_slide(store.path) as slide:
        table = slide.tile_table(0)
        assert table is not None
        assert {tuple(tile) for tile in np.argwhere(table.counts == 0).tolist()} == skip
        seen = _level(slide)
        assert (seen == _plain(store.path)).all()
        assert (seen[:128, :128] == 255).all()
        assert {(tile.row, tile.column) for tile in slide.bad_tiles} == skip
        with pytest.raises(MissingTileError):
            _level(slide, on_bad_tile="raise")


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip", "none", "jpegxl"])
def test_absent_chunks_of_others_are_of_the_fill_value(
    write_store: Callable[..., Any], codec: str, shard: int | None
) -> None:
    skip = {(0, 0), (0, 1), (1, 0), (1, 1), (2, 3)}
    for fill, ours in ((0, False), (255, True), (31, False)):
        store = write_store(
            codec, name=f"{fill}.zarr", shard=shard, skip=skip, fill=fill, ours=ours
        )
        with open_slide(store.path, on_bad_tile="raise") as slide:
            table = slide.tile_table(0)
            assert table is not None
            assert table.counts.all()
            seen = _level(slide)
            assert (seen == _plain(store.path)).all()
            assert (seen[:128, :128] == fill).all()
            assert slide.bad_tiles == ()


@pytest.mark.parametrize("fill", [0, 255])
def test_absent_jpeg_chunks_of_others_are_of_the_fill_value(
    write_store: Callable[..., Any], fill: int
) -> None:
    store = write_store("jpeg", skip={(0, 0)}, ours=False, fill=fill)
    with open_slide(store.path, on_bad_tile="raise") as slide:
        seen = _level(slide)
        assert (seen[:64, :64] == fill).all()
        assert (seen == _plain(store.path)).all()


def test_tiles_are_whole_images_with_their_checksum(write_store: Callable[..., Any]) -> None:
    store = write_store("jpeg")
    with open_slide(store.path) as slide:
        table = slide.tile_table(0)
        assert table is not None
        assert table.checksum == "crc32c"
        assert table.grid == (5, 4)
        refs = table.locate(np.array([4]), np.array([3]))
        source = table.source(int(refs.parts[0]))
        block = source.read(int(refs.offsets[0]), int(refs.counts[0]))[:-4]
        assert block.startswith(b"\xff\xd8")
        assert block.endswith(b"\xff\xd9")
        tile = decode(block, BlockFormat("jpeg", 64, 64, color="stream"))
        assert (tile[:8, :44] == _level(slide)[192:200, 256:300]).all()


def test_locating_reads_only_the_shards_asked_for(write_store: Callable[..., Any]) -> None:
    store = write_store("jpeg")
    for path in (store.path / "0/c/0").rglob("*"):
        if path.is_file() and path.name != "1":
            path.write_bytes(b"damaged")
    with open_slide(store.path) as slide:
        table = slide.tile_table(0)
        assert table is not None
        assert table.locate(np.array([2, 3]), np.array([0, 1])).counts.all()
        with pytest.raises(CorruptSlideError, match="index"):
            table.locate(np.array([0]), np.array([0]))


def test_reading_in_many_threads(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    with open_slide(store.path) as slide:
        wrong: list[Any] = []

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(10):
                x, y = int(rng.integers(0, 200)), int(rng.integers(0, 150))
                seen = slide.read_level(0, (x, y, 50, 40), threads=1)
                if not (seen == store.levels[0][y : y + 40, x : x + 50]).all():
                    wrong.append((x, y))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_associated_images_and_icc_profile(write_store: Callable[..., Any]) -> None:
    store = write_store()
    root = store.path / ngff.ASSOCIATED
    thumbnail = texture(40, 30, seed=9)
    group = zarr.open_group(store.path, mode="r+").create_group(ngff.ASSOCIATED)
    array = group.create_array("thumbnail", shape=(3, 30, 40), chunks=(3, 30, 40), dtype="uint8")
    array[:] = thumbnail.transpose(2, 0, 1)
    attributes = ngff.associated_attributes(b"\0profile", ["thumbnail"])
    (root / "zarr.json").write_bytes(to_json(group_document(attributes)))
    with open_slide(store.path) as slide:
        assert list(slide.associated) == ["thumbnail"]
        assert (slide.associated["thumbnail"] == thumbnail).all()
        assert slide.icc_profile == b"\0profile"
    with open_slide(write_store(name="other.zarr").path) as slide:
        assert list(slide.associated) == []
        assert slide.icc_profile is None


# Stores of others


def _foreign(
    root: Path,
    pixels: Any,
    order: str,
    chunks: tuple[int, ...],
    *,
    zarr_format: Any = 2,
    scale: float = 0.5,
    unit: str = "micrometer",
    **more: Any,
) -> Path:
    """Write a store by zarr-python, of one level, in any order of axes."""
    inside = [axis for axis in order if axis in "yxc"]
    array = pixels.transpose(["yxc".index(axis) for axis in inside]) if pixels.ndim == 3 else pixels
    array = array.reshape([dict(zip(inside, array.shape, strict=True)).get(a, 1) for a in order])
    axes = [
        {"name": a, "type": {"t": "time", "c": "channel"}.get(a, "space")}
        | ({"unit": unit} if a in "zyx" else {})
        for a in order
    ]
    dataset = {
        "path": "0",
        "coordinateTransformations": [
            {"type": "scale", "scale": [scale if a in "yx" else 1.0 for a in order]}
        ],
    }
    image = {"axes": axes, "datasets": [dataset], "name": "foreign"}
    if zarr_format == 2:
        attributes: dict[str, Any] = {"multiscales": [{"version": "0.4", **image}]}
        more.setdefault("chunk_key_encoding", {"name": "v2", "separator": "/"})
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [image]}}
    group = zarr.create_group(root, zarr_format=zarr_format, attributes=attributes)
    made = group.create_array("0", shape=array.shape, chunks=chunks, dtype=array.dtype, **more)
    made[:] = array
    return root


PIXELS = texture(150, 100, seed=5)


def _blosc() -> Any:
    return numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)


@pytest.mark.parametrize(
    ("order", "chunks", "zarr_format", "direct"),
    [
        ("cyx", (3, 64, 64), 2, True),
        ("cyx", (3, 64, 48), 3, True),
        ("cyx", (1, 64, 64), 2, False),
        ("tczyx", (1, 1, 1, 64, 64), 2, False),
        ("tczyx", (1, 3, 1, 64, 64), 3, False),
        ("yxc", (64, 64, 3), 3, False),
        ("yxc", (64, 64, 3), 2, False),
        ("czyx", (1, 1, 64, 64), 3, False),
    ],
)
def test_stores_of_others(
    tmp_path: Path, order: str, chunks: tuple[int, ...], zarr_format: int, direct: bool
) -> None:
    path = _foreign(tmp_path / "a.zarr", PIXELS, order, chunks, zarr_format=zarr_format)
    with open_slide(path) as slide:
        assert slide.format == "ome-zarr"
        assert slide.mpp == (0.5, 0.5)
        assert slide.mpp.origin == "ome-zarr scale"
        assert (slide.tile_table(0) is not None) == direct
        assert (slide.levels[0].tile_size is not None) == direct
        assert (_level(slide) == PIXELS).all()
        assert (slide.read_region((-5, 90), 0, (20, 20))[:10, 5:] == PIXELS[90:, :15]).all()


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("compressor", ["blosc", "zlib", "zstd", "gzip", "lz4", None])
def test_v2_compressors_and_separators(
    tmp_path: Path, compressor: str | None, separator: str
) -> None:
    codec = {
        "blosc": _blosc(),
        "zlib": numcodecs.Zlib(3),
        "zstd": numcodecs.Zstd(3),
        "gzip": numcodecs.GZip(3),
        "lz4": numcodecs.LZ4(),
        None: None,
    }[compressor]
    path = _foreign(
        tmp_path / "a.zarr",
        PIXELS,
        "cyx",
        (3, 64, 64),
        compressors=codec,
        chunk_key_encoding={"name": "v2", "separator": separator},
    )
    with open_slide(path) as slide:
        assert (slide.tile_table(0) is None) == (compressor == "lz4")
        assert (_level(slide) == PIXELS).all()


def test_v3_shards_written_by_zarr(tmp_path: Path) -> None:
    path = _foreign(
        tmp_path / "a.zarr", PIXELS, "cyx", (3, 32, 32), zarr_format=3, shards=(3, 64, 96)
    )
    with open_slide(path) as slide:
        table = slide.tile_table(0)
        assert isinstance(table, ZarrTileTable)
        assert table.layout.sharded
        assert (_level(slide) == PIXELS).all()


def test_chunks_that_zarr_left_out_are_read_as_zarr_reads_them(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[:70, :70] = 0  # zarr leaves chunks of the fill value out, and 0 is its default
    path = _foreign(tmp_path / "a.zarr", pixels, "cyx", (3, 64, 64), zarr_format=3)
    assert not (path / "0/c/0/0/0").exists()
    with open_slide(path, on_bad_tile="raise") as slide:
        assert slide.tile_table(0) is not None
        assert (_level(slide) == pixels).all()


def test_gray_and_rgba(tmp_path: Path) -> None:
    gray = _foreign(tmp_path / "gray.zarr", PIXELS[..., 0], "yx", (64, 64))
    with open_slide(gray) as slide:
        assert (_level(slide) == PIXELS[..., :1]).all()
    one = _foreign(tmp_path / "one.zarr", PIXELS[..., :1], "cyx", (1, 64, 64), zarr_format=3)
    with open_slide(one) as slide:
        assert slide.tile_table(0) is not None
        assert (_level(slide) == PIXELS[..., :1]).all()
    alpha = np.full((100, 150, 1), 255, np.uint8)
    alpha[:50] = 0
    rgba = _foreign(tmp_path / "rgba.zarr", np.dstack([PIXELS, alpha]), "cyx", (4, 64, 64))
    with open_slide(rgba) as slide:
        seen = _level(slide)
        assert (seen[:50] == 255).all()
        assert (seen[50:] == PIXELS[50:]).all()


def test_units_of_others(tmp_path: Path) -> None:
    path = _foreign(tmp_path / "a.zarr", PIXELS, "cyx", (3, 64, 64), unit="nanometer", scale=250.0)
    assert open_ome_zarr(path).mpp == (0.25, 0.25)


def test_first_image_of_a_bioformats2raw_collection(tmp_path: Path) -> None:
    root = tmp_path / "a.zarr"
    zarr.create_group(root, zarr_format=2, attributes={"bioformats2raw.layout": 3})
    _foreign(root / "0", PIXELS, "tczyx", (1, 1, 1, 64, 64))
    with open_slide(root) as slide:
        assert (_level(slide) == PIXELS).all()
        assert "bioformats2raw" in " ".join(slide.notes)
        assert slide.fingerprint.startswith("oz1-")


def test_levels_that_are_not_in_order_are_sorted(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    _change(store.path, lambda a: a["ome"]["multiscales"][0]["datasets"].reverse())
    with open_slide(store.path) as slide:
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]
        assert slide.mpp == (0.5, 0.25)
        assert (_level(slide) == store.levels[0]).all()
        assert "sorted" in " ".join(slide.notes)


@pytest.mark.parametrize(
    ("pixels", "order", "chunks", "match"),
    [
        (PIXELS.astype(np.uint16), "cyx", (3, 64, 64), "uint16"),
        (np.dstack([PIXELS, PIXELS]), "cyx", (1, 64, 64), "6 channels"),
    ],
)
def test_pixels_that_are_not_read_are_named(
    tmp_path: Path, pixels: Any, order: str, chunks: tuple[int, ...], match: str
) -> None:
    path = _foreign(tmp_path / "a.zarr", pixels, order, chunks)
    with pytest.raises(UnsupportedSlideError, match=match):
        open_slide(path)


def test_several_planes_are_not_read(tmp_path: Path) -> None:
    path = _foreign(tmp_path / "a.zarr", PIXELS, "cyx", (3, 64, 64))
    document = json.loads((path / ".zattrs").read_bytes())
    document["multiscales"][0]["axes"][0] = {"name": "z", "type": "space"}
    (path / ".zattrs").write_bytes(to_json(document))
    with pytest.raises(UnsupportedSlideError, match="z of 3"):
        open_slide(path)


# Things that are no slide


def test_what_is_no_store(tmp_path: Path) -> None:
    assert not FORMAT.probe(str(tmp_path), b"", True)
    assert not FORMAT.probe(str(tmp_path / "a.svs"), b"II*\0", False)
    with pytest.raises(UnsupportedSlideError, match=r"none of zarr\.json"):
        open_ome_zarr(tmp_path)
    with pytest.raises(SourceNotFoundError):
        open_ome_zarr(tmp_path / "absent")


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({}, "no multiscales"),
        ({"plate": {}}, "plate"),
        ({"ome": {"version": "0.5", "well": {}}}, "well"),
        ({"bioformats2raw.layout": 3}, "no multiscales"),
    ],
)
def test_groups_that_are_no_image(tmp_path: Path, attributes: dict[str, Any], match: str) -> None:
    (tmp_path / "zarr.json").write_bytes(to_json(group_document(attributes)))
    assert FORMAT.probe(str(tmp_path), b"", True)
    with pytest.raises(UnsupportedSlideError, match=match):
        open_slide(tmp_path)


def test_an_array_is_no_image(write_store: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedSlideError, match="is a Zarr array"):
        open_slide(write_store().path / "0")


@pytest.mark.parametrize("inside", [True, False])
def test_a_store_that_is_not_finished_is_refused(
    write_store: Callable[..., Any], tmp_path: Path, inside: bool
) -> None:
    partial = tmp_path / ".slide.ome.zarr.partial"
    partial.mkdir()
    shutil.move(write_store().path, partial / "store")
    with pytest.raises(UnsupportedSlideError, match="not finished"):
        open_slide(partial / "store" if inside else partial)


# Damage


def test_a_document_that_is_no_json(write_store: Callable[..., Any]) -> None:
    store = write_store()
    for name in ("1/zarr.json", "zarr.json"):
        (store.path / name).write_bytes(b'{"zarr_format": 3,')
        with pytest.raises(CorruptSlideError, match="no JSON"):
            open_slide(store.path)


def test_a_level_that_is_gone(write_store: Callable[..., Any]) -> None:
    store = write_store()
    (store.path / "1/zarr.json").unlink()
    with pytest.raises(CorruptSlideError, match=r"1/zarr\.json is missing"):
        open_slide(store.path)


def test_a_shape_that_does_not_fit_the_axes(write_store: Callable[..., Any]) -> None:
    store = write_store()
    document = json.loads((store.path / "0/zarr.json").read_bytes())
    for key, value in (("shape", [3, 200, 300, 1]), ("dimension_names", list("cyxz"))):
        document[key] = value
    document["chunk_grid"]["configuration"]["chunk_shape"] = [3, 128, 128, 1]
    document["codecs"] = [{"name": "bytes"}]
    (store.path / "0/zarr.json").write_bytes(to_json(document))
    with pytest.raises(CorruptSlideError, match="axes are cyx"):
        open_slide(store.path)


def test_an_empty_level(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    document = json.loads((store.path / "1/zarr.json").read_bytes())
    document["shape"] = [3, 50, 0]
    (store.path / "1/zarr.json").write_bytes(to_json(document))
    with pytest.raises(CorruptSlideError, match="shape"):
        open_slide(store.path)


def test_a_codec_that_is_unknown(write_store: Callable[..., Any]) -> None:
    store = write_store(shard=None)
    document = json.loads((store.path / "0/zarr.json").read_bytes())
    document["codecs"][1] = {"name": "imagecodecs_heif"}
    (store.path / "0/zarr.json").write_bytes(to_json(document))
    with pytest.raises(UnsupportedSlideError, match="imagecodecs_heif"):
        open_slide(store.path)


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_a_flipped_byte_of_a_tile_is_seen(write_store: Callable[..., Any], codec: str) -> None:
    store = write_store(codec)
    shard = store.path / "0/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    with open_slide(store.path) as slide:
        with pytest.raises(DamagedTileError, match="crc32c"):
            _level(slide)
        assert (_level(slide, on_bad_tile="fill") == 255).any()
        assert len(slide.bad_tiles) == 1
        bad = slide.bad_tiles[0]
        good = store.levels[0].copy() if codec == "zstd" else None
        if good is not None:
            good[bad.row * 64 : bad.row * 64 + 64, bad.column * 64 : bad.column * 64 + 64] = 255
            assert (_level(slide, on_bad_tile="fill") == good).all()


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda d: d[:30], "index alone takes"),
        (lambda d: d[:-1], "checksum"),
        (lambda d: d[:-10] + b"0123456789", "checksum"),
        (lambda d: d[5000:], "outside"),
        (lambda d: b"", "index alone takes"),
    ],
    ids=["short", "cut", "changed", "beheaded", "empty"],
)
def test_a_damaged_shard_index(
    write_store: Callable[..., Any], damage: Callable[[bytes], bytes], match: str
) -> None:
    store = write_store("zstd")
    shard = store.path / "0/c/0/0/0"
    shard.write_bytes(damage(shard.read_bytes()))
    with open_slide(store.path) as slide:
        with pytest.raises(CorruptSlideError, match=match):
            _level(slide)
        # Other shards are as before, and damage can be painted over.
        assert (slide.read_level(0, (128, 0, 172, 200)) == store.levels[0][:, 128:]).all()
        seen = _level(slide, on_bad_tile="fill")
        assert (seen[:128, :128] == 255).all()
        assert len(slide.bad_tiles) == 4


def test_an_empty_chunk_file_is_no_missing_tile(write_store: Callable[..., Any]) -> None:
    for codec in ("jpeg", "zstd"):
        store = write_store(codec, name=codec, shard=None)
        (store.path / "0/c/0/1/1").write_bytes(b"")
        with open_slide(store.path) as slide:
            with pytest.raises(CorruptSlideError, match="0 bytes"):
                _level(slide)
            assert (slide.read_level(0, (0, 0, 64, 64)) == _plain_tile(store.path)).all()


def _plain_tile(path: Path) -> Any:
    return zarr.open_group(path, mode="r")["0"][:, :64, :64].transpose(1, 2, 0)


def test_a_lost_shard_is_no_white_place(write_store: Callable[..., Any]) -> None:
    store = write_store("jpeg")
    listed = {"0/c/0/0/0": [9, "0", 4], "0/c/0/0/1": [9, "0", 0]}
    (store.path / ngff.CHECKSUMS).write_text(json.dumps({"document": {"shards": listed}}))
    for name in "01":
        (store.path / f"0/c/0/0/{name}").unlink()
    with open_slide(store.path) as slide:
        assert (slide.read_level(0, (128, 0, 128, 128)) == 255).all()
        with pytest.raises(CorruptSlideError, match="0/c/0/0/0 is gone"):
            _level(slide)
    (store.path / ngff.CHECKSUMS).write_text("{}")
    with open_slide(store.path) as slide, pytest.raises(CorruptSlideError, match="checksums"):
        _level(slide)


def test_damaged_chunks_that_only_zarr_reads(tmp_path: Path) -> None:
    path = _foreign(tmp_path / "a.zarr", PIXELS, "yxc", (64, 64, 3), zarr_format=3)
    (path / "0/c/0/0/0").write_bytes(b"junk")
    with open_slide(path) as slide:
        assert slide.tile_table(0) is None
        with pytest.raises(DamagedTileError, match="zarr can't read"):
            _level(slide)
        assert (slide.read_level(0, (64, 0, 64, 64)) == PIXELS[:64, 64:128]).all()


def test_an_icc_profile_that_is_no_base64(write_store: Callable[..., Any]) -> None:
    store = write_store()
    root = store.path / ngff.ASSOCIATED
    root.mkdir()
    (root / "zarr.json").write_bytes(to_json(group_document({"icc_profile": "no base64!"})))
    with pytest.raises(MetadataError, match="base64"):
        _ = open_ome_zarr(store.path).icc_profile


# Fingerprints


def test_fingerprint_does_not_depend_on_place_and_time(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    moved = store.path.with_name("moved.zarr")
    shutil.copytree(store.path, moved)
    first, second = open_ome_zarr(store.path), open_ome_zarr(moved)
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint().startswith("oz1-")


def test_fingerprint_tells_contents_apart(write_store: Callable[..., Any], tmp_path: Path) -> None:
    prints = {
        open_ome_zarr(write_store("zstd", name="a.zarr").path).fingerprint(),
        open_ome_zarr(write_store("zstd", name="b.zarr", seed=50).path).fingerprint(),
        open_ome_zarr(write_store("zstd", name="c.zarr", skip={(0, 0)}).path).fingerprint(),
        open_ome_zarr(write_store("zstd", name="d.zarr", ours=False).path).fingerprint(),
    }
    for seed in (1, 2):  # levels that only zarr reads
        pixels = texture(150, 100, seed=seed)
        for zarr_format in (2, 3):
            path = tmp_path / f"{seed}{zarr_format}.zarr"
            _foreign(path, pixels, "tczyx", (1, 1, 1, 64, 64), zarr_format=zarr_format)
            prints.add(open_ome_zarr(path).fingerprint())
    assert len(prints) == 8


def test_fingerprint_of_a_store_with_checksums_is_theirs(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    (store.path / ngff.CHECKSUMS).write_text('{"document": {"shards": {}}}')
    before = open_ome_zarr(store.path).fingerprint()
    (store.path / ngff.CHECKSUMS).write_text('{"document": {"shards": {"a": [1, "0", 1]}}}')
    assert open_ome_zarr(store.path).fingerprint() != before


def test_box_of_a_level_with_tiles_is_refused(write_store: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="tile table"):
        open_ome_zarr(write_store().path).read_pixels(0, Box(0, 0, 1, 1))


# Object storage


def _uploaded(path: Path) -> Any:
    memory = MemoryStore()
    for file in path.rglob("*"):
        if file.is_file():
            obstore.put(memory, file.relative_to(path).as_posix(), file.read_bytes())
    return memory


@pytest.mark.parametrize("shard", [None, 2])
@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_stores_in_object_storage(
    write_store: Callable[..., Any], codec: str, shard: int | None
) -> None:
    store = write_store(codec, shard=shard, skip={(0, 0), (0, 1), (1, 0), (1, 1)})
    url = "s3://bucket/made.ome.zarr"
    with (
        open_slide(store.path) as local,
        open_slide(url, store=_uploaded(store.path)) as remote,
    ):
        assert remote.fingerprint == local.fingerprint
        assert remote.tile_table(0) is not None
        for level in (0, 1):
            assert (_level(remote, level) == _level(local, level)).all()
        assert remote.bad_tiles == local.bad_tiles


def test_stores_of_others_in_object_storage(tmp_path: Path) -> None:
    for zarr_format, order, chunks in ((2, "tczyx", (1, 1, 1, 64, 64)), (3, "yxc", (64, 64, 3))):
        path = tmp_path / f"{order}.zarr"
        _foreign(path, PIXELS, order, chunks, zarr_format=zarr_format)
        with open_slide(f"s3://bucket/{order}.zarr", store=_uploaded(path)) as slide:
            assert slide.tile_table(0) is None
            assert (_level(slide) == PIXELS).all()
    sharded = _foreign(
        tmp_path / "shards.zarr", PIXELS, "yxc", (32, 32, 3), zarr_format=3, shards=(64, 64, 3)
    )
    with open_slide("s3://bucket/shards.zarr", store=_uploaded(sharded)) as slide:
        # zarr asks for byte ranges and for the last bytes of a shard.
        assert (slide.read_level(0, (40, 30, 20, 10)) == PIXELS[30:40, 40:60]).all()


# Documents that mean harm


@pytest.mark.parametrize("document", [b"[" * 100_000, b'{"a":' * 50_000, b"null", b"[]", b"1"])
@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json", "associated/zarr.json"])
def test_documents_of_any_shape_are_one_error(
    write_store: Callable[..., Any], name: str, document: bytes
) -> None:
    store = write_store("zstd")
    (store.path / name).parent.mkdir(exist_ok=True)
    (store.path / name).write_bytes(document)
    with pytest.raises((CorruptSlideError, UnsupportedSlideError)):
        open_slide(store.path)


def _associate(path: Path, names: Any) -> None:
    (path / ngff.ASSOCIATED).mkdir(exist_ok=True)
    group = group_document({"images": names})
    (path / f"{ngff.ASSOCIATED}/zarr.json").write_bytes(to_json(group))


@pytest.mark.parametrize("names", [1, None, True, "label", [1], [None], {"label": 1}])
def test_names_of_associated_images_are_a_list(write_store: Callable[..., Any], names: Any) -> None:
    store = write_store("zstd")
    _associate(store.path, names)
    with pytest.raises(CorruptSlideError, match="list of names"):
        open_slide(store.path)


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "", "gone"])
def test_associated_images_outside_of_the_store_are_not_read(
    write_store: Callable[..., Any], name: str
) -> None:
    store = write_store("zstd")
    _associate(store.path, [name])
    with open_slide(store.path) as slide, pytest.raises(WsistoreError):
        slide.associated[name]


@pytest.mark.parametrize("document", [b"null", b"[]", b"1", b'"x"', b"[" * 100_000])
def test_an_associated_image_of_any_shape_is_one_error(
    write_store: Callable[..., Any], document: bytes
) -> None:
    store = write_store("zstd")
    _associate(store.path, ["label"])
    (store.path / "associated/label").mkdir()
    (store.path / "associated/label/zarr.json").write_bytes(document)
    with open_slide(store.path) as slide, pytest.raises(WsistoreError):
        slide.associated["label"]


def test_a_huge_associated_image_is_not_read(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    _associate(store.path, ["label"])
    (store.path / "associated/label").mkdir()
    size = Size(1 << 20, 1 << 10)
    document = array_document(size, Size(256, 256), [{"name": "bytes"}])
    (store.path / "associated/label/zarr.json").write_bytes(to_json(document))
    with open_slide(store.path) as slide, pytest.raises(CorruptSlideError, match="1048576"):
        slide.associated["label"]


def test_tiles_beyond_measure_get_no_table(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    document = json.loads((store.path / "0/zarr.json").read_text())
    document["shape"] = [3, 1 << 30, 1 << 30]
    (store.path / "0/zarr.json").write_text(json.dumps(document))
    with open_slide(store.path) as slide:
        assert slide.tile_table(0) is None
        assert slide.read_level(0, (1 << 29, 1 << 29, 4, 4)).min() == 255


def test_a_folder_that_may_not_be_looked_into_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", refuse)
    assert not FORMAT.probe(str(tmp_path), b"", True)
