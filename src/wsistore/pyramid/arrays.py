"""Reading Zarr's array documents: whether encoded tiles can be had directly.

Most pyramids can be read without zarr-python, several times faster: chunks that hold all
channels of a tile, encoded by one codec, in shards or not. `parse_array_document` says how
they lie, or why it can't be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from wsistore.codecs import BlockFormat
from wsistore.errors import UnsupportedCodecError
from wsistore.geometry import Size, ceil_div
from wsistore.pyramid.image_codecs import IMAGE_CODECS, block_format

CHANNELS_LAST = [1, 2, 0]
MAX_CHUNK_BYTES = 1 << 31
"""Largest decoded chunk that is believed."""

_COMPRESSORS = {"zstd": "zstd", "blosc": "blosc", "gzip": "gzip", "numcodecs.zlib": "deflate"}
"""Bytes-to-bytes codecs of v3 documents, and what they are called in `BlockFormat`."""
_COMPRESSORS_V2 = {"zstd": "zstd", "blosc": "blosc", "zlib": "deflate", "gzip": "gzip"}
_KNOWN_KEYS = frozenset(
    {"zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"}
    | {"fill_value", "codecs", "attributes", "dimension_names", "storage_transformers"}
)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """How the encoded tiles of an array of shape (channels, height, width) lie.

    Parameters
    ----------
    size : Size
        Width and height of the array, px.
    block_format : BlockFormat
        How each (inner) chunk is encoded; its size is that of the chunk.
    checksum : {"", "crc32c"}
        What follows each chunk.
    fill : int
        Value of samples of chunks that are absent.
    prefix : str
        What the keys of chunks begin with, the channel's 0 included: ``"c/0/"``.
    separator : str
        What stands between row and column in a key.
    shard : Size
        Size of an object in px: the shard, or the chunk where there are none.
    sharded : bool
        Whether objects are shards.
    index_at_end : bool
        Whether a shard's index is at its end, or its start.
    index_checksum : bool
        Whether a crc32c follows the index.
    """

    size: Size
    block_format: BlockFormat
    checksum: Literal["", "crc32c"]
    fill: int
    prefix: str
    separator: str
    shard: Size
    sharded: bool = False
    index_at_end: bool = True
    index_checksum: bool = True

    @property
    def shard_grid(self) -> Size:
        """Columns and rows of objects."""
        return Size(
            ceil_div(self.size.width, self.shard.width),
            ceil_div(self.size.height, self.shard.height),
        )

    @property
    def shard_chunks(self) -> Size:
        """Columns and rows of chunks in an object."""
        form = self.block_format
        return Size(self.shard.width // form.width, self.shard.height // form.height)

    @property
    def tile_count(self) -> int:
        """Number of (inner) chunks."""
        form = self.block_format
        return ceil_div(self.size.width, form.width) * ceil_div(self.size.height, form.height)

    def key(self, row: int, column: int) -> str:
        """Return the name of an object below the array."""
        return f"{self.prefix}{row}{self.separator}{column}"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Why the tiles of an array can't be had directly.

    Parameters
    ----------
    reason : str
        What was found.
    """

    reason: str


class _NoError(Exception):
    """What was found that can't be read directly."""


def parse_array_document(document: Mapping[str, Any]) -> ArrayLayout | Unsupported:
    """Return how the tiles of a v3 or v2 array lie, or why they can't be had directly.

    Parameters
    ----------
    document : mapping
        Content of ``zarr.json`` or ``.zarray``.
    """
    try:
        if document.get("zarr_format") == 3:
            return _parse_v3(document)
        if document.get("zarr_format") == 2:
            return _parse_v2(document)
    except _NoError as no:
        return Unsupported(str(no))
    except UnsupportedCodecError as error:
        return Unsupported(error.message)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return Unsupported(f"its document is not understood ({type(error).__name__}: {error})")
    return Unsupported(f"zarr_format {document.get('zarr_format')!r}")


def _parse_v3(document: Mapping[str, Any]) -> ArrayLayout:
    _need(document["node_type"] == "array", f"node_type {document['node_type']!r}")
    _need(document["data_type"] == "uint8", f"data type {document['data_type']!r}")
    _need(not document.get("storage_transformers"), "storage transformers")
    extensions = [
        key
        for key, value in document.items()
        if key not in _KNOWN_KEYS
        and not (isinstance(value, Mapping) and value.get("must_understand") is False)
    ]
    _need(not extensions, f"extensions {extensions}")
    grid = document["chunk_grid"]
    _need(grid["name"] == "regular", f"chunk grid {grid['name']!r}")
    channels, size = _plane(document["shape"], "shape")
    shard_channels, shard = _plane(grid["configuration"]["chunk_shape"], "chunk shape")
    _need(shard_channels == channels, "channels in separate chunks")
    prefix, separator = _key_encoding(document.get("chunk_key_encoding", {"name": "default"}))
    codecs = document["codecs"]
    layout = ArrayLayout(
        size=size,
        block_format=BlockFormat("none", shard.width, shard.height, channels),
        checksum="",
        fill=_fill(document["fill_value"]),
        prefix=prefix,
        separator=separator,
        shard=shard,
    )
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        return _with_shards(layout, channels, codecs[0]["configuration"])
    return _with_codecs(layout, codecs, shard, channels)


