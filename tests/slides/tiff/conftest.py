"""TIFFs made by hand: any layout, any tag, as broken as a test needs them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from wsistore.errors import SourceRangeError
from wsistore.slides.tiff import TiffContainer, open_tiff_source
from wsistore.sources import Source

LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 13: "I", 16: "Q", 18: "Q"}


class MemorySource(Source):
    """Bytes in memory; counts what is read of them."""

    def __init__(self, data: bytes, name: str = "memory.tif") -> None:
        self.data = data
        self.name = name
        self.size = len(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, count: int) -> bytes:
        if not 0 <= offset <= offset + count <= self.size:
            raise SourceRangeError(f"{self.name}: {count} bytes at {offset} of {self.size}")
        self.reads.append((offset, count))
        return self.data[offset : offset + count]

    def read_many(self, offsets: Sequence[int], counts: Sequence[int]) -> list[memoryview]:
        return [
            memoryview(self.read(o, c) if c else b"") for o, c in zip(offsets, counts, strict=True)
        ]

    def close(self) -> None:
        self.size = 0


@dataclass(frozen=True)
class PageSpec:
    """One page: tags by number as (type, values); values of bytes or of integers."""

    tags: dict[int, tuple[int, Any]]
    blocks: tuple[bytes, ...] = ()
    subs: tuple[PageSpec, ...] = ()

    def having(self, **changes: tuple[int, Any] | None) -> PageSpec:
        """Return the page with tags changed, named ``t256``; None leaves one out."""
        tags = self.tags | {int(key[1:]): value for key, value in changes.items()}
        return replace(self, tags={key: value for key, value in tags.items() if value is not None})


@dataclass
class Tiff:
    """A TIFF in the making."""

    order: str = "<"
    big: bool = False
    data: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        mark = b"II" if self.order == "<" else b"MM"
        tail = (43, 8, 0, 0) if self.big else (42, 0)
        self.data += mark + struct.pack(self.order + ("HHHQ" if self.big else "HI"), *tail)
        self.link = len(self.data) - self.width

    @property
    def width(self) -> int:
        return 8 if self.big else 4

    def pack(self, code: str, *values: Any) -> bytes:
        return struct.pack(self.order + code, *values)

    def put(self, data: bytes) -> int:
        offset = len(self.data)
        self.data += data
        return offset

    def offset(self, value: int) -> bytes:
        return self.pack("Q" if self.big else "I", value)

    def encode(self, kind: int, values: Any) -> tuple[int, bytes]:
        if isinstance(values, bytes):
            return len(values), values
        values = values if isinstance(values, (tuple, list)) else (values,)
        letter = LETTERS[kind]
        return len(values) // len(letter), self.pack("".join([letter[0]] * len(values)), *values)

    def directory(self, page: PageSpec) -> int:
        """Write a page with its blocks and SubIFDs; return where its IFD lies."""
        tags = dict(page.tags)
        if page.blocks:
            offsets = [self.put(block) for block in page.blocks]
            tiled = 322 in tags
            long = 16 if self.big else 4
            tags.setdefault(324 if tiled else 273, (long, offsets))
            tags.setdefault(325 if tiled else 279, (4, [len(block) for block in page.blocks]))
        if page.subs:
            tags[330] = (18 if self.big else 13, [self.directory(sub) for sub in page.subs])
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            count, raw = self.encode(kind, values)
            if len(raw) > self.width:
                raw = self.offset(self.put(raw))
            entries += (
                self.pack("HH", tag, kind) + self.offset(count) + raw.ljust(self.width, b"\0")
            )
        number = self.pack("Q" if self.big else "H", len(tags))
        return self.put(number + entries + self.offset(0))

    def add(self, page: PageSpec) -> int:
        """Append a page to the main chain; return where its IFD lies."""
        at = self.directory(page)
        self.data[self.link : self.link + self.width] = self.offset(at)
        self.link = len(self.data) - self.width
        return at


def tiled_page(
    width: int = 100, height: int = 70, tile: int = 32, description: str = "", **changes: Any
) -> PageSpec:
    """Return an uncompressed RGB page in tiles, each filled with its number."""
    count = -(-width // tile) * -(-height // tile)
    tags: dict[int, tuple[int, Any]] = {
        254: (4, 0), 256: (4, width), 257: (4, height), 258: (3, (8, 8, 8)), 259: (3, 1),
        262: (3, 2), 277: (3, 3), 284: (3, 1), 322: (3, tile), 323: (3, tile),
    }  # fmt: skip
    if description:
        tags[270] = (2, description.encode() + b"\0")
    blocks = tuple(bytes([number % 256]) * (tile * tile * 3) for number in range(count))
    return PageSpec(tags, blocks).having(**changes)


def striped_page(
    width: int = 20, height: int = 11, rows: int = 4, description: str = "", **changes: Any
) -> PageSpec:
    """Return an uncompressed RGB page in strips, each filled with its number."""
    page = tiled_page(width, height, 32, description, t322=None, t323=None, t278=(4, rows))
    sizes = [min(rows, height - y) for y in range(0, height, rows)]
    blocks = tuple(bytes([number]) * (size * width * 3) for number, size in enumerate(sizes))
    return replace(page, blocks=blocks).having(**changes)


class Workshop:
    """What the tests of this room build TIFFs with."""

    Tiff = Tiff
    PageSpec = PageSpec
    open_tiff_source = staticmethod(open_tiff_source)
    MemorySource = MemorySource
    tiled_page = staticmethod(tiled_page)
    striped_page = staticmethod(striped_page)

    @staticmethod
    def build(*pages: PageSpec, order: str = "<", big: bool = False) -> bytes:
        tiff = Tiff(order, big)
        for page in pages:
            tiff.add(page)
        return bytes(tiff.data)

    @classmethod
    def open(cls, *pages: PageSpec, order: str = "<", big: bool = False) -> TiffContainer:
        return open_tiff_source(MemorySource(cls.build(*pages, order=order, big=big)))

    @staticmethod
    def open_bytes(data: bytes) -> TiffContainer:
        return open_tiff_source(MemorySource(data))


@pytest.fixture(scope="session")
def tiffs() -> type[Workshop]:
    """Return the workshop of hand-made TIFFs."""
    return Workshop


@pytest.fixture(params=[("<", False), ("<", True), (">", False), (">", True)], ids=str)
def layout(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Byte order and kind of TIFF, as options of `Workshop.build`."""
    order, big = request.param
    return {"order": order, "big": big}
