"""Levels that only zarr-python can read: other orders of axes, other codecs.

Slower than a tile table by several times, and without encoded tiles to hand out, but all
that Zarr can say about an array of 8-bit grey, RGB or RGBA pixels is understood.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)

from wsistore.codecs import BlockFormat
from wsistore.codecs.model import Color
from wsistore.codecs.pixels import put_samples
from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    UnsupportedCodecError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.geometry import Box, Size
from wsistore.sources import Folder

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

_ZARR_ERRORS: tuple[type[Exception], ...] = (
    ValueError,  # most of zarr's own errors, crc32c, shapes
    TypeError,
    AttributeError,  # documents that are no objects
    LookupError,  # unknown codecs (KeyError)
    RuntimeError,  # numcodecs: zstd, blosc; also NotImplementedError
    ArithmeticError,
    MemoryError,
    OSError,
    EOFError,
)
"""What zarr-python and numcodecs raise for documents and chunks they can't read."""

_CHANNELS = (1, 3, 4)


class FolderStore(Store):
    """A `Folder` as a store that zarr-python reads; never written to.

    Parameters
    ----------
    folder : Folder
        Where the objects are.
    """

    def __init__(self, folder: Folder) -> None:
        super().__init__(read_only=True)
        self._folder = folder

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FolderStore) and other._folder is self._folder

    def __hash__(self) -> int:
        return id(self._folder)

    @property
    def supports_writes(self) -> bool:
        """Never."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Never."""
        return False

    @property
    def supports_listing(self) -> bool:
        """As far as the folder does; plain HTTP does not."""
        return True

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object or part of it, None where there is none."""
        data = await asyncio.to_thread(self._read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        if byte_range is None:
            return self._folder.get(key)
        try:
            source = self._folder.source(key)
        except FileNotFoundError:  # SourceNotFoundError is one
            return None
        if isinstance(byte_range, RangeByteRequest):
            start, stop = byte_range.start, byte_range.end
        elif isinstance(byte_range, OffsetByteRequest):
            start, stop = byte_range.offset, source.size
        elif isinstance(byte_range, SuffixByteRequest):
            start, stop = max(0, source.size - byte_range.suffix), source.size
        else:
            raise UsageError(f"unknown kind of byte range {byte_range!r}")
        stop = min(stop, source.size)
        return source.read(start, max(0, stop - start))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of several objects."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether there is an object."""
        return await asyncio.to_thread(self._folder.get, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        raise UsageError(f"{self._folder.name} is read only; {key} of {len(value)} bytes")

    async def delete(self, key: str) -> None:
        """Refuse to delete."""
        raise UsageError(f"{self._folder.name} is read only; {key} stays")

    async def list(self) -> AsyncIterator[str]:
        """Return the names of all objects."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Return the names of all objects below a prefix."""
        for key in await asyncio.to_thread(lambda: list(_walk(self._folder, prefix))):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Return the names directly under a prefix."""
        for name in await asyncio.to_thread(self._folder.list_names, prefix):
            yield name.removesuffix("/")


class ZarrLevel:
    """A level read through zarr-python; safe in threads.

    Parameters
    ----------
    folder : Folder
        The store.
    path : str
        The array within it.
    order : str
        Names of its axes: ``"tczyx"``, ``"yxc"`` ...
    zarr_format : {2, 3}
        Version of Zarr.

    Attributes
    ----------
    size : Size
        Width and height in px.

    Raises
    ------
    UnsupportedSlideError
        If its pixels are not 8-bit grey, RGB or RGBA, or it has several planes or times,
        or zarr-python can't open it.
    CorruptSlideError
        If its shape has not as many sides as there are axes, or it is empty.
    """

    def __init__(self, folder: Folder, path: str, order: str, zarr_format: int) -> None:
        self._name = f"{folder.name}: array {path}"
        self._order = order
        self._array = _open_array(folder, path, zarr_format, self._name)
        shape, dtype = self._array.shape, np.dtype(self._array.dtype)
        if len(shape) != len(order) or min(shape) < 1:
            raise CorruptSlideError(f"{self._name} has shape {shape}, its axes are {order}")
        sides = dict(zip(order, shape, strict=True))
        several = [f"{axis} of {sides[axis]}" for axis in "tz" if sides.get(axis, 1) != 1]
        self._channels = sides.get("c", 1)
        if several or dtype != np.uint8 or self._channels not in _CHANNELS:
            raise UnsupportedSlideError(
                f"{self._name} holds {dtype} pixels of {self._channels} channels"
                f"{', ' + ' and '.join(several) if several else ''}; "
                "8-bit grey, RGB or RGBA of one plane is read"
            )
        self.size = Size(sides["x"], sides["y"])

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Read pixels.

        Parameters
        ----------
        box : Box
            Wholly inside the level, in level px.

        Returns
        -------
        (h, w, 3) uint8
            Grey is repeated; a fourth channel is opacity, over white.

        Raises
        ------
        DamagedTileError
            If chunks can't be decoded.
        SourceError
            If bytes can't be had.
        """
        cuts = {"y": slice(box.y, box.bottom), "x": slice(box.x, box.right), "c": slice(None)}
        try:
            found = self._array[tuple(cuts.get(axis, 0) for axis in self._order)]
        except WsistoreError:
            raise
        except _ZARR_ERRORS as error:
            raise DamagedTileError(
                f"zarr can't read {self._name}: {type(error).__name__}: {error}"
            ) from error
        left = [axis for axis in self._order if axis in cuts]
        samples = np.asarray(found).transpose([left.index(a) for a in "yxc" if a in left])
        samples = samples.reshape(box.height, box.width, self._channels)
        out = np.empty((box.height, box.width, 3), np.uint8)
        put_samples(samples, self._format(box), out)
        return out

    def _format(self, box: Box) -> BlockFormat:
        color: Color = "gray" if self._channels == 1 else "rgb"
        return BlockFormat("none", box.width, box.height, self._channels, color)


def _open_array(folder: Folder, path: str, zarr_format: int, name: str) -> Any:
    try:
        return zarr.open_array(
            store=FolderStore(folder), path=path, mode="r", zarr_format=2 if zarr_format == 2 else 3
        )
    except UnsupportedCodecError as error:
        raise UnsupportedSlideError(f"{name}: {error.message}", hint=error.hint) from error
    except WsistoreError:
        raise
    except _ZARR_ERRORS as error:
        raise UnsupportedSlideError(
            f"zarr can't open {name}: {type(error).__name__}: {error}",
            hint="Is a package with one of its codecs missing?",
        ) from error


def _walk(folder: Folder, prefix: str) -> Iterator[str]:
    base = prefix.rstrip("/")
    for name in folder.list_names(base):
        key = f"{base}/{name}" if base else name
        if name.endswith("/"):
            yield from _walk(folder, key)
        else:
            yield key
