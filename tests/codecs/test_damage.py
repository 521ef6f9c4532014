"""Damaged blocks raise, or decode to exactly the right pixels; nothing between."""

from __future__ import annotations

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.codecs import (
    BlockFormat,
    JpegCompleter,
    complete_jpeg,
    decode,
    encode,
    read_jpeg2000_header,
    read_jpeg_header,
)
from wsistore.errors import DamagedTileError, MissingTileError, TileError, UsageError


def outcome(block: bytes, tile) -> str:
    try:
        got = decode(block, tile.block_format)
    except DamagedTileError:
        return "refused"
    return "right" if (got == tile.pixels).all() else "wrong"


def test_300_truncated_jpegs(tile_of) -> None:
    tile = tile_of("jpeg_rgb_tables")
    cuts = np.linspace(1, len(tile.block) - 1, 300).astype(int)
    seen = {outcome(tile.block[:cut], tile) for cut in cuts}
    assert seen == {"refused"}


def _overwritten(tile, window_at) -> list[str]:
    start = read_jpeg_header(tile.block).data_at
    results = []
    for at in np.linspace(start, len(tile.block) - 514, 300).astype(int):
        block = tile.block[:at] + window_at(start) + tile.block[at + 512 :]
        results.append(outcome(block, tile))
    return results


@pytest.mark.parametrize("byte", [b"\x00", b"\xff", b"\x55"])
def test_300_blanked_windows_of_a_jpeg(tile_of, byte) -> None:
    seen = _overwritten(tile_of("jpeg_rgb_tables"), lambda start: byte * 512)
    assert set(seen) == {"refused"}


def test_300_windows_of_foreign_data_in_a_jpeg(tile_of) -> None:
    # Huffman decoding falls into step again, and where by chance it does so at the right
    # block, no decoder can see the damage (5 of 300 here): only a checksum can.
    tile = tile_of("jpeg_rgb_tables")
    rng = np.random.default_rng(3)
    noise = _overwritten(tile, lambda start: rng.bytes(512).replace(b"\xff", b"\xfe"))
    assert noise.count("refused") >= 285
    other = _overwritten(tile, lambda start: tile.block[start + 700 : start + 1212])
    assert other.count("refused") >= 285


def test_zeroed_header_bytes_are_refused_or_harmless(tile_of) -> None:
    tile = tile_of("jpeg_ycbcr420_full_jfif")
    end = read_jpeg_header(tile.block).data_at
    for at in range(end - 3):
        block = tile.block[:at] + bytes(4) + tile.block[at + 4 :]
        assert outcome(block, tile) != "wrong", at


def test_damage_below_the_rows_needed_is_seen_by_strict_only(tile_of) -> None:
    from wsistore.geometry import Box

    tile = tile_of("jpeg_rgb_tables")
    at = len(tile.block) * 3 // 4
    block = tile.block[:at] + bytes(512) + tile.block[at + 512 :]
    top = Box(0, 0, 256, 64)
    with pytest.raises(DamagedTileError):
        decode(block, tile.block_format, region=top)
    fast = decode(block, tile.block_format, region=top, integrity="fast")
    assert (fast == tile.pixels[:64]).all()


def test_truncation_of_every_codec_is_refused(any_tile) -> None:
    for part in (0.02, 0.3, 0.7, 0.98):
        cut = any_tile.block[: int(len(any_tile.block) * part)]
        with pytest.raises(DamagedTileError):
            decode(cut, any_tile.block_format)


def test_an_empty_block_is_missing(any_tile) -> None:
    with pytest.raises(MissingTileError, match="0 bytes"):
        decode(b"", any_tile.block_format)


def _claiming(tile, width: int, height: int) -> bytes:
    at = read_jpeg_header(tile.block).frame_at
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return tile.block[: at + 5] + size + tile.block[at + 9 :]


def _bomb_jpeg2000(tile) -> bytes:
    at = 8  # SOC, SIZ marker, length, Rsiz
    return tile.block[:at] + (20000).to_bytes(4, "big") * 2 + tile.block[at + 8 :]


def _peak_of_refusal(block: bytes, form: BlockFormat) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedTileError):
            decode(block, form)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_jpeg_that_claims_to_be_huge_is_refused_before_memory_is_taken(tile_of) -> None:
    tile = tile_of("jpeg_rgb_tables")
    block = _claiming(tile, 20000, 20000)
    with pytest.raises(DamagedTileError, match="20000x20000 px, expected 256x256"):
        decode(block, tile.block_format)
    with pytest.raises(DamagedTileError, match="20000x20000"):
        complete_jpeg(block, tile.block_format)
    assert _peak_of_refusal(block, tile.block_format) < 2_000_000


def test_jpeg2000_png_webp_jpegxl_bombs_are_refused(tile_of) -> None:
    tile = tile_of("j2k_33005")
    with pytest.raises(DamagedTileError, match="20000x20000"):
        decode(_bomb_jpeg2000(tile), tile.block_format)
    white = np.full((600, 600, 3), 255, np.uint8)
    for codec in ("png", "webp", "jpegxl", "jpeg2000", "jpeg"):
        block = encode(white, codec)
        form = BlockFormat(codec, 64, 64, color="ycbcr" if codec == "jpeg" else "rgb")
        with pytest.raises(DamagedTileError, match="600x600"):
            decode(block, form)
        assert _peak_of_refusal(block, form) < 500_000


