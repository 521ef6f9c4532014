"""Reading the header of a JPEG stream (ITU-T T.81 annex B) without decoding it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from wsistore.errors import DamagedTileError

SOI, EOI, SOS, DQT, DHT, DRI, DNL = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xDC
APP0, APP14 = 0xE0, 0xEE
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
# SOF0-SOF15 but for DHT (C4), JPG (C8) and DAC (CC), T.81 table B.1.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM and RST0-RST7 stand alone; all other markers in a header have a length.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})


class Segment(NamedTuple):
    """A marker segment: its marker byte, and where it lies, its 0xFF included."""

    marker: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG stream says of itself before its first scan.

    Parameters
    ----------
    width, height : int
        Size in px.
    components : int
        Number of colour components.
    bits : int
        Bits per sample.
    progressive : bool
        Whether the frame is progressive (SOF2).
    subsampling : tuple of (int, int)
        Sampling factors (horizontal, vertical) of each component; ``(2, 1), (1, 1),
        (1, 1)`` is 4:2:2.
    component_ids : tuple of int
        Identifiers of the components; no colour is read from them here.
    restart_interval : int
        MCUs between restart markers, 0 for none.
    interleaved : bool
        Whether the first scan holds all components.
    frame_at : int
        Offset of the SOF marker in the stream, in bytes.
    scan_at : int
        Offset of the first SOS marker, in bytes.
    data_at : int
        Offset of the first entropy-coded byte.
    """

    width: int
    height: int
    components: int
    bits: int
    progressive: bool
    subsampling: tuple[tuple[int, int], ...]
    component_ids: tuple[int, ...]
    restart_interval: int
    interleaved: bool
    frame_at: int
    scan_at: int
    data_at: int

    @property
    def mcu_height(self) -> int:
        """Rows of px in a row of MCUs."""
        return 8 * max(v for _, v in self.subsampling)


def segments(stream: bytes, start: int = 0) -> Iterator[Segment]:
    """Yield the marker segments of a stream up to its first SOS or EOI, that one included.

    Raises
    ------
    DamagedTileError
        If it does not begin with SOI, or a segment reaches beyond its end.
    """
    end = len(stream)
    if end < start + 2 or stream[start] != 0xFF or stream[start + 1] != SOI:
        seen = stream[start : start + 2].hex() or "nothing"
        raise DamagedTileError(f"a JPEG stream begins with ffd8, this one with {seen}.")
    at = start + 2
    while True:
        first = at
        while at + 1 < end and stream[at] == 0xFF and stream[at + 1] == 0xFF:
            at += 1  # fill bytes, T.81 B.1.1.2
        if at + 1 >= end or stream[at] != 0xFF:
            raise DamagedTileError(
                f"the JPEG header holds no marker at byte {first} of {end}, before its scan."
            )
        marker = stream[at + 1]
        if marker == EOI:
            yield Segment(marker, at, at + 2)
            return
        if marker in _BARE:
            at += 2
            continue
        stop = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stop < at + 4 or stop > end:
            raise DamagedTileError(
                f"JPEG segment ff{marker:02x} at byte {at} ends at byte {stop} of {end}."
            )
        yield Segment(marker, at, stop)
        if marker == SOS:
            return
        at = stop


def read_jpeg_header(block: bytes | memoryview) -> JpegHeader:
    """Return what a JPEG stream says of itself; reads up to its first scan.

    Parameters
    ----------
    block : bytes or memoryview
        A JPEG stream, abbreviated (without tables) or not.

    Raises
    ------
    DamagedTileError
        If this is no JPEG stream, its header is broken or contradicts itself, its coding
        is neither baseline, extended sequential nor progressive Huffman, or its height is
        left to a later marker (DNL).
    """
    return header_of(bytes(block))


