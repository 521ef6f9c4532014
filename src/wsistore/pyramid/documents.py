"""The metadata files of a store: what they are called and what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import crc32c
from wsistore.geometry import Size
from wsistore.pyramid import ngff
from wsistore.pyramid.coding import compressor, inner_codecs
from wsistore.pyramid.layout import (
    array_document,
    array_document_v2,
    group_document,
    group_document_v2,
    to_json,
)
from wsistore.pyramid.options import ConversionOptions
from wsistore.pyramid.planning import ConversionPlan, LevelPlan
from wsistore.pyramid.privacy import kept_properties
from wsistore.pyramid.transcoding import chunk_encoder

if TYPE_CHECKING:
    from wsistore.pyramid.units import ShardReceipt
    from wsistore.slides import Slide

IMAGE_NAME = "slide"
"""Name of every image: that of the file may be a patient's."""
_ASSOCIATED_CODEC = "zstd"

Documents = dict[str, bytes]


def level_documents(plan: ConversionPlan) -> Documents:
    """Return the documents of the level arrays, by their names below the root."""
    if plan.format == "0.4":
        return {
            f"{level.index}/.zarray": to_json(
                array_document_v2(level.size, level.chunk, compressor(level.codec))
            )
            for level in plan.levels
        }
    return {
        f"{level.index}/zarr.json": to_json(
            array_document(
                level.size,
                level.chunk,
                inner_codecs(level.codec, level.quality),
                shard=level.shard,
            )
        )
        for level in plan.levels
    }


def root_documents(
    plan: ConversionPlan,
    slide: Slide,
    options: ConversionOptions,
    receipts: Iterable[ShardReceipt] = (),
    notes: Sequence[str] = (),
) -> Documents:
    """Return the documents of the root group.

    Parameters
    ----------
    plan : ConversionPlan
        What is written.
    slide : Slide
        The source.
    options : ConversionOptions
        Which of its properties are kept.
    receipts : iterable of ShardReceipt
        Of all shards; they tell which tiles were left out.
    notes : sequence of str
        What else was left out.
    """
    datasets = [ngff.Dataset(str(level.index), level.downsample) for level in plan.levels]
    private = ngff.private_attributes(
        source_format=slide.format,
        source_fingerprint=slide.fingerprint,
        codec=plan.levels[0].codec,
        mode="copy" if plan.copies else "transcode",
        mpp=slide.mpp,
        magnification=slide.magnification,
        metadata=kept_properties(slide.properties, options.keep_metadata),
    )
    private["levels"] = [_level_note(level) for level in plan.levels]
    private.update(_left_out(receipts))
    if notes:
        private["notes"] = list(notes)
    if plan.format == "0.4":
        attributes = ngff.attributes_0_4(IMAGE_NAME, datasets, slide.mpp, private)
        return {".zgroup": to_json(group_document_v2()), ".zattrs": to_json(attributes)}
    attributes = ngff.attributes_0_5(IMAGE_NAME, datasets, slide.mpp, private)
    return {"zarr.json": to_json(group_document(attributes))}


def _level_note(level: LevelPlan) -> dict[str, Any]:
    note: dict[str, Any] = {
        "codec": level.codec,
        "pixels": level.pixels,
        "source_level": level.source_level,
    }
    if level.quality is not None:
        note["quality"] = level.quality
    return note


def _left_out(receipts: Iterable[ShardReceipt]) -> dict[str, Any]:
    """Return which tiles have no chunk: missing ones counted, damaged ones named."""
    missing: Counter[int] = Counter()
    damaged: set[tuple[int, int, int, str]] = set()
    for receipt in receipts:
        missing[receipt.level] += receipt.missing
        damaged.update((receipt.level, *tile) for tile in receipt.damaged)
    return {
        "missing_tiles": {str(level): missing[level] for level in sorted(missing)},
        "damaged_tiles": [
            {"level": level, "column": column, "row": row, "reason": reason}
            for level, column, row, reason in sorted(damaged)
        ],
    }


def associated_documents(
    plan: ConversionPlan, images: Mapping[str, NDArray[np.uint8]], icc_profile: bytes | None
) -> Documents:
    """Return all files of the associated images and of the ICC profile.

    Parameters
    ----------
    plan : ConversionPlan
        Tells the format.
    images : mapping of str to (h, w, 3) uint8
        Those to be kept.
    icc_profile : bytes or None
        Profile of the slide's pixels.
    """
    if not images and icc_profile is None:
        return {}
    root = ngff.ASSOCIATED
    attributes = ngff.associated_attributes(icc_profile, images)
    old = plan.format == "0.4"
    if old:
        files = {
            f"{root}/.zgroup": to_json(group_document_v2()),
            f"{root}/.zattrs": to_json(attributes),
        }
    else:
        files = {f"{root}/zarr.json": to_json(group_document(attributes))}
    for name in sorted(images):
        files.update(_image_files(f"{root}/{name}", images[name], old=old))
    return files


def _image_files(path: str, pixels: NDArray[np.uint8], *, old: bool) -> Documents:
    """Return the array of one image; it is one chunk."""
    size = Size(pixels.shape[1], pixels.shape[0])
    data = chunk_encoder(_ASSOCIATED_CODEC, None)(np.ascontiguousarray(pixels))
    if old:
        document = array_document_v2(size, size, compressor(_ASSOCIATED_CODEC))
        return {f"{path}/.zarray": to_json(document), f"{path}/0/0/0": data}
    document = array_document(size, size, inner_codecs(_ASSOCIATED_CODEC))
    checksum = crc32c(data).to_bytes(4, "little")
    return {f"{path}/zarr.json": to_json(document), f"{path}/c/0/0/0": data + checksum}
