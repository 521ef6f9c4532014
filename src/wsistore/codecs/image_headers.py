"""Size of PNG, WebP and JPEG XL images, from the first bytes, before they are decoded."""

from __future__ import annotations

from typing import NamedTuple

from wsistore.errors import DamagedTileError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type, PNG table 11.1
_JXL_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
# Width as a ratio of the height, ISO/IEC 18181-1 table of SizeHeader.
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


class ImageSize(NamedTuple):
    """Size that an image's header states.

    Parameters
    ----------
    width, height : int
        In px.
    channels : int or None
        Samples per pixel; None where the first bytes don't say.
    """

    width: int
    height: int
    channels: int | None


def png_size(block: bytes | memoryview) -> ImageSize:
    """Return what the IHDR chunk says; 8 bits a sample are asked for."""
    head = bytes(block[:26])
    if len(head) < 26 or head[:8] != _PNG_SIGNATURE or head[12:16] != b"IHDR":
        raise _not("PNG", head)
    if head[24] != 8 and head[25] != 3:
        raise DamagedTileError(f"PNG tile of {head[24]} bits a sample, expected 8.")
    return ImageSize(
        int.from_bytes(head[16:20], "big"),
        int.from_bytes(head[20:24], "big"),
        _PNG_CHANNELS.get(head[25]),
    )


def webp_size(block: bytes | memoryview) -> ImageSize:
    """Return what the first chunk (VP8, VP8L or VP8X) says, RFC 9649."""
    head = bytes(block[:30])
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        raise _not("WebP", head)
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[k : k + 3], "little") + 1 for k in (24, 27))
    elif kind == b"VP8L" and head[20] == 0x2F:
        packed = int.from_bytes(head[21:25], "little")
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(head[k : k + 2], "little") & 0x3FFF for k in (26, 28))
    else:
        raise _not("WebP", head[12:])
    return ImageSize(width, height, None)


def jpegxl_size(block: bytes | memoryview) -> ImageSize:
    """Return what the SizeHeader of the codestream says, ISO/IEC 18181-1."""
    head = _jxl_codestream(block)
    if head[:2] != b"\xff\x0a":
        raise _not("JPEG XL", head)
    bits = _Bits(head[2:])
    small = bits.take(1)
    height = _jxl_side(bits, small)
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _JXL_RATIOS[ratio]
        return ImageSize(height * numerator // denominator, height, None)
    return ImageSize(_jxl_side(bits, small), height, None)


class _Bits:
    """Reads numbers from bytes, lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value


def _jxl_side(bits: _Bits, small: int) -> int:
    if small:
        return 8 * (bits.take(5) + 1)
    return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


def _jxl_codestream(block: bytes | memoryview) -> bytes:
    """Return the first bytes of the codestream, out of its boxes where it has some."""
    if bytes(block[:12]) != _JXL_CONTAINER:
        return bytes(block[:16])
    at = 12
    while at + 8 <= len(block):
        length, kind = int.from_bytes(block[at : at + 4], "big"), bytes(block[at + 4 : at + 8])
        header = 8
        if length == 1:
            length, header = int.from_bytes(block[at + 8 : at + 16], "big"), 16
        if kind == b"jxlc":
            return bytes(block[at + header : at + header + 16])
        if kind == b"jxlp":  # a part: its number comes first
            return bytes(block[at + header + 4 : at + header + 20])
        if length < header:
            break
        at += length
    raise DamagedTileError("the JPEG XL file holds no codestream.")


def _not(name: str, head: bytes) -> DamagedTileError:
    return DamagedTileError(f"the tile is no {name} image: it begins with {head[:16].hex()}.")
