"""Plans: levels, chunks, shards, codecs; and options that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.geometry import Size
from wsistore.pyramid.options import ConversionOptions
from wsistore.pyramid.planning import plan_conversion
from wsistore.slides import open_slide
from wsistore.testing import write_slide


@pytest.fixture(scope="module")
def jpeg_slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "a.svs"
    write_slide(path, size=(5000, 1100), tile=240, levels=(1, 4), distinct_tiles=4)
    with open_slide(path) as slide:
        yield slide


@pytest.fixture(scope="module")
def lzw_slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "b.svs"
    write_slide(path, "lzw", size=(700, 500), levels=(1, 4), distinct_tiles=4)
    with open_slide(path) as slide:
        yield slide


def test_jpeg_is_copied_with_the_slides_tiles_and_levels(jpeg_slide):
    plan = plan_conversion(jpeg_slide, ConversionOptions())
    assert [(p.codec, p.pixels, p.size, p.chunk) for p in plan.levels] == [
        ("jpeg", "tiles", Size(5000, 1100), Size(240, 240)),
        ("jpeg", "tiles", Size(1250, 275), Size(240, 240)),
    ]
    assert plan.levels[0].shard == Size(16 * 240, 5 * 240)
    assert plan.levels[1].shard == Size(6 * 240, 2 * 240)
    assert plan.copies
    assert plan.shard_count == 3


def test_copy_estimate_is_within_a_tenth(jpeg_slide):
    plan = plan_conversion(jpeg_slide, ConversionOptions())
    tiles = sum(int(jpeg_slide.tile_table(level.index).counts.sum()) for level in jpeg_slide.levels)
    assert tiles < plan.estimated_bytes < 1.1 * tiles


def test_what_is_no_jpeg_is_encoded_with_zstd_and_halved_to_one_chunk(lzw_slide):
    plan = plan_conversion(lzw_slide, ConversionOptions())
    assert [(p.codec, p.pixels, p.size, p.downsample) for p in plan.levels] == [
        ("zstd", "slide", Size(700, 500), 1),
        ("zstd", "store", Size(350, 250), 2),
        ("zstd", "store", Size(175, 125), 4),
    ]


def test_copying_what_cannot_be_copied_is_refused(lzw_slide):
    with pytest.raises(UsageError, match=r"lzw.*zstd"):
        plan_conversion(lzw_slide, ConversionOptions(codec="copy"))


def test_levels_are_added_between_and_below(jpeg_slide):
    plan = plan_conversion(jpeg_slide, ConversionOptions(add_levels=True))
    assert [p.downsample for p in plan.levels] == [1, 2, 4, 8, 16, 32]
    assert [p.pixels for p in plan.levels] == ["tiles", "store", "tiles", "store", "store", "store"]
    assert [p.source_level for p in plan.levels] == [0, 0, 1, 2, 3, 4]
    assert plan.levels[-1].size == Size(157, 35)


def test_kept_levels_are_the_slides_own(lzw_slide):
    plan = plan_conversion(lzw_slide, ConversionOptions(codec="jpegxl", keep_levels=True))
    assert [p.size for p in plan.levels] == [Size(700, 500), Size(175, 125)]
    assert {p.pixels for p in plan.levels} == {"slide"}


def test_shard_must_be_a_multiple_of_the_copied_tile(jpeg_slide):
    with pytest.raises(UsageError, match=r"multiple of the chunk of 240.*960"):
        plan_conversion(jpeg_slide, ConversionOptions(shard=1000))
    plan = plan_conversion(jpeg_slide, ConversionOptions(shard=960))
    assert plan.levels[0].shard == Size(960, 960)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"codec": "bzip"}, "unknown codec"),
        ({"codec": "webp"}, "no Zarr codec"),
        ({"codec": "zstd", "quality": 3}, "takes no quality"),
        ({"codec": "jpeg", "quality": 0}, "1 to 100"),
        ({"chunk": 256, "shard": 1000}, "768"),
        ({"chunk": 1}, "chunk"),
        ({"format": "0.4", "codec": "copy"}, "0.4"),
        ({"format": "0.4", "codec": "jpeg"}, "0.4"),
        ({"format": "0.4", "shard": 512}, "no shards"),
        ({"format": "0.6"}, "unknown format"),
        ({"on_bad_tile": "ignore"}, "unknown on_bad_tile"),
        ({"keep_metadata": "some"}, "unknown keep_metadata"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        ConversionOptions(**options)


def test_format_0_4_encodes_jpeg_slides(jpeg_slide):
    plan = plan_conversion(jpeg_slide, ConversionOptions(format="0.4"))
    assert set(plan.codecs) == {"zstd"}


def test_label_is_kept_only_where_it_is_named(jpeg_slide):
    assert plan_conversion(jpeg_slide, ConversionOptions()).associated == ("thumbnail",)
    named = ConversionOptions(associated=("label", "nothing"))
    assert plan_conversion(jpeg_slide, named).associated == ("label",)


@given(
    width=st.integers(1, 9000),
    height=st.integers(1, 9000),
    chunk=st.sampled_from([64, 240, 512]),
    count=st.integers(1, 9),
)
def test_shards_cover_a_level_exactly_once(width, height, chunk, count):
    from wsistore.pyramid.planning import LevelPlan, _shard

    options = ConversionOptions(chunk=chunk, shard=chunk * count)
    size = Size(width, height)
    shard = _shard(Size(chunk, chunk), size, options)
    level = LevelPlan(0, size, 1, Size(chunk, chunk), shard, "zstd", None, "slide", 0, 0)
    covered = np.zeros((level.grid.height, level.grid.width), int)
    columns, rows = level.shard_chunks
    for row, column in level.shards():
        covered[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] += 1
    assert (covered == 1).all()
    assert shard.width % chunk == shard.height % chunk == 0