@pytest.mark.parametrize("codec", ["deflate", "zstd", "lzw", "blosc", "packbits", "none"])
@pytest.mark.parametrize("extra", [-1, 1, 5_000_000])
def test_raw_codecs_unpack_to_exactly_the_tile(codec, extra) -> None:
    import imagecodecs

    raw = bytes(64 * 64 * 3 + extra)
    if codec == "lzw":
        block = bytes(imagecodecs.lzw_encode(raw))
    elif codec == "packbits":
        # Runs of 128 zeros, then one by one (imagecodecs' encoder takes a minute).
        block = b"\x81\x00" * (len(raw) // 128) + b"\x00\x00" * (len(raw) % 128)
    else:
        block = encode(raw, codec)
    form = BlockFormat(codec, 64, 64)
    with pytest.raises(DamagedTileError, match=r"expected|refused|believed"):
        decode(block, form)
    assert _peak_of_refusal(block, form) < 2_000_000


@pytest.mark.parametrize("codec", ["deflate", "lzw"])
def test_padding_behind_the_end_of_a_stream_is_let_pass(tile_of, codec) -> None:
    tile = tile_of(codec)
    assert outcome(tile.block + bytes(6), tile) == "right"


def test_more_bytes_than_any_tile_has_are_refused(any_tile) -> None:
    form = any_tile.block_format
    with pytest.raises(DamagedTileError, match="at most"):
        decode(any_tile.block + bytes(form.max_block_bytes), form)


def test_scans_of_a_progressive_jpeg_are_counted(pillow_jpeg) -> None:
    tile = pillow_jpeg(progressive=True)
    at = tile.block.rindex(b"\xff\xda")
    again = tile.block[:-2] + tile.block[at:-2] * 100 + tile.block[-2:]
    with pytest.raises(DamagedTileError, match="scans"):
        decode(again, tile.block_format)


def test_heights_left_open_and_other_codings_are_refused(tile_of) -> None:
    tile = tile_of("jpeg_rgb_tables")
    with pytest.raises(DamagedTileError, match="256x0"):
        decode(_claiming(tile, 256, 0), tile.block_format)
    at = read_jpeg_header(tile.block).frame_at
    for marker in (0xC3, 0xC5, 0xC9, 0xCA, 0xCF):
        other = tile.block[: at + 1] + bytes([marker]) + tile.block[at + 2 :]
        with pytest.raises(DamagedTileError, match=f"ff{marker:02x}"):
            decode(other, tile.block_format)
    deep = tile.block[: at + 4] + b"\x0c" + tile.block[at + 5 :]
    with pytest.raises(DamagedTileError, match="12 bits"):
        decode(deep, tile.block_format)
    late = tile.block[:at] + b"\xff\xdc\x00\x04\x01\x00" + tile.block[at:]
    with pytest.raises(DamagedTileError, match="DNL"):
        decode(late, tile.block_format)


def test_missing_tables_are_refused(tile_of) -> None:
    tile = tile_of("jpeg_rgb_tables")
    bare = BlockFormat("jpeg", 256, 256)
    with pytest.raises(DamagedTileError, match="uantization"):
        decode(tile.block, bare)
    for tables in (tile.block, b"no tables", b"\xff\xd8", b"\xff\xd8\xff\xdb\x00\x43"):
        with pytest.raises(DamagedTileError):
            JpegCompleter(BlockFormat("jpeg", 256, 256, tables=tables))


def test_components_must_agree(tile_of, pillow_jpeg) -> None:
    gray = pillow_jpeg(mode="L")
    with pytest.raises(DamagedTileError, match="1 components, expected 3"):
        decode(gray.block, BlockFormat("jpeg", 256, 256))
    with pytest.raises(UsageError, match="channels"):
        decode(gray.block, BlockFormat("jpeg", 256, 256, 3, "gray"))
    with pytest.raises(UsageError, match="codec 'png'"):
        JpegCompleter(BlockFormat("png", 256, 256))
    j2k = tile_of("j2k_33005")
    with pytest.raises(DamagedTileError, match="3 channels, expected 256x256 with 4"):
        decode(j2k.block, BlockFormat("jpeg2000", 256, 256, 4))
    with pytest.raises(UsageError, match="1 channel"):
        decode(j2k.block, BlockFormat("jpeg2000", 256, 256, 3, "gray"))


@pytest.mark.parametrize("begin", ["8050", "8071", "807fff", "80402060", "00ffdecb"])
def test_lzw_that_begins_with_an_unknown_code_is_refused(tile_of, begin) -> None:
    tile = tile_of("lzw")
    damaged = bytes.fromhex(begin) + bytes(tile.block[len(begin) // 2 :])
    with pytest.raises(DamagedTileError, match="of which nothing is known"):
        decode(damaged, tile.block_format)


@settings(max_examples=120)
@given(st.data())
def test_mutated_headers_raise_nothing_but_tile_errors(any_mutable, data) -> None:
    block = bytearray(any_mutable.block)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(block), 700) - 1))
        block[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del block[data.draw(st.integers(0, len(block))) :]
    for call in (
        lambda: decode(bytes(block), any_mutable.block_format),
        lambda: read_jpeg_header(bytes(block)),
        lambda: read_jpeg2000_header(bytes(block)),
    ):
        with contextlib.suppress(TileError):
            call()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_tile_errors(raw) -> None:
    for codec in ("jpeg", "jpeg2000", "png", "webp", "jpegxl", "deflate", "zstd", "blosc", "lzw"):
        with pytest.raises(TileError):
            decode(raw, BlockFormat(codec, 16, 16))
