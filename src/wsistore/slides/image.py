"""Plain images as slides of one level: PNG, JPEG, BMP, WebP, GIF, and TIFFs in strips.

Pixels are taken as they are stored: an Exif orientation is not applied (coordinates of
annotations and other tools count stored pixels), but noted. Of an animation or a TIFF of
several pages the first image is read. Transparency is laid over white. Pixel sizes that
such files state (dots per inch) are not believed, as editors write 72 or 96 into all.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsistore.errors import CorruptSlideError, UnsupportedSlideError, WsistoreError
from wsistore.geometry import Box, Size
from wsistore.slides.model import Container, Format, LevelShape
from wsistore.sources import Source, open_source

Pixels = NDArray[np.uint8]

FORMATS = {"PNG": ".png", "JPEG": ".jpg .jpeg", "BMP": ".bmp", "WEBP": ".webp", "GIF": ".gif"}
"""Formats of Pillow that are asked, with their extensions. No others: some start programs
(EPS), and each more is a way in for bad files."""

EIGHT_BIT_MODES = frozenset({"1", "L", "P", "RGB", "RGBA", "RGBX", "LA", "PA", "CMYK", "YCbCr"})
"""Pixel modes of Pillow with 8 bits a sample. Deeper ones are refused: where their black
and white lie is not known."""

ORIENTATION = 0x0112
"""Exif tag of the orientation; 1 is upright."""

NDPI_FORMAT = 65420
"""Tag by which a Hamamatsu NDPI is known."""

FOREIGN_WORDS = ("leica-microsystems.com/scn", "Philips", "MedScan", "<iScan", "Aperio", "<OME")
"""Words in the descriptive tags of TIFFs that are no plain images."""

DESCRIPTIVE_TAGS = (270, 305, 700)
"""ImageDescription, Software, XMP."""

READ_BYTES = 1 << 20

PILLOW_ERRORS: tuple[type[Exception], ...] = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    EOFError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NotImplementedError,
    MemoryError,
    struct.error,
    UserWarning,  # of its TIFF reader, where warnings are errors
)
"""What Pillow raises on files that it can't read, beside its two about size."""

