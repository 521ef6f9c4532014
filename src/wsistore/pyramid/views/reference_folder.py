"""Files of references read as stores, and as slides."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    CorruptSlideError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedSlideError,
)
from wsistore.pyramid.arrays import ArrayLayout
from wsistore.pyramid.memory import MemorySource, check_inside
from wsistore.pyramid.reader import OmeZarr
from wsistore.pyramid.tile_tables import ZarrTileTable
from wsistore.pyramid.views.allowing import Allowed
from wsistore.pyramid.views.kerchunk import MAX_BYTES, Entries, Range, decode
from wsistore.pyramid.views.model import ViewFolder
from wsistore.slides import Slide, open_slide
from wsistore.slides.model import Format, TileRefs
from wsistore.sources import Source, is_url, open_source, redact

NAME = "references"


class PartSource(Source):
    """A range of a file or object as a source; closing it leaves the file open.

    Parameters
    ----------
    whole : Source
        The file.
    offset, length : int
        The range in it.
    name : str
        For messages.

    Raises
    ------
    CorruptSlideError
        If the range is not inside.
    """

    def __init__(self, whole: Source, offset: int, length: int, name: str) -> None:
        if offset + length > whole.size:
            raise CorruptSlideError(
                f"{name} is {length} bytes from {offset} on of {whole.name}, "
                f"which has {whole.size} bytes",
                hint="The file is not the one that the references were made of.",
            )
        self.name = name
        self.size = length
        self._whole = whole
        self._offset = offset

    def read(self, offset: int, count: int) -> bytes:
        """Read a range of the part; see `Source.read`."""
        return bytes(self.read_many([offset], [count])[0])

    def read_many(self, offsets: Sequence[int], counts: Sequence[int]) -> list[memoryview]:
        """Read several ranges of the part; see `Source.read_many`."""
        for offset, count in zip(offsets, counts, strict=True):
            check_inside(self, offset, count)
        return self._whole.read_many([self._offset + int(offset) for offset in offsets], counts)

    def check(self) -> None:
        """Raise if the file changed; see `Source.check`."""
        self._whole.check()

    def close(self) -> None:
        """Do nothing: the file is shared."""


class ReferenceFolder(ViewFolder):
    """The objects that a file of references leads to.

    Parameters
    ----------
    name : str
        Path or URL of the file of references, for messages.
    entries : mapping of str to bytes or Range
        What each key leads to.
    allowed : Allowed
        Where references may lead to.
    options : mapping
        For `wsistore.sources.open_source`, of remote files.

    Raises
    ------
    SourceAccessError
        If one leads to a place that is not allowed; nothing is read before.
    """

    def __init__(
        self, name: str, entries: Entries, allowed: Allowed, options: Mapping[str, Any]
    ) -> None:
        self.name = redact(name)
        self._entries = entries
        self._options = dict(options)
        places = dict.fromkeys(e.place for e in entries.values() if isinstance(e, Range))
        self._places = {place: allowed.resolve(place) for place in places}
        self._sources: dict[str, Source] = {}
        self.remote = any(map(is_url, self._places.values()))
        self._expected_size = _file_size(entries)

    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none."""
        entry = self._entries.get(key)
        if entry is None or isinstance(entry, bytes):
            return entry
        part = self._part(key, entry)
        return part.read(0, part.size)

    def source(self, key: str) -> Source:
        """Return ranged access to an object; see `Folder.source`."""
        entry = self._entries.get(key)
        if entry is None:
            raise SourceNotFoundError(f"{self.name} has no reference {key}")
        if isinstance(entry, bytes):
            return MemorySource(entry, f"{self.name}: {key}")
        return self._part(key, entry)

    def list_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix, sorted; folders end with ``/``."""
        start = prefix.removesuffix("/") + "/" if prefix else ""
        rest = (key[len(start) :] for key in self._entries if key.startswith(start))
        return sorted({name.partition("/")[0] + "/" * ("/" in name) for name in rest})

    def contains(self, key: str) -> bool:
        """Return whether there is a reference."""
        return key in self._entries

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that begin with a prefix."""
        return (key for key in self._entries if key.startswith(prefix))

    def entry(self, key: str) -> bytes | Range | None:
        """Return what a key leads to."""
        return self._entries.get(key)

    @property
    def places(self) -> Sequence[str]:
        """The files that are referred to, as the references name them."""
        return list(self._places)

    def open_place(self, place: str) -> Source:
        """Return a file that is referred to, opened once.

        Raises
        ------
        SourceChangedError
            If it has not the size that the slide had when the references were made.
        SourceError
            If it can't be had.
        """
        found = self._sources.get(place)
        if found is None:
            path = self._places[place]
            found = open_source(path, **(self._options if is_url(path) else {}))
            if self._expected_size not in (None, found.size):
                found.close()
                raise SourceChangedError(
                    f"{found.name} has {found.size} bytes, and had {self._expected_size} when "
                    f"the references {self.name} were made",
                    hint="Make the references again: wsistore virtualize.",
                )
            self._sources[place] = found
        return found

    def close(self) -> None:
        """Give back all files."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()

    def _part(self, key: str, entry: Range) -> PartSource:
        whole = self.open_place(entry.place)
        length = whole.size - entry.offset if entry.length is None else entry.length
        return PartSource(whole, entry.offset, max(0, length), f"{self.name}: {key}")

    def __repr__(self) -> str:
        return f"ReferenceFolder({self.name!r})"


class ReferenceTable(ZarrTileTable):
    """Tiles of one array of references: all ranges of few files, so reads are joined.

    Parameters
    ----------
    folder : ReferenceFolder
        The references.
    path : str
        The array within it.
    layout : ArrayLayout
        How its tiles lie.
    """

    _folder: ReferenceFolder

    def __init__(self, folder: ReferenceFolder, path: str, layout: ArrayLayout) -> None:
        super().__init__(folder, path, layout, absent_is_missing=True)
        self._files = folder.places
        self._all: TileRefs | None = None

    def locate(self, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> TileRefs:
        """Return where these tiles lie; see `TileTable.locate`.

        Raises
        ------
        CorruptSlideError
            If one lies outside of its file.
        SourceError
            If a file can't be had.
        """
        found = self._located()
        parts, offsets = found.parts[rows, columns], found.offsets[rows, columns]
        counts = found.counts[rows, columns]
        for part in np.unique(parts[counts > 0]).tolist():
            source = self.source(part)
            mine = (parts == part) & (counts > 0)
            outside = mine & (offsets + counts > source.size)
            if outside.any():
                first = int(np.flatnonzero(outside)[0])
                raise CorruptSlideError(
                    f"{self._folder.name}: tile column {int(columns[first])}, row "
                    f"{int(rows[first])} of {self._path} is {int(counts[first])} bytes at "
                    f"{int(offsets[first])} of {source.name}, which has {source.size} bytes"
                )
        return TileRefs(parts, offsets, counts)

    def source(self, part: int) -> Source:
        """Return the file with this number; see `TileTable.source`."""
        return self._folder.open_place(self._files[part])

    def close(self) -> None:
        """Do nothing: files belong to the folder."""

    def _located(self) -> TileRefs:
        if self._all is None:
            shape = (self.grid.height, self.grid.width)
            found = TileRefs(
                np.zeros(shape, np.int32), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
            )
            numbers = {place: number for number, place in enumerate(self._files)}
            for row, column in np.ndindex(shape):
                entry = self._folder.entry(f"{self._path}/{self.layout.key(row, column)}")
                if isinstance(entry, Range) and entry.length is not None:
                    found.parts[row, column] = numbers[entry.place]
                    found.offsets[row, column] = entry.offset
                    found.counts[row, column] = entry.length
            self._all = found
        return self._all


class ReferencedSlide(OmeZarr):
    """A slide whose OME-Zarr is references; see `OmeZarr`.

    Parameters
    ----------
    folder : ReferenceFolder
        The references.
    """

    format = NAME
    _folder: ReferenceFolder

    def __init__(self, folder: ReferenceFolder) -> None:
        super().__init__(folder)

    def close(self) -> None:
        """Give back all files."""
        self._folder.close()

    def _table(self, path: str, layout: ArrayLayout) -> ZarrTileTable | None:
        plain = not layout.sharded and layout.fill == 255
        entries = (self._folder.entry(key) for key in self._folder.list_keys(f"{path}/c/"))
        if plain and all(isinstance(e, Range) and e.length is not None for e in entries):
            return ReferenceTable(self._folder, path, layout)
        return super()._table(path, layout)


def open_references(
    path_or_url: str | os.PathLike[str],
    *,
    allow: Iterable[str | os.PathLike[str]] = (),
    **options: Any,
) -> Slide:
    """Open a file of references (kerchunk's JSON) as a slide.

    References may lead to files below the folder of the file of references, and nowhere
    else: others have to be allowed. That is checked for all of them before any is read.

    Parameters
    ----------
    path_or_url : str or os.PathLike
        The file.
    allow : iterable of str or os.PathLike
        Further folders, files, or URL prefixes (``s3://bucket/slides/``).
    **options
        For `wsistore.open_slide`.

    Raises
    ------
    SourceAccessError
        If a reference leads elsewhere.
    UnsupportedSlideError, CorruptSlideError
        If it holds no references, or of a kind that is not read.
    SourceChangedError
        On reading, if the slide has another size than when the references were made.
    WsistoreError
        As `wsistore.open_slide`.
    """
    places = [allow] if isinstance(allow, str | os.PathLike) else allow
    allowed = tuple(os.fspath(place) for place in places)
    if allowed:
        options["allow"] = allowed
    return open_slide(path_or_url, format=NAME, **options)


def read_references(
    path_or_url: str | os.PathLike[str],
    *,
    allow: Iterable[str | os.PathLike[str]] = (),
    **source_options: Any,
) -> ReferenceFolder:
    """Return the objects that a file of references leads to; see `open_references`."""
    path = os.fspath(path_or_url)
    source = open_source(path, **source_options)
    try:
        if source.size > MAX_BYTES:
            raise UnsupportedSlideError(
                f"{source.name} has {source.size} bytes, references of at most {MAX_BYTES} are read"
            )
        data = source.read(0, source.size)
    finally:
        source.close()
    entries = decode(data, redact(path))
    return ReferenceFolder(path, entries, Allowed(path, allow), source_options)


def _file_size(entries: Entries) -> int | None:
    """Return the size of the slide's file that references of ours tell of, else None."""
    root = entries.get("zarr.json")
    try:
        private = json.loads(root)["attributes"]["wsistore"]  # type: ignore[arg-type]
        size = private["file_size"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return size if type(size) is int else None


def _probe(path_or_url: str, head: bytes, is_folder: bool) -> bool:
    del path_or_url
    return not is_folder and head.lstrip().startswith(b"{")


def _open(path_or_url: str | os.PathLike[str], **options: Any) -> ReferencedSlide:
    return ReferencedSlide(read_references(path_or_url, **options))


FORMAT = Format(NAME, _probe, _open)
