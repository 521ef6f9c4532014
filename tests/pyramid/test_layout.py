"""Zarr documents and shard indexes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsistore.errors import CorruptSlideError, UsageError
from wsistore.geometry import Size
from wsistore.pyramid.arrays import ArrayLayout, Unsupported, parse_array_document
from wsistore.pyramid.layout import (
    MISSING,
    array_document,
    array_document_v2,
    decode_shard_index,
    encode_shard_index,
    group_document,
    to_json,
)

ZSTD = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
IMAGE = [
    {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
    {"name": "imagecodecs_jpeg", "configuration": {"level": 80}},
    {"name": "crc32c"},
]
SIZE, CHUNK, SHARD = Size(500, 300), Size(64, 32), Size(128, 96)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
        lambda grid: st.tuples(
            arrays(np.int64, grid, elements=st.integers(0, 2**62)),
            arrays(np.int64, grid, elements=st.integers(0, 2**31)),
        )
    )
)
def test_shard_index_round_trip(index: tuple[Any, Any]) -> None:
    offsets, counts = index
    data = encode_shard_index(offsets, counts)
    assert len(data) == 16 * counts.size + 4
    seen_offsets, seen_counts = decode_shard_index(data, counts.shape)
    assert (seen_counts == counts).all()
    assert (seen_offsets == np.where(counts == 0, 0, offsets)).all()


@given(st.integers(0, 35), st.integers(1, 255))
def test_any_changed_byte_of_an_index_is_seen(position: int, flip: int) -> None:
    data = bytearray(encode_shard_index(np.array([[5, 0]]), np.array([[9, 0]])))
    data[position] ^= flip
    with pytest.raises(CorruptSlideError, match="checksum"):
        decode_shard_index(bytes(data), (1, 2), name="0/c/0/0/0")


def test_missing_chunks_are_all_ones_in_the_index() -> None:
    data = encode_shard_index(np.array([[7, 3]]), np.array([[2, 0]]))
    assert np.frombuffer(data[:32], "<u8").tolist() == [7, 2, MISSING, MISSING]


@pytest.mark.parametrize(
    ("entry", "match"),
    [((2**63, 1), "beyond"), ((MISSING, 5), "beyond"), ((5, 0), "0 bytes")],
)
def test_entries_that_can_not_be_are_refused(entry: tuple[int, int], match: str) -> None:
    body = np.array([entry], "<u8").tobytes()
    with pytest.raises(CorruptSlideError, match=match):
        decode_shard_index(body, (1, 1), checksum=False)


def test_an_index_of_another_length_is_refused() -> None:
    with pytest.raises(CorruptSlideError, match="20 bytes, expected 36"):
        decode_shard_index(bytes(20), (1, 2))


@pytest.mark.parametrize("shard", [None, SHARD])
def test_v3_document_is_what_zarr_understands(tmp_path: Path, shard: Size | None) -> None:
    document = array_document(SIZE, CHUNK, ZSTD, shard=shard, attributes={"a": 1})
    (tmp_path / "zarr.json").write_bytes(to_json(document))
    array = zarr.open_array(tmp_path, mode="r+")
    assert array.shape == (3, 300, 500)
    assert array.chunks == (3, 32, 64)
    assert array.shards == (None if shard is None else (3, 96, 128))
    assert array.metadata.dimension_names == ("c", "y", "x")
    assert array.attrs["a"] == 1
    assert (array[:, :2, :2] == 255).all()
    array[:, 32:64, 64:128] = 7
    assert (tmp_path / ("c/0/1/1" if shard is None else "c/0/0/0")).is_file()


def test_v2_document_is_what_zarr_understands(tmp_path: Path) -> None:
    document = array_document_v2(SIZE, CHUNK, {"id": "zstd", "level": 3})
    (tmp_path / ".zarray").write_bytes(to_json(document))
    array = zarr.open_array(tmp_path, mode="r+", zarr_format=2)
    assert array.shape == (3, 300, 500)
    assert (array[:, :2, :2] == 255).all()
    array[:, 32:64, 64:128] = 7
    assert (tmp_path / "0/1/1").is_file()


def test_a_shard_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(UsageError, match="no multiple"):
        array_document(SIZE, CHUNK, ZSTD, shard=Size(100, 96))


def test_documents_are_the_same_bytes_each_time() -> None:
    document = group_document({"µ": 1.5, "a": [1]})
    data = to_json(document)
    assert data == to_json(json.loads(data))
    assert data.isascii()
    assert data.endswith(b"\n")
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})


@pytest.mark.parametrize("shard", [None, SHARD])
def test_parsing_gives_what_was_built(shard: Size | None) -> None:
    document = json.loads(to_json(array_document(SIZE, CHUNK, IMAGE, shard=shard)))
    layout = parse_array_document(document)
    assert isinstance(layout, ArrayLayout)
    assert layout.size == SIZE
    form = layout.block_format
    assert (form.codec, form.color, form.width, form.height) == ("jpeg", "stream", 64, 32)
    assert layout.checksum == "crc32c"
    assert layout.fill == 255
    assert layout.sharded == (shard is not None)
    assert layout.key(2, 3) == "c/0/2/3"
    assert layout.shard_grid == ((8, 10) if shard is None else (4, 4))
    assert layout.shard_chunks == ((1, 1) if shard is None else (2, 3))


def test_parsing_a_v2_document() -> None:
    layout = parse_array_document(array_document_v2(SIZE, CHUNK, {"id": "zlib", "level": 1}))
    assert isinstance(layout, ArrayLayout)
    assert (layout.block_format.codec, layout.block_format.layout) == ("deflate", "cyx")
    assert (layout.key(2, 3), layout.checksum) == ("0/2/3", "")


def _sharded(**changes: Any) -> dict[str, Any]:
    document = array_document(SIZE, CHUNK, IMAGE, shard=SHARD)
    document["codecs"][0]["configuration"].update(changes)
    return document


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, "zarr_format None"),
        ({"zarr_format": 3, "node_type": "group"}, "node_type"),
        ({"zarr_format": 3}, "node_type"),
        ({**array_document(SIZE, CHUNK, IMAGE), "data_type": "uint16"}, "uint16"),
        ({**array_document(SIZE, CHUNK, IMAGE), "shape": [3, 300]}, "shape"),
        ({**array_document(SIZE, CHUNK, IMAGE), "shape": [5, 300, 500]}, "5 channels"),
        ({**array_document(SIZE, CHUNK, IMAGE), "shape": [3, 0, 500]}, "shape"),
        ({**array_document(SIZE, CHUNK, IMAGE), "fill_value": 300}, "fill value"),
        ({**array_document(SIZE, CHUNK, IMAGE), "new_feature": {"x": 1}}, "new_feature"),
        ({**array_document(SIZE, CHUNK, IMAGE), "storage_transformers": [{}]}, "transformers"),
        (array_document(SIZE, CHUNK, IMAGE[1:]), "without transpose"),
        (
            array_document(SIZE, CHUNK, [{"name": "bytes"}, {"name": "bz9"}]),
            "bz9",
        ),
        (array_document(SIZE, CHUNK, [{"name": "bytes"}, *ZSTD]), "codecs"),
        (array_document(Size(90000, 90000), Size(60000, 60000), ZSTD), "60000x60000"),
        (_sharded(chunk_shape=[1, 32, 64]), "separate chunks"),
        (_sharded(chunk_shape=[3, 40, 64]), "no multiple"),
        (_sharded(index_location="middle"), "middle"),
        (_sharded(index_codecs=[{"name": "zstd"}]), "index codecs"),
        (
            _sharded(index_codecs=[{"name": "bytes", "configuration": {"endian": "big"}}]),
            "endian",
        ),
        (_sharded(codecs=[{"name": "sharding_indexed", "configuration": {}}]), "sharding"),
        ({**array_document_v2(SIZE, CHUNK, None), "order": "F"}, "order"),
        ({**array_document_v2(SIZE, CHUNK, None), "filters": [{"id": "delta"}]}, "filters"),
        ({**array_document_v2(SIZE, CHUNK, {"id": "lzma"})}, "lzma"),
        ({**array_document_v2(SIZE, CHUNK, None), "chunks": [1, 32, 64]}, "separate chunks"),
    ],
)
def test_what_can_not_be_read_directly_says_why(document: dict[str, Any], reason: str) -> None:
    answer = parse_array_document(document)
    assert isinstance(answer, Unsupported)
    assert reason in answer.reason


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=3)))
def test_parsing_never_raises(junk: dict[str, Any]) -> None:
    document = {**array_document(SIZE, CHUNK, IMAGE, shard=SHARD), **junk}
    assert isinstance(parse_array_document(document), (ArrayLayout, Unsupported))
    for key in ("shape", "codecs", "chunk_grid", "chunk_key_encoding", "fill_value"):
        broken = {**array_document(SIZE, CHUNK, IMAGE, shard=SHARD), key: junk}
        assert isinstance(parse_array_document(broken), (ArrayLayout, Unsupported))
