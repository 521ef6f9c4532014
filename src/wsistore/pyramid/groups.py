"""Groups of a store: where its image is, and what its documents say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsistore.errors import CorruptSlideError, StoreUnfinishedError, UnsupportedSlideError
from wsistore.pyramid.ngff import ASSOCIATED, CHECKSUMS
from wsistore.sources import Folder, is_url

ROOT_DOCUMENTS = ("zarr.json", ".zattrs", ".zgroup")
"""One of these is at the root of every Zarr group."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a store.

    Parameters
    ----------
    prefix : str
        What the names of all within it begin with: empty, or ending with ``/``.
    attributes : mapping
        User attributes.
    zarr_format : {2, 3}
        Version of Zarr.
    documents : mapping of str to bytes
        Its metadata documents by their names.
    note : str
        What was chosen for the reader.
    """

    prefix: str
    attributes: Mapping[str, Any]
    zarr_format: int
    documents: Mapping[str, bytes]
    note: str = ""


def parse_json(data: bytes, name: str) -> Mapping[str, Any]:
    """Return a document.

    Raises
    ------
    CorruptSlideError
        If it is none.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:  # the second where it is nested too deep
        raise CorruptSlideError(f"{name} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise CorruptSlideError(f"{name} holds no JSON object")
    return document


def read_group(folder: Folder, prefix: str) -> Group | None:
    """Return the group at a place of a store, None where there is none.

    Raises
    ------
    UnsupportedSlideError
        If there is an array.
    CorruptSlideError
        If its document can't be parsed.
    """
    name = f"{prefix}zarr.json"
    data = folder.get(name)
    if data is not None:
        document = parse_json(data, f"{folder.name}: {name}")
        if document.get("node_type") != "group":
            raise UnsupportedSlideError(
                f"{folder.name} is a Zarr {document.get('node_type')}, an OME-Zarr is a group",
                hint="Name the folder above it." if not prefix else "",
            )
        attributes = document.get("attributes")
        return Group(prefix, attributes if isinstance(attributes, Mapping) else {}, 3, {name: data})
    name = f"{prefix}.zattrs"
    data = folder.get(name)
    if data is not None:
        return Group(prefix, parse_json(data, f"{folder.name}: {name}"), 2, {name: data})
    if folder.get(f"{prefix}.zgroup") is not None:
        return Group(prefix, {}, 2, {})
    return None


def finished() -> None:
    """Say that nothing is known of an unfinished store."""


def find_image(
    folder: Folder, *, unfinished: Callable[[], StoreUnfinishedError | None] = finished
) -> Group:
    """Return the group of the image: the store's root, or its first series.

    Parameters
    ----------
    folder : Folder
        The store.
    unfinished : callable, optional
        Asked where there is no group: whether a store has been begun there.

    Raises
    ------
    StoreUnfinishedError
        If one has.
    UnsupportedSlideError
        If there is none; the message says what was found.
    CorruptSlideError
        If a document can't be parsed.
    """
    root = read_group(folder, "")
    if root is None:
        raise unfinished() or UnsupportedSlideError(
            f"{folder.name} holds no OME-Zarr: it has none of {', '.join(ROOT_DOCUMENTS)}"
        )
    inner = root.attributes.get("ome", root.attributes)
    inner = inner if isinstance(inner, Mapping) else {}
    if "multiscales" in inner:
        return root
    for kind in ("plate", "well"):
        if kind in inner:
            raise UnsupportedSlideError(
                f"{folder.name} is an OME-Zarr {kind}", hint="Name one of the images in it."
            )
    if "bioformats2raw.layout" in inner:
        series = read_group(folder, "0/")
        if series is not None:
            note = "the first image of a bioformats2raw collection is read"
            return replace(series, note=note)
    raise UnsupportedSlideError(
        f"{folder.name} is a Zarr group, but its attributes describe no OME-Zarr image "
        "(no multiscales)"
    )


def refuse_unfinished(folder: Folder) -> None:
    """Refuse the working folder of a conversion that has not come to its end."""
    place = Path(folder.name)
    inside = place.name == "store" and _is_partial(place.parent.name)
    if not is_url(folder.name) and (_is_partial(place.name) or inside):
        raise UnsupportedSlideError(
            f"{folder.name} is the working folder of a conversion that is not finished",
            hint="Run the same conversion again: it resumes.",
        )


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


def listed_shards(folder: Folder) -> frozenset[str]:
    """Return the names of all shards that a store was written with, as far as it says.

    Raises
    ------
    CorruptSlideError
        If the list is damaged.
    """
    data = folder.get(CHECKSUMS)
    if data is None:
        return frozenset()
    try:
        shards = json.loads(data)["document"]["shards"]
        return frozenset(key for key, row in shards.items() if row[2] > 0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptSlideError(
            f"{folder.name}: {CHECKSUMS} is not what was written ({error})"
        ) from error


def associated_attributes(folder: Folder, image: Group) -> Mapping[str, Any]:
    """Return the attributes of the group of associated images; empty where there is none."""
    if "wsistore" not in image.attributes:
        return {}
    group = read_group(folder, f"{image.prefix}{ASSOCIATED}/")
    return {} if group is None else group.attributes
