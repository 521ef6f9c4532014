"""Slides and plans as plain records: what ``--json`` prints, and tables are made of.

Keys are only ever added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsistore.pyramid.planning import ConversionPlan
    from wsistore.slides import Level, Slide


def slide_record(slide: Slide) -> dict[str, Any]:
    """Return what is known of a slide; reads its tile tables and no pixel.

    Sizes are in px of their level, mpp in µm/px, bytes are those of encoded tiles.
    """
    profile = slide.icc_profile
    mpp, magnification = slide.mpp, slide.magnification
    return {
        "name": slide.name,
        "format": slide.format,
        "width": slide.size.width,
        "height": slide.size.height,
        "mpp": mpp and {"x": mpp.x, "y": mpp.y, "origin": mpp.origin},
        "magnification": magnification
        and {"value": float(magnification), "origin": magnification.origin},
        "levels": [_level_record(slide, level) for level in slide.levels],
        "associated": sorted(slide.associated),
        "icc_profile_bytes": None if profile is None else len(profile),
        "fingerprint": slide.fingerprint,
        "notes": list(slide.notes),
    }


def _level_record(slide: Slide, level: Level) -> dict[str, Any]:
    table = slide.tile_table(level.index)
    record: dict[str, Any] = {
        "index": level.index,
        "width": level.size.width,
        "height": level.size.height,
        "downsample": level.downsample,
        "mpp": None if level.mpp is None else {"x": level.mpp.x, "y": level.mpp.y},
        "tile_width": level.tile_size and level.tile_size.width,
        "tile_height": level.tile_size and level.tile_size.height,
        "codec": None,
        "color": None,
        "checksum": None,
        "tiles": None,
        "missing_tiles": None,
        "bytes": None,
    }
    if table is not None:
        counts = table.counts
        record |= {
            "codec": table.block_format.codec,
            "color": table.block_format.color,
            "checksum": table.checksum or None,
            "tiles": int(counts.size),
            "missing_tiles": int((counts == 0).sum()),
            "bytes": int(counts.sum()),
        }
    return record


def plan_record(plan: ConversionPlan) -> dict[str, Any]:
    """Return what a conversion will write; bytes are estimates, objects an upper bound."""
    return {
        "format": plan.format,
        "copies": plan.copies,
        "codecs": list(plan.codecs),
        "associated": list(plan.associated),
        "objects": plan.object_count,
        "estimated_bytes": plan.estimated_bytes,
        "levels": [
            {
                "index": level.index,
                "width": level.size.width,
                "height": level.size.height,
                "downsample": level.downsample,
                "chunk_width": level.chunk.width,
                "chunk_height": level.chunk.height,
                "shard_width": level.shard.width,
                "shard_height": level.shard.height,
                "codec": level.codec,
                "quality": level.quality,
                "copied": level.copies,
                "shards": level.shard_grid.width * level.shard_grid.height,
                "estimated_bytes": level.estimated_bytes,
            }
            for level in plan.levels
        ],
    }
