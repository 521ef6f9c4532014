"""Verification: what it finds, and that it says where."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

import wsistore
from wsistore.codecs import crc32c
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.pyramid import verifying
from wsistore.pyramid.layout import encode_shard_index
from wsistore.pyramid.ngff import CHECKSUMS
from wsistore.pyramid.shardfile import check_shard
from wsistore.pyramid.verifying import verify
from wsistore.testing import write_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "a.svs"
    return write_slide(path, size=(300, 200), tile=64, levels=(1, 4), missing=[(0, 1, 1)])


@pytest.fixture
def store(tmp_path, slide):
    wsistore.convert(slide.path, tmp_path / "a.ome.zarr", shard=128).raise_for_failures()
    return tmp_path / "a.ome.zarr"


def test_good_copy_is_equal_tile_by_tile(store, slide):
    seen = []
    report = verify(store, slide.path, on_event=seen.append)
    assert report.ok
    assert report.exit_code == 0
    assert report.compared_tiles == 5 * 4 + 2
    assert report.chunks == 5 * 4 - 1 + 2
    assert [event.done for event in seen if event.step == "checksums"] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("offset", [0, 700, -100, -1])
def test_flipped_bit_is_found_wherever_it_is(store, offset):
    path = store / "0/c/0/1/0"
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)
    report = verify(store)
    assert not report.ok
    assert [finding.where for finding in report.findings] == ["0/c/0/1/0"]


def test_shard_of_another_place_is_found(store):
    shutil.copy(store / "0/c/0/0/1", store / "0/c/0/0/0")
    (finding,) = verify(store).findings
    assert finding.where == "0/c/0/0/0"
    assert "not what was written" in finding.what


@pytest.mark.parametrize("name", ["0/c/0/0/0", "zarr.json", "0/zarr.json"])
def test_lost_file_is_found(store, name):
    (store / name).unlink()
    assert name in [finding.where for finding in verify(store).findings]


def test_label_images_are_no_strangers(store):
    (store / "labels" / "tissue").mkdir(parents=True)
    (store / "labels" / "tissue" / "zarr.json").write_text("{}")
    assert verify(store).ok


def test_strange_file_is_found(store):
    shutil.copy(store / "0/c/0/0/0", store / "0/c/0/0/9")
    (finding,) = verify(store).findings
    assert finding.where == "0/c/0/0/9"


def test_changed_metadata_are_found(store):
    path = store / "0/zarr.json"
    document = json.loads(path.read_text())
    document["fill_value"] = 0
    path.write_text(json.dumps(document))
    (finding,) = verify(store).findings
    assert finding.where == "0/zarr.json"


def test_damaged_checksum_document_is_found(store):
    os.truncate(store / "wsistore-checksums.json", 60)
    (finding,) = verify(store).findings
    assert finding.where == "wsistore-checksums.json"


def test_other_source_is_found(store, tmp_path):
    other = write_slide(tmp_path / "b.svs", size=(300, 200), tile=64, seed=5)
    (finding,) = verify(store, other.path).findings
    assert "another slide" in finding.what


@pytest.mark.parametrize(
    "options", [{"codec": "zstd"}, {"codec": "blosc", "format": "0.4", "chunk": 32}]
)
def test_lossless_transcode_is_equal_in_pixels(tmp_path, slide, options):
    wsistore.convert(slide.path, tmp_path / "a.ome.zarr", **options).raise_for_failures()
    report = verify(tmp_path / "a.ome.zarr", slide.path)
    assert report.ok
    assert [(d.level, d.mean, d.largest) for d in report.differences] == [(0, 0.0, 0)]


def test_lossy_transcode_is_told_by_numbers(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="jpeg").raise_for_failures()
    report = verify(store, slide.path)
    assert report.ok
    (difference,) = report.differences
    with wsistore.open_slide(store) as opened:
        ours = opened.read_level(0, (0, 0, 300, 200)).astype(int)
    truth = slide.level_pixels(0)
    assert difference.mean == pytest.approx(np.abs(ours - truth).mean())
    assert difference.largest == np.abs(ours - truth).max()


def test_damaged_chunk_file_of_0_4_is_found(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="zstd", format="0.4").raise_for_failures()
    (store / "0/0/0/0").write_bytes(b"nothing")
    (finding,) = verify(store).findings
    assert finding.where.startswith("0/0/0-")


def test_what_has_no_checksums_is_told(tmp_path):
    with pytest.raises(UsageError, match="wsistore-checksums"):
        verify(tmp_path)


def sealed(store, change):
    """Change the checksum document of a store, and give it the checksum of its new content."""
    path = store / CHECKSUMS
    body = json.loads(path.read_text())["document"]
    change(body)
    text = json.dumps(body, sort_keys=True, indent=0)
    path.write_text(f'{{"crc32c": "{crc32c(text.encode()):08x}", "document":\n{text}\n}}\n')


def test_sealing_keeps_a_store_good(store):
    sealed(store, lambda body: None)
    assert verify(store).ok


@pytest.mark.parametrize("name", ["/etc/hostname", "../a", "0/../../a", "", "0//a", "./zarr.json"])
@pytest.mark.parametrize("part", ["files", "shards"])
def test_names_outside_of_the_store_are_not_followed(store, name, part):
    sealed(store, lambda body: body[part].update({name: [1, "00000000", 1]}))
    (finding,) = verify(store).findings
    assert finding.where == CHECKSUMS
    assert "no name of a file below" in finding.what


@pytest.mark.parametrize("name", ["zarr.json", "0/c/0/0/0", CHECKSUMS])
def test_devices_are_not_read(store, name):
    (store / name).unlink()
    (store / name).symlink_to("/dev/zero")
    findings = verify(store).findings
    assert [name, True] in [[f.where, "not a regular file" in f.what] for f in findings]


def test_devices_among_chunk_files_are_not_read(tmp_path, slide):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="zstd", format="0.4").raise_for_failures()
    (store / "0/0/0/0").unlink()
    (store / "0/0/0/0").symlink_to("/dev/zero")
    assert ["not a regular file" in f.what for f in verify(store).findings] == [True]


def test_a_block_beyond_measure_is_no_block(store):
    def change(body):
        body["shards"]["0/0/0-999999999/0-999999999"] = [1, "00000000", 1]

    sealed(store, change)
    assert any("0-999999999" in finding.where for finding in verify(store).findings)


@pytest.mark.parametrize(
    "document", [b"[]", b"[" * 100_000, b'{"crc32c": "0", "document": {}}', b"\xff\xfe", b"null"]
)
def test_a_checksum_document_of_any_kind_is_found_damaged(store, document):
    (store / CHECKSUMS).write_bytes(document)
    (finding,) = verify(store).findings
    assert finding.where == CHECKSUMS


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        b'{"chunk_grid": {"configuration": {"chunk_shape": [3, 128, 128]}}, "codecs": []}',
        (
            b'{"chunk_grid": {"configuration": {"chunk_shape": [3, 128, 128]}},'
            b' "codecs": [{"configuration": {"chunk_shape": [3, 0, 0]}}]}'
        ),
        b"[" * 100_000,
    ],
)
def test_documents_that_fit_no_shards_are_found(store, document):
    (store / "0/zarr.json").write_bytes(document)
    sealed(
        store,
        lambda body: body["files"].update(
            {"0/zarr.json": [len(document), f"{crc32c(document):08x}", 0]}
        ),
    )
    (finding,) = verify(store).findings
    assert "don't go together" in finding.what


@pytest.mark.parametrize("key", ["levels", "damaged_tiles"])
def test_notes_that_are_lost_are_found(store, slide, key):
    path = store / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["wsistore"][key] = [1]
    path.write_text(json.dumps(document))
    data = path.read_bytes()
    sealed(
        store,
        lambda body: body["files"].update({"zarr.json": [len(data), f"{crc32c(data):08x}", 0]}),
    )
    assert any("does not say" in finding.what for finding in verify(store, slide.path).findings)


def test_pixels_that_are_no_likeness_are_found(tmp_path, slide, monkeypatch):
    store = tmp_path / "a.ome.zarr"
    wsistore.convert(slide.path, store, codec="jpeg", quality=20).raise_for_failures()
    assert verify(store, slide.path).ok
    monkeypatch.setattr(verifying, "LOSSY_LIMIT", 0.01)
    (finding,) = verify(store, slide.path).findings
    assert "grey levels in the mean" in finding.what


def test_a_chunk_that_reaches_into_the_index_is_outside(tmp_path):
    index = encode_shard_index(np.array([[0]]), np.array([[10]]))
    (tmp_path / "shard").write_bytes(b"12345" + index)
    with pytest.raises(StoreCorruptError, match=r"chunk 0 of shard .* lies outside"):
        check_shard(str(tmp_path / "shard"), 1)
