"""Numbers and names of the TIFF tags, types and compressions that are used here.

Sources: TIFF 6.0 (Adobe, 1992), the BigTIFF design of libtiff, and the registry of
private tags at https://www.awaresystems.be/imaging/tiff/tifftags.html.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

NEW_SUBFILE_TYPE: Final = 254
IMAGE_WIDTH: Final = 256
IMAGE_LENGTH: Final = 257
BITS_PER_SAMPLE: Final = 258
COMPRESSION: Final = 259
PHOTOMETRIC: Final = 262
FILL_ORDER: Final = 266
DOCUMENT_NAME: Final = 269
IMAGE_DESCRIPTION: Final = 270
MAKE: Final = 271
MODEL: Final = 272
STRIP_OFFSETS: Final = 273
ORIENTATION: Final = 274
SAMPLES_PER_PIXEL: Final = 277
ROWS_PER_STRIP: Final = 278
STRIP_BYTE_COUNTS: Final = 279
X_RESOLUTION: Final = 282
Y_RESOLUTION: Final = 283
PLANAR_CONFIGURATION: Final = 284
X_POSITION: Final = 286
Y_POSITION: Final = 287
RESOLUTION_UNIT: Final = 296
SOFTWARE: Final = 305
DATE_TIME: Final = 306
ARTIST: Final = 315
HOST_COMPUTER: Final = 316
PREDICTOR: Final = 317
TILE_WIDTH: Final = 322
TILE_LENGTH: Final = 323
TILE_OFFSETS: Final = 324
TILE_BYTE_COUNTS: Final = 325
SUB_IFDS: Final = 330
SAMPLE_FORMAT: Final = 339
JPEG_TABLES: Final = 347
XMP: Final = 700
IMAGE_DEPTH: Final = 32997
COPYRIGHT: Final = 33432
ICC_PROFILE: Final = 34675
NDPI_FORMAT: Final = 65420

NAMES: Final = MappingProxyType(
    {
        NEW_SUBFILE_TYPE: "NewSubfileType",
        IMAGE_WIDTH: "ImageWidth",
        IMAGE_LENGTH: "ImageLength",
        BITS_PER_SAMPLE: "BitsPerSample",
        COMPRESSION: "Compression",
        PHOTOMETRIC: "PhotometricInterpretation",
        FILL_ORDER: "FillOrder",
        IMAGE_DESCRIPTION: "ImageDescription",
        STRIP_OFFSETS: "StripOffsets",
        ORIENTATION: "Orientation",
        SAMPLES_PER_PIXEL: "SamplesPerPixel",
        ROWS_PER_STRIP: "RowsPerStrip",
        STRIP_BYTE_COUNTS: "StripByteCounts",
        X_RESOLUTION: "XResolution",
        Y_RESOLUTION: "YResolution",
        PLANAR_CONFIGURATION: "PlanarConfiguration",
        RESOLUTION_UNIT: "ResolutionUnit",
        PREDICTOR: "Predictor",
        TILE_WIDTH: "TileWidth",
        TILE_LENGTH: "TileLength",
        TILE_OFFSETS: "TileOffsets",
        TILE_BYTE_COUNTS: "TileByteCounts",
        SUB_IFDS: "SubIFDs",
        SAMPLE_FORMAT: "SampleFormat",
        JPEG_TABLES: "JPEGTables",
        IMAGE_DEPTH: "ImageDepth",
        ICC_PROFILE: "ICCProfile",
    }
)
"""Names for messages; a tag without one is named by its number."""

ASCII: Final = 2
RATIONAL: Final = 5

TYPE_BYTES: Final = MappingProxyType({
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4,
    10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
})  # fmt: skip
"""Bytes of one value by field type."""

UNSIGNED: Final = MappingProxyType({1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"})
"""Field types that can hold sizes, counts and offsets, with their `struct` letter."""

BYTES_LIKE: Final = frozenset({1, 2, 6, 7})
"""Field types of opaque data and text: BYTE, ASCII, SBYTE, UNDEFINED."""

CODECS: Final = MappingProxyType(
    {
        1: "none",
        5: "lzw",
        7: "jpeg",
        8: "deflate",
        32773: "packbits",
        32946: "deflate",
        33003: "jpeg2000",
        33005: "jpeg2000",
        34712: "jpeg2000",
        34926: "zstd",
        34927: "webp",
        50000: "zstd",
        50001: "webp",
        50002: "jpegxl",
        52546: "jpegxl",
    }
)
"""Name of the codec by the number in tag 259."""

COMPRESSION_NAMES: Final = MappingProxyType(
    {
        2: "CCITT RLE",
        3: "CCITT fax 3",
        4: "CCITT fax 4",
        6: "old-style JPEG",
        22610: "JPEG XR (NDPI)",
        33004: "Aperio lossy JPEG 2000, unknown flavour",
        34661: "JBIG",
        34887: "LERC",
        34892: "lossy DNG JPEG",
        34925: "LZMA",
        34934: "JPEG XR",
    }
)
"""Names of compressions that are not read, for messages."""

APERIO_YCBCR: Final = 33003
"""Aperio's JPEG 2000 with YCbCr samples, whatever the photometric tag says."""
APERIO_RGB: Final = 33005
"""Aperio's JPEG 2000 with RGB samples, whatever the photometric tag says."""

PREDICTABLE: Final = frozenset({"lzw", "deflate", "zstd"})
"""Codecs to which tag 317 applies; libtiff ignores it for the others."""
