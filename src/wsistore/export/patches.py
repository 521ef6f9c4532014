"""The tiles of a plan with their pixels, one after another: what stores of patches hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import BlockFormat, check_crc32c, complete_jpeg, decode, encode
from wsistore.codecs.model import Color
from wsistore.errors import UsageError
from wsistore.slides import Slide
from wsistore.slides.model import TileTable
from wsistore.tiles.engine import fetch_blocks
from wsistore.tiles.plan import TilePlan
from wsistore.tiles.walking import TileBatch, iter_tiles

PatchCodec = Literal["jpeg", "png", "webp", "array", "copy"]
BATCH = 64
LABEL = "label"
"""Column of a plan with one class number a tile."""
NO_LABEL = -1

_MAGIC = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF", "webp"))


@dataclass(frozen=True, slots=True)
class Patch:
    """One tile of a plan with its pixels, encoded.

    Parameters
    ----------
    slide : str
        Name of the slide.
    index : int
        Row in the plan.
    x, y : int
        Top-left corner in level-0 px.
    column, row : int
        Place in the lattice; -1 where unknown.
    label : int
        Class; -1 where there is none.
    codec : {"jpeg", "png", "webp", "array"}
        How `data` is encoded; ``"array"``: the samples themselves, row by row.
    width, height : int
        Px.
    data : bytes
        The pixels.
    """

    slide: str
    index: int
    x: int
    y: int
    column: int
    row: int
    label: int
    codec: str
    width: int
    height: int
    data: bytes | memoryview

    @property
    def key(self) -> str:
        """``<slide>_x<x>_y<y>``: no two patches of a store share it."""
        return f"{self.slide}_x{self.x}_y{self.y}"

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """RGB, (h, w, 3) uint8.

        Raises
        ------
        wsistore.errors.DamagedTileError
            If the data don't decode to that size.
        """
        name = "none" if self.codec == "array" else self.codec
        color: Color = "stream" if name == "jpeg" else "rgb"
        return decode(self.data, BlockFormat(name, self.width, self.height, color=color))


@dataclass(frozen=True, slots=True)
class PatchEncoding:
    """How patches are encoded.

    Parameters
    ----------
    codec : {"jpeg", "png", "webp", "array", "copy"}
        ``"png"`` and ``"array"`` are exact, ``"webp"`` too where no quality is given.
        ``"copy"`` moves the slide's own JPEG tiles unchanged; the plan must lie on them.
        Tiles that cross the edge, or that the file lacks, are encoded as JPEG.
    quality : int, optional
        Of JPEG (default 90) and WebP.

    Raises
    ------
    UsageError
        If there is no such codec.
    """

    codec: PatchCodec = "jpeg"
    quality: int | None = None

    def __post_init__(self) -> None:
        """Check the codec."""
        if self.codec not in get_args(PatchCodec):
            raise UsageError(
                f"there is no codec {self.codec!r} for patches",
                hint=f"Use one of {', '.join(get_args(PatchCodec))}.",
            )
        if self.quality is not None and self.codec in ("png", "array"):
            raise UsageError(f"{self.codec} is exact: it has no quality")

    @property
    def name(self) -> str:
        """What the patches are encoded as."""
        return "jpeg" if self.codec == "copy" else self.codec

    def of(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return pixels encoded."""
        if self.name == "array":
            return pixels.tobytes()
        if self.name == "jpeg":
            quality = JPEG_QUALITY if self.quality is None else self.quality
            return encode(pixels, "jpeg", quality=quality, subsampling="444")
        if self.quality is None:
            return encode(pixels, self.name)
        return encode(pixels, self.name, quality=self.quality)


JPEG_QUALITY = 90


