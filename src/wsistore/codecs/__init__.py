"""One encoded tile to pixels: strict, bounded, colour from the container.

Public calls: `decode`, `decode_regions`, `scales`, `register`, `decoder_for`, `names`;
`JpegCompleter`, `complete_jpeg`, `read_jpeg_header`, `read_jpeg2000_header`; `encode`;
`crc32c`, `check_crc32c`, `append_crc32c`; `BlockFormat`, `Decoder` and `RegionJob` are the
contract.
"""

from __future__ import annotations

from wsistore.codecs.checksum import (
    CRC32C_BYTES,
    append_crc32c,
    check_crc32c,
    crc32c,
    crc32c_suffix,
)
from wsistore.codecs.decoding import decode, decode_regions
from wsistore.codecs.encoding import encode, encoders
from wsistore.codecs.jpeg2000_header import Jpeg2000Header, read_jpeg2000_header
from wsistore.codecs.jpeg_header import JpegHeader, read_jpeg_header
from wsistore.codecs.jpeg_stream import JpegCompleter, complete_jpeg
from wsistore.codecs.model import BlockFormat, Decoder, RegionJob
from wsistore.codecs.registry import decoder_for, names, register, scales

__all__ = [
    "CRC32C_BYTES",
    "BlockFormat",
    "Decoder",
    "Jpeg2000Header",
    "JpegCompleter",
    "JpegHeader",
    "RegionJob",
    "append_crc32c",
    "check_crc32c",
    "complete_jpeg",
    "crc32c",
    "crc32c_suffix",
    "decode",
    "decode_regions",
    "decoder_for",
    "encode",
    "encoders",
    "names",
    "read_jpeg2000_header",
    "read_jpeg_header",
    "register",
    "scales",
]