SIZE_ERRORS: tuple[type[Exception], ...] = (
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageContainer(Container):
    """One plain image, decoded whole on the first read.

    Parameters
    ----------
    source : Source
        Its bytes; closed with the container.
    formats : tuple of str
        Names of Pillow's readers that may try.

    Raises
    ------
    UnsupportedSlideError
        If it is too large, too deep, or none of these formats.
    CorruptSlideError
        If it is damaged.
    """

    format = "image"
    mpp = None
    magnification = None

    def __init__(self, source: Source, formats: tuple[str, ...]) -> None:
        self._source = source
        self._formats = formats
        self._pixels: Pixels | None = None
        self.associated = MappingProxyType({})
        with self._opened() as image:
            self._describe(image)

    def _describe(self, image: Image.Image) -> None:
        self._size = Size(*image.size)
        self.levels = (LevelShape(self._size, 1.0, None),)
        self.properties = MappingProxyType(
            {"image.format": str(image.format), "image.mode": image.mode}
        )
        self.notes = tuple(_notes(image))
        profile = image.info.get("icc_profile")
        self._icc_profile = profile if isinstance(profile, bytes) and profile else None

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC profile of the image, None where there is none."""
        return self._icc_profile

    def read_pixels(self, level: int, box: Box) -> Pixels:
        """Return a part of the image; see `Container.read_pixels`."""
        del level
        if self._pixels is None:
            # Two threads may both decode; both get the same, and no lock can outlive a fork.
            with self._opened() as image:
                pixels = over_white(image)
            if pixels.shape[:2] != (self._size.height, self._size.width):
                raise CorruptSlideError(
                    f"{self._source.name}: decoded to {pixels.shape[1]}x{pixels.shape[0]} px, "
                    f"its header says {self._size.width}x{self._size.height}"
                )
            self._pixels = pixels
        return self._pixels[box.y : box.bottom, box.x : box.right]

    def fingerprint(self) -> str:
        """Return the sha256 of the file's bytes."""
        digest = hashlib.sha256()
        for start in range(0, self._source.size, READ_BYTES):
            digest.update(self._source.read(start, min(READ_BYTES, self._source.size - start)))
        return f"im1-{digest.hexdigest()}"

    def close(self) -> None:
        """Give back the file and the pixels."""
        self._source.close()
        self._pixels = None

    @contextmanager
    def _opened(self) -> Iterator[Image.Image]:
        """Open the image with Pillow; its errors become those of wsistore."""
        name = self._source.name
        try:
            with Image.open(_as_file(self._source), formats=self._formats) as image:
                _refuse(image, name)
                yield image
        except WsistoreError:
            raise
        except SIZE_ERRORS as error:
            raise UnsupportedSlideError(
                f"{name}: {error}", hint="Convert it to a tiled TIFF: vips tiffsave --tile."
            ) from error
        except PILLOW_ERRORS as error:
            raise CorruptSlideError(
                f"{name}: can't be read as an image ({type(error).__name__}: {error})",
                hint="The file is damaged or cut short; compare it with the original.",
            ) from error


def over_white(image: Image.Image) -> Pixels:
    """Return the pixels of an image as (h, w, 3) uint8, laid over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return blend_over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))


def blend_over_white(rgba: Pixels) -> Pixels:
    """Lay (h, w, 4) pixels, not premultiplied, over white; rounded to the nearest."""
    alpha = rgba[..., 3:]
    if alpha.all() and int(alpha.min()) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    opacity = alpha.astype(np.uint16)
    mixed = rgba[..., :3] * opacity + 255 * (255 - opacity) + 127
    return (mixed // 255).astype(np.uint8)


def _refuse(image: Image.Image, name: str) -> None:
    """Raise for images that can't be read rightly.

    Raises
    ------
    UnsupportedSlideError
        If it is larger than Pillow's limit, deeper than 8 bits, or a slide in disguise.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UnsupportedSlideError(
            f"{name} is a plain image of {image.width}x{image.height} px, which must be decoded "
            f"whole; Pillow's limit is {limit} px",
            hint="Convert it to a tiled TIFF first: vips tiffsave IN OUT --tile --pyramid.",
        )
    if image.mode not in EIGHT_BIT_MODES:
        raise UnsupportedSlideError(
            f"{name} has samples of mode {image.mode!r}; 8 bits a sample are read"
        )
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return
    words = " ".join(str(tags.get(tag, "")) for tag in DESCRIPTIVE_TAGS)
    if NDPI_FORMAT in tags or any(word in words for word in FOREIGN_WORDS):
        raise UnsupportedSlideError(f"{name} is a scanner's TIFF, no plain image")


def _notes(image: Image.Image) -> Iterator[str]:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        yield f"the file holds {frames} images; the first is read"
    if image.getexif().get(ORIENTATION, 1) != 1:
        yield "an Exif orientation is stated and not applied: pixels are read as stored"


class _SourceFile(io.RawIOBase):
    """A source as the file object that Pillow wants."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._source.size - self._at))
        buffer[:count] = self._source.read(self._at, count) if count else b""
        self._at += count
        return count


def _as_file(source: Source) -> io.BufferedReader:
    return io.BufferedReader(_SourceFile(source), buffer_size=64 << 10)


def _is_image(path: str, head: bytes, is_folder: bool) -> bool:
    # The main file of a MIRAX slide is a JPEG, its thumbnail.
    if is_folder or PurePosixPath(path.lower()).suffix == ".mrxs":
        return False
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF8")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def _is_tiff(path: str, head: bytes, is_folder: bool) -> bool:
    del path
    return not is_folder and head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _opener(*formats: str) -> Callable[..., Container]:
    def open_image(path_or_url: str, **source_options: Any) -> Container:
        source = open_source(path_or_url, **source_options)
        try:
            return ImageContainer(source, formats)
        except BaseException:
            source.close()
            raise

    return open_image


IMAGE = Format("image", _is_image, _opener(*FORMATS), frozenset(" ".join(FORMATS.values()).split()))
PLAIN_TIFF = Format("image-tiff", _is_tiff, _opener("TIFF"), frozenset({".tif", ".tiff"}))
