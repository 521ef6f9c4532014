"""Masks as files: a Zarr group, or a PNG with a JSON beside it.

``NAME.zarr`` is a Zarr v3 group with the array ``mask`` (h, w) bool; ``NAME.png`` is 0 and
255, and ``NAME.json`` beside it tells the rest. Both carry the same record under the key
``wsistore``, with the fingerprint of the mask, by which a file that belongs to another one
or was changed is found out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wsistore.durable import WorkFolder, atomic_write, canonical
from wsistore.errors import (
    MetadataError,
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    UsageError,
)
from wsistore.sources import is_url, redact
from wsistore.sources.copies import local_copy, split_place, uploaded
from wsistore.tissue.mask import Mask, TissueMask

SCHEMA = 1
"""Version of the record."""
KIND = "tissue-mask"
_ARRAY = "mask"
_MAX_JSON = 16 << 20


def save_mask(mask: TissueMask, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a mask, whole or not at all.

    Parameters
    ----------
    mask : TissueMask
        Any mask.
    path : path or URL
        ``NAME.zarr`` or ``NAME.png``; the folder must exist. A PNG gets ``NAME.json``
        beside it. At a URL each file appears whole, a mask of several may be half replaced
        for a moment: reading it then is an error.
    overwrite : bool
        Whether what is there is replaced.

    Raises
    ------
    UsageError
        If the name ends otherwise.
    StoreExistsError
        If it is there, and is not to be replaced.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    if is_url(path):
        if not overwrite and _is_there(os.fspath(path)):
            raise StoreExistsError(
                f"{redact(path)} exists", hint="Choose another name, or have it overwritten."
            )
        with uploaded(path) as place:
            save_mask(mask, place)
        return
    target = Path(path)
    kind = target.suffix.lower()
    if kind == ".zarr":
        _save_zarr(mask, target, overwrite=overwrite)
    elif kind == ".png":
        _save_png(mask, target, overwrite=overwrite)
    else:
        raise UsageError(
            f"can't tell by {target.name!r} how to write the mask",
            hint="Name it *.zarr or *.png; labels of an OME-Zarr are written by write_label.",
        )


def load_mask(path: str | os.PathLike[str]) -> TissueMask:
    """Read a mask that `save_mask` wrote.

    Raises
    ------
    SourceNotFoundError
        If there is no such file, or a PNG lacks its JSON.
    StoreCorruptError
        If it is not what was written.
    UsageError
        If the name ends neither in ``.zarr`` nor in ``.png``.
    """
    if is_url(path):
        with local_copy(os.fspath(path), beside=["{stem}.json"]) as place:
            return load_mask(place)
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in {".zarr", ".png"}:
        raise UsageError(f"{target} is no mask by its name", hint="Masks are *.zarr or *.png.")
    if not target.exists():
        raise SourceNotFoundError(f"there is no mask {target}")
    return _load_zarr(target) if kind == ".zarr" else _load_png(target)


def _is_there(url: str) -> bool:
    place, name = split_place(url)
    if name.lower().endswith(".zarr"):
        return bool(place.list_names(name))
    return place.get(name) is not None


def record(mask: TissueMask) -> dict[str, Any]:
    """Return what a file tells of a mask beside its pixels."""
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "shape": list(mask.shape),
        "slide_size": list(mask.slide_size),
        "mpp": None if mask.mpp is None else list(mask.mpp),
        "origin": mask.origin,
        "method": mask.method,
        "parameters": dict(mask.parameters),
        "source": mask.source,
        "fingerprint": mask.fingerprint,
    }


def mask_of(told: Any, pixels: Mask, name: str) -> TissueMask:
    """Return the mask that a record and pixels make.

    Raises
    ------
    StoreCorruptError
        If they don't belong together, or the record is none.
    """
    try:
        if told["kind"] != KIND or told["schema"] != SCHEMA:
            raise StoreCorruptError(f"{name} is no {KIND} of schema {SCHEMA}")
        mask = TissueMask(
            pixels,
            told["slide_size"],
            told["mpp"],
            told["origin"],
            told["method"],
            told["parameters"],
            told["source"],
        )
        fingerprint = told["fingerprint"]
    except (KeyError, TypeError, ValueError, MetadataError) as error:
        raise StoreCorruptError(f"the record of the mask {name} is damaged: {error!r}") from error
    if mask.fingerprint != fingerprint:
        raise StoreCorruptError(f"the mask {name} is not the one that was written")
    return mask


def _save_zarr(mask: TissueMask, path: Path, *, overwrite: bool) -> None:
    with WorkFolder(path, {"mask": mask.fingerprint}, overwrite=overwrite, restart=True) as work:
        write_group(work.path, {"wsistore": record(mask)}, {_ARRAY: mask.pixels}, ("y", "x"))
        work.commit()


def write_group(
    folder: Path,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    axes: tuple[str, ...],
) -> None:
    """Write a Zarr v3 group with arrays (h, w) in chunks of at most 1024 px, zstd."""
    import zarr
    from zarr.codecs import ZstdCodec

    group = zarr.open_group(str(folder), mode="w", zarr_format=3, attributes=dict(attributes))
    for name, values in arrays.items():
        chunks = tuple(min(1024, side) for side in values.shape)
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=chunks,
            compressors=ZstdCodec(level=5),
            dimension_names=axes,
        )
        array[...] = values


def _load_zarr(path: Path) -> TissueMask:
    told, pixels = read_group(path, _ARRAY)
    return mask_of(told, pixels, str(path))


def read_group(path: Path, name: str) -> tuple[Any, Mask]:
    """Return the record of a group, and an array of it as a mask."""
    import zarr

    try:
        group = zarr.open_group(str(path), mode="r")
        array = zarr.open_array(str(path / name), mode="r")
        pixels = np.asarray(np.asarray(array[...]) != 0, np.bool_)
        return group.attrs.asdict().get("wsistore"), pixels
    except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise StoreCorruptError(f"{path} can't be read as a mask: {error}") from error


def _save_png(mask: TissueMask, path: Path, *, overwrite: bool) -> None:
    beside = path.with_suffix(".json")
    for taken in (path, beside):
        if taken.exists() and not overwrite:
            raise StoreExistsError(
                f"{taken} exists", hint="Choose another name, or have it overwritten."
            )
    _, encoded = cv2.imencode(".png", mask.pixels.astype(np.uint8) * 255)
    # A kill between the two leaves a pair that the fingerprint tells apart.
    atomic_write(path, encoded.tobytes())
    atomic_write(beside, canonical({"wsistore": record(mask)}))


def _load_png(path: Path) -> TissueMask:
    beside = path.with_suffix(".json")
    if not beside.exists():
        raise SourceNotFoundError(
            f"the mask {path} lacks {beside.name}, which tells of which slide it is",
            hint="For a picture of yours, make TissueMask(pixels, slide.size) of it.",
        )
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise StoreCorruptError(f"{path} is no PNG")
    try:
        told = json.loads(beside.read_bytes()[:_MAX_JSON])["wsistore"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(f"{beside} is damaged: {error!r}") from error
    return mask_of(told, pixels != 0, str(path))
