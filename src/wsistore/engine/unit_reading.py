"""The pixels of a unit, with what became of each tile."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    MissingTileError,
    SourceError,
    UnsupportedCodecError,
    WsistoreError,
)
from wsistore.features.schema import TileStatus
from wsistore.geometry import Resolution, Size
from wsistore.slides import Slide
from wsistore.tiles.batch import BatchReader
from wsistore.tiles.model import NormalRequest, TileFault
from wsistore.tiles.prefetching import ahead
from wsistore.tiles.walking import iter_tiles

BadTiles = Literal["fill", "fill-missing", "raise"]
BAD_TILES: tuple[BadTiles, ...] = ("fill", "fill-missing", "raise")


@dataclass(frozen=True, slots=True)
class Reading:
    """How tiles are read.

    Parameters
    ----------
    batch_size : int
        Tiles that are decoded and encoded together.
    prefetch : int
        Batches read ahead of the encoder.
    threads : int
        Decoding threads.
    cache_bytes : int
        Most bytes of decoded tiles of the slide kept for later tiles of the unit.
    on_bad_tile : {"fill", "fill-missing", "raise"}
        Which tiles without pixels get NaN instead of ending the slide: all, those that the
        slide leaves out, or none.
    """

    batch_size: int = 64
    prefetch: int = 1
    threads: int = 1
    cache_bytes: int = 128 << 20
    on_bad_tile: BadTiles = "fill"


class PixelBatch(NamedTuple):
    """Some consecutive tiles of a unit.

    Parameters
    ----------
    start : int
        Index of the first one in the unit.
    pixels : (n, 3, h, w) uint8
        RGB.
    status : (n,) uint8
        Codes of `TileStatus`.
    tiles_decoded : int
        Encoded tiles of the slide that were decoded for it.
    bytes_read : int
        Encoded bytes that were fetched for it.
    """

    start: int
    pixels: NDArray[np.uint8]
    status: NDArray[np.uint8]
    tiles_decoded: int
    bytes_read: int


def read_batches(
    slide: Slide,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    size: Size,
    resolution: Resolution,
    fill: int,
    reading: Reading,
) -> Generator[PixelBatch, None, None]:
    """Read tiles of one slide in their order, ahead of the caller.

    Raises
    ------
    wsistore.errors.WsistoreError
        If the slide can't be read, or tiles can't that `on_bad_tile` doesn't forgive.
    """
    level = slide.resolve(resolution).level
    if slide.tile_table(level) is None:
        yield from _read_container(slide, x, y, size, resolution, fill, reading)
        return
    walk = iter_tiles(
        slide,
        np.stack([x, y], axis=1),
        size,
        resolution,
        batch_size=reading.batch_size,
        prefetch=reading.prefetch,
        cache_bytes=reading.cache_bytes,
        layout="nchw",
        threads=reading.threads,
        on_bad_tile=reading.on_bad_tile,
        fill=fill,
    )
    for batch in walk:
        report = batch.report
        status = np.zeros(len(batch), np.uint8)
        for fault in report.faults:
            status[fault.request] = max(status[fault.request], _status_of(fault))
        yield PixelBatch(batch.start, batch.pixels, status, report.tiles_decoded, report.bytes_read)


def _status_of(fault: TileFault) -> TileStatus:
    """Return the status that a fault means.

    Raises
    ------
    wsistore.errors.SourceError
        If the bytes could not be had: nothing is known of the tile, so that another run
        shall try again.
    """
    if fault.code.startswith("WSI2"):
        raise SourceError(f"{fault.slide}: {fault.reason}")
    by_code = {
        MissingTileError.code: TileStatus.MISSING,
        UnsupportedCodecError.code: TileStatus.UNREADABLE,
    }
    return by_code.get(fault.code, TileStatus.DAMAGED)


def _read_container(
    slide: Slide,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    size: Size,
    resolution: Resolution,
    fill: int,
    reading: Reading,
) -> Iterator[PixelBatch]:
    """Read tiles of a slide without tile table, whose reader doesn't tell what it painted."""
    reader = BatchReader(
        size, layout="nchw", threads=reading.threads, on_bad_tile="raise", fill=fill
    )

    def read(start: int) -> PixelBatch:
        part = slice(start, start + reading.batch_size)
        requests = [
            NormalRequest(slide, left, top, resolution)
            for left, top in zip(x[part].tolist(), y[part].tolist(), strict=True)
        ]
        status = np.zeros(len(requests), np.uint8)
        try:
            pixels, report = reader.read(requests)
        except SourceError:
            raise
        except WsistoreError:
            pixels = _one_by_one(reader, requests, status, reading, fill)
            return PixelBatch(start, pixels, status, 0, 0)
        return PixelBatch(start, pixels, status, report.tiles_decoded, report.bytes_read)

    return ahead(read, range(0, len(x), reading.batch_size), reading.prefetch)


def _one_by_one(
    reader: BatchReader,
    requests: Sequence[NormalRequest],
    status: NDArray[np.uint8],
    reading: Reading,
    fill: int,
) -> NDArray[np.uint8]:
    """Read the tiles of a batch alone, to know which of them have no pixels."""
    pixels = np.full(reader.shape(len(requests)), fill, np.uint8)
    for index, request in enumerate(requests):
        try:
            reader.read([request], pixels[index : index + 1])
        except SourceError:
            raise
        except WsistoreError as error:
            missing = isinstance(error, MissingTileError)
            forgiven = reading.on_bad_tile == "fill" or (
                missing and reading.on_bad_tile == "fill-missing"
            )
            if not forgiven:
                raise
            pixels[index] = fill
            fault = TileFault(index, slide_name(request), -1, -1, -1, error.code, error.message)
            status[index] = _status_of(fault)
    return pixels


def slide_name(request: NormalRequest) -> str:
    """Return the name of a request's slide."""
    return str(getattr(request.slide, "name", request.slide))
