"""Slides of other vendors through OpenSlide (extra ``openslide``).

OpenSlide's handles are safe in threads, but not across a fork (parent and child would
share positions in files), and a handle that met an error answers nothing but that error.
So a handle belongs to a process, and is opened anew after either.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    CorruptSlideError,
    DamagedTileError,
    DependencyError,
    MetadataError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.geometry import Box, Magnification, Mpp, Size, snap_downsample
from wsistore.slides.image import blend_over_white
from wsistore.slides.model import Container, Format, LevelShape
from wsistore.sources import is_url

Pixels = NDArray[np.uint8]

STRIP_PIXELS = 16 << 20
"""Pixels asked of OpenSlide at a time: it hands out 4 bytes for each."""

SAMPLE_BYTES = 1 << 20
"""Bytes hashed at the start, middle and end of a file without a quickhash."""

MPP_X, MPP_Y = "openslide.mpp-x", "openslide.mpp-y"
OBJECTIVE_POWER = "openslide.objective-power"

_inherited: list[Any] = []
"""Handles of the parent process. Kept, as closing them in a forked child could wait for a
lock that a thread of the parent held."""


def _library() -> Any:
    """Return the package openslide.

    Raises
    ------
    DependencyError
        If it or its shared library is not installed.
    """
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise DependencyError(
            f"OpenSlide can't be loaded: {error}", hint="pip install 'wsistore[openslide]'"
        ) from error
    return openslide


def errors_of(library: Any) -> tuple[type[Exception], ...]:
    """Return what openslide-python raises on bad files and arguments.

    MemoryError comes from Pillow for an absurd size, ctypes.ArgumentError and ValueError
    for paths and numbers that C can't hold.
    """
    return (library.OpenSlideError, OSError, MemoryError, ValueError, ctypes.ArgumentError)


class OpenSlideContainer(Container):
    """A slide that OpenSlide reads.

    Parameters
    ----------
    path : str
        The file.

    Raises
    ------
    UnsupportedSlideError
        If OpenSlide does not know it.
    CorruptSlideError
        If OpenSlide refuses it.
    DependencyError
        If OpenSlide is not installed.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 (keeps links)
        self._name = path
        self._library = _library()
        self._errors = errors_of(self._library)
        self._closed = False
        self._current: tuple[int, Any] | None = None
        handle = self._handle()
        try:
            self._describe(handle)
        except self._errors as error:
            raise self._broken(error) from error

    def _describe(self, handle: Any) -> None:
        self.properties = MappingProxyType(dict(handle.properties))
        self.format = f"openslide:{self.properties.get('openslide.vendor', 'unknown')}"
        sizes = [Size(*size) for size in handle.level_dimensions]
        self._downsamples = tuple(handle.level_downsamples)
        self.levels = tuple(
            LevelShape(size, snap_downsample(sizes[0], size), None) for size in sizes
        )
        notes: list[str] = []
        self.mpp = self._mpp(notes)
        self.magnification = self._magnification(notes)
        self.notes = tuple(notes)
        self.associated = MappingProxyType(
            {name: self._associated_reader(name) for name in handle.associated_images}
        )

    def _mpp(self, notes: list[str]) -> Mpp | None:
        texts = [self.properties.get(key) for key in (MPP_X, MPP_Y)]
        stated = [text for text in texts if text]
        if not stated:
            return None
        try:
            # Where one side alone is stated, pixels are taken as square.
            return Mpp(float(texts[0] or stated[0]), float(texts[1] or stated[0]), MPP_X)
        except (MetadataError, ValueError) as error:
            notes.append(f"{MPP_X}, {MPP_Y} ignored: {error}")
            return None

    def _magnification(self, notes: list[str]) -> Magnification | None:
        text = self.properties.get(OBJECTIVE_POWER)
        if not text:
            return None
        try:
            return Magnification(float(text), OBJECTIVE_POWER)
        except (MetadataError, ValueError) as error:
            notes.append(f"{OBJECTIVE_POWER} ignored: {error}")
            return None

    def _associated_reader(self, name: str) -> Callable[[], Pixels]:
        return functools.partial(self._read_associated, name)

    def _read_associated(self, name: str) -> Pixels:
        handle = self._handle()
        try:
            return blend_over_white(np.asarray(handle.associated_images[name].convert("RGBA")))
        except self._errors as error:
            self._current = None
            raise DamagedTileError(
                f"{self._name}: associated image {name!r} can't be decoded: {error}"
            ) from error

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile of the image as it lies in the file, None where there is none."""
        handle = self._handle()
        try:
            # OpenSlide's own property parses it, and fails where LittleCMS can't. A region
            # beside the image carries its bytes, and no tile is decoded for it.
            info: dict[str, object] = handle.read_region((-2, -2), 0, (1, 1)).info
        except self._errors as error:
            self._current = None
            raise self._broken(error) from error
        profile = info.get("icc_profile")
        return profile if isinstance(profile, bytes) else None

    def read_pixels(self, level: int, box: Box) -> Pixels:
        """Read pixels through OpenSlide, laid over white; see `Container.read_pixels`.

        OpenSlide takes positions in level-0 px: where a downsample is no integer, it
        interpolates, and the result may lie up to half a level-0 px aside.
        """
        rows = max(1, STRIP_PIXELS // box.width)
        if box.height <= rows:
            return self._read_strip(level, box)
        out = np.empty((box.height, box.width, 3), np.uint8)
        for y in range(box.y, box.bottom, rows):
            strip = Box(box.x, y, box.width, min(rows, box.bottom - y))
            out[y - box.y : strip.bottom - box.y] = self._read_strip(level, strip)
        return out

    def _read_strip(self, level: int, box: Box) -> Pixels:
        downsample = self._downsamples[level]
        location = round(box.x * downsample), round(box.y * downsample)
        handle = self._handle()
        try:
            image = handle.read_region(location, level, (box.width, box.height))
        except self._errors as error:
            self._current = None
            raise DamagedTileError(f"OpenSlide can't read it: {error}") from error
        return blend_over_white(np.asarray(image))

    def fingerprint(self) -> str:
        """Return a hash of OpenSlide's quickhash and the sizes of the levels.

        Where OpenSlide has no quickhash, three samples of the file stand for it.
        """
        digest = hashlib.sha256(repr([tuple(level.size) for level in self.levels]).encode())
        quickhash = self.properties.get("openslide.quickhash-1")
        digest.update(quickhash.encode() if quickhash else self._samples())
        return f"os1-{digest.hexdigest()}"

    def _samples(self) -> bytes:
        try:
            with Path(self._path).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest = hashlib.sha256(str(size).encode())
                for start in (0, size // 2, max(0, size - SAMPLE_BYTES)):
                    file.seek(start)
                    digest.update(file.read(SAMPLE_BYTES))
        except OSError as error:
            raise self._broken(error) from error
        return digest.digest()

    def close(self) -> None:
        """Close the handle of this process."""
        self._closed = True
        current, self._current = self._current, None
        if current is not None and current[0] == os.getpid():
            current[1].close()

    def _handle(self) -> Any:
        """Return a handle that was opened in this process and has met no error."""
        if self._closed:
            raise UsageError(f"{self._name} is closed", hint="Open it again to read from it.")
        current = self._current
        if current is not None:
            if current[0] == os.getpid():
                return current[1]
            _inherited.append(current[1])
        try:
            handle = self._library.OpenSlide(self._path)
        except self._library.OpenSlideUnsupportedFormatError as error:
            raise UnsupportedSlideError(
                f"{self._name}: OpenSlide does not know its format"
            ) from error
        except self._errors as error:
            raise self._broken(error) from error
        self._current = (os.getpid(), handle)
        return handle

    def _broken(self, error: Exception) -> WsistoreError:
        return CorruptSlideError(f"{self._name}: OpenSlide refuses it: {error}")


def _probe(path: str, head: bytes, is_folder: bool) -> bool:
    del head
    if is_folder or is_url(path):
        return False
    library = _library()
    try:
        return library.OpenSlide.detect_format(path) is not None
    except errors_of(library):
        return False


def _open(path_or_url: str, **source_options: Any) -> Container:
    if is_url(path_or_url) or source_options:
        raise UnsupportedSlideError(
            f"{path_or_url}: OpenSlide reads local files alone", hint="Download it first."
        )
    return OpenSlideContainer(path_or_url)


OPENSLIDE = Format("openslide", _probe, _open)
