"""Writing synthetic slides: Aperio SVS, generic pyramids and OME-TIFF."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Size
from wsistore.testing import associated as extra
from wsistore.testing import describe
from wsistore.testing.level import level_tags, resolution_tags, write_tiles
from wsistore.testing.plan import Order, Plan, plan_source
from wsistore.testing.rawtiff import ASCII, IFD8, LONG, RawTiff, Tag
from wsistore.testing.slide import Kind, SyntheticSlide, WrittenLevel
from wsistore.testing.source import Edge

SPARSE_GAP = 5 << 30
"""Hole in front of the first tile of a sparse slide, bytes: beyond 4 GiB."""


def write_slide(
    path: str | os.PathLike[str],
    variant: str = "jpeg_rgb_tables",
    *,
    size: tuple[int, int] = (1200, 900),
    tile: int = 256,
    levels: Iterable[int] = (1, 4),
    quality: int = 75,
    magnification: str | None = "20",
    mpp: str | None = "0.4990",
    thumbnail: bool = True,
    label: bool = True,
    macro: bool = True,
    bigtiff: bool = False,
    sparse: bool = False,
    missing: Iterable[tuple[int, int, int]] = (),
    edge: Edge = "garbage",
    icc_profile: bytes | None = None,
    seed: int = 0,
    distinct_tiles: int | None = None,
    order: Order = "rows",
    kind: Kind = "aperio",
) -> SyntheticSlide:
    """Write a synthetic slide; the same arguments give the same bytes.

    Parameters
    ----------
    path : path-like
        File to write; replaced where it exists.
    variant : str
        Key in `VARIANTS`.
    size : (int, int)
        Width and height of level 0, px.
    tile : int
        Side of the tiles, px: a multiple of 16.
    levels : iterable of int
        Downsamples, 1 first. Reduced sizes are floors, as Aperio has them.
    quality : int
        JPEG and WebP quality, 1-100; JPEG 2000 aims at ``25 + quality // 5`` dB.
    magnification, mpp : str or None
        Objective power and µm/px, written verbatim ("0,4990" and absurd values too); None
        leaves them out. A generic TIFF states mpp by its resolution tags, and only where
        it is a positive number.
    thumbnail, label, macro : bool
        Which associated images are written; a generic TIFF has none.
    bigtiff : bool
        Write a BigTIFF.
    sparse : bool
        Leave a hole of 5 GiB in front of the first tile: all offsets lie beyond 4 GiB.
        Implies `bigtiff`; takes no space on file systems with sparse files.
    missing : iterable of (level, column, row)
        Tiles with byte count and offset 0.
    edge : {"garbage", "white", "black"}
        What edge tiles hold beyond the image; "garbage" are pixels of another tile.
    icc_profile : bytes or None
        Tag 34675 of the first page.
    seed : int
        Seed of the texture.
    distinct_tiles : int or None
        Encode about this many tiles and repeat them, for large slides; None encodes all.
    order : {"rows", "shuffled"}
        Where tiles lie in the file: row by row without gaps, or in another order with
        some bytes between them, which TIFF allows.
    kind : {"aperio", "generic", "ome-tiff"}
        Container: Aperio SVS; a pyramid without vendor marks; OME-XML with SubIFDs.

    Returns
    -------
    SyntheticSlide

    Raises
    ------
    ValueError
        If an argument can't be written.
    """
    plan = Plan(
        path=Path(path),
        variant_name=variant,
        source=plan_source(size, tile, seed, edge, distinct_tiles),
        levels=tuple(levels),
        quality=quality,
        magnification=magnification,
        mpp=mpp,
        wanted=tuple(
            name
            for name, wanted in (("thumbnail", thumbnail), ("label", label), ("macro", macro))
            if wanted and kind != "generic"
        ),
        big=bigtiff or sparse,
        gap=SPARSE_GAP if sparse else 0,
        missing=frozenset(missing),
        icc_profile=icc_profile,
        order=order,
        kind=kind,
    )
    plan.check()
    return _Writing(plan).run()


class _Writing:
    """One slide being written."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._truth: dict[str, NDArray[np.uint8]] = {}
        self._written: list[WrittenLevel] = []
        self._description = ""

    def run(self) -> SyntheticSlide:
        plan = self._plan
        with RawTiff(plan.path, big=plan.big) as tiff:
            tiff.skip(plan.gap)
            write = {
                "aperio": self._write_aperio,
                "generic": self._write_generic,
                "ome-tiff": self._write_ome,
            }
            write[plan.kind](tiff)
        return SyntheticSlide(
            path=plan.path,
            variant_name=plan.variant_name,
            variant=plan.variant,
            size=plan.source.size,
            tile=plan.source.tile,
            levels=plan.levels,
            kind=plan.kind,
            magnification=plan.magnification,
            mpp=plan.mpp,
            missing=plan.missing,
            written=tuple(self._written),
            associated=self._truth,
            description=self._description,
            icc_profile=plan.icc_profile,
            bigtiff=plan.big,
        )

    # -------------------------------------------------------------- containers

    def _write_aperio(self, tiff: RawTiff) -> None:
        """Write pages as Aperio orders them: baseline, thumbnail, reduced levels, label, macro."""
        plan = self._plan
        size, tile = plan.source.size, plan.source.tile
        encoding = plan.variant.aperio_name
        if plan.variant.codec == "jpeg":
            encoding += f" Q={plan.quality}"
        self._description = describe.aperio_baseline(
            size, tile, encoding, magnification=plan.magnification, mpp=plan.mpp
        )
        if plan.icc_profile is not None:
            self._description += "|ICC Profile = ScanScope v1"
        for level in range(len(plan.levels)):
            text = self._description
            if level:
                text = describe.aperio_reduced(size, tile, plan.level_size(level), encoding)
            tiff.add_ifd([*self._level_tags(tiff, level), Tag(270, ASCII, text)])
            if level == 0:
                self._add_associated(tiff, "thumbnail", 0)
        self._add_associated(tiff, "label", 1)
        self._add_associated(tiff, "macro", 9)

    def _write_generic(self, tiff: RawTiff) -> None:
        """Write a pyramid in the chain of pages: resolution tags, no vendor's marks."""
        private = [
            Tag(269, ASCII, describe.FILE_NAME),
            Tag(306, ASCII, describe.DATE),
            Tag(315, ASCII, describe.USER),
            Tag(316, ASCII, describe.HOST),
        ]
        for level, downsample in enumerate(self._plan.levels):
            tags = self._level_tags(tiff, level) + resolution_tags(self._plan, downsample)
            tiff.add_ifd(tags + (private if level == 0 else []))

    def _write_ome(self, tiff: RawTiff) -> None:
        """Write OME-XML in the first page; reduced levels hang below it as SubIFDs."""
        plan = self._plan
        first = self._level_tags(tiff, 0)
        below = [
            tiff.add_ifd(self._level_tags(tiff, level), chained=False)
            for level in range(1, len(plan.levels))
        ]
        channels = plan.variant.channels
        images = [(describe.FILE_NAME, plan.source.size, channels)]
        images += [(name, extra.image_size(name, plan.source), 3) for name in plan.wanted]
        self._description = describe.ome_xml(images, magnification=plan.magnification, mpp=plan.mpp)
        if below:
            first.append(Tag(330, IFD8 if plan.big else LONG, below))
        tiff.add_ifd([*first, Tag(270, ASCII, self._description), Tag(315, ASCII, describe.USER)])
        for name in plan.wanted:
            self._add_associated(tiff, name, 0)

    def _add_associated(self, tiff: RawTiff, name: str, subfile: int) -> None:
        plan = self._plan
        if name not in plan.wanted:
            return
        image = extra.build(name, plan.source)
        self._truth[name] = image.pixels
        tags = [Tag(254, LONG, subfile), *extra.write_strips(tiff, image)]
        if plan.kind == "aperio":
            height, width = image.pixels.shape[:2]
            text = describe.aperio_associated(name, Size(width, height))
            if name == "thumbnail":
                text = describe.aperio_reduced(plan.source.size, None, Size(width, height), "-")
            tags.append(Tag(270, ASCII, text))
        tiff.add_ifd(tags)

    def _level_tags(self, tiff: RawTiff, level: int) -> list[Tag]:
        """Write the tiles of a level and return the tags of its page."""
        written = write_tiles(tiff, self._plan, level)
        self._written.append(written)
        return level_tags(self._plan, level, written, tiff.offset_type)
