"""The hash of a TIFF: of its content, and of nothing else."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from wsistore.slides.tiff import open_tiff
from wsistore.testing import SyntheticSlide


def test_form(tiffs: Any) -> None:
    print_of = tiffs.open(tiffs.tiled_page()).fingerprint()
    assert re.fullmatch(r"wsi1-[0-9a-f]{64}", print_of)


def recipe(path: Path, offsets: Any, counts: Any) -> str:
    """Return the hash by the recipe, with tifffile's eyes, for a classic TIFF of few tiles."""
    data = path.read_bytes()
    digest = hashlib.sha256(len(data).to_bytes(8, "little"))
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            entries = int.from_bytes(data[page.offset : page.offset + 2], "little")
            digest.update(page.offset.to_bytes(8, "little"))
            digest.update(data[page.offset + 2 : page.offset + 2 + 12 * entries + 4])
            for tag in page.tags:
                if tag.valuebytecount > 4:
                    end = tag.valueoffset + tag.valuebytecount
                    digest.update(data[tag.valueoffset : end])
    digest.update(np.array(offsets, "<i8").tobytes() + np.array(counts, "<i8").tobytes())
    chosen = np.linspace(0, len(offsets) - 1, 16).astype(int)
    for number in chosen:
        digest.update(data[offsets[number] : offsets[number] + min(counts[number], 4096)])
    return "wsi1-" + digest.hexdigest()


def test_it_follows_its_recipe(tiffs: Any, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    path.write_bytes(
        tiffs.build(tiffs.tiled_page(tile=48, description="x" * 99), tiffs.striped_page())
    )
    container = open_tiff(path)
    table = container.tile_table(0)
    counts = table.counts.ravel().tolist()
    assert max(counts) > 4096
    assert container.fingerprint() == recipe(path, table.offsets.ravel().tolist(), counts)


def test_it_is_stable(tiffs: Any) -> None:
    """The recipe is part of stored plans and stores: this value may never change."""
    page = tiffs.tiled_page(description="stable")
    container = tiffs.open(tiffs.PageSpec(page.tags, page.blocks, (tiffs.tiled_page(50, 35),)))
    assert container.fingerprint() == (
        "wsi1-8f61e516b8b291661b0aca08750a4cb7c654352738537c8d6fa0c392ae847b4d"
    )


def test_name_place_and_time_play_no_part(
    slide_factory: Callable[..., SyntheticSlide], tmp_path: Path
) -> None:
    slide = slide_factory()
    copy = tmp_path / "another name.tif"
    shutil.copyfile(slide.path, copy)
    first, second = open_tiff(slide.path), open_tiff(copy)
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != open_tiff(slide_factory(seed=1).path).fingerprint()


@pytest.mark.parametrize("change", ["t270", "t305", "t34675", "t65000"])
def test_any_tag_counts(tiffs: Any, change: str) -> None:
    def of(value: bytes) -> str:
        page = tiffs.tiled_page(**{change: (7 if change > "t3" else 2, value)})
        return str(tiffs.open(page).fingerprint())

    assert of(b"a longer value\0") != of(b"a longer Value\0")
    assert of(b"a longer value\0") == of(b"a longer value\0")


def test_offsets_counts_and_size_count(tiffs: Any) -> None:
    plain = tiffs.build(tiffs.tiled_page())
    counts = tiffs.build(tiffs.tiled_page(t325=(4, [3072] * 11 + [3071])))
    assert len(plain) == len(counts)
    prints = {tiffs.open_bytes(data).fingerprint() for data in (plain, counts, plain + b"\0")}
    assert len(prints) == 3


def test_sampled_tiles_count(tiffs: Any) -> None:
    data = bytearray(tiffs.build(tiffs.tiled_page()))
    before = tiffs.open_bytes(bytes(data)).fingerprint()
    data[8 + 5 * 3072] ^= 1  # fewer tiles than samples: each is hashed
    assert tiffs.open_bytes(bytes(data)).fingerprint() != before


def test_few_bytes_are_read(tiffs: Any) -> None:
    source = tiffs.MemorySource(tiffs.build(tiffs.tiled_page(2000, 2000, 64)))
    container = tiffs.open_tiff_source(source)
    source.reads.clear()
    container.fingerprint()
    assert sum(count for _, count in source.reads) < 0.03 * source.size


def test_a_slide_whose_tiles_lie_outside_has_one_too(tiffs: Any) -> None:
    page = tiffs.tiled_page(t324=(4, [8, 2**31] * 6), t65000=(4, 7))
    assert tiffs.open(page).fingerprint()
    none = tiffs.tiled_page(t324=(4, [0] * 12), t325=(4, [0] * 12))
    assert tiffs.open(none).fingerprint()


def test_tags_that_nobody_uses_may_be_broken(tiffs: Any) -> None:
    data = tiffs.build(tiffs.tiled_page(t65000=(4, 7)))
    for entry in ((65000, 99, 1), (65000, 4, 2**30), (65000, 4, 0)):
        broken = data.replace(struct.pack("<HHI", 65000, 4, 1), struct.pack("<HHI", *entry))
        assert tiffs.open_bytes(broken).fingerprint()
