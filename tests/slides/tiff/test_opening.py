"""The way in: which container, and which errors come out of broken bytes."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pytest

from wsistore.errors import (
    CorruptSlideError,
    SourceNotFoundError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.slides.tiff import FORMATS, open_tiff, opening
from wsistore.testing import SyntheticSlide


def test_one_format_for_all_tiffs() -> None:
    (tiff,) = FORMATS
    assert tiff.name == "tiff"
    assert tiff.open is open_tiff
    assert ".svs" in tiff.extensions
    for head in (b"II*\0\x10\0\0\0", b"MM\0*\0\0\0\x10", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"):
        assert tiff.probe("slide", head.ljust(64), False)
        assert not tiff.probe("slide", head.ljust(64), True)
    for head in (b"", b"II", b"\x89PNG\r\n\x1a\n", b"IIII", b"MM*\0"):
        assert not tiff.probe("slide.svs", head, False)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("aperio", "aperio"), ("generic", "generic-tiff"), ("ome-tiff", "ome-tiff")],
)
def test_the_content_picks_the_container(
    slide_factory: Callable[..., SyntheticSlide], kind: str, name: str
) -> None:
    container = open_tiff(slide_factory(kind=kind).path)
    assert container.format == name
    container.close()
    with pytest.raises(WsistoreError):
        container.tile_table(0).locate_all()


def test_the_file_is_given_back_after_an_error(tiffs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiffs.MemorySource(b"no TIFF at all")
    monkeypatch.setattr(opening, "open_source", lambda path: source)
    with pytest.raises(UnsupportedSlideError):
        open_tiff("somewhere")
    assert source.size == 0


def test_options_go_to_the_source(slide_factory: Callable[..., SyntheticSlide]) -> None:
    with pytest.raises(UsageError, match="no_such_option"):
        open_tiff(slide_factory().path, no_such_option=1)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        open_tiff(tmp_path / "none.svs")


@pytest.mark.parametrize(
    "stray",
    [
        struct.error("x"),
        ParseError("x"),
        ZeroDivisionError("x"),
        OverflowError("x"),
        IndexError("x"),
        KeyError("x"),
        MemoryError("x"),
        RecursionError("x"),
        TypeError("x"),
        ValueError("x"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "x"),
    ],
    ids=lambda stray: type(stray).__name__,
)
def test_stray_exceptions_are_mapped(
    tiffs: Any, monkeypatch: pytest.MonkeyPatch, stray: Exception
) -> None:
    def fail(source: Any) -> None:
        raise stray

    monkeypatch.setattr(opening, "_open", fail)
    with pytest.raises(CorruptSlideError, match=f"can't be read as a TIFF .{type(stray).__name__}"):
        tiffs.open_bytes(b"")


def test_own_errors_and_interrupts_pass(tiffs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (UsageError("mine"), KeyboardInterrupt()):

        def fail(source: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(opening, "_open", fail)
        with pytest.raises(type(error)):
            tiffs.open_bytes(b"")


@pytest.fixture(scope="module")
def sound(slide_factory: Callable[..., SyntheticSlide]) -> dict[str, bytes]:
    """Return the bytes of small sound slides."""
    options: dict[str, Any] = {"size": (200, 150), "tile": 64, "levels": (1, 2)}
    return {
        f"{kind}-{big}": slide_factory(kind=kind, bigtiff=big, **options).path.read_bytes()
        for kind in ("aperio", "generic", "ome-tiff")
        for big in (False, True)
    }


def use(tiffs: Any, data: bytes) -> str:
    """Open and look at everything but pixels; return how it went."""
    try:
        container = tiffs.open_bytes(data)
        assert container.levels
        for level in range(len(container.levels)):
            refs = container.tile_table(level).locate_all()
            assert (refs.offsets + refs.counts <= len(data)).all()
            assert (refs.counts >= 0).all()
            assert (refs.offsets >= 0).all()
        assert container.fingerprint()
        assert dict(container.properties)
        assert container.icc_profile is None or container.icc_profile
    except WsistoreError as error:
        return type(error).__name__ if str(error) else "silent"
    return "sound"


def directory_bytes(tiffs: Any, data: bytes) -> list[int]:
    """Return the positions of all bytes of directories, and of the header."""
    index = tiffs.open_bytes(data)._index
    ifds = [*index.ifds, *(sub for ifd in index.ifds for sub in index.sub_ifds(ifd))]
    positions = list(range(16))
    for ifd in ifds:
        positions += range(ifd.offset, ifd.offset + len(ifd.raw) + 8)
    return [position for position in positions if position < len(data)]


def mutated(data: bytes, positions: list[int], chance: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.choice(positions) % len(broken)
        kind = chance.randrange(4)
        if kind == 0:
            broken[at] = chance.randrange(256)
        elif kind == 1:
            broken[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            broken[at : at + 4] = chance.choice((bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f"))
        else:
            other = chance.choice(positions)
            broken[at : at + 12] = broken[other : other + 12]
    return bytes(broken[: len(data)])


@pytest.mark.parametrize("name", ["aperio-False", "generic-True", "ome-tiff-False", "aperio-True"])
def test_mutated_directories_never_escape(tiffs: Any, sound: dict[str, bytes], name: str) -> None:
    data = sound[name]
    positions = directory_bytes(tiffs, data)
    chance = random.Random(name)
    seen: dict[str, int] = {}
    slowest = 0.0
    tracemalloc.start()
    try:
        for _ in range(250):
            broken = mutated(data, positions, chance)
            start = time.process_time()
            how = use(tiffs, broken)
            slowest = max(slowest, time.process_time() - start)
            seen[how] = seen.get(how, 0) + 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert set(seen) <= {"sound", "CorruptSlideError", "UnsupportedSlideError"}
    assert seen["CorruptSlideError"] > 50  # the mutations bite
    assert seen["sound"] > 10  # and not all of them
    assert slowest < 1
    assert peak < 200e6


@pytest.mark.parametrize("name", ["aperio-False", "ome-tiff-True"])
def test_no_prefix_of_a_slide_escapes(tiffs: Any, sound: dict[str, bytes], name: str) -> None:
    data = sound[name]
    chance = random.Random(7)
    for length in [*range(40), *(chance.randrange(len(data)) for _ in range(100)), len(data) - 1]:
        how = use(tiffs, data[:length])
        assert how in ("CorruptSlideError", "UnsupportedSlideError"), length


def test_sound_slides_are_sound(tiffs: Any, sound: dict[str, bytes]) -> None:
    assert {use(tiffs, data) for data in sound.values()} == {"sound"}
