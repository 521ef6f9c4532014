"""Copied stores: pixels of every variant, tile bytes, missing and damaged tiles."""

from __future__ import annotations

import io
import json
import threading

import numpy as np
import pytest
import zarr
from PIL import Image

import wsistore
from wsistore.codecs import complete_jpeg
from wsistore.geometry import Box
from wsistore.pyramid import copying
from wsistore.pyramid.layout import decode_shard_index, shard_index_bytes
from wsistore.testing import VARIANTS, damage, write_slide

COPIED = [name for name in VARIANTS if name.startswith(("jpeg_", "x_", "j2k_"))]


def convert(slide, store, **options):
    report = wsistore.convert(slide.path, store, **options)
    report.raise_for_failures()
    return report


def inner_chunks(store, level=0):
    """Return {(row, column): bytes} of the only shard of a level, checksums cut off."""
    document = json.loads((store / str(level) / "zarr.json").read_text())
    outer = document["chunk_grid"]["configuration"]["chunk_shape"]
    inner = document["codecs"][0]["configuration"]["chunk_shape"]
    grid = (outer[1] // inner[1], outer[2] // inner[2])
    data = (store / str(level) / "c/0/0/0").read_bytes()
    offsets, counts = decode_shard_index(data[-shard_index_bytes(grid) :], grid)
    return {
        (int(row), int(column)): data[offsets[row, column] :][: counts[row, column] - 4]
        for row, column in np.argwhere(counts)
    }


@pytest.mark.parametrize("variant", COPIED)
def test_store_has_the_true_pixels(tmp_path, variant):
    tile = 256 if "33003_422" in variant else 128
    slide = write_slide(tmp_path / "a.svs", variant, size=(300, 200), tile=tile, levels=(1, 2))
    convert(slide, tmp_path / "a.ome.zarr")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    tolerance = 1 if "33003" in variant else 0
    with wsistore.open_slide(tmp_path / "a.ome.zarr") as opened:
        for level, size in enumerate(slide.level_sizes):
            truth = slide.level_pixels(level).astype(int)
            ours = opened.read_level(level, (0, 0, *size))
            theirs = group[str(level)][:].transpose(1, 2, 0)
            assert np.abs(ours - truth).max() <= tolerance
            assert np.abs(theirs - truth).max() <= tolerance
    assert group.attrs["wsistore"]["mode"] == "copy"


@pytest.mark.parametrize("variant", ["jpeg_rgb_tables", "jpeg_ycbcr422_tables_dqt"])
def test_inner_chunk_is_a_jpeg_file_in_the_right_colours(tmp_path, variant):
    slide = write_slide(tmp_path / "a.svs", variant, size=(300, 200), tile=128)
    convert(slide, tmp_path / "a.ome.zarr")
    with wsistore.open_slide(slide.path) as opened:
        form = opened.tile_table(0).block_format
    chunks = inner_chunks(tmp_path / "a.ome.zarr")
    assert len(chunks) == 6
    for (row, column), data in chunks.items():
        assert data == complete_jpeg(slide.tile_bytes(0, column, row), form)
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        # Pillow may bring another libjpeg, which rounds otherwise.
        assert np.abs(pixels - slide.tile_pixels(0, column, row)).mean() < 1


def test_j2k_chunks_are_the_tiles_as_they_are(tmp_path):
    slide = write_slide(tmp_path / "a.svs", "j2k_33005", size=(300, 200), tile=128)
    convert(slide, tmp_path / "a.ome.zarr")
    for (row, column), data in inner_chunks(tmp_path / "a.ome.zarr").items():
        assert data == slide.tile_bytes(0, column, row)


def test_store_is_hardly_larger_than_the_tiles(tmp_path):
    slide = write_slide(tmp_path / "a.svs", size=(2500, 2000), quality=85, distinct_tiles=9)
    convert(slide, tmp_path / "a.ome.zarr", associated=())
    tiles = sum(int(level.counts.sum()) for level in slide.written)
    files = [path for path in (tmp_path / "a.ome.zarr").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 1.06 * tiles


def test_missing_tile_is_a_missing_chunk_and_reads_white(tmp_path):
    slide = write_slide(tmp_path / "a.svs", size=(300, 200), tile=128, missing=[(0, 1, 0)])
    report = convert(slide, tmp_path / "a.ome.zarr")
    assert "1 missing" in report.outcomes[0].detail
    assert (0, 1) not in inner_chunks(tmp_path / "a.ome.zarr")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert (group["0"][:, :128, 128:256] == 255).all()
    assert group.attrs["wsistore"]["missing_tiles"] == {"0": 1, "1": 0}


def test_shard_without_a_tile_is_not_written(tmp_path):
    everything = [(1, 0, 0)]
    slide = write_slide(tmp_path / "a.svs", size=(300, 200), levels=(1, 2), missing=everything)
    convert(slide, tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr/1/c").exists()
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    assert (group["1"][:] == 255).all()


def test_missing_tile_fails_where_it_is_told_to(tmp_path):
    slide = write_slide(tmp_path / "a.svs", size=(300, 200), tile=128, missing=[(0, 1, 0)])
    report = wsistore.convert(slide.path, tmp_path / "a.ome.zarr", on_bad_tile="raise")
    assert report.outcomes[0].code == "WSI401"
    assert "column 1, row 0" in report.outcomes[0].detail
    assert not (tmp_path / "a.ome.zarr").exists()


@pytest.mark.parametrize("codec", ["copy", "zstd"])
def test_damaged_tile_fails_or_is_left_out_and_recorded(tmp_path, codec):
    slide = write_slide(tmp_path / "a.svs", size=(300, 200), tile=128)
    truth = slide.level_pixels(0)
    damage.overwrite_tile(slide.path, 0, 2, 1, "noise")
    store = tmp_path / "a.ome.zarr"
    report = wsistore.convert(slide.path, store, codec=codec)
    assert report.outcomes[0].code == "WSI402"
    assert "column 2, row 1" in report.outcomes[0].detail
    report = wsistore.convert(slide.path, store, codec=codec, on_bad_tile="fill", overwrite=True)
    report.raise_for_failures()
    group = zarr.open_group(store, mode="r")
    (noted,) = group.attrs["wsistore"]["damaged_tiles"]
    assert (noted["level"], noted["column"], noted["row"]) == (0, 2, 1)
    pixels = group["0"][:].transpose(1, 2, 0)
    assert (pixels[128:, 256:] == 255).all()
    assert (pixels[:128] == truth[:128]).all()


def test_copy_of_a_copy_has_the_same_tiles(tmp_path):
    slide = write_slide(tmp_path / "a.svs", size=(300, 200), tile=128)
    convert(slide, tmp_path / "a.ome.zarr")
    wsistore.convert(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr").raise_for_failures()
    assert inner_chunks(tmp_path / "a.ome.zarr") == inner_chunks(tmp_path / "b.ome.zarr")


@pytest.mark.parametrize(
    ("at_once", "asked_together"), [(1 << 30, "all"), (0, "few")], ids=["small", "large"]
)
def test_tiles_of_a_small_remote_shard_are_asked_for_at_once(
    tmp_path, monkeypatch, at_once, asked_together
):
    slide = write_slide(tmp_path / "a.svs", size=(1024, 1024), tile=128)
    monkeypatch.setattr(copying, "REMOTE_BATCH_BYTES", 1)  # each tile is a batch of its own
    monkeypatch.setattr(copying, "AT_ONCE_BYTES", at_once)
    together = threading.Barrier(63)  # and the last one: the first is waited for here
    most, lock, inside = 0, threading.Lock(), 0
    with wsistore.open_slide(slide.path) as opened:
        table = opened.tile_table(0)
        copier = copying.TileCopier(table, "jpeg", "a", "raise", remote=True)
        read = copier._read

        def reading(refs, some):
            nonlocal most, inside
            with lock:
                inside += 1
                most = max(most, inside)
            if asked_together == "all" and some[0] != 63:
                together.wait(20)
            found = read(refs, some)
            with lock:
                inside -= 1
            return found

        monkeypatch.setattr(copier, "_read", reading)
        chunks = list(copier.chunks(Box(0, 0, 8, 8), 8, copying.LeftOut()))
    assert [chunk.slot for chunk in chunks] == list(range(64))
    assert most >= 63 if asked_together == "all" else most <= copying.REMOTE_AHEAD
