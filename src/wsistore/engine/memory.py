"""How much memory workers need at most, and making it fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from wsistore.engine.crews import CrewOptions
from wsistore.engine.embed_jobs import SlideWork
from wsistore.engine.unit_reading import Reading
from wsistore.errors import UsageError
from wsistore.tiles.batch import CANVAS_BYTES

PROCESS_BYTES = 300 << 20
"""A Python process with zarr, OpenCV and decoders, before it holds a tile."""

FEATURE_BYTES = 4 * 4096
"""Of one tile: no encoder that is known is wider than 4096 float32."""

LEAST_CACHE = 8 << 20
"""Of decoded tiles; with less, tiles on a seam are decoded twice."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}


def parse_bytes(value: int | str) -> int:
    """Return a number of bytes; texts are such as ``"4GB"``, ``"512 MiB"`` or ``"1.5G"``.

    Raises
    ------
    wsistore.errors.UsageError
        If it is none, or not positive.
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?\s*", value.lower())
        if found is None:
            raise UsageError(f"can't read {value!r} as bytes", hint="Write 4GB or 512MiB.")
        value = int(float(found[1]) * (_UNITS | _BINARY)[found[2] or ""])
    if value < 1:
        raise UsageError(f"a limit of memory must be at least a byte, got {value!r}")
    return int(value)


def unit_bytes(reading: Reading, tile_bytes: int, unit_tiles: int) -> int:
    """Return the most bytes that a unit under way needs.

    Pixels of the batch in work, of those read ahead and of the one being read; windows
    before averaging; decoded tiles kept; the unit's features, and their encoded chunk.
    """
    batches = (reading.prefetch + 2) * reading.batch_size * tile_bytes
    return batches + CANVAS_BYTES + reading.cache_bytes + 2 * unit_tiles * FEATURE_BYTES


def fit_memory(
    options: CrewOptions, reading: Reading, works: Sequence[SlideWork], unit_tiles: int
) -> tuple[CrewOptions, Reading]:
    """Return options with which a run stays within its limit, models not counted.

    First the cache shrinks, then nothing is read ahead, then there are fewer workers.

    Raises
    ------
    wsistore.errors.UsageError
        If even one worker needs more; the message tells how much.
    """
    limit = options.memory_limit
    if limit is None:
        return options, reading
    tile_bytes = max(work.plan.size.width * work.plan.size.height * 3 for work in works)
    rows = min(unit_tiles, max(len(work.plan) for work in works))
    tighter = replace(reading, cache_bytes=LEAST_CACHE)
    tightest = replace(tighter, prefetch=0)
    for count in range(options.count, 0, -1):
        for candidate in (reading, tighter, tightest):
            need = unit_bytes(candidate, tile_bytes, rows)
            if options.scheduler == "threads":
                total = PROCESS_BYTES + count * need
            else:
                total = count * (PROCESS_BYTES + need)
            if total <= limit:
                return replace(options, workers=count), candidate
    raise UsageError(
        f"memory_limit {limit} is too small: one worker needs {total} bytes",
        hint="Use a smaller batch_size or unit_tiles.",
    )
