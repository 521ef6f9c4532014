"""Rules for the array documents of an OME-Zarr image (Zarr v2 and v3, NGFF 0.4 and 0.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsistore.pyramid.findings import Findings, is_list


def check_array(
    document: Mapping[str, Any], axes: Sequence[str], zarr_format: int, out: Findings
) -> list[int] | None:
    """Check the document of a level.

    Parameters
    ----------
    document : mapping
        Content of ``zarr.json`` or ``.zarray``.
    axes : sequence of str
        Names of the image's axes.
    zarr_format : {2, 3}
        Version of Zarr of the group.
    out : Findings
        Where findings go.

    Returns
    -------
    list of int or None
        Shape of the array; None where it has none that makes sense.
    """
    found = document.get("zarr_format")
    out.must(found == zarr_format, "zarr-format", f"zarr_format is {found!r}, not {zarr_format}")
    shape = document.get("shape")
    if not is_list(shape, int) or min(shape) < 1:
        out.must(False, "shape", f"shape must be a list of positive integers, it is {shape!r}")
        return None
    if not out.must(
        len(shape) == len(axes), "shape", f"shape {shape} has not the {len(axes)} axes of the image"
    ):
        return None
    (_check_v3 if zarr_format == 3 else _check_v2)(document, axes, out)
    return list(shape)


def _check_v2(document: Mapping[str, Any], axes: Sequence[str], out: Findings) -> None:
    separator = document.get("dimension_separator", ".")
    out.must(separator == "/", "separator", f"dimension_separator is {separator!r}, must be '/'")
    _check_chunks(document.get("chunks"), len(axes), "chunks", out)


def _check_v3(document: Mapping[str, Any], axes: Sequence[str], out: Findings) -> None:
    kind = document.get("node_type")
    out.must(kind == "array", "node-type", f"node_type is {kind!r}, not 'array'")
    names = document.get("dimension_names")
    out.must(
        names == list(axes),
        "dimension-names",
        f"dimension_names are {names}, the axes are {list(axes)}",
    )
    grid = _part(document, "chunk_grid")
    chunks = _part(grid, "configuration").get("chunk_shape")
    if not _check_chunks(chunks, len(axes), "chunk_shape", out):
        return
    codecs = document.get("codecs")
    if not out.must(is_list(codecs, Mapping), "codecs", "codecs must be a list, not empty"):
        return
    for codec in document["codecs"]:
        name = codec.get("name")
        out.must(isinstance(name, str), "codecs", f"a codec must have a name, it is {name!r}")
        if codec.get("name") == "sharding_indexed":
            _check_sharding(_part(codec, "configuration"), document, out)


def _check_sharding(
    configuration: Mapping[str, Any], document: Mapping[str, Any], out: Findings
) -> None:
    shard = document["chunk_grid"]["configuration"]["chunk_shape"]
    chunk = configuration.get("chunk_shape")
    if not _check_chunks(chunk, len(shard), "inner chunk_shape", out):
        return
    out.must(
        all(s % c == 0 for s, c in zip(shard, configuration["chunk_shape"], strict=True)),
        "shard-multiple",
        f"shards {shard} are no multiple of their chunks {chunk}",
    )
    index = configuration.get("index_codecs")
    if out.must(is_list(index, Mapping), "index-codecs", "index_codecs must be a list"):
        out.should(
            any(codec.get("name") == "crc32c" for codec in configuration["index_codecs"]),
            "index-checksum",
            "the shard index has no crc32c, so damage to it is not seen",
        )


def _check_chunks(chunks: object, count: int, what: str, out: Findings) -> bool:
    fits = is_list(chunks, int) and len(chunks) == count and min(chunks) > 0
    return out.must(fits, "chunks", f"{what} must be {count} positive integers, it is {chunks!r}")


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object within a document; an empty one where there is none."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}
