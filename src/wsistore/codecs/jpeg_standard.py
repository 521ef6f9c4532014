"""The Huffman tables that JPEG streams without any are decoded with (T.81 annex K.3).

Some writers of TIFF put no Huffman table into the JPEGTables, and none into a tile either
(or only into the first), and rely on decoders to know the typical ones, as in Motion JPEG;
libjpeg does. A complete stream names them, so that nobody needs to guess.
"""

from __future__ import annotations

# Class and identifier, number of codes of each length from 1 to 16, the symbols in order.
_TABLES = (
    # DC of luminance, K.3
    "0000010501010101010100000000000000000102030405060708090a0b",
    # AC of luminance, K.5
    (
        "100002010303020403050504040000017d01020300041105122131410613516107227114328191a1"
        "082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748"
        "494a535455565758595a636465666768696a737475767778797a838485868788898a929394959697"
        "98999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1"
        "e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
    # DC of chrominance, K.4
    "0100030101010101010101010000000000000102030405060708090a0b",
    # AC of chrominance, K.6
    (
        "11000201020404030407050404000102770001020311040521310612415107617113223281081442"
        "91a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a4344454647"
        "48494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495"
        "969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9"
        "dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
    ),
)


def _segment(table: str) -> bytes:
    body = bytes.fromhex(table)
    return b"\xff\xc4" + (len(body) + 2).to_bytes(2, "big") + body


STANDARD_TABLES = b"".join(_segment(table) for table in _TABLES)
"""The four DHT segments."""