def _with_shards(
    layout: ArrayLayout, channels: int, configuration: Mapping[str, Any]
) -> ArrayLayout:
    chunk_channels, chunk = _plane(configuration["chunk_shape"], "inner chunk shape")
    _need(chunk_channels == channels, "channels in separate chunks")
    _need(
        layout.shard.width % chunk.width == 0 and layout.shard.height % chunk.height == 0,
        "shards that are no multiple of their chunks",
    )
    location = configuration.get("index_location", "end")
    _need(location in ("start", "end"), f"index_location {location!r}")
    index = [codec["name"] for codec in configuration["index_codecs"]]
    _need(index in (["bytes"], ["bytes", "crc32c"]), f"index codecs {index}")
    endian = configuration["index_codecs"][0].get("configuration", {}).get("endian")
    _need(endian == "little", f"{endian!r}-endian shard index")
    sharded = replace(
        layout,
        sharded=True,
        index_at_end=location == "end",
        index_checksum=index[-1] == "crc32c",
    )
    return _with_codecs(sharded, configuration["codecs"], chunk, channels)


def _with_codecs(
    layout: ArrayLayout, codecs: Sequence[Mapping[str, Any]], chunk: Size, channels: int
) -> ArrayLayout:
    """Return the layout with the codecs of a chunk."""
    chain = list(codecs)
    checksum: Literal["", "crc32c"] = ""
    if chain[-1]["name"] == "crc32c":
        chain.pop()
        checksum = "crc32c"
    channels_last = False
    if chain[0]["name"] == "transpose":
        order = chain.pop(0)["configuration"]["order"]
        _need(order in (CHANNELS_LAST, [0, 1, 2]), f"transpose {order}")
        channels_last = order == CHANNELS_LAST
    names = [codec["name"] for codec in chain]
    form = None
    if len(names) == 1 and names[0] in IMAGE_CODECS:
        _need(channels_last or channels == 1, f"{names[0]} without transpose {CHANNELS_LAST}")
        configuration = chain[0].get("configuration") or {}
        form = block_format(IMAGE_CODECS[names[0]], configuration, chunk, channels)
    elif names[0] == "bytes" and len(names) == 1:
        form = _raw("none", chunk, channels, channels_last=channels_last)
    elif names[0] == "bytes" and len(names) == 2 and names[1] in _COMPRESSORS:
        form = _raw(_COMPRESSORS[names[1]], chunk, channels, channels_last=channels_last)
    if form is None:
        raise _NoError(f"codecs {names}")
    _need(form.raw_bytes <= MAX_CHUNK_BYTES, f"chunks of {chunk.width}x{chunk.height} px")
    return replace(layout, block_format=form, checksum=checksum)


def _raw(codec: str, chunk: Size, channels: int, *, channels_last: bool) -> BlockFormat:
    return BlockFormat(
        codec=codec,
        width=chunk.width,
        height=chunk.height,
        channels=channels,
        color="gray" if channels == 1 else "rgb",
        layout="yxc" if channels_last else "cyx",
    )


def _parse_v2(document: Mapping[str, Any]) -> ArrayLayout:
    _need(document["dtype"] in ("|u1", "<u1", ">u1"), f"data type {document['dtype']!r}")
    _need(document["order"] == "C", f"order {document['order']!r}")
    _need(not document.get("filters"), f"filters {document.get('filters')}")
    channels, size = _plane(document["shape"], "shape")
    chunk_channels, chunk = _plane(document["chunks"], "chunk shape")
    _need(chunk_channels == channels, "channels in separate chunks")
    separator = document.get("dimension_separator", ".")
    _need(separator in ("/", "."), f"dimension separator {separator!r}")
    codec = "none"
    if document["compressor"] is not None:
        name = document["compressor"]["id"]
        _need(name in _COMPRESSORS_V2, f"compressor {name!r}")
        codec = _COMPRESSORS_V2[name]
    form = _raw(codec, chunk, channels, channels_last=False)
    _need(form.raw_bytes <= MAX_CHUNK_BYTES, f"chunks of {chunk.width}x{chunk.height} px")
    return ArrayLayout(
        size=size,
        block_format=form,
        checksum="",
        fill=_fill(document["fill_value"]),
        prefix=f"0{separator}",
        separator=separator,
        shard=chunk,
    )


def _plane(shape: Sequence[object], what: str) -> tuple[int, Size]:
    """Return channels and size of a shape (channels, height, width)."""
    whole = [value for value in shape if isinstance(value, int) and not isinstance(value, bool)]
    _need(len(whole) == len(shape) == 3 and min(whole) > 0, f"{what} {list(shape)}")
    channels, height, width = whole
    _need(channels in (1, 3), f"{channels} channels")
    return channels, Size(width, height)


def _key_encoding(encoding: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the keys of chunks begin with, and what stands between row and column."""
    name = encoding["name"]
    configuration = encoding.get("configuration") or {}
    _need(name in ("default", "v2"), f"chunk key encoding {name!r}")
    separator = configuration.get("separator", "/" if name == "default" else ".")
    _need(separator in ("/", "."), f"separator {separator!r}")
    return (f"c{separator}0{separator}" if name == "default" else f"0{separator}"), separator


def _fill(value: object) -> int:
    if value is None:  # v2 only: undefined, and zarr-python reads 0
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise _NoError(f"fill value {value!r}")
    return value


def _need(condition: bool, reason: str) -> None:
    if not condition:
        raise _NoError(reason)
