"""Reading the header of a JPEG 2000 codestream (ITU-T T.800 annex A) without decoding it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from wsistore.errors import DamagedTileError

_SOC, _SIZ, _COD, _SOT, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF90, 0xFFD9
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_SIZ_FIXED = struct.Struct(">HIIIIIIIIH")  # Rsiz to Csiz, T.800 table A.9
_MAX_COMPONENTS = 16


@dataclass(frozen=True, slots=True)
class Jpeg2000Header:
    """What a JPEG 2000 codestream says of itself in its main header.

    Parameters
    ----------
    width, height : int
        Size of the image area in px.
    components : int
        Number of components.
    bits : int
        Bits per sample; those of the first component.
    signed : bool
        Whether any component has signed samples.
    same_depth : bool
        Whether all components have the bits of the first.
    subsampling : tuple of (int, int)
        Separations (XRsiz, YRsiz) of each component: ``(1, 1), (2, 1), (2, 1)`` is 4:2:2.
    tiles : int
        Number of tiles within the codestream.
    mct : bool
        Whether the components went through the codestream's own colour transform.
    reversible : bool
        Whether the wavelet is the 5/3 of lossless coding.
    resolutions : int
        Decomposition levels + 1.
    codestream_at : int
        Offset of the codestream in the block, in bytes; 0 but for a JP2 file.
    tile_parts_at : int
        Offset of the first tile-part in the block, in bytes.
    """

    width: int
    height: int
    components: int
    bits: int
    signed: bool
    same_depth: bool
    subsampling: tuple[tuple[int, int], ...]
    tiles: int
    mct: bool
    reversible: bool
    resolutions: int
    codestream_at: int
    tile_parts_at: int

    @property
    def subsampled(self) -> bool:
        """Whether any component has fewer samples than the image has px."""
        return any(pair != (1, 1) for pair in self.subsampling)


class _Style(NamedTuple):
    mct: bool
    reversible: bool
    resolutions: int
    end: int  # of the main header


def read_jpeg2000_header(block: bytes | memoryview) -> Jpeg2000Header:
    """Return what a JPEG 2000 block says of itself; reads the main header only.

    Parameters
    ----------
    block : bytes or memoryview
        A raw codestream (as TIFF tiles are), or a JP2 file around one.

    Raises
    ------
    DamagedTileError
        If this is no JPEG 2000 block or its main header is broken.
    """
    view = memoryview(block)
    start = _codestream_at(view)
    if bytes(view[start : start + 4]) != struct.pack(">HH", _SOC, _SIZ):
        seen = bytes(view[start : start + 4]).hex() or "nothing"
        raise DamagedTileError(f"a JPEG 2000 codestream begins with ff4fff51, this with {seen}.")
    body = _segment(view, start + 2)
    if len(body) < _SIZ_FIXED.size:
        raise DamagedTileError(f"JPEG 2000 SIZ segment of {len(body)} bytes is cut short.")
    _, right, bottom, left, top, *tile, count = _SIZ_FIXED.unpack_from(body)
    entries = body[_SIZ_FIXED.size :]
    if not 1 <= count <= _MAX_COMPONENTS or len(entries) != 3 * count:
        raise DamagedTileError(
            f"JPEG 2000 SIZ segment lists {len(entries) / 3:g} components, announces {count}; "
            f"1 to {_MAX_COMPONENTS} are believed."
        )
    depths = entries[0::3]
    subsampling = tuple(zip(entries[1::3], entries[2::3], strict=True))
    if left >= right or top >= bottom or any(0 in pair for pair in subsampling):
        raise DamagedTileError(
            f"JPEG 2000 image area ({left}, {top})-({right}, {bottom}) with component "
            f"separations {subsampling} is empty."
        )
    style = _coding_style(view, start + 6 + len(body))
    return Jpeg2000Header(
        width=right - left,
        height=bottom - top,
        components=count,
        bits=(depths[0] & 0x7F) + 1,
        signed=any(depth & 0x80 for depth in depths),
        same_depth=len(set(depths)) == 1,
        subsampling=subsampling,
        tiles=_tile_count((left, top, right, bottom), tile),
        mct=style.mct,
        reversible=style.reversible,
        resolutions=style.resolutions,
        codestream_at=start,
        tile_parts_at=style.end,
    )


def _tile_count(area: tuple[int, int, int, int], tile: list[int]) -> int:
    left, top, right, bottom = area
    width, height, tile_left, tile_top = tile
    if (
        width == 0
        or height == 0
        or not (tile_left <= left < tile_left + width)
        or not (tile_top <= top < tile_top + height)
    ):
        raise DamagedTileError(
            f"JPEG 2000 tiles of {width}x{height} from ({tile_left}, {tile_top}) do not cover "
            f"the corner ({left}, {top}) of the image."
        )
    return -(-(right - tile_left) // width) * -(-(bottom - tile_top) // height)


def _segment(view: memoryview, at: int) -> bytes:
    length = int.from_bytes(view[at + 2 : at + 4], "big")
    if length < 2 or at + 2 + length > len(view):
        raise DamagedTileError(
            f"JPEG 2000 segment at byte {at} of length {length} ends beyond "
            f"the {len(view)} bytes of the block."
        )
    return bytes(view[at + 4 : at + 2 + length])


def _coding_style(view: memoryview, at: int) -> _Style:
    """Return what COD says, and where the main header ends; begins behind SIZ."""
    coding = b""
    while (marker := int.from_bytes(view[at : at + 2], "big")) != _SOT:
        if marker < 0xFF00:
            raise DamagedTileError(f"the JPEG 2000 main header holds no marker at byte {at}.")
        body = _segment(view, at)
        if marker == _COD:
            coding = body
        at += 4 + len(body)
    # Scod, progression, layers (2), MCT, decompositions, block size (2), style, wavelet.
    if len(coding) < 10:
        raise DamagedTileError(
            f"JPEG 2000 coding style (COD) of {len(coding)} bytes, expected 10 or more."
        )
    return _Style(coding[4] == 1, coding[9] == 1, coding[5] + 1, at)


def check_tile_parts(block: bytes | memoryview, header: Jpeg2000Header) -> None:
    """Check that the tile-parts follow each other to the end, and that no tile is missing.

    OpenJPEG decodes a codestream that lacks tiles without a word.

    Parameters
    ----------
    block : bytes or memoryview
        The block that `header` was read from.
    header : Jpeg2000Header
        Its main header.

    Raises
    ------
    DamagedTileError
        If a tile-part is not where the one before it ends, or a tile has none.
    """
    view = memoryview(block)
    at, seen = header.tile_parts_at, set()
    while (marker := int.from_bytes(view[at : at + 2], "big")) == _SOT and at + 12 <= len(view):
        seen.add(int.from_bytes(view[at + 4 : at + 6], "big"))
        length = int.from_bytes(view[at + 6 : at + 10], "big")
        if length == 0:  # up to the end of the codestream; only the last may say so
            marker = _EOC
            break
        if length < 14:
            break
        at += length
    if marker != _EOC:
        raise DamagedTileError(
            f"a JPEG 2000 tile-part or the end was expected at byte {at} of {len(view)}."
        )
    if len(seen) != header.tiles or max(seen) >= header.tiles:
        raise DamagedTileError(
            f"JPEG 2000 codestream with data of {len(seen)} inner tiles, expected {header.tiles}."
        )


def _codestream_at(view: memoryview) -> int:
    """Return where the codestream begins: boxes of a JP2 file are skipped (T.800 annex I)."""
    if bytes(view[:8]) != _JP2_SIGNATURE:
        return 0
    at = 0
    while at + 8 <= len(view):
        length, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        header = 8
        if length == 1:
            length, header = int.from_bytes(view[at + 8 : at + 16], "big"), 16
        if kind == b"jp2c":
            return at + header
        if length < header:
            break
        at += length
    raise DamagedTileError("the JP2 file holds no codestream (jp2c box).")
