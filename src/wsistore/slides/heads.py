"""What the first bytes and the name of a file tell of it, in words for messages."""

from __future__ import annotations

from pathlib import PurePosixPath

HEAD_BYTES = 256
"""Bytes looked at; formats are shown the first 64 of them."""

MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"BM", "a BMP image"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"ZISRAWFILE", "a Zeiss CZI"),
    (128, b"DICM", "a DICOM file"),
)

TIFF_ORDERS = {b"II": "little", b"MM": "big"}

OPENSLIDE_EXTENSIONS = {
    ".bif": "Ventana",
    ".czi": "Zeiss",
    ".dcm": "DICOM",
    ".mrxs": "3DHISTECH MIRAX",
    ".ndpi": "Hamamatsu",
    ".scn": "Leica",
    ".svslide": "Sakura",
    ".tif": "Philips, Trestle or Ventana",
    ".tiff": "Philips",
    ".vms": "Hamamatsu",
    ".vmu": "Hamamatsu",
}
"""Extensions of what OpenSlide reads and wsistore does not read itself."""


def openslide_vendor(path: str) -> str:
    """Return the vendor whose slides have this extension and need OpenSlide, "" if none."""
    return OPENSLIDE_EXTENSIONS.get(PurePosixPath(path.lower()).suffix, "")


def describe_head(head: bytes) -> str:
    """Say what a file looks like.

    Parameters
    ----------
    head : bytes
        Its first `HEAD_BYTES` bytes, all of a shorter file.
    """
    if not head:
        return "it is empty"
    if not head.strip(b"\0"):
        return f"it starts with {len(head)} zero bytes"
    for offset, magic, name in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return f"it looks like {name}"
    order = TIFF_ORDERS.get(head[:2])
    if order is not None and len(head) >= 4:
        version = int.from_bytes(head[2:4], "little" if order == "little" else "big")
        if version in (42, 43):
            return "it looks like a TIFF"
    if _is_text(head):
        return f"it is text, starting with {head[:32].decode('utf-8', 'replace')!r}"
    return f"it starts with the bytes {head[:8].hex(' ')}, which no format here knows"


def _is_text(head: bytes) -> bool:
    try:
        # A character of several bytes may be cut at the end.
        text = head[:-3].decode() if len(head) > 8 else head.decode()
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n" for char in text)
