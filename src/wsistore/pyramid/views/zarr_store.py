"""Views as stores of zarr-python: what `wsistore.as_zarr` returns."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)

from wsistore.errors import UsageError
from wsistore.pyramid.views.folder import SlideFolder, ViewCodec
from wsistore.pyramid.views.model import ViewFolder
from wsistore.slides import Slide, open_slide

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

REMOTE_READS = 32
"""Most chunks that are fetched at once over a network, by all stores of the process."""

_Result = TypeVar("_Result")


class FolderStore(Store):
    """A view as a read-only store of Zarr v3.

    Objects are made in threads, so that zarr-python's concurrency (``zarr.config``,
    ``async.concurrency``) hides the latency of remote slides. Safe in threads; pickles if
    the folder does.

    Parameters
    ----------
    folder : ViewFolder
        The view.
    read_only : bool
        True; there is no other.

    Raises
    ------
    UsageError
        If it is asked for writing.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True
    # Documents of all arrays are made here anyway, so gathering them saves nothing.
    supports_consolidated_metadata = False

    def __init__(self, folder: ViewFolder, *, read_only: bool = True) -> None:
        if not read_only:
            raise UsageError(f"the view of {folder.name} can only be read")
        super().__init__(read_only=True)
        self.folder = folder
        self._owned: Slide | None = None

    @classmethod
    def owning(cls, folder: ViewFolder, slide: Slide) -> FolderStore:
        """Return a store that closes a slide when it is closed."""
        store = cls(folder)
        store._owned = slide
        return store

    def with_read_only(self, read_only: bool = False) -> FolderStore:
        """Return another store of the same view; only a reading one can be had.

        Raises
        ------
        NotImplementedError
            If it is to be written, as zarr-python has it.
        """
        if not read_only:
            raise NotImplementedError(
                f"with_read_only is not implemented for the {type(self)} store type."
            )
        return type(self)(self.folder)

    def close(self) -> None:
        """Close the slide, if it was opened for this store."""
        super().close()
        if self._owned is not None:
            self._owned.close()

    # Reading

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return an object or a part of it, None where there is none.

        Raises
        ------
        wsistore.errors.WsistoreError
            If a tile is damaged, or its bytes can't be had.
        """
        if prototype is None:
            from zarr.core.buffer import default_buffer_prototype

            prototype = default_buffer_prototype()
        if not self._is_open:
            await self._open()
        data = await self._run(self.folder.get, key)
        if data is None:
            return None
        return prototype.buffer.from_bytes(data[_span(byte_range)])

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Return parts of objects, in the order they are asked for."""
        gets = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return list(await asyncio.gather(*gets))

    async def exists(self, key: str) -> bool:
        """Return whether there is an object; no tile is read for that."""
        return await self._run(self.folder.contains, key)

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys; as many as the slide has tiles."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with a prefix."""
        for key in await self._run(_all_keys, self.folder, prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly under a prefix."""
        for name in await self._run(self.folder.list_names, prefix.rstrip("/")):
            yield name.removesuffix("/")

    # Writing is refused, as zarr-python has it

    async def set(self, key: str, value: Buffer) -> None:
        """Raise ValueError: a view can't be written."""
        del key, value
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Raise ValueError: a view can't be written."""
        del key
        self._check_writable()

    # Below the surface

    async def _run(self, function: Callable[..., _Result], *args: Any) -> _Result:
        if not self.folder.remote:
            return await asyncio.to_thread(function, *args)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_pool(), functools.partial(function, *args))

    def __eq__(self, value: object) -> bool:
        return isinstance(value, FolderStore) and self.folder == value.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        # The slide is closed by who opened it; the other process opens one of its own.
        return {**self.__dict__, "_owned": None}

    def __repr__(self) -> str:
        return f"FolderStore({self.folder!r})"

    def __str__(self) -> str:
        return f"view://{self.folder.name}"


def as_zarr(
    slide: Slide | str | os.PathLike[str],
    *,
    codec: ViewCodec = "unchanged",
    levels: Sequence[int] | None = None,
    **options: Any,
) -> FolderStore:
    """Return a slide as a read-only store of Zarr v3 that holds an OME-Zarr; nothing is copied.

    The root is an NGFF 0.5 image (axes c, y, x; scales in µm); each level is an array
    ``"0"``, ``"1"``, ... of shape (3, height, width), uint8, RGB, whose chunks are the
    slide's own tiles. See `wsistore.pyramid.views.SlideFolder` for what they hold.

    ``zarr.open_group(store, mode="r")`` opens it, and so does whatever takes such a store.
    xarray wants one size for each dimension in a group, so open one level with it:
    ``xarray.open_zarr(as_zarr(slide, levels=[0]))``; or see `wsistore.as_xarray`.

    Each tile of a remote slide is one request. Zarr-python asks for 10 at a time; at 30 ms
    each, ``zarr.config.set({"async.concurrency": 64})`` read 256 tiles in a third of the time.

    Parameters
    ----------
    slide : Slide, str or os.PathLike
        A slide or store, opened or by its path or URL.
    codec : {"unchanged", "portable"}
        ``"unchanged"``: tiles in JPEG and JPEG 2000 as they are; zarr-python decodes them
        where wsistore is installed, or imagecodecs from 2026.5.10 on. ``"portable"``: all
        chunks are decoded and encoded with zstd, which every reader of Zarr v3 knows.
    levels : sequence of int, optional
        Those that are shown; by default all.
    **options
        For `wsistore.open_slide`, where a path or URL is given.

    Returns
    -------
    zarr.abc.store.Store
        Pickles as how the slide was opened. Closing it closes the slide, if it was opened
        here.

    Raises
    ------
    UsageError
        If an argument makes no sense, or there are options beside an opened slide.
    WsistoreError
        As `wsistore.open_slide`.
    """
    if isinstance(slide, Slide):
        if options:
            raise UsageError(f"{slide.name} is open already; options are {', '.join(options)}")
        return FolderStore(SlideFolder(slide, codec=codec, levels=levels))
    opened = open_slide(slide, **options)
    try:
        return FolderStore.owning(SlideFolder(opened, codec=codec, levels=levels), opened)
    except BaseException:
        opened.close()
        raise


def _span(byte_range: ByteRequest | None) -> slice:
    """Return the part of an object that is asked for; a longer one ends with the object."""
    if byte_range is None:
        return slice(None)
    if isinstance(byte_range, RangeByteRequest):
        return slice(byte_range.start, byte_range.end)
    if isinstance(byte_range, OffsetByteRequest):
        return slice(byte_range.offset, None)
    if isinstance(byte_range, SuffixByteRequest):
        return slice(-byte_range.suffix, None) if byte_range.suffix else slice(0, 0)
    raise ValueError(f"Unexpected byte_range, got {byte_range}.")


def _all_keys(folder: ViewFolder, prefix: str) -> list[str]:
    return list(folder.list_keys(prefix))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return threads that wait for remote chunks; more than asyncio has on a small machine."""
    return ThreadPoolExecutor(REMOTE_READS, "wsistore-view")


if hasattr(os, "register_at_fork"):  # the threads are not there in a forked child
    os.register_at_fork(after_in_child=_pool.cache_clear)
