"""Making every JPEG tile of a TIFF a complete stream that says its colour itself."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from wsistore.codecs.jpeg_header import (
    APP0,
    APP14,
    DHT,
    EOI,
    FRAMES,
    SOS,
    JpegHeader,
    header_of,
    segments,
)
from wsistore.codecs.jpeg_standard import STANDARD_TABLES
from wsistore.codecs.model import BlockFormat
from wsistore.errors import DamagedTileError, UsageError

MAX_SCANS = 64
"""Most scans of a progressive stream that are believed: encoders write 10 or so, and each costs
a pass over the whole tile."""

# Adobe's APP14: version 100, no flags, then the transform: 0 is RGB, 1 is YCbCr. Where it
# stands without a JFIF segment, libjpeg and all its users go by it alone.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_TRANSFORM = {"rgb": b"\x00", "ycbcr": b"\x01"}
_HEADERS_KEPT = 8


class KnownHeader(NamedTuple):
    """A header that was checked, what replaces it, and what it says."""

    source: bytes  # the block up to its entropy-coded data
    prefix: bytes  # the same, complete and with the colour marked
    info: JpegHeader  # of the prefix
    cuts: dict[int, bytes]  # the prefix with a smaller height, by height in px
    made: list[object | None]  # of the compiled decoder; see `jpeg_regions.header_of`


class JpegCompleter:
    """Completes the JPEG tiles of one level: tables merged, colour marked, rest untouched.

    JFIF (APP0) and Adobe (APP14) segments are dropped and, for three components, one
    Adobe segment is put in that says what the container says; other segments stay. So each
    result is a file of its own that every JPEG reader shows in the right colours. Where
    the container leaves the colour to the streams, their own marks stay.
    A header is parsed and checked once; streams that begin with the same bytes share it.

    Parameters
    ----------
    block_format : BlockFormat
        What the container says about the tiles; its codec must be ``"jpeg"``.

    Attributes
    ----------
    block_format : BlockFormat
        As given.
    stream_color : {"RGB", "YCBCR", "GRAYSCALE"} or None
        Colour space inside the complete streams, in the words of imagecodecs' codecs; None
        where it is left to each of them.

    Raises
    ------
    UsageError
        If the format is not JPEG or its channels and colour don't go together.
    DamagedTileError
        If its tables are no JPEG tables.
    """

    def __init__(self, block_format: BlockFormat) -> None:
        check_jpeg_format(block_format)
        self.block_format = block_format
        self.stream_color: Literal["RGB", "YCBCR", "GRAYSCALE"] | None
        if block_format.channels == 1:
            self.stream_color, marks = "GRAYSCALE", b""
        elif block_format.color == "stream":
            self.stream_color, marks = None, b""
        elif block_format.color == "rgb":
            self.stream_color, marks = "RGB", _ADOBE + _TRANSFORM["rgb"]
        else:
            self.stream_color, marks = "YCBCR", _ADOBE + _TRANSFORM["ycbcr"]
        self._head = b"\xff\xd8" + marks + _table_segments(block_format.tables)
        self._known: tuple[KnownHeader, ...] = ()

    def parts(self, block: bytes | memoryview) -> tuple[bytes, memoryview]:
        """Return two pieces whose concatenation is the complete JPEG.

        Parameters
        ----------
        block : bytes or memoryview
            The encoded tile, whole.

        Returns
        -------
        prefix : bytes
            The complete header, up to the first entropy-coded byte.
        rest : memoryview
            Entropy-coded data and all after it: a view of `block`, not copied.

        Raises
        ------
        DamagedTileError
            If the header is broken, or promises another size, number of components or
            depth than the format, or the block is longer than can be.
        """
        known = self.known(block)
        return known.prefix, memoryview(block)[len(known.source) :]

    def known(self, block: bytes | memoryview) -> KnownHeader:
        """Return the checked header of a block; see `parts` for the errors."""
        if len(block) > self.block_format.max_block_bytes:
            raise too_long(len(block), self.block_format)
        for known in self._known:
            if bytes(block[: len(known.source)]) == known.source:
                break
        else:
            known = self._learn(bytes(block))
        if known.info.progressive or not known.info.interleaved:
            _check_scans(block)
        return known

    def _learn(self, block: bytes) -> KnownHeader:
        source = header_of(block)
        _check_header(source, self.block_format)
        dropped = () if self.block_format.color == "stream" else (APP0, APP14)
        kept = [block[s.start : s.stop] for s in segments(block) if s.marker not in dropped]
        prefix = self._head + b"".join(kept)
        if not source.progressive and not any(s.marker == DHT for s in segments(prefix)):
            prefix = self._head + STANDARD_TABLES + b"".join(kept)
        known = KnownHeader(block[: source.data_at], prefix, header_of(prefix), {}, [])
        # Replaced, never changed: other threads may be walking the old one.
        self._known = (known, *self._known[: _HEADERS_KEPT - 1])
        return known


@lru_cache(maxsize=64)
def completer_for(block_format: BlockFormat) -> JpegCompleter:
    """Return the completer of a format, the same one for equal formats."""
    return JpegCompleter(block_format)


def complete_jpeg(block: bytes | memoryview, block_format: BlockFormat) -> bytes:
    """Return a JPEG tile as a complete stream that says its colour itself.

    Parameters
    ----------
    block : bytes or memoryview
        The encoded tile, whole; abbreviated (tables in the container) or not.
    block_format : BlockFormat
        What the container says about it.

    Returns
    -------
    bytes
        A JPEG file: no pixel is decoded, entropy-coded data are those of `block`.

    Raises
    ------
    DamagedTileError
        As `JpegCompleter.parts`.
    UsageError
        As `JpegCompleter`.
    """
    return b"".join(completer_for(block_format).parts(block))


def cut_height(known: KnownHeader, rows: int) -> bytes:
    """Return the header with a height that ends with the MCU row of the last row needed.

    Fancy upsampling of vertically subsampled chroma looks one row ahead, so one more MCU
    row is kept there. Only single-scan streams without restart markers are cut: in others
    the data beyond the cut are not simply left over.

    Parameters
    ----------
    known : KnownHeader
        A checked header.
    rows : int
        Rows needed from the top, in px.

    Returns
    -------
    bytes
        `known.prefix` where nothing can be saved.
    """
    info = known.info
    if info.progressive or not info.interleaved or info.restart_interval:
        return known.prefix
    mcu = info.mcu_height
    height = -(-rows // mcu) * mcu + (mcu if mcu > 8 else 0)
    if height >= info.height:
        return known.prefix
    cut = known.cuts.get(height)
    if cut is None:
        at = info.frame_at + 5
        cut = known.prefix[:at] + height.to_bytes(2, "big") + known.prefix[at + 2 :]
        known.cuts[height] = cut
    return cut


def check_jpeg_format(block_format: BlockFormat) -> None:
    """Check that a format can be that of JPEG tiles; raises UsageError."""
    if block_format.codec != "jpeg":
        raise UsageError(f"expected JPEG tiles, the format says codec {block_format.codec!r}")
    gray = block_format.color in ("gray", "white-is-zero")
    if block_format.channels != (1 if gray else 3):
        raise UsageError(
            f"JPEG tiles of colour {block_format.color!r} have {1 if gray else 3} channels, "
            f"the format says {block_format.channels}"
        )


def too_long(count: int, block_format: BlockFormat) -> DamagedTileError:
    """Return the error for a block longer than any honest one."""
    return DamagedTileError(
        f"{block_format.codec} tile of {count} bytes, at most {block_format.max_block_bytes} are "
        f"believed for {block_format.width}x{block_format.height} px."
    )


def _check_header(seen: JpegHeader, expected: BlockFormat) -> None:
    if (seen.width, seen.height) != (expected.width, expected.height):
        raise DamagedTileError(
            f"JPEG tile of {seen.width}x{seen.height} px, "
            f"expected {expected.width}x{expected.height}."
        )
    if seen.components != expected.channels:
        raise DamagedTileError(
            f"JPEG tile of {seen.components} components, expected {expected.channels}."
        )
    if seen.bits != 8:
        raise DamagedTileError(f"JPEG tile of {seen.bits} bits a sample, expected 8.")


def _check_scans(block: bytes | memoryview) -> None:
    # Entropy-coded data never hold ff da, so this counts scans (and, at worst, a few more
    # in the text of other segments).
    scans = bytes(block).count(bytes((0xFF, SOS)))
    if scans > MAX_SCANS:
        raise DamagedTileError(f"JPEG tile of {scans} scans, at most {MAX_SCANS} are believed.")


def _table_segments(tables: bytes) -> bytes:
    if not tables:
        return b""
    pieces: list[bytes] = []
    for segment in segments(tables):
        if segment.marker == EOI:
            return b"".join(pieces)
        if segment.marker in (SOS, *FRAMES):
            break
        if segment.marker not in (APP0, APP14):
            pieces.append(tables[segment.start : segment.stop])
    raise DamagedTileError("the JPEGTables hold an image, expected tables only.")
