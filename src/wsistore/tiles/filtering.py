"""Plans put to filters that look at pixels; scores become columns.

Cheap filters run first, each on the tiles that the ones before it left, on batches as they
are read: the pixels of a plan are never held all at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.slides.resolving import ResolutionLike
from wsistore.tiles.filters import FILTERS, PixelFilter
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.provenance import Rule
from wsistore.tiles.walking import iter_tiles

Filters = Iterable[PixelFilter | str]


def as_filters(filters: Filters) -> list[PixelFilter]:
    """Return the filters in the order that they run: cheap ones first, else as given.

    Raises
    ------
    wsistore.errors.UsageError
        If a name is unknown, or stands for two.
    """
    chosen = []
    for item in [filters] if isinstance(filters, str) else filters:
        if isinstance(item, str):
            if item not in FILTERS:
                raise UsageError(
                    f"there is no filter {item!r}", hint=f"Use {', '.join(sorted(FILTERS))}."
                )
            item = FILTERS[item]()  # noqa: PLW2901 (the filter that the name stands for)
        if not isinstance(item, PixelFilter):
            raise UsageError(f"{item!r} is no filter: it lacks score, keeps or a name")
        chosen.append(item)
    names = [item.name for item in chosen]
    if len(set(names)) < len(names):
        raise UsageError(f"filters of one name share a column: {', '.join(names)}")
    return sorted(chosen, key=lambda item: item.cost)


def apply_filters(
    plan: TilePlan, slide: Slide, filters: Filters, *, batch_size: int = 64, **reading: Any
) -> TilePlan:
    """Return the plan without the tiles that filters drop, and with their scores.

    Parameters
    ----------
    plan : TilePlan
        Of the slide.
    slide : Slide
        Where pixels come from.
    filters : sequence of PixelFilter or str
        Filters of one resolution look at the same pixels, which are read once.
    batch_size : int
        Tiles read at a time.
    **reading
        As in `wsistore.tiles.iter_tiles`.

    Raises
    ------
    wsistore.errors.UsageError
        If the slide is not that of the plan, or a name is unknown.
    wsistore.errors.WsistoreError
        As in `iter_tiles`.
    """
    plan.check_slide(slide)
    reading.setdefault("fill", plan.spec.fill)
    groups: dict[str, list[PixelFilter]] = {}
    for item in as_filters(filters):
        groups.setdefault(str(item.resolution), []).append(item)
    for group in groups.values():
        plan = _apply_group(plan, slide, group, batch_size, reading)
    return plan


def _apply_group(
    plan: TilePlan,
    slide: Slide,
    group: Sequence[PixelFilter],
    batch_size: int,
    reading: Mapping[str, Any],
) -> TilePlan:
    """Put a plan to filters that look at one resolution."""
    wanted = group[0].resolution
    resolution = plan.resolution if wanted is None else wanted
    size = plan.size if wanted is None else size_at(plan, slide, wanted)
    scores = {item.name: np.full(len(plan), np.nan, np.float32) for item in group}
    kept = np.ones(len(plan), np.bool_)
    seen, dropped = dict.fromkeys(scores, 0), dict.fromkeys(scores, 0)
    places = np.column_stack([plan.x, plan.y])
    walk = iter_tiles(slide, places, size, resolution, batch_size=batch_size, **reading)
    for batch in walk:
        alive = np.arange(len(batch))
        for item in group:
            found = np.array([item.score(batch.pixels[i]) for i in alive.tolist()], np.float64)
            scores[item.name][batch.start + alive] = found
            stays = item.keeps(found)
            seen[item.name] += len(alive)
            alive = alive[stays]
            dropped[item.name] += len(stays) - len(alive)
        kept[batch.start : batch.start + len(batch)] = False
        kept[batch.start + alive] = True
    rules = [Rule(f.name, f.parameters, seen[f.name], dropped[f.name]) for f in group]
    scored = plan.with_columns(**scores)[kept]
    return replace(scored, rules=(*plan.rules, *rules))


def size_at(plan: TilePlan, slide: Slide, resolution: ResolutionLike) -> Size:
    """Return the size of a plan's tiles in px of another resolution, rounded half up."""
    downsample = slide.resolve(resolution).downsample
    return Size(*(max(1, math.floor(side / downsample + 0.5)) for side in plan.size_level0))
