"""Where the chunks of a slide's OME-Zarr lie in its file: no byte of a tile is read.

A reader gets a tile's bytes as they are in the file, so what they lack stands in the
array's codecs: JPEG tables, and the colours that the TIFF states.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.codecs import BlockFormat
from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.pyramid.coding import ZSTD_LEVEL, inner_codecs
from wsistore.pyramid.layout import array_document, to_json
from wsistore.pyramid.ngff import ASSOCIATED
from wsistore.pyramid.tilecodec import stored_codec
from wsistore.pyramid.views.folder import SlideFolder
from wsistore.slides import Slide
from wsistore.slides.model import TileTable

_CHANNELS_LAST = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
_RAW: Mapping[str, list[dict[str, Any]]] = {
    "none": [],
    "zstd": [{"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}],
    "deflate": [{"name": "numcodecs.zlib", "configuration": {"level": 6}}],
}
"""Codecs of interleaved samples, by their names in `BlockFormat`."""
STORE_HINT = "Open it where it is: it is an OME-Zarr already."


@dataclass(frozen=True, slots=True)
class LevelReferences:
    """Where the tiles of one level lie.

    Parameters
    ----------
    path : str
        Name of its array.
    offsets, counts : (rows, columns) int64
        First byte and length of each tile in the slide's file; a count of 0 is a missing
        tile.
    """

    path: str
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]

    def items(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield (row, column, offset, count) of the tiles that there are, row by row."""
        rows, columns = np.nonzero(self.counts)
        offsets, counts = self.offsets[rows, columns], self.counts[rows, columns]
        found = (rows.tolist(), columns.tolist(), offsets.tolist(), counts.tolist())
        yield from zip(*found, strict=True)


@dataclass(frozen=True, slots=True)
class References:
    """An OME-Zarr whose chunks are ranges of a slide's file.

    Parameters
    ----------
    documents : mapping of str to bytes
        Zarr's documents, by their keys.
    levels : tuple of LevelReferences
        Finest first.
    file_size : int
        Bytes of the slide's file.
    identity : str
        Of the file; see `wsistore.sources.Source.identity`.
    notes : tuple of str
        What was left out.
    """

    documents: Mapping[str, bytes]
    levels: tuple[LevelReferences, ...]
    file_size: int
    identity: str
    notes: tuple[str, ...] = field(default=())

    @property
    def count(self) -> int:
        """Number of tiles."""
        return sum(int(np.count_nonzero(level.counts)) for level in self.levels)


def make_references(slide: Slide) -> References:
    """Return where the chunks of a slide's OME-Zarr lie in its file.

    Levels that no codec of Zarr reads as they are (LZW, predictors, planes) are left out.

    Raises
    ------
    UnsupportedSlideError
        If level 0 is one of them, or the slide has no encoded tiles of its own, or is a
        store.
    CorruptSlideError
        If a tile lies outside of the file.
    SourceError
        If the tile tables can't be had.
    """
    if slide.format == "ome-zarr":
        raise UnsupportedSlideError(f"{slide.path} needs no references", hint=STORE_HINT)
    documents: dict[str, bytes] = {}
    levels: list[LevelReferences] = []
    notes: list[str] = []
    files: set[tuple[str, int, str]] = set()
    for level in slide.levels:
        table = slide.tile_table(level.index)
        codecs = None if table is None else reference_codecs(table)
        if table is None or codecs is None:
            reason = f"level {level.index} has {_kind(table)}"
            if not level.index:
                raise UnsupportedSlideError(
                    f"{slide.path}: {reason}, which Zarr can't read where it lies",
                    hint="Convert it: wsistore convert SRC DST.",
                )
            notes.append(f"{reason} and is left out")
            continue
        levels.append(_located(slide, level.index, table))
        source = table.source(0)
        files.add((source.name, source.size, source.identity))
        document = array_document(level.size, table.tile_size, codecs)
        documents[f"{level.index}/zarr.json"] = to_json(document)
    if len(files) != 1:  # pragma: no cover (no format spreads levels over files yet)
        raise UnsupportedSlideError(f"{slide.path} is more than one file")
    [(_, file_size, identity)] = files
    indexes = [int(level.path) for level in levels]
    documents.update(_group_documents(slide, indexes, file_size))
    return References(documents, tuple(levels), file_size, identity, tuple(notes))


def reference_codecs(table: TileTable) -> list[Mapping[str, Any]] | None:
    """Return the codecs of Zarr that read a level's tiles as they lie, None if none do.

    Raises
    ------
    wsistore.errors.SourceError
        If bytes of the sample that tells can't be had.
    """
    form = table.block_format
    if table.checksum or form.channels != 3:
        return None
    if form.codec == "jpeg":
        return None if form.color not in ("rgb", "ycbcr") else [_CHANNELS_LAST, _jpeg(form)]
    if form.codec in _RAW:
        plain = form.color == "rgb" and form.layout == "yxc" and form.predictor == 1
        return [_CHANNELS_LAST, {"name": "bytes"}, *_RAW[form.codec]] if plain else None
    codec = stored_codec(table)
    return None if codec is None else list(inner_codecs(codec)[:-1])


def _jpeg(form: BlockFormat) -> dict[str, Any]:
    configuration = {
        "colorspace_data": "RGB",
        "colorspace_jpeg": "RGB" if form.color == "rgb" else "YCBCR",
    }
    if form.tables:
        configuration["tables"] = base64.b64encode(form.tables).decode("ascii")
    return {"name": "imagecodecs_jpeg", "configuration": configuration}


def _located(slide: Slide, level: int, table: TileTable) -> LevelReferences:
    refs = table.locate_all()
    if refs.parts.any():  # pragma: no cover (no format does so yet)
        raise UnsupportedSlideError(f"{slide.path}: tiles of level {level} lie in several files")
    form = table.block_format
    odd = (refs.counts > 0) & (refs.counts < form.raw_bytes)
    if form.codec == "none" and odd.any():
        raise CorruptSlideError(
            f"{slide.path}: level {level} has uncompressed tiles of fewer bytes than "
            f"{form.raw_bytes}"
        )
    # Zarr wants the very bytes of a chunk, TIFF allows more of them.
    counts = np.minimum(refs.counts, form.raw_bytes) if form.codec == "none" else refs.counts
    return LevelReferences(str(level), refs.offsets, counts)


def _kind(table: TileTable | None) -> str:
    if table is None:
        return "no encoded tiles of its own"
    form = table.block_format
    predictor = " with a predictor" if form.predictor != 1 else ""
    return f"{form.channels}-channel {form.codec} tiles{predictor}"


def _group_documents(slide: Slide, levels: list[int], file_size: int) -> dict[str, bytes]:
    folder = SlideFolder(slide, levels=levels)
    root = json.loads(folder.get("zarr.json") or b"{}")
    private = root["attributes"]["wsistore"]
    # A reader of ours tells by the size that the file is another one by now.
    private.update(view="references", file_size=file_size)
    found = {"zarr.json": to_json(root)}
    associated = folder.get(f"{ASSOCIATED}/zarr.json")
    if associated is not None:
        found[f"{ASSOCIATED}/zarr.json"] = associated
    return found
