"""Zarr's documents and shard indexes: how the arrays of a pyramid lie in a store.

Formats: Zarr v3 core specification, its ``sharding_indexed`` codec (an index of
little-endian uint64 pairs ``offset, nbytes`` per inner chunk, row by row, both
``2^64 - 1`` for a chunk that is missing), and the Zarr v2 specification.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import append_crc32c, crc32c
from wsistore.errors import CorruptSlideError, UsageError
from wsistore.geometry import Size

FILL = 255
"""Value of samples that were never written: white."""
MISSING = np.iinfo(np.uint64).max
"""Offset and length in a shard index of an inner chunk that is missing."""
ENTRY_BYTES = 16
CRC_BYTES = 4

Codec = Mapping[str, Any]
INDEX_CODECS: tuple[Codec, ...] = (
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
)


def array_document(
    size: Size,
    chunk: Size,
    codecs: Sequence[Codec],
    *,
    shard: Size | None = None,
    channels: int = 3,
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the ``zarr.json`` of a v3 array of shape (channels, height, width), uint8.

    Chunks hold all channels, have the keys ``c/0/row/column``, and read as white where
    they are missing.

    Parameters
    ----------
    size : Size
        Width and height of the array in px.
    chunk : Size
        What is encoded at a time: the inner chunk, or the chunk where there are no shards.
    codecs : sequence of mapping
        Codecs of a chunk, as they stand in the document.
    shard : Size, optional
        Size of a shard in px, a multiple of the chunk; without it each chunk is an object.
    channels : int
        Samples per pixel.
    attributes : mapping, optional
        User attributes of the array.

    Raises
    ------
    UsageError
        If the shard is not a multiple of the chunk.
    """
    outer = list(map(dict, codecs))
    if shard is not None:
        _check_multiple(shard, chunk)
        outer = [_sharding(chunk, channels, codecs)]
    grid = shard or chunk
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [channels, size.height, size.width],
        "data_type": "uint8",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [channels, grid.height, grid.width]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": FILL,
        "codecs": outer,
        "attributes": dict(attributes or {}),
        "dimension_names": ["c", "y", "x"],
        "storage_transformers": [],
    }


def _check_multiple(shard: Size, chunk: Size) -> None:
    if shard.width % chunk.width or shard.height % chunk.height:
        raise UsageError(
            f"shard of {shard.width}x{shard.height} px is no multiple of the chunk of "
            f"{chunk.width}x{chunk.height} px"
        )


def _sharding(chunk: Size, channels: int, codecs: Sequence[Codec]) -> dict[str, Any]:
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [channels, chunk.height, chunk.width],
            "codecs": list(map(dict, codecs)),
            "index_codecs": list(map(dict, INDEX_CODECS)),
            "index_location": "end",
        },
    }


def array_document_v2(
    size: Size, chunk: Size, compressor: Mapping[str, Any] | None, *, channels: int = 3
) -> dict[str, Any]:
    """Return the ``.zarray`` of a v2 array of shape (channels, height, width), uint8.

    Chunks hold all channels and have the keys ``0/row/column``, as NGFF 0.4 asks.

    Parameters
    ----------
    size, chunk : Size
        Width and height in px.
    compressor : mapping or None
        Configuration of a numcodecs codec, such as ``{"id": "zstd", "level": 3}``.
    channels : int
        Samples per pixel.
    """
    return {
        "zarr_format": 2,
        "shape": [channels, size.height, size.width],
        "chunks": [channels, chunk.height, chunk.width],
        "dtype": "|u1",
        "compressor": None if compressor is None else dict(compressor),
        "fill_value": FILL,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


def group_document(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the ``zarr.json`` of a v3 group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def group_document_v2() -> dict[str, Any]:
    """Return the ``.zgroup`` of a v2 group; its attributes go into ``.zattrs``."""
    return {"zarr_format": 2}


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document: ASCII, keys in their order, a final newline.

    Equal documents give equal bytes; numbers that are not finite are refused, since JSON
    has none.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    text = json.dumps(document, indent=2, allow_nan=False)
    return text.encode("ascii") + b"\n"


def encode_shard_index(offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> bytes:
    """Return the index of a shard with its crc32c, as it stands at the shard's end.

    Parameters
    ----------
    offsets, counts : (rows, columns) int64
        First byte and length of each inner chunk; a count of 0 means a missing chunk.
    """
    index = np.stack([offsets, counts], axis=-1).astype("<u8")
    index[np.asarray(counts) == 0] = MISSING
    return append_crc32c(index.tobytes())


def shard_index_bytes(grid: tuple[int, int], *, checksum: bool = True) -> int:
    """Return the length of the index of a shard of ``(rows, columns)`` inner chunks."""
    return grid[0] * grid[1] * ENTRY_BYTES + (CRC_BYTES if checksum else 0)


def decode_shard_index(
    data: bytes, grid: tuple[int, int], *, checksum: bool = True, name: str = "a shard"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets and counts of a shard's inner chunks from its index.

    Parameters
    ----------
    data : bytes
        The index, with its crc32c.
    grid : (int, int)
        Rows and columns of inner chunks in the shard.
    checksum : bool
        Whether a crc32c follows the index.
    name : str
        The shard, for messages.

    Returns
    -------
    offsets, counts : (rows, columns) int64
        First byte and length of each inner chunk; 0 and 0 where it is missing.

    Raises
    ------
    CorruptSlideError
        If the length or the crc32c is wrong, or an entry is none that can be.
    """
    expected = shard_index_bytes(grid, checksum=checksum)
    if len(data) != expected:
        raise CorruptSlideError(f"index of {name} has {len(data)} bytes, expected {expected}")
    body = data[: grid[0] * grid[1] * ENTRY_BYTES]
    if checksum and crc32c(body) != int.from_bytes(data[len(body) :], "little"):
        raise CorruptSlideError(
            f"index of {name} does not match its checksum",
            hint="The store is damaged: copy or convert it again.",
        )
    index = np.frombuffer(body, "<u8").reshape(*grid, 2)
    missing = (index == MISSING).all(axis=-1)
    present = index[~missing]
    if present.size and int(present.max()) > np.iinfo(np.int64).max:
        raise CorruptSlideError(f"index of {name} has an entry beyond 2^63")
    if present.size and not present[:, 1].all():
        raise CorruptSlideError(f"index of {name} has an entry of 0 bytes")
    known = np.where(missing[..., None], 0, index).astype(np.int64)
    return known[..., 0], known[..., 1]
