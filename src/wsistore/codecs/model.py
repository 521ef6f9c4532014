"""What a caller says about encoded tiles, and what a decoder must offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wsistore.geometry import Box

Color = Literal["rgb", "ycbcr", "gray", "white-is-zero", "stream"]
Layout = Literal["yxc", "cyx"]
Integrity = Literal["strict", "fast"]


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How the encoded tiles of one level are encoded; all tiles of a level share it.

    Parameters
    ----------
    codec : str
        Name of the codec: ``"none"``, ``"jpeg"``, ``"jpeg2000"``, ``"lzw"``,
        ``"deflate"``, ``"gzip"``, ``"packbits"``, ``"zstd"``, ``"webp"``, ``"jpegxl"``, ``"png"``,
        ``"blosc"`` (see `wsistore.codecs.names`).
    width, height : int
        Size of a whole tile in px, padding included.
    channels : int
        Samples per pixel in the encoded tile (1, 3 or 4).
    color : {"rgb", "ycbcr", "gray", "white-is-zero", "stream"}
        What the samples mean, as the container says; the container wins over marks
        inside the stream, as in OpenSlide. ``"stream"``: the container says nothing and
        each stream speaks for itself (chunks of Zarr): a JPEG by APP14, JFIF or component
        ids as libjpeg reads them, a JPEG 2000 codestream is YCbCr where its chroma is
        subsampled and RGB otherwise.
    layout : {"yxc", "cyx"}
        Order of the samples of codecs without an order of their own (``"none"``,
        ``"zstd"``, ...): interleaved or planar.
    tables : bytes
        The TIFF's JPEGTables (tag 347) for abbreviated JPEG streams, else empty.
    predictor : int
        TIFF tag 317: 1 none, 2 horizontal differencing.
    """

    codec: str
    width: int
    height: int
    channels: int = 3
    color: Color = "rgb"
    layout: Layout = "yxc"
    tables: bytes = b""
    predictor: int = 1

    @property
    def raw_bytes(self) -> int:
        """Bytes of one decoded tile."""
        return self.width * self.height * self.channels

    @property
    def max_block_bytes(self) -> int:
        """Largest encoded tile that is believed, in bytes: 4 x raw + 64 KiB."""
        return 4 * self.raw_bytes + 65536


class RegionJob(NamedTuple):
    """A region of an encoded tile, and where it goes.

    Parameters
    ----------
    block : bytes or memoryview
        The encoded tile, whole.
    region : Box
        Part of it, in px of the tile at the scale that is asked for.
    offset : int
        Where its first px goes, in bytes of the output.
    """

    block: bytes | memoryview
    region: Box
    offset: int


class Decoder(Protocol):
    """Turns one encoded tile into pixels; one object per codec, safe in threads.

    A faster one is slotted in with `wsistore.codecs.register`; callers don't change.
    """

    def decode_into(
        self,
        block: bytes | memoryview,
        block_format: BlockFormat,
        out: NDArray[np.uint8],
        region: Box,
        scale: int,
        integrity: Integrity,
    ) -> None:
        """Decode `region` of the tile at ``1 / scale`` into `out`.

        Parameters
        ----------
        block : bytes or memoryview
            The encoded tile, whole.
        block_format : BlockFormat
            What the container says about it.
        out : (h, w, 3) uint8
            Where the pixels go; may be a strided view. Its shape is that of the region
            at that scale: ``ceil(region.height / scale), ceil(region.width / scale)``.
        region : Box
            Part of the tile in tile px; x, y, width and height are multiples of `scale`,
            but for a width or height that ends at the tile's edge.
        scale : {1, 2, 4, 8}
            Downsampling within the decoder. Only asked of decoders whose `scales` say so.
        integrity : {"strict", "fast"}
            ``"strict"``: read the stream to its end, so that all damage is seen.
            ``"fast"``: may stop after the last row that is needed.

        Raises
        ------
        wsistore.errors.DamagedTileError
            If the block does not decode to exactly what the format promises.
        """
        ...

    @property
    def scales(self) -> tuple[int, ...]:
        """Downsamplings that this decoder does by itself; ``(1,)`` for most."""
        ...


ManyDecoder = Callable[
    [Sequence[RegionJob], BlockFormat, NDArray[np.uint8], int, int, Integrity], list[int]
]
"""What a `Decoder` may have as ``decode_regions``; see `wsistore.codecs.decode_regions`."""
