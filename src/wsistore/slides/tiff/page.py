"""One image of a TIFF: geometry checked, encoding named."""

from __future__ import annotations

import functools
from typing import NamedTuple

from wsistore.codecs import BlockFormat
from wsistore.codecs.model import Color
from wsistore.errors import CorruptSlideError
from wsistore.geometry import Size, ceil_div
from wsistore.slides.tiff import tags
from wsistore.slides.tiff.ifd import Ifd, name_of
from wsistore.slides.tiff.layout import Entry

MAX_SIDE = 2**31
"""Largest width and height of an image that is believed, in px."""
MAX_TILE_SIDE = 2**15
"""Largest width and height of a tile that is believed, in px."""
MAX_TABLES_BYTES = 1 << 20
"""Largest JPEGTables that are believed; real ones have 140-600 bytes."""

_TILE_ARRAYS = tags.TILE_OFFSETS, tags.TILE_BYTE_COUNTS
_STRIP_ARRAYS = tags.STRIP_OFFSETS, tags.STRIP_BYTE_COUNTS

_MEANINGS: dict[int, Color] = {0: "white-is-zero", 1: "gray", 2: "rgb", 6: "ycbcr"}
_SAMPLES: dict[Color, tuple[int, ...]] = {
    "white-is-zero": (1,),
    "gray": (1,),
    "rgb": (3, 4),
    "ycbcr": (3,),
}
PHOTOMETRIC_NAMES = {3: "palette", 4: "transparency mask", 5: "CMYK", 8: "CIE L*a*b*"}
TRY_OPENSLIDE = "OpenSlide may read it: pip install 'wsistore[openslide]'."


class Segments(NamedTuple):
    """The arrays that say where the tiles or strips lie.

    Parameters
    ----------
    offsets, counts : Entry
        Of first bytes and of lengths; of equal length, as many as there are segments.
    """

    offsets: Entry
    counts: Entry


class Encoding(NamedTuple):
    """How tiles or strips are encoded; the fields are those of `BlockFormat`."""

    codec: str
    color: Color
    channels: int
    predictor: int


