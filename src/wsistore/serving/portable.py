"""Whether a store can be read in a browser as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.pyramid.groups import find_image, parse_json
from wsistore.pyramid.multiscales import parse_multiscale
from wsistore.sources import Folder

PORTABLE_CODECS = frozenset(
    {"blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"}
)
"""Codecs of Zarr v3 that browser viewers have (zarrita.js, neuroglancer)."""


def is_plain_store(folder: Folder) -> bool:
    """Return whether a folder is one NGFF 0.5 image with the axes c, y, x, at its root.

    Raises
    ------
    CorruptSlideError, UnsupportedSlideError
        If it holds no image at all.
    """
    image = find_image(folder)
    return image.zarr_format == 3 and not image.prefix and _order(image.attributes) == "cyx"


def is_portable(folder: Folder) -> bool:
    """Return whether all levels of a plain store have codecs that browsers know.

    Raises
    ------
    CorruptSlideError, UnsupportedSlideError
        As for `is_plain_store`, and where a document of a level is missing.
    """
    levels = parse_multiscale(find_image(folder).attributes).datasets
    return all(_has_portable_codecs(folder, f"{level.path}/zarr.json") for level in levels)


def _order(attributes: Mapping[str, Any]) -> str:
    return "".join(axis.name for axis in parse_multiscale(attributes).axes)


def _has_portable_codecs(folder: Folder, key: str) -> bool:
    data = folder.get(key)
    if data is None:
        raise CorruptSlideError(f"{folder.name}: {key} is missing, the metadata name its level")
    document = parse_json(data, f"{folder.name}: {key}")
    try:
        return _all_portable(document["codecs"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UnsupportedSlideError(f"{folder.name}: {key} has no list of codecs") from error


def _all_portable(codecs: Sequence[Mapping[str, Any]]) -> bool:
    for codec in codecs:
        if codec["name"] not in PORTABLE_CODECS:
            return False
        inner = codec.get("configuration", {})
        if codec["name"] == "sharding_indexed" and not _all_portable(inner["codecs"]):
            return False
    return True