def header_of(stream: bytes) -> JpegHeader:
    """Return what a stream held in bytes says of itself; see `read_jpeg_header`."""
    frame: Segment | None = None
    interval = 0
    for segment in segments(stream):
        marker, start, stop = segment
        if marker in FRAMES:
            if frame is not None:
                raise DamagedTileError("the JPEG stream has two frame headers, one was expected.")
            frame = segment
        elif marker == DRI:
            interval = int.from_bytes(stream[start + 4 : stop], "big")
        elif marker == SOS:
            if frame is None:
                raise DamagedTileError("the JPEG stream has a scan before any frame header.")
            return _header(stream, frame, interval, segment)
        elif marker in _CHECKS:
            _CHECKS[marker](stream, start + 4, stop)
    raise DamagedTileError("the JPEG stream ends before its first scan.")


def _header(stream: bytes, frame: Segment, interval: int, scan: Segment) -> JpegHeader:
    marker, at, stop = frame
    if marker not in (BASELINE, EXTENDED, PROGRESSIVE):
        raise DamagedTileError(
            f"JPEG coding ff{marker:02x} (lossless, hierarchical or arithmetic); "
            "only baseline and progressive Huffman coding are read."
        )
    count = stream[at + 9] if stop - at > 9 else 0
    if count == 0 or stop - at != 10 + 3 * count:
        raise DamagedTileError(
            f"JPEG frame header of {stop - at} bytes for {count} components, "
            f"expected {10 + 3 * count} bytes."
        )
    entries = [stream[k : k + 3] for k in range(at + 10, stop, 3)]
    factors = tuple((entry[1] >> 4, entry[1] & 15) for entry in entries)
    if any(not (1 <= f <= 4) for pair in factors for f in pair):
        raise DamagedTileError(f"JPEG sampling factors {factors}, expected 1 to 4.")
    ids = tuple(entry[0] for entry in entries)
    if len(set(ids)) != count:
        raise DamagedTileError(f"JPEG component identifiers {ids} are not distinct.")
    selected = _scan_components(stream, scan, ids)
    return JpegHeader(
        width=int.from_bytes(stream[at + 7 : at + 9], "big"),
        height=int.from_bytes(stream[at + 5 : at + 7], "big"),
        components=count,
        bits=stream[at + 4],
        progressive=marker == PROGRESSIVE,
        subsampling=factors,
        component_ids=ids,
        restart_interval=interval,
        interleaved=selected == count,
        frame_at=at,
        scan_at=scan.start,
        data_at=scan.stop,
    )


def _scan_components(stream: bytes, scan: Segment, ids: tuple[int, ...]) -> int:
    start, length = scan.start, scan.stop - scan.start
    count = stream[start + 4] if length > 4 else 0
    if count == 0 or length != 8 + 2 * count:
        raise DamagedTileError(
            f"JPEG scan header of {length} bytes for {count} components, "
            f"expected {8 + 2 * count} bytes."
        )
    chosen = [stream[start + 5 + 2 * k] for k in range(count)]
    if len(set(chosen)) != count or not set(chosen) <= set(ids):
        raise DamagedTileError(f"JPEG scan of components {chosen}, the frame has {list(ids)}.")
    return count


def _check_quantization(stream: bytes, at: int, stop: int) -> None:
    # Zeroed tables decode to a flat image without a word; T.81 B.2.4.1 wants values >= 1.
    while at < stop:
        wide = stream[at] >> 4 != 0
        size = 128 if wide else 64
        table = stream[at + 1 : at + 1 + size]
        values = [a | b for a, b in zip(table[::2], table[1::2], strict=False)] if wide else table
        if at + 1 + size > stop or 0 in values:
            raise DamagedTileError("a JPEG quantization table is cut short or holds a zero.")
        at += 1 + size


def _check_huffman(stream: bytes, at: int, stop: int) -> None:
    # A table with zeroed symbols may keep the decoder in step, with other pixels.
    while at < stop:
        count = sum(stream[at + 1 : at + 17])
        symbols = stream[at + 17 : at + 17 + count]
        if at + 17 + count > stop or len(set(symbols)) != count:
            raise DamagedTileError("a JPEG Huffman table is cut short or lists a symbol twice.")
        at += 17 + count


def _refuse_late_height(_stream: bytes, at: int, _stop: int) -> None:
    raise DamagedTileError(
        f"the JPEG stream defines its height late (DNL at byte {at - 4}): not believed."
    )


_CHECKS = {DQT: _check_quantization, DHT: _check_huffman, DNL: _refuse_late_height}
