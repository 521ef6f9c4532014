"""OME-Zarr as a slide: those made here, and those of others.

NGFF 0.4 and 0.5, local or by URL. Levels of interleaved or planar RGB tiles in one codec
are read directly, through a tile table; all others through zarr-python.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    CorruptSlideError,
    MetadataError,
    StoreUnfinishedError,
    UnsupportedSlideError,
    UsageError,
)
from wsistore.geometry import Box, Magnification, Mpp, Size
from wsistore.pyramid.arrays import ArrayLayout, Unsupported, parse_array_document
from wsistore.pyramid.groups import (
    ROOT_DOCUMENTS,
    associated_attributes,
    find_image,
    finished,
    listed_shards,
    parse_json,
    refuse_unfinished,
)
from wsistore.pyramid.multiscales import ScaledDataset, parse_multiscale
from wsistore.pyramid.ngff import ASSOCIATED
from wsistore.pyramid.store_fingerprint import store_fingerprint
from wsistore.pyramid.tile_tables import ZarrTileTable, has_constant_block
from wsistore.pyramid.unfinished import unfinished_at
from wsistore.slides.model import Container, Format, LevelShape, TileTable
from wsistore.sources import Folder, is_url, open_folder

if TYPE_CHECKING:
    from wsistore.pyramid.zarr_levels import ZarrLevel

MAX_TILES = 1 << 24
"""Tiles of the largest table, which takes 16 bytes for each: a square of 10^6 px has as many.
A document can claim any number."""
MAX_ASSOCIATED_PIXELS = 1 << 27
"""Pixels of the largest associated image that is believed."""
_COPIED = frozenset({"jpeg", "jpeg2000"})
"""Codecs of stores made here whose absent chunks are tiles that the source lacks; in others
a chunk that is wholly white is left out, too."""


class OmeZarr(Container):
    """An opened OME-Zarr image; see `Container`.

    Parameters
    ----------
    folder : Folder
        The store.
    unfinished : callable, optional
        As for `find_image`.

    Raises
    ------
    StoreUnfinishedError
        If it has been begun, and is not finished.
    UnsupportedSlideError
        If it is no image, or of a kind that is not read; the message says what was found.
    CorruptSlideError
        If its documents contradict each other, or can't be parsed.
    SourceError
        If they can't be had.
    """

    format = "ome-zarr"

    def __init__(
        self, folder: Folder, *, unfinished: Callable[[], StoreUnfinishedError | None] = finished
    ) -> None:
        self._folder = folder
        self._group = find_image(folder, unfinished=unfinished)
        try:
            self._multiscale = parse_multiscale(self._group.attributes)
            self._open_levels()
        except (UnsupportedSlideError, CorruptSlideError) as error:
            if folder.name in error.message:
                raise
            raise type(error)(f"{folder.name}: {error.message}", hint=error.hint) from error
        self._describe()

    def tile_table(self, level: int) -> TileTable | None:
        """Return the table of encoded tiles, None where zarr-python is needed."""
        found = self._levels[level]
        return found if isinstance(found, ZarrTileTable) else None

    def read_pixels(self, level: int, box: Box) -> NDArray[np.uint8]:
        """Read pixels through zarr-python; see `Container.read_pixels`."""
        found = self._levels[level]
        if isinstance(found, ZarrTileTable):
            raise UsageError(f"level {level} of {self._folder.name} has a tile table")
        return found.read(box)

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile that was kept with the store."""
        text = self._associated.get("icc_profile")
        if text is None:
            return None
        try:
            return base64.b64decode(str(text), validate=True)
        except (binascii.Error, ValueError) as error:
            raise MetadataError(
                f"the ICC profile of {self._folder.name} is no base64: {error}"
            ) from error

    def fingerprint(self) -> str:
        """Return a hash of the content; see `store_fingerprint`."""
        return store_fingerprint(self._folder, {**self._group.documents, **self._documents})

    def close(self) -> None:
        """Give back all objects."""
        for level in self._levels:
            if isinstance(level, ZarrTileTable):
                level.close()

    def _open_levels(self) -> None:
        """Open all arrays, finest first."""
        multiscale = self._multiscale
        self._documents: dict[str, bytes] = {}
        self._shards: frozenset[str] | None = None
        names = [self._document_name(dataset) for dataset in multiscale.datasets]
        fetched = dict(zip(names, self._folder.get_many(names), strict=True))
        opened = [
            (dataset, *self._open_level(dataset, name, fetched[name]))
            for dataset, name in zip(multiscale.datasets, names, strict=True)
        ]
        self._notes = [*multiscale.notes]
        if any(b[2].width > a[2].width for a, b in pairwise(opened)):
            self._notes.append("levels are not listed finest first, and were sorted")
            opened.sort(key=lambda item: -item[2].width)
        self._datasets = tuple(dataset for dataset, _, _ in opened)
        self._levels = tuple(level for _, level, _ in opened)
        full = opened[0][2]
        self.levels = tuple(
            LevelShape(
                size,
                multiscale.downsample(self._datasets[0], dataset, full, size),
                level.tile_size if isinstance(level, ZarrTileTable) else None,
            )
            for dataset, level, size in opened
        )

    def _document_name(self, dataset: ScaledDataset) -> str:
        name = "zarr.json" if self._group.zarr_format == 3 else ".zarray"
        return f"{self._group.prefix}{dataset.path}/{name}"

    def _open_level(
        self, dataset: ScaledDataset, name: str, data: bytes | None
    ) -> tuple[ZarrTileTable | ZarrLevel, Size]:
        path = self._group.prefix + dataset.path
        if data is None:
            raise CorruptSlideError(f"{name} is missing, the metadata name it as a level")
        self._documents[name] = data
        document = parse_json(data, name)
        layout: ArrayLayout | Unsupported = Unsupported(f"axes {self._multiscale.order}")
        if self._multiscale.order == "cyx":
            layout = parse_array_document(document)
        if isinstance(layout, ArrayLayout):
            table = self._table(path, layout)
            if table is not None:
                return table, layout.size
        return self._slow_level(path)

    def _table(self, path: str, layout: ArrayLayout) -> ZarrTileTable | None:
        """Return the tile table of an array.

        None where its absent chunks can't be told, or it claims more than a table may hold.
        """
        ours = isinstance(self._group.attributes.get("wsistore"), Mapping)
        absent_is_missing = ours and layout.block_format.codec in _COPIED and layout.fill == 255
        if not absent_is_missing and not has_constant_block(layout):
            return None
        if layout.tile_count > MAX_TILES:
            return None
        return ZarrTileTable(
            self._folder,
            path,
            layout,
            absent_is_missing=absent_is_missing,
            expected=self._is_expected if ours else lambda key: False,  # noqa: ARG005
        )

    def _slow_level(self, path: str) -> tuple[ZarrLevel, Size]:
        from wsistore.pyramid.zarr_levels import ZarrLevel

        order, zarr_format = self._multiscale.order, self._group.zarr_format
        level = ZarrLevel(self._folder, path, order, zarr_format)
        return level, level.size

    def _is_expected(self, key: str) -> bool:
        """Return whether the store was written with this shard."""
        if self._shards is None:
            self._shards = listed_shards(self._folder)
        return key in self._shards

    def _describe(self) -> None:
        """Set what the slide says of itself."""
        private = self._group.attributes.get("wsistore")
        self._private: Mapping[str, Any] = private if isinstance(private, Mapping) else {}
        self._associated = associated_attributes(self._folder, self._group)
        if self._group.note:
            self._notes.append(self._group.note)
        self.mpp = self._pixel_size()
        self.magnification = self._power()
        self.properties = MappingProxyType(self._texts())
        self.associated = self._images()
        self.notes = tuple(self._notes)

    def _pixel_size(self) -> Mpp | None:
        """Return the pixel size at level 0, from the scales."""
        found = self._multiscale.pixel_size(self._datasets[0])
        if found is None:
            units = sorted({axis.unit for axis in self._multiscale.axes if axis.name in "xy"})
            self._notes.append(f"no pixel size: unit of the axes x and y is {units}")
            return None
        origin = _origin(self._private.get("mpp"))
        try:
            return Mpp(*found, f"ome-zarr scale{f' ({origin})' if origin else ''}")
        except MetadataError as error:
            self._notes.append(f"no pixel size: {error.message}")
            return None

    def _power(self) -> Magnification | None:
        stated = self._private.get("magnification")
        if not isinstance(stated, Mapping):
            return None
        origin = _origin(stated)
        try:
            return Magnification(float(stated["value"]), f"ome-zarr ({origin})")
        except (MetadataError, KeyError, TypeError, ValueError) as error:
            self._notes.append(f"no magnification: {error}")
            return None

    def _texts(self) -> dict[str, str]:
        texts = {
            "ome-zarr.version": self._multiscale.version,
            "ome-zarr.name": self._multiscale.name,
        }
        source = self._private.get("source")
        if isinstance(source, Mapping):
            texts.update({f"wsistore.source.{key}": str(source[key]) for key in sorted(source)})
        for key in ("codec", "mode"):
            if key in self._private:
                texts[f"wsistore.{key}"] = str(self._private[key])
        metadata = self._private.get("metadata")
        if isinstance(metadata, Mapping):
            texts.update({str(key): str(value) for key, value in metadata.items()})
        return texts

    def _images(self) -> dict[str, Callable[[], NDArray[np.uint8]]]:
        names = self._associated.get("images", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CorruptSlideError(
                f"{self._folder.name}: the associated images are not a list of names, but {names!r}"
            )
        return {name: partial(self._read_image, name) for name in names}

    def _read_image(self, name: str) -> NDArray[np.uint8]:
        from wsistore.pyramid.zarr_levels import ZarrLevel

        path = f"{self._group.prefix}{ASSOCIATED}/{name}"
        level = ZarrLevel(self._folder, path, "cyx", self._group.zarr_format)
        if level.size.width * level.size.height > MAX_ASSOCIATED_PIXELS:
            raise CorruptSlideError(
                f"{self._folder.name}: associated image {name} claims {level.size.width} x "
                f"{level.size.height} px"
            )
        return level.read(Box(0, 0, *level.size))


def _origin(stated: object) -> str:
    """Return where a value came from, of a slide that may have been converted before."""
    origin = str(stated.get("origin", "")) if isinstance(stated, Mapping) else ""
    for before in ("ome-zarr scale (", "ome-zarr ("):
        if origin.startswith(before) and origin.endswith(")"):
            return origin[len(before) : -1]
    return origin


def probe(path_or_url: str, head: bytes, is_folder: bool) -> bool:
    """Return whether a folder may be an OME-Zarr; see `Format`."""
    del head
    if not is_folder:
        return False
    if is_url(path_or_url):  # its options are not known here, so opening must tell
        return True
    names = (*ROOT_DOCUMENTS, "store")
    # Not by pathlib, which raises where the folder may not be looked into.
    return any(os.path.exists(os.path.join(path_or_url, name)) for name in names)  # noqa: PTH110, PTH118


def open_ome_zarr(path_or_url: str | os.PathLike[str], **source_options: Any) -> OmeZarr:
    """Open an OME-Zarr store; see `Format` and `OmeZarr`."""
    folder = open_folder(path_or_url, **source_options)
    refuse_unfinished(folder)
    return OmeZarr(folder, unfinished=partial(unfinished_at, path_or_url, **source_options))


FORMAT = Format("ome-zarr", probe, open_ome_zarr, frozenset({".zarr"}))