def iter_patches(
    slide: Slide,
    plan: TilePlan,
    encoding: PatchEncoding | None = None,
    *,
    batch_size: int = BATCH,
    **reading: Any,
) -> Iterator[Patch]:
    """Yield the tiles of a plan in its order, encoded; memory is that of few batches.

    Parameters
    ----------
    slide : Slide
        That of the plan.
    plan : TilePlan
        Its column ``label`` (integers), if there, gives the labels.
    encoding : PatchEncoding, optional
        JPEG by default.
    batch_size : int
        Tiles read at a time.
    **reading
        As in `wsistore.tiles.iter_tiles`: `threads`, `on_bad_tile`, `fill`, ...

    Raises
    ------
    UsageError
        If the slide is not that of the plan, labels are no integers, or tiles can't be
        copied.
    wsistore.errors.WsistoreError
        If a tile can't be read; see `on_bad_tile`.
    """
    plan.check_slide(slide)
    chosen = encoding or PatchEncoding()
    labels = plan_labels(plan)
    copier = _Copier(slide, plan) if chosen.codec == "copy" else None
    for run in plan.split(batch_size * 16):
        moved = copier.blocks(run) if copier is not None else {}
        rest = np.array([i for i in range(run.start, run.stop) if i not in moved], np.int64)
        encoded = _encoded(slide, plan, rest, chosen, batch_size, reading)
        for index in range(run.start, run.stop):
            data = moved[index] if index in moved else next(encoded)
            yield _patch(plan, index, int(labels[index]), chosen.name, data)


def plan_labels(plan: TilePlan) -> NDArray[np.int64]:
    """Return the class of each tile, -1 where the plan has none; (n,) int64.

    Raises
    ------
    UsageError
        If the plan's column ``label`` holds no integers.
    """
    found = plan.extras.get(LABEL)
    if found is None:
        return np.full(len(plan), NO_LABEL, np.int64)
    if found.dtype.kind not in "iu":
        raise UsageError(
            f"the column {LABEL} of the plan of {plan.slide.name} holds {found.dtype}",
            hint="Labels of stores are whole numbers; keep names in another column.",
        )
    return found.astype(np.int64)


def sniff_codec(data: bytes | memoryview) -> str:
    """Return the codec of an image by its first bytes, empty where it is none of them."""
    head = bytes(data[:16])
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def _patch(plan: TilePlan, index: int, label: int, codec: str, data: bytes) -> Patch:
    return Patch(
        slide=plan.slide.name,
        index=index,
        x=int(plan.x[index]),
        y=int(plan.y[index]),
        column=int(plan.column[index]),
        row=int(plan.row[index]),
        label=label,
        codec=codec,
        width=plan.size.width,
        height=plan.size.height,
        data=data,
    )


def _encoded(
    slide: Slide,
    plan: TilePlan,
    rows: NDArray[np.int64],
    encoding: PatchEncoding,
    batch_size: int,
    reading: dict[str, Any],
) -> Iterator[bytes]:
    if not len(rows):
        return
    part = plan[rows]
    walk: Iterator[TileBatch] = iter_tiles(
        slide, part, part.size, part.resolution, batch_size=batch_size, **reading
    )
    for batch in walk:
        for pixels in batch.pixels:
            yield encoding.of(pixels)


class _Copier:
    """Fetches the slide's own JPEG tiles where the tiles of a plan are just those."""

    def __init__(self, slide: Slide, plan: TilePlan) -> None:
        geometry = plan.geometry
        table = slide.tile_table(geometry.level)
        size = geometry.size
        lies_on = (
            table is not None
            and table.block_format.codec == "jpeg"
            and table.block_format.channels == 3
            and table.tile_size == size == geometry.read_size
        )
        down = geometry.level_downsample
        step = (size.width * down, size.height * down)
        if not lies_on or (plan.x % step[0]).any() or (plan.y % step[1]).any():
            raise UsageError(
                f"the plan of {plan.slide.name} does not lie on JPEG tiles of its level "
                f"{geometry.level}, so they can't be copied",
                hint='Plan with align="tiles", or use the codec "jpeg" or "png".',
            )
        assert table is not None  # noqa: S101 (told above; for the type checker)
        self._table: TileTable = table
        self._columns = (plan.x // step[0]).astype(np.int64)
        self._rows = (plan.y // step[1]).astype(np.int64)
        right, bottom = (self._columns + 1) * size.width, (self._rows + 1) * size.height
        self._inside = (right <= table.size.width) & (bottom <= table.size.height)

    def blocks(self, run: slice) -> dict[int, bytes]:
        """Return complete JPEG files by row of the plan; missing and cut tiles are left out."""
        rows = np.flatnonzero(self._inside[run]) + run.start
        if not len(rows):
            return {}
        cells = [(int(self._rows[i]), int(self._columns[i])) for i in rows]
        raw = fetch_blocks(self._table, cells)
        found = {}
        for index, block in zip(rows, raw, strict=True):
            if not len(block):
                continue
            data: memoryview = block
            if self._table.checksum == "crc32c":
                data = check_crc32c(block, "the encoded tile")
            found[int(index)] = complete_jpeg(data, self._table.block_format)
        return found