class Page:
    """One image of a TIFF, with its geometry.

    Parameters
    ----------
    ifd : Ifd
        Where it is described.

    Attributes
    ----------
    size : Size
        Width and height in px.
    is_tiled : bool
        Whether it is cut into tiles rather than strips.
    segment_size : Size
        Width and height of a whole tile, or of a whole strip, in px.
    subfile_type : int
        Tag 254: bit 0 a reduced image, bit 2 a transparency mask; Aperio: 1 label, 9 macro.

    Raises
    ------
    wsistore.errors.CorruptSlideError
        If a size is missing or absurd.
    """

    __slots__ = ("_encoding", "ifd", "is_tiled", "segment_size", "size", "subfile_type")

    def __init__(self, ifd: Ifd) -> None:
        self.ifd = ifd
        self._encoding: Encoding | None = None
        self.size = self._size(tags.IMAGE_WIDTH, tags.IMAGE_LENGTH, MAX_SIDE)
        self.subfile_type = ifd.number(tags.NEW_SUBFILE_TYPE, 0)
        self.is_tiled = tags.TILE_WIDTH in ifd or tags.TILE_OFFSETS in ifd
        if self.is_tiled:
            self.segment_size = self._size(tags.TILE_WIDTH, tags.TILE_LENGTH, MAX_TILE_SIDE)
        else:
            rows = ifd.number(tags.ROWS_PER_STRIP, self.size.height)
            if rows < 1:
                raise ifd.corrupt(f"{name_of(tags.ROWS_PER_STRIP)} is 0")
            self.segment_size = Size(self.size.width, min(rows, self.size.height))

    def _size(self, width_tag: int, height_tag: int, most: int) -> Size:
        number = self.ifd.number
        width = number(width_tag)
        if not 1 <= width <= most:
            raise self._absurd(width_tag, width, most)
        height = number(height_tag)
        if not 1 <= height <= most:
            raise self._absurd(height_tag, height, most)
        return Size(width, height)

    def _absurd(self, tag: int, value: int, most: int) -> CorruptSlideError:
        return self.ifd.corrupt(f"{name_of(tag)} is {value}, expected 1 to {most}")

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.ifd.label

    @property
    def is_reduced(self) -> bool:
        """Whether it says of itself that it is a reduced copy."""
        return bool(self.subfile_type & 1)

    @property
    def is_mask(self) -> bool:
        """Whether it is a transparency mask rather than an image."""
        return bool(self.subfile_type & 4)

    @property
    def description(self) -> str:
        """Its ImageDescription; empty where there is none."""
        return self.ifd.text(tags.IMAGE_DESCRIPTION) or ""

    @property
    def segment_grid(self) -> Size:
        """Number of columns and rows of tiles or strips."""
        width, height = self.size
        across, down = self.segment_size
        return Size(ceil_div(width, across), ceil_div(height, down))

    def segments(self) -> Segments:
        """Return where the arrays of offsets and counts lie; they are not read.

        Raises
        ------
        wsistore.errors.CorruptSlideError
            If one is missing, or is not as long as there are tiles or strips.
        """
        columns, rows = self.segment_grid
        offsets, counts = _TILE_ARRAYS if self.is_tiled else _STRIP_ARRAYS
        return Segments(self._array(offsets, columns, rows), self._array(counts, columns, rows))

    def _array(self, tag: int, columns: int, rows: int) -> Entry:
        entry = self.ifd.entry(tag)
        _, kind, values, _ = entry
        if kind not in tags.UNSIGNED:
            raise self.ifd.corrupt(
                f"{name_of(tag)} has field type {kind}, expected unsigned integers"
            )
        if values != columns * rows:
            raise self.ifd.corrupt(
                f"{name_of(tag)} has {values} values, expected {columns * rows} "
                f"({columns} columns x {rows} rows)"
            )
        return entry

    def check_encoding(self) -> Encoding:
        """Return what its tags say of the encoding, JPEGTables aside; raises as `block_format`."""
        if self._encoding is None:
            self._encoding = self._find_encoding()
        return self._encoding

    def _find_encoding(self) -> Encoding:
        ifd = self.ifd
        samples = self._samples()
        number = ifd.number(tags.COMPRESSION, 1)
        codec = tags.CODECS.get(number)
        if codec is None:
            known = tags.COMPRESSION_NAMES.get(number, "unknown")
            raise ifd.unsupported(f"compression {number} ({known})", hint=TRY_OPENSLIDE)
        predictor = ifd.number(tags.PREDICTOR, 1) if codec in tags.PREDICTABLE else 1
        if predictor not in (1, 2):
            raise ifd.unsupported(f"{name_of(tags.PREDICTOR)} {predictor}, only 1 and 2 are read")
        return Encoding(codec, self._color(number, codec, samples), samples, predictor)

    def block_format(self, *, with_tables: bool = True) -> BlockFormat:
        """Return how its tiles or strips are encoded.

        Parameters
        ----------
        with_tables : bool
            Whether to read JPEGTables, too.

        Raises
        ------
        wsistore.errors.UnsupportedSlideError
            If it is none of: 8 bits per sample, interleaved, 1, 3 or 4 samples, gray or
            RGB or YCbCr, a compression that is known.
        wsistore.errors.CorruptSlideError
            If tags contradict each other.
        """
        codec, color, samples, predictor = self.check_encoding()
        tables = b""
        if with_tables and codec == "jpeg":
            tables = self.ifd.data(tags.JPEG_TABLES, most=MAX_TABLES_BYTES) or b""
        width, height = self.segment_size
        return _shared_format(codec, width, height, samples, color, tables, predictor)

    def _samples(self) -> int:
        ifd = self.ifd
        samples = ifd.number(tags.SAMPLES_PER_PIXEL, 1)
        if samples not in (1, 3, 4):
            raise ifd.unsupported(f"{samples} samples per pixel, only 1, 3 and 4 are read")
        bits = ifd.numbers(tags.BITS_PER_SAMPLE) or (1,)
        if bits not in ((8,), (8,) * samples):
            raise ifd.unsupported(
                f"bits per sample {bits} of {samples} samples, only 8 are read",
                hint=TRY_OPENSLIDE,
            )
        # 4 is "undefined", which libtiff takes as unsigned.
        if tags.SAMPLE_FORMAT in ifd and not set(ifd.numbers(tags.SAMPLE_FORMAT)) <= {1, 4}:
            raise ifd.unsupported("samples are no unsigned integers")
        if samples > 1 and ifd.number(tags.PLANAR_CONFIGURATION, 1) != 1:
            raise ifd.unsupported(
                "samples lie in separate planes (PlanarConfiguration 2), "
                "only interleaved ones are read",
                hint=TRY_OPENSLIDE,
            )
        if ifd.number(tags.IMAGE_DEPTH, 1) != 1:
            raise ifd.unsupported(f"image depth {ifd.number(tags.IMAGE_DEPTH)}, only 1 is read")
        if ifd.number(tags.FILL_ORDER, 1) != 1:
            raise ifd.unsupported("bits are stored in reverse (FillOrder 2)")
        return samples

    def _color(self, compression: int, codec: str, samples: int) -> Color:
        """Return what the samples mean; Aperio's own compressions fix it, else tag 262."""
        if compression in (tags.APERIO_YCBCR, tags.APERIO_RGB):
            self._expect_samples(samples, (3,), "compression", compression)
            return "ycbcr" if compression == tags.APERIO_YCBCR else "rgb"
        photometric = self.ifd.number(tags.PHOTOMETRIC)
        meaning = _MEANINGS.get(photometric)
        if meaning == "ycbcr" and codec not in ("jpeg", "jpeg2000"):
            meaning = None
        if meaning is not None:
            self._expect_samples(
                samples, _SAMPLES[meaning], "photometric interpretation", photometric
            )
            return meaning
        name = PHOTOMETRIC_NAMES.get(photometric, "YCbCr" if photometric == 6 else "unknown")
        raise self.ifd.unsupported(
            f"photometric interpretation {photometric} ({name}) with the codec {codec}; "
            "gray and RGB are read",
            hint=TRY_OPENSLIDE,
        )

    def _expect_samples(
        self, samples: int, expected: tuple[int, ...], tag: str, value: int
    ) -> None:
        if samples not in expected:
            wanted = " or ".join(map(str, expected))
            raise self.ifd.corrupt(
                f"{samples} samples per pixel with {tag} {value}, expected {wanted}"
            )


@functools.lru_cache(maxsize=256)
def _shared_format(
    codec: str,
    width: int,
    height: int,
    channels: int,
    color: Color,
    tables: bytes,
    predictor: int,
) -> BlockFormat:
    """Return the format of these values; equal ones are one object, as caches by it like."""
    return BlockFormat(codec, width, height, channels, color, "yxc", tables, predictor)
