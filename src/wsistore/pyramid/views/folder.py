"""A slide as the objects of an OME-Zarr image; nothing is written anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.pyramid import ngff
from wsistore.pyramid.documents import IMAGE_NAME
from wsistore.pyramid.layout import group_document, to_json
from wsistore.pyramid.memory import MemorySource
from wsistore.pyramid.privacy import kept_properties
from wsistore.pyramid.tilecodec import stored_codec
from wsistore.pyramid.views.levels import EncodedPixels, LevelView, MovedTiles
from wsistore.pyramid.views.model import ViewFolder
from wsistore.pyramid.views.sharing import shared_slide
from wsistore.slides import Slide
from wsistore.slides.reopening import Opening
from wsistore.sources import is_url

ViewCodec = Literal["unchanged", "portable"]

_NUMBER = r"(0|[1-9][0-9]{0,9})"
_DOCUMENT = re.compile(rf"{_NUMBER}/zarr\.json")
_CHUNK = re.compile(rf"{_NUMBER}/c/0/{_NUMBER}/{_NUMBER}")
_ROOT = "zarr.json"
_ASSOCIATED = f"{ngff.ASSOCIATED}/zarr.json"


class SlideFolder(ViewFolder):
    """A slide as an NGFF 0.5 image in Zarr v3: axes c, y, x, one array for each level.

    The arrays have the slide's own tiles as chunks, and no shards, so that each key leads
    to one tile. Associated images are not shown: labels may tell a patient's name. The ICC
    profile is, and the properties that conversions keep (`wsistore.pyramid.privacy`).

    Tiles that the slide lacks are absent chunks, which read in its fill colour (white,
    unless it was opened with another). Damaged ones are errors that name them, or absent
    where it was opened with ``on_bad_tile="fill"``; in chunks that are moved unchanged, all
    but damage of the header is found by who decodes them.

    Safe in threads; pickles if the slide does. The slide stays its owner's to close.

    Parameters
    ----------
    slide : Slide
        Opened; a slide file or a store, local or remote.
    codec : {"unchanged", "portable"}
        ``"unchanged"``: JPEG and JPEG 2000 tiles as they are, but for JPEG tables and the
        mark of colours, as ``wsistore convert`` copies them; tiles of other encodings are
        encoded without loss. ``"portable"``: all are, for readers that can't decode images
        in Zarr. The lossless encoding is ``bytes, zstd``.
    levels : sequence of int, optional
        Those that are shown; by default all.

    Raises
    ------
    UsageError
        If the codec is unknown, or `levels` is empty or not ascending.
    ResolutionError
        If there is no such level.
    """

    def __init__(
        self,
        slide: Slide,
        *,
        codec: ViewCodec = "unchanged",
        levels: Sequence[int] | None = None,
    ) -> None:
        if codec not in get_args(ViewCodec):
            raise UsageError(f"unknown codec {codec!r} of a view", hint="Use unchanged, portable.")
        self.name = slide.path
        self.remote = is_url(slide.path)
        self.slide = slide
        self.codec: ViewCodec = codec
        self.levels = _checked(slide, levels)
        self._views: dict[int, LevelView] = {}
        self._documents: dict[str, bytes] = {}

    # Folder

    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none.

        Raises
        ------
        wsistore.errors.WsistoreError
            If a tile is damaged, or bytes can't be had; see `chunk`.
        """
        place = self._place(key)
        if place is not None:
            return self.chunk(*place)
        make = self._maker(key)
        if make is None:
            return None
        data = self._documents.get(key)
        if data is None:
            data = self._documents[key] = to_json(make())
        return data

    def source(self, key: str) -> MemorySource:
        """Return ranged access to an object, which is made whole; see `Folder.source`."""
        data = self.get(key)
        if data is None:
            raise SourceNotFoundError(f"the view of {self.name} has no object {key}")
        return MemorySource(data, f"{self.name}: {key}")

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
        return sorted(self._names(prefix.removesuffix("/")))

    # What a slide has beyond a folder

    def contains(self, key: str) -> bool:
        """Return whether there is an object; no tile is read for that."""
        place = self._place(key)
        if place is not None:
            level, row, column = place
            return self.view(level).contains(row, column)
        return self._maker(key) is not None

    def size(self, key: str) -> int | None:
        """Return the length of an object in bytes, None where there is none; makes it."""
        data = self.get(key)
        return None if data is None else len(data)

    def chunk(self, level: int, row: int, column: int) -> bytes | None:
        """Return the chunk at a place of the chunk grid of a level, None where there is none.

        Raises
        ------
        ResolutionError
            If the slide has no such level.
        MissingTileError, DamagedTileError
            As the slide's policy says.
        CorruptSlideError, SourceError
            If the tile's bytes can't be had.
        """
        view = self.view(level)
        if not (0 <= row < view.grid.height and 0 <= column < view.grid.width):
            return None
        return view.read(row, column)

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with a prefix; as many as the slide has tiles."""
        documents = [_ROOT, *(f"{level}/zarr.json" for level in self.levels), _ASSOCIATED]
        yield from (k for k in documents if k.startswith(prefix) and self._maker(k) is not None)
        for level in self.levels:
            start = f"{level}/c/0/"
            if start.startswith(prefix[: len(start)]):
                chunks = np.argwhere(self.view(level).present).tolist()
                keys = (f"{start}{row}/{column}" for row, column in chunks)
                yield from (key for key in keys if key.startswith(prefix))

    def view(self, level: int) -> LevelView:
        """Return how a level is shown."""
        found = self._views.get(level)
        if found is None:
            found = self._views[level] = self._make_view(level)
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SlideFolder):
            return NotImplemented
        mine, others = self.slide.opening, other.slide.opening
        same = self.slide is other.slide or (mine is not None and mine == others)
        return same and (self.codec, self.levels) == (other.codec, other.levels)

    def __hash__(self) -> int:
        return hash((self.name, self.codec, self.levels))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.slide.opening is None:
            return self.slide.__reduce__()  # raises, and tells why
        return (_reopened, (self.slide.opening, self.codec, self.levels))

    def __repr__(self) -> str:
        return f"SlideFolder({self.name!r}, codec={self.codec!r})"

    # Below the surface

    def _make_view(self, index: int) -> LevelView:
        table = self.slide.tile_table(index)
        level = self.slide.levels[index]
        if table is not None and self.codec == "unchanged":
            codec = stored_codec(table)
            if codec is not None:
                return MovedTiles(self.slide, level, table, codec)
        return EncodedPixels(self.slide, level, table)

    def _place(self, key: str) -> tuple[int, int, int] | None:
        found = _CHUNK.fullmatch(key)
        if found is None:
            return None
        level, row, column = (int(text) for text in found.groups())
        return (level, row, column) if level in self.levels else None

    def _maker(self, key: str) -> Callable[[], dict[str, Any]] | None:
        """Return what makes a document, None where there is none of this name."""
        if key == _ROOT:
            return self._root
        if key == _ASSOCIATED:
            return self._associated if self._has_associated() else None
        found = _DOCUMENT.fullmatch(key)
        if found is None or int(found[1]) not in self.levels:
            return None
        return self.view(int(found[1])).document

    def _root(self) -> dict[str, Any]:
        slide = self.slide
        views = [self.view(level) for level in self.levels]
        datasets = [ngff.Dataset(str(view.level.index), view.level.downsample) for view in views]
        private = ngff.private_attributes(
            source_format=slide.format,
            source_fingerprint=slide.fingerprint,
            codec=views[0].codec,
            mode="copy" if isinstance(views[0], MovedTiles) else "transcode",
            mpp=slide.mpp,
            magnification=slide.magnification,
            metadata=kept_properties(slide.properties, "allowed"),
        )
        private["view"] = self.codec
        return group_document(ngff.attributes_0_5(IMAGE_NAME, datasets, slide.mpp, private))

    def _has_associated(self) -> bool:
        return self.slide.icc_profile is not None

    def _associated(self) -> dict[str, Any]:
        return group_document(ngff.associated_attributes(self.slide.icc_profile))

    def _names(self, prefix: str) -> Iterable[str]:
        if not prefix:
            associated = [f"{ngff.ASSOCIATED}/"] if self._has_associated() else []
            return [_ROOT, *(f"{level}/" for level in self.levels), *associated]
        first, *rest = prefix.split("/")
        if prefix == ngff.ASSOCIATED:
            return ["zarr.json"] if self._has_associated() else []
        if first not in {str(level) for level in self.levels}:
            return []
        return self._level_names(int(first), rest)

    def _level_names(self, level: int, rest: Sequence[str]) -> Iterable[str]:
        """Return the names below a level's folder, and below those within it."""
        fixed = {(): ["c/", "zarr.json"], ("c",): ["0/"]}
        if tuple(rest) in fixed:
            return fixed[tuple(rest)]
        if tuple(rest[:2]) != ("c", "0") or len(rest) > 3:
            return []
        present = self.view(level).present
        if len(rest) == 2:
            return [f"{row}/" for row in np.flatnonzero(present.any(axis=1)).tolist()]
        if not re.fullmatch(_NUMBER, rest[2]) or int(rest[2]) >= len(present):
            return []
        return map(str, np.flatnonzero(present[int(rest[2])]).tolist())


def _checked(slide: Slide, levels: Sequence[int] | None) -> tuple[int, ...]:
    if levels is None:
        return tuple(range(slide.level_count))
    chosen = tuple(slide.resolve(int(level)).level for level in levels)
    if not chosen or list(chosen) != sorted(set(chosen)):
        raise UsageError(f"levels are given finest first, each once, got {list(levels)}")
    return chosen


def _reopened(opening: Opening, codec: ViewCodec, levels: tuple[int, ...]) -> SlideFolder:
    """Return the view of another process, in this one."""
    return SlideFolder(shared_slide(opening), codec=codec, levels=levels)
