"""One level of a slide: its tiles, and the tags of its page."""

from __future__ import annotations

import math
import zlib

import numpy as np

from wsistore.testing.encode import Encoded, encode
from wsistore.testing.plan import Plan
from wsistore.testing.rawtiff import LONG, RATIONAL, SHORT, UNDEFINED, RawTiff, Tag
from wsistore.testing.slide import WrittenLevel


def level_tags(plan: Plan, level: int, written: WrittenLevel, offset_type: int) -> list[Tag]:
    """Return the tags of the page of a level whose tiles are written."""
    variant = plan.variant
    size, channels = plan.level_size(level), variant.channels
    reduced = level > 0 and plan.kind != "aperio"  # Aperio's levels don't say it
    tags = [
        Tag(254, LONG, int(reduced)),
        Tag(256, LONG, size.width),
        Tag(257, LONG, size.height),
        Tag(258, SHORT, (8,) * channels),
        Tag(259, SHORT, variant.compression),
        Tag(262, SHORT, variant.photometric),
        Tag(277, SHORT, channels),
        Tag(284, SHORT, 1),
        Tag(322, SHORT, plan.source.tile),
        Tag(323, SHORT, plan.source.tile),
        Tag(324, offset_type, written.offsets.ravel().tolist()),
        Tag(325, LONG, written.counts.ravel().tolist()),
    ]
    if plan.kind == "aperio":
        tags.append(Tag(32997, LONG, 1))  # ImageDepth
    if variant.predictor != 1:
        tags.append(Tag(317, SHORT, variant.predictor))
    if written.tables:
        tags.append(Tag(347, UNDEFINED, written.tables))
    if variant.subsampling_tag is not None:
        tags.append(Tag(530, SHORT, variant.subsampling_tag))
    if level == 0 and plan.icc_profile is not None:
        tags.append(Tag(34675, UNDEFINED, plan.icc_profile))
    return tags


def write_tiles(tiff: RawTiff, plan: Plan, level: int) -> WrittenLevel:
    """Encode and write the tiles of a level, and return where they went."""
    columns, rows = plan.grid(level)
    offsets = np.zeros((rows, columns), np.uint64)
    counts = np.zeros((rows, columns), np.uint32)
    checksums = np.zeros((rows, columns), np.uint32)
    known: dict[tuple[int, ...], Encoded] = {}
    tables = b""
    indices = np.arange(rows * columns)
    if plan.order == "shuffled":
        indices = np.random.default_rng(level).permutation(indices)
    for row, column in (divmod(int(index), columns) for index in indices):
        if plan.order == "shuffled":
            tiff.add_block(b"between tiles")
        if (level, column, row) in plan.missing:
            continue
        block, tables = _encoded(plan, level, column, row, known)
        offsets[row, column] = tiff.add_block(block)
        counts[row, column] = len(block)
        checksums[row, column] = zlib.crc32(block)
    return WrittenLevel(offsets, counts, checksums, tables)


def _encoded(
    plan: Plan, level: int, column: int, row: int, known: dict[tuple[int, ...], Encoded]
) -> Encoded:
    downsample = plan.levels[level]
    key = plan.source.key(downsample, column, row)
    if key is not None and key in known:
        return known[key]
    pixels = plan.source.tile_pixels(downsample, column, row)
    result = encode(pixels, plan.variant, plan.quality)
    if key is not None:
        known[key] = result
    return result


def resolution_tags(plan: Plan, downsample: int) -> list[Tag]:
    """Return the resolution tags, px per cm, where mpp is a positive number."""
    try:
        mpp = float(plan.mpp or "")
    except ValueError:
        return []
    if not (math.isfinite(mpp) and mpp > 0):
        return []
    per_cm = (round(1e4 / (mpp * downsample) * 1000), 1000)
    return [Tag(282, RATIONAL, per_cm), Tag(283, RATIONAL, per_cm), Tag(296, SHORT, 3)]
