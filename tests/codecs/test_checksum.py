"""CRC-32C of blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.codecs import append_crc32c, check_crc32c, crc32c, crc32c_suffix
from wsistore.errors import DamagedTileError


def test_known_values() -> None:
    # RFC 3720, appendix B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@given(st.binary(max_size=200), st.integers(0, 200))
def test_pieces_and_kinds_of_memory_give_one_value(data, at) -> None:
    whole = crc32c(data)
    assert crc32c(memoryview(data)) == crc32c(bytearray(data)) == whole
    assert crc32c(memoryview(data)[at:], crc32c(data[:at])) == whole


def test_layout_is_that_of_zarr() -> None:
    numcodecs = pytest.importorskip("numcodecs")
    block = append_crc32c(b"123456789")
    assert block == b"123456789" + (0xE3069283).to_bytes(4, "little")
    assert crc32c_suffix(b"123456789") == block[-4:]
    zarrs = numcodecs.get_codec({"id": "crc32c"}).encode(np.frombuffer(b"123456789", np.uint8))
    assert bytes(zarrs) == block


@given(st.binary(min_size=1, max_size=100), st.data())
def test_any_changed_bit_is_seen(data, draw) -> None:
    block = bytearray(append_crc32c(data))
    payload = check_crc32c(block, "tile")
    assert bytes(payload) == data
    payload.release()
    block[draw.draw(st.integers(0, len(block) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(DamagedTileError, match="tile 3: crc32c"):
        check_crc32c(bytes(block), "tile 3")


def test_a_payload_is_a_view_and_short_blocks_are_refused() -> None:
    block = append_crc32c(b"payload")
    assert check_crc32c(block, "tile").obj is block
    with pytest.raises(DamagedTileError, match="3 bytes, too short"):
        check_crc32c(b"abc", "tile")
    assert bytes(check_crc32c(append_crc32c(b""), "tile")) == b""
