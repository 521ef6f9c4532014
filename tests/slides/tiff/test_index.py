"""The index of directories: what it finds, and what it refuses."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.slides.tiff import index as index_module
from wsistore.slides.tiff.ifd import BLOCK_BYTES
from wsistore.slides.tiff.index import TiffIndex, is_tiff


def index_of(tiffs: Any, data: bytes) -> TiffIndex:
    return TiffIndex(tiffs.MemorySource(data))


def test_reads_all_layouts(tiffs: Any, layout: dict[str, Any]) -> None:
    sub = tiffs.tiled_page(50, 35)
    page = tiffs.tiled_page(description="hello", t282=(5, (30000, 2)), t320=(3, tuple(range(600))))
    data = tiffs.build(
        tiffs.PageSpec(page.tags, page.blocks, (sub,)), tiffs.striped_page(), **layout
    )
    assert is_tiff(data)
    index = index_of(tiffs, data)
    first, second = index.ifds
    assert first.number(256) == 100
    assert first.numbers(258) == (8, 8, 8)
    assert first.numbers(320) == tuple(range(600))
    assert first.text(270) == "hello"
    assert first.rational(282) == (30000, 2)
    assert first.number(999, 7) == 7
    assert first.numbers(999) == ()
    assert first.data(34675) is None
    assert (second.number(257), second.number(278)) == (11, 4)
    (found,) = index.sub_ifds(first)
    assert (found.label, found.number(256)) == ("SubIFD 0.0", 50)
    assert index.sub_ifds(first) is index.sub_ifds(first)
    assert index.sub_ifds(second) == ()


def test_one_read_per_directory(tiffs: Any) -> None:
    source = tiffs.MemorySource(tiffs.build(*[tiffs.tiled_page(tile=64)] * 5))
    index = TiffIndex(source)
    for ifd in index.ifds:
        assert ifd.numbers(258) == (8, 8, 8)
    assert len(source.reads) == 1 + 5
    assert max(count for _, count in source.reads) <= BLOCK_BYTES


def test_text_that_is_not_utf8_is_latin1(tiffs: Any) -> None:
    page = tiffs.tiled_page(t270=(2, "0,25 µm".encode("latin-1") + b"\0rest"))
    assert index_of(tiffs, tiffs.build(page)).ifds[0].text(270) == "0,25 µm"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_is_refused(tiffs: Any, share: float) -> None:
    data = tiffs.build(tiffs.tiled_page(), tiffs.tiled_page(50, 35))
    with pytest.raises(CorruptSlideError, match=r"IFD|directory"):
        index_of(tiffs, data[: int(len(data) * share)])


@pytest.mark.parametrize("big", [False, True])
def test_a_header_without_directory_is_refused(tiffs: Any, big: bool) -> None:
    with pytest.raises(CorruptSlideError, match="points to no IFD"):
        index_of(tiffs, bytes(tiffs.Tiff("<", big).data) + b"\0" * 100)


@pytest.mark.parametrize(
    "data", [b"", b"II", b"II*\0", b"not a TIFF at all", b"II\x2c\0" + b"\0" * 20]
)
def test_what_is_no_tiff_is_unsupported(tiffs: Any, data: bytes) -> None:
    with pytest.raises(UnsupportedSlideError, match="no TIFF"):
        index_of(tiffs, data)


def test_a_bigtiff_of_another_offset_size_is_refused(tiffs: Any) -> None:
    with pytest.raises(CorruptSlideError, match="offsets of 16 bytes"):
        index_of(tiffs, b"II+\0\x10\0\0\0" + b"\0" * 16)


def test_cycles_are_refused(tiffs: Any) -> None:
    tiff = tiffs.Tiff()
    first = tiff.add(tiffs.tiled_page())
    tiff.add(tiffs.tiled_page(50, 35))
    tiff.data[tiff.link : tiff.link + 4] = struct.pack("<I", first)
    with pytest.raises(CorruptSlideError, match=f"IFD 2 lies at byte {first}, where IFD 0"):
        index_of(tiffs, bytes(tiff.data))


def test_a_subifd_that_is_its_own_page_is_refused(tiffs: Any) -> None:
    tiff = tiffs.Tiff()
    at = tiff.add(tiffs.tiled_page(t330=(4, 0)))
    entry = tiff.data.rindex(struct.pack("<HHI", 330, 4, 1))
    tiff.data[entry + 8 : entry + 12] = struct.pack("<I", at)
    index = index_of(tiffs, bytes(tiff.data))
    with pytest.raises(CorruptSlideError, match=r"SubIFD 0\.0 lies at byte"):
        index.sub_ifds(index.ifds[0])


def test_the_number_of_directories_is_bounded(tiffs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAX_IFDS", 5)
    page = tiffs.tiled_page(tile=128)
    assert len(index_of(tiffs, tiffs.build(*[page] * 5)).ifds) == 5
    with pytest.raises(UnsupportedSlideError, match="more than 5 IFDs"):
        index_of(tiffs, tiffs.build(*[page] * 6))


@pytest.mark.parametrize("count", [0, 5000, 65535])
def test_the_number_of_entries_is_bounded(tiffs: Any, count: int) -> None:
    tiff = tiffs.Tiff()
    at = tiff.add(tiffs.tiled_page())
    tiff.data[at : at + 2] = struct.pack("<H", count)
    with pytest.raises(CorruptSlideError, match=f"{count} entries, expected 1 to 4096"):
        index_of(tiffs, bytes(tiff.data) + bytes(12 * 65536))


def test_a_used_tag_may_be_there_once(tiffs: Any) -> None:
    data = tiffs.build(tiffs.tiled_page(t777=(4, 5), t778=(4, 5)))
    twice = data.replace(struct.pack("<HHI", 778, 4, 1), struct.pack("<HHI", 777, 4, 1))
    assert len(index_of(tiffs, twice).ifds) == 1  # nobody looks at it
    twice = data.replace(struct.pack("<HHI", 777, 4, 1), struct.pack("<HHI", 256, 4, 1))
    with pytest.raises(CorruptSlideError, match=r"ImageWidth \(tag 256\) is there twice"):
        index_of(tiffs, twice)


@pytest.mark.parametrize(
    ("tag", "spec", "message"),
    [
        (256, (5, (1, 1)), "field type 5, expected integers"),
        (256, (2, b"12\0"), "field type 2, expected integers"),
        (258, (3, tuple(range(5000))), "5000 values, expected 4096 at most"),
    ],
)
def test_values_of_a_wrong_kind_are_refused(
    tiffs: Any, tag: int, spec: tuple[int, Any], message: str
) -> None:
    (ifd,) = index_of(tiffs, tiffs.build(tiffs.tiled_page(**{f"t{tag}": spec}))).ifds
    with pytest.raises(CorruptSlideError, match=message):
        ifd.numbers(tag)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ((258, 3, 3), (258, 99, 3), "unknown field type 99"),
        ((258, 3, 3), (258, 3, 0), "has no values"),
        ((258, 3, 3), (258, 3, 2**31), "needs bytes .*, the file has"),
    ],
)
def test_broken_entries_are_refused_when_used(
    tiffs: Any, old: tuple[int, ...], new: tuple[int, ...], message: str
) -> None:
    data = tiffs.build(tiffs.tiled_page())
    broken = data.replace(struct.pack("<HHI", *old), struct.pack("<HHI", *new))
    assert broken != data
    (ifd,) = index_of(tiffs, broken).ifds
    with pytest.raises(CorruptSlideError, match=rf"IFD 0 at byte \d+: BitsPerSample .*{message}"):
        ifd.numbers(258)


def test_a_missing_number_is_named(tiffs: Any) -> None:
    (ifd,) = index_of(tiffs, tiffs.build(tiffs.tiled_page(t256=None))).ifds
    with pytest.raises(CorruptSlideError, match=r"ImageWidth \(tag 256\) is missing"):
        ifd.number(256)
    with pytest.raises(CorruptSlideError, match="has 5 bytes, expected 4 at most"):
        index_of(tiffs, tiffs.build(tiffs.tiled_page(t34675=(7, b"12345")))).ifds[0].data(
            34675, most=4
        )


def test_bytes_behind_a_short_value_mean_nothing(tiffs: Any, layout: dict[str, Any]) -> None:
    data = bytearray(tiffs.build(tiffs.tiled_page(t277=(3, 3), t284=(3, 1)), **layout))
    entry_bytes, inline_bytes = (20, 8) if layout["big"] else (12, 4)
    code = layout["order"] + ("HHQ" if layout["big"] else "HHI")
    at = data.index(struct.pack(code, 277, 3, 1)) + entry_bytes - inline_bytes
    data[at + 2 : at + inline_bytes] = b"\xa5" * (inline_bytes - 2)
    (ifd,) = index_of(tiffs, bytes(data)).ifds
    assert (ifd.number(277), ifd.numbers(277)) == (3, (3,))
    assert ifd.number(284) == 1


def test_of_an_unused_tag_that_is_there_twice_the_first_counts(
    tiffs: Any, layout: dict[str, Any]
) -> None:
    data = tiffs.build(tiffs.tiled_page(t777=(4, 5), t778=(4, 6)), **layout)
    code = layout["order"] + ("HHQ" if layout["big"] else "HHI")
    twice = data.replace(struct.pack(code, 778, 4, 1), struct.pack(code, 777, 4, 1))
    assert twice != data
    (ifd,) = index_of(tiffs, twice).ifds
    (before,) = index_of(tiffs, data).ifds
    assert (ifd.number(777), before.number(777), before.number(778)) == (5, 5, 6)
    assert ifd.tags == tuple(tag for tag in before.tags if tag != 778)
    assert ifd.entry(777) == before.entry(777)


def test_a_directory_longer_than_what_is_read_at_once(tiffs: Any, layout: dict[str, Any]) -> None:
    many = {f"t{40000 + number}": (4, number) for number in range(1500)}
    (ifd,) = index_of(tiffs, tiffs.build(tiffs.tiled_page(**many), **layout)).ifds
    assert ifd.number(41499) == 1499
    assert len(ifd.raw) > BLOCK_BYTES
    assert ifd.next_offset == 0
