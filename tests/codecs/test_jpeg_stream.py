"""Completing JPEG tiles, and reading headers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from wsistore.codecs import (
    BlockFormat,
    JpegCompleter,
    complete_jpeg,
    decode,
    read_jpeg2000_header,
    read_jpeg_header,
)
from wsistore.codecs.jpeg_header import DHT, segments
from wsistore.errors import DamagedTileError


def test_parts_join_to_the_complete_stream_without_copying_the_rest(any_jpeg) -> None:
    completer = JpegCompleter(any_jpeg.block_format)
    prefix, rest = completer.parts(any_jpeg.block)
    assert prefix + bytes(rest) == complete_jpeg(any_jpeg.block, any_jpeg.block_format)
    assert rest.obj is any_jpeg.block
    data_at = read_jpeg_header(any_jpeg.block).data_at
    assert rest == any_jpeg.block[data_at:]


def test_the_cached_path_gives_the_same_and_still_compares(tile_of) -> None:
    tile = tile_of("jpeg_rgb_tables")
    completer = JpegCompleter(tile.block_format)
    first, _ = completer.parts(tile.block)
    again, rest = completer.parts(memoryview(tile.block))
    assert again is first
    assert bytes(first) + bytes(rest) == complete_jpeg(tile.block, tile.block_format)
    at = read_jpeg_header(tile.block).frame_at
    other = tile.block[: at + 6] + b"\x10" + tile.block[at + 7 :]
    with pytest.raises(DamagedTileError, match="expected 256x256"):
        completer.parts(other)
    with pytest.raises(DamagedTileError):
        completer.parts(tile.block[: read_jpeg_header(tile.block).data_at - 1])


def test_more_headers_than_are_kept_all_come_out_right(pillow_jpeg) -> None:
    tiles = [pillow_jpeg(32, 32, comment=bytes([65 + k]) * 9) for k in range(20)]
    completer = JpegCompleter(tiles[0].block_format)
    for tile in tiles * 2:
        prefix, rest = completer.parts(tile.block)
        assert prefix + bytes(rest) == complete_jpeg(tile.block, tile.block_format)
    assert len(completer._known) <= 8


@pytest.mark.parametrize(
    ("color", "channels", "said"),
    [
        ("rgb", 3, "RGB"),
        ("ycbcr", 3, "YCBCR"),
        ("gray", 1, "GRAYSCALE"),
        ("white-is-zero", 1, "GRAYSCALE"),
    ],
)
def test_the_completer_says_the_colour_of_its_streams(color, channels, said) -> None:
    assert JpegCompleter(BlockFormat("jpeg", 8, 8, channels, color)).stream_color == said


def test_jpeg_header(pillow_jpeg) -> None:
    tile = pillow_jpeg(250, 243, subsampling=2, progressive=True, restart_marker_blocks=5)
    header = read_jpeg_header(memoryview(tile.block))
    assert (header.width, header.height) == (250, 243)
    assert (header.components, header.bits) == (3, 8)
    assert header.progressive
    assert header.subsampling == ((2, 2), (1, 1), (1, 1))
    assert header.mcu_height == 16
    assert header.restart_interval == 5
    assert header.component_ids == (1, 2, 3)
    assert tile.block[header.scan_at : header.scan_at + 2] == b"\xff\xda"
    assert header.scan_at < header.data_at


def test_fill_bytes_before_a_marker_are_skipped(tile_of) -> None:
    tile = tile_of("jpeg_rgb_full")
    filled = tile.block[:2] + b"\xff\xff\xff" + tile.block[2:]
    assert read_jpeg_header(filled).width == 256


def test_jpeg2000_headers(tile_of) -> None:
    plain = read_jpeg2000_header(tile_of("j2k_33005").block)
    assert (plain.width, plain.height, plain.components, plain.bits) == (256, 256, 3, 8)
    assert plain.subsampling == ((1, 1),) * 3
    assert not plain.subsampled
    assert plain.mct
    assert plain.tiles == 1
    assert not plain.signed
    assert not plain.reversible
    assert read_jpeg2000_header(tile_of("j2k_33005_reversible").block).reversible
    assert not read_jpeg2000_header(tile_of("j2k_33003").block).mct
    chroma = read_jpeg2000_header(tile_of("j2k_33003_422").block)
    assert chroma.subsampled
    assert chroma.subsampling == ((1, 1), (2, 1), (2, 1))


def test_a_jp2_file_is_looked_into(tile_of, picture) -> None:
    import imagecodecs

    pixels = picture(64, 48)
    block = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="jp2", reversible=True))
    header = read_jpeg2000_header(block)
    assert header.codestream_at > 0
    assert (header.width, header.height) == (64, 48)
    assert (decode(block, BlockFormat("jpeg2000", 64, 48)) == pixels).all()


def test_inner_tiles_are_counted(picture) -> None:
    pixels = picture(64, 48)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", tile_size=(16, 16), no_jp2=True)
    block = stream.getvalue()
    assert read_jpeg2000_header(block).tiles == 12
    assert (decode(block, BlockFormat("jpeg2000", 64, 48)) == pixels).all()
    at = 4 + 2 + 2 + 16  # XTsiz follows the markers, Lsiz, Rsiz and four sizes
    tiny = block[:at] + b"\0\0\0\1\0\0\0\1" + block[at + 8 :]
    assert read_jpeg2000_header(tiny).tiles == 64 * 48
    with pytest.raises(DamagedTileError, match="data of 12 inner tiles, expected 3072"):
        decode(tiny, BlockFormat("jpeg2000", 64, 48))
    big = Image.new("RGB", (256, 256))
    stream = io.BytesIO()
    big.save(stream, "JPEG2000", tile_size=(16, 16), no_jp2=True)
    many = bytearray(stream.getvalue())
    many[at : at + 8] = b"\0\0\0\2\0\0\0\2"
    with pytest.raises(DamagedTileError, match="16384 inner tiles"):
        decode(bytes(many), BlockFormat("jpeg2000", 256, 256))


def test_streams_without_huffman_tables_get_the_standard_ones(tile_of) -> None:
    tile = tile_of("jpeg_rgb_tables_dqt")
    pieces = [tile.block[s.start : s.stop] for s in segments(tile.block) if s.marker != DHT]
    data_at = read_jpeg_header(tile.block).data_at
    bare = b"\xff\xd8" + b"".join(pieces) + tile.block[data_at:]
    assert len(bare) < len(tile.block)
    assert (decode(bare, tile.block_format) == tile.pixels).all()
    complete = complete_jpeg(bare, tile.block_format)
    with Image.open(io.BytesIO(complete)) as image:
        assert (np.asarray(image) == tile.pixels).all()
    assert [s.marker for s in segments(complete)].count(DHT) == 4
