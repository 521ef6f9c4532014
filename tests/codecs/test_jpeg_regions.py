"""The compiled decoder: the pixels of libjpeg-turbo, or none at all."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from wsistore.codecs import (
    BlockFormat,
    RegionJob,
    decode,
    decode_regions,
    jpeg_regions,
    register,
    registry,
)
from wsistore.codecs.jpeg_stream import completer_for
from wsistore.errors import DamagedTileError
from wsistore.geometry import Box

core = jpeg_regions._core

if core is None and os.environ.get("WSISTORE_REQUIRE_COMPILED") == "1":
    pytest.fail(f"the compiled decoder is wanted here: {jpeg_regions.STATE}", pytrace=False)
compiled = pytest.mark.skipif(core is None, reason=f"compiled decoder {jpeg_regions.STATE}")

SIZES = [(256, 256), (240, 240), (100, 33), (17, 300), (33, 8), (12, 1), (8, 129)]
MODES = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "rgb": {"keep_rgb": True},
    "gray": {},
    "4:2:0, restarts": {"subsampling": 2, "restart_marker_blocks": 3},
    "4:2:2, restarts of rows": {"subsampling": 1, "restart_marker_rows": 1},
    "4:2:2, own codes": {"subsampling": 1, "optimize": True},
}


def scene(width: int, height: int, kind: str = "tissue") -> np.ndarray:
    rng = np.random.default_rng(width * 1000 + height)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "extremes":
        return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a) + np.cos((y + x / 3) / b) for a, b in ((3, 7), (11, 5), (23, 31))]
    return np.clip(np.stack(waves, -1) * 60 + 150 + rng.normal(0, 6, (height, width, 3)), 0, 255)


def encoded(pixels: np.ndarray, mode: str, quality: int = 75) -> bytes:
    pixels = pixels.astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if mode == "gray" else pixels)
    out = io.BytesIO()
    room = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = 1 << 22  # Pillow can't wait for more room while it collects codes
    try:
        image.save(out, "JPEG", quality=quality, **MODES[mode])
    finally:
        ImageFile.MAXBLOCK = room
    return out.getvalue()


def format_of(stream: bytes) -> BlockFormat:
    height, width, space, _ = simplejpeg.decode_jpeg_header(stream)
    gray = space == "Gray"
    return BlockFormat("jpeg", width, height, 1 if gray else 3, "gray" if gray else "stream")


def reference(stream: bytes, scale: int = 1) -> np.ndarray:
    height, width = simplejpeg.decode_jpeg_header(stream)[:2]
    size = (0, 0) if scale == 1 else (-(-height // 2), -(-width // 2))
    return simplejpeg.decode_jpeg(stream, "RGB", False, False, *size, scale, None, True)


def region_of(stream: bytes, box: Box, scale: int = 1, *, strict: bool = True):
    """Return the region, None where the decoder declines; px are those of the scale."""
    known = completer_for(format_of(stream)).known(stream)
    out = np.full((box.height, box.width, 3), 7, np.uint8)
    header = jpeg_regions.header_of(known)
    if header is None:
        return None
    at = len(known.source)
    return out if core.decode(header, stream, at, box.x, box.y, out, scale, strict) else None


def some_boxes(width: int, height: int, count: int, seed: int = 0) -> list[Box]:
    rng = random.Random(seed)
    boxes = [Box(0, 0, width, height), Box(width - 1, height - 1, 1, 1)]
    for _ in range(count):
        x, y = rng.randrange(width), rng.randrange(height)
        boxes.append(Box(x, y, rng.randint(1, width - x), rng.randint(1, height - y)))
    return boxes


@compiled
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scale", [1, 2])
def test_regions_are_those_of_libjpeg(mode, size, scale):
    stream = encoded(scene(*size), mode)
    whole = reference(stream, scale)
    if region_of(stream, Box(0, 0, 1, 1)) is None:
        assert size[0] < 12, mode  # chroma of 3 samples or less
        return
    for box in some_boxes(whole.shape[1], whole.shape[0], 12):
        for strict in (True, False):
            seen = region_of(stream, box, scale, strict=strict)
            assert seen is not None, box
            expected = whole[box.y : box.bottom, box.x : box.right]
            np.testing.assert_array_equal(seen, expected, err_msg=str(box))


@compiled
@pytest.mark.parametrize("kind", ["noise", "extremes", "tissue"])
@pytest.mark.parametrize("quality", [3, 50, 95, 100])
@pytest.mark.parametrize("scale", [1, 2])
def test_every_coefficient_counts(kind, quality, scale):
    for mode in ("4:2:0", "4:2:2", "4:2:2, own codes"):
        stream = encoded(scene(96, 64, kind), mode, quality)
        whole = reference(stream, scale)
        seen = region_of(stream, Box(0, 0, whole.shape[1], whole.shape[0]), scale)
        np.testing.assert_array_equal(seen, whole)


@compiled
def test_streams_for_others_are_declined():
    pixels = Image.fromarray(scene(64, 64).astype(np.uint8))
    for options in ({"progressive": True}, {"subsampling": "4:1:1"}):
        out = io.BytesIO()
        pixels.save(out, "JPEG", **options)
        stream = out.getvalue()
        if options.get("subsampling"):  # 4:1:1 is 4:2:0 to Pillow: change the factors by hand
            stream = stream.replace(b"\x01\x22\x00", b"\x01\x41\x00", 1)
        assert region_of(stream, Box(0, 0, 8, 8)) is None


def damages(stream: bytes, data_at: int):
    """Name and bytes of streams that are damaged, or not quite as they should be."""
    yield "cut short", stream[: (len(stream) + data_at) // 2]
    yield "no end marker", stream[:-2]
    yield "bytes left over", stream[:-2] + bytes(40) + stream[-2:]
    yield "zeroed", stream[: data_at + 50] + bytes(100) + stream[data_at + 150 :]
    yield "a restart that is none", stream[: data_at + 60] + b"\xff\xd0" + stream[data_at + 62 :]
    yield "another marker", stream[: data_at + 60] + b"\xff\xc4" + stream[data_at + 62 :]
    yield "no data", stream[:data_at] + b"\xff\xd9"
    yield "nothing", stream[:data_at]


@compiled
@pytest.mark.parametrize("mode", ["4:2:0", "4:2:2, restarts of rows"])
def test_what_the_other_decoder_refuses_is_never_done(mode):
    stream = encoded(scene(128, 96), mode)
    known = completer_for(format_of(stream)).known(stream)
    names = set()
    for name, damaged in damages(stream, len(known.source)):
        names.add(name)
        with pytest.raises(ValueError, match=r"\w"):
            reference(damaged)
        assert region_of(damaged, Box(0, 0, 128, 96)) is None, name
        assert region_of(damaged, Box(0, 0, 1, 1)) is None, name
    assert len(names) == 8


@compiled
@settings(max_examples=300, deadline=None)
@given(
    mode=st.sampled_from(sorted(MODES)),
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=5
    ),
    cut=st.integers(0, 12),
    strict=st.booleans(),
)
def test_damage_is_declined_or_decoded_alike(mode, changes, cut, strict):
    stream = encoded(scene(64, 40), mode)
    data_at = len(completer_for(format_of(stream)).known(stream).source)
    damaged = bytearray(stream)
    for at, value in changes:
        damaged[data_at + at % (len(stream) - data_at)] = value
    if cut == 0:
        del damaged[data_at + changes[0][0] % (len(stream) - data_at) :]
    seen = region_of(bytes(damaged), Box(9, 5, 40, 30), strict=strict)
    if seen is None or not strict:
        return  # that "fast" sees less is what it promises; that it ends is what is tested
    np.testing.assert_array_equal(seen, reference(bytes(damaged))[5:35, 9:49])


@compiled
def test_calls_that_make_no_sense_are_refused():
    stream = encoded(scene(64, 64), "4:2:0")
    known = completer_for(format_of(stream)).known(stream)
    header, at = jpeg_regions.header_of(known), len(known.source)
    out = np.zeros((16, 16, 3), np.uint8)
    for x, y in ((-1, 0), (0, -1), (49, 0), (0, 49), (1 << 30, 0), (-(1 << 31), 5)):
        with pytest.raises(ValueError, match="not inside"):
            core.decode(header, stream, at, x, y, out, 1, True)
    with pytest.raises(ValueError, match="not inside"):
        core.decode(header, stream, at, 20, 0, out, 2, True)  # the half has 32 px
    for scale in (0, 3, 8, -1):
        with pytest.raises(ValueError, match="not inside"):
            core.decode(header, stream, at, 0, 0, out, scale, True)
    for wrong in (-1, len(stream) + 1):
        with pytest.raises(ValueError, match="not inside"):
            core.decode(header, stream, wrong, 0, 0, out, 1, True)
    with pytest.raises(ValueError, match="side by side"):
        core.decode(header, stream, at, 0, 0, out[..., ::-1], 1, True)
    with pytest.raises(ValueError, match="side by side"):
        core.decode(header, stream, at, 0, 0, out[:, ::2], 1, True)
    frozen = out.copy()
    frozen.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        core.decode(header, stream, at, 0, 0, frozen, 1, True)
    with pytest.raises(ValueError, match="PyCapsule"):
        core.decode("header", stream, at, 0, 0, out, 1, True)
    with pytest.raises(TypeError):
        core.prepare("text")
    assert core.prepare(b"") is None
    assert core.prepare(b"\xff\xd8\xff\xda") is None
    many = np.zeros((2, 16, 16, 3), np.uint8)
    good = (header, stream, at, 0, 0, 16, 16, 0)
    assert core.decode_many([good], many, 48, 1, True) == b"\x01"
    assert core.decode_many([], many, 48, 1, True) == b""
    for job in (
        (header, stream, at, 0, 0, 16, 16, many.nbytes - 16 * 48 + 1),
        (header, stream, at, 0, 0, 16, 16, -1),
        (header, stream, at, 0, 0, 0, 16, 0),
        (header, stream, at, 60, 0, 16, 16, 0),
    ):
        with pytest.raises(ValueError, match=r"not inside|does not fit"):
            core.decode_many([good, job], many, 48, 1, True)
    with pytest.raises(TypeError):
        core.decode_many([good[:-1]], many, 48, 1, True)
    with pytest.raises(ValueError, match="row_bytes"):
        core.decode_many([good], many, -48, 1, True)
    with pytest.raises((ValueError, BufferError)):
        core.decode_many([good], many[:, ::2], 48, 1, True)


@compiled
def test_only_the_region_is_written():
    stream = encoded(scene(64, 64), "4:2:2")
    whole = reference(stream)
    known = completer_for(format_of(stream)).known(stream)
    canvas = np.full((2, 40, 50, 3), 9, np.uint8)
    jobs = [RegionJob(stream, Box(3, 5, 33, 21), 3 * ((1 * 40 + 7) * 50 + 4))]
    assert decode_regions(jobs, format_of(stream), canvas, 150, 1, "strict") == []
    expected = np.full_like(canvas, 9)
    expected[1, 7:28, 4:37] = whole[5:26, 3:36]
    np.testing.assert_array_equal(canvas, expected)
    assert known.made


def test_jobs_that_are_not_done_are_named():
    stream = encoded(scene(64, 64), "4:2:2")
    jobs = [
        RegionJob(block, Box(0, 0, 16, 16), 768 * k)
        for k, block in enumerate([b"", stream, stream[:-40], b"\xff\xd8\xff\xd9", stream])
    ]
    canvas = np.zeros((5, 16, 16, 3), np.uint8)
    left = decode_regions(jobs, format_of(stream), canvas, 48, 1, "strict")
    if core is None:
        assert left == [0, 1, 2, 3, 4]
        return
    assert left == [0, 2, 3]
    np.testing.assert_array_equal(canvas[4], reference(stream)[:16, :16])
    with pytest.raises(DamagedTileError):
        decode(jobs[2].block, format_of(stream))
    assert decode_regions(jobs[1:2], format_of(stream), canvas, 48, 4, "strict") == [0]


@compiled
def test_without_vectors_large_parts_are_for_the_other(monkeypatch):
    monkeypatch.setattr(jpeg_regions, "_largest_share", 0.5)
    stream = encoded(scene(64, 64), "4:2:2")
    canvas = np.zeros((2, 64, 64, 3), np.uint8)
    halves = [RegionJob(stream, Box(0, 0, 64, 32), 0), RegionJob(stream, Box(0, 0, 64, 33), 12288)]
    assert decode_regions(halves, format_of(stream), canvas, 192, 1, "strict") == [1]
    half_size = [RegionJob(stream, Box(0, 0, 32, 16), 0), RegionJob(stream, Box(0, 0, 32, 17), 0)]
    assert decode_regions(half_size, format_of(stream), canvas, 192, 2, "strict") == [1]
    for box in (Box(0, 0, 64, 64), Box(8, 8, 20, 20)):
        pixels = decode(stream, format_of(stream), region=box)
        expected = reference(stream)[box.y : box.bottom, box.x : box.right]
        np.testing.assert_array_equal(pixels, expected)


def test_formats_for_others_are_left():
    stream = encoded(scene(64, 64), "gray")
    jobs = [RegionJob(stream, Box(0, 0, 16, 16), 0)]
    canvas = np.zeros((16, 16, 3), np.uint8)
    inverted = BlockFormat("jpeg", 64, 64, 1, "white-is-zero")
    assert decode_regions(jobs, inverted, canvas, 48, 1, "strict") == [0]
    assert decode_regions(jobs, BlockFormat("none", 64, 64), canvas, 48, 1, "strict") == [0]
    pixels = decode(stream, inverted, region=Box(5, 5, 20, 20))
    np.testing.assert_array_equal(pixels, 255 - reference(stream)[5:25, 5:25])


def test_a_decoder_that_was_slotted_in_is_not_passed_by(monkeypatch):
    class White:
        scales = (1,)

        def decode_into(self, block, block_format, out, region, scale, integrity):
            out[...] = 255

    monkeypatch.setattr(registry, "_decoders", dict(registry._decoders))
    register("jpeg", White())
    stream = encoded(scene(64, 64), "4:2:2")
    canvas = np.zeros((16, 16, 3), np.uint8)
    jobs = [RegionJob(stream, Box(0, 0, 16, 16), 0)]
    assert decode_regions(jobs, format_of(stream), canvas, 48, 1, "strict") == [0]


def test_it_can_be_switched_off():
    code = "from wsistore.codecs.jpeg_regions import STATE, _core; print(_core is None, STATE)"
    seen = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WSISTORE_COMPILED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "True switched off (WSISTORE_COMPILED=0)\n"


def test_both_ways_give_the_same_pixels(monkeypatch):
    stream = encoded(scene(200, 120), "4:2:0")
    first = decode(stream, format_of(stream), region=Box(13, 7, 100, 60))
    monkeypatch.setattr(jpeg_regions, "_core", None)
    second = decode(stream, format_of(stream), region=Box(13, 7, 100, 60))
    np.testing.assert_array_equal(first, second)
