"""Slides as the objects of an OME-Zarr."""

import json

import numpy as np
import pytest

import wsistore
from wsistore.errors import (
    DamagedTileError,
    MissingTileError,
    ResolutionError,
    SourceNotFoundError,
    UsageError,
)
from wsistore.pyramid.reader import OmeZarr
from wsistore.pyramid.views import SlideFolder
from wsistore.slides import Slide

SMALL = {"size": (300, 220), "tile": 64}


def whole(slide, level):
    return slide.read_level(level, (0, 0, *slide.levels[level].size))


def test_the_keys_are_those_of_a_store_and_each_leads_to_bytes(aperio):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        folder = SlideFolder(slide)
        keys = sorted(folder.list_keys())
        listed, pending = [], [""]
        while pending:
            prefix = pending.pop()
            for name in folder.list_names(prefix):
                (pending if name.endswith("/") else listed).append(prefix + name)
        assert sorted(listed) == keys
        assert len(keys) == 3 + 5 * 4 + 2  # documents, tiles of 300x220 and of 75x55 px
        for key in keys:
            data = folder.get(key)
            assert data
            assert folder.contains(key)
            assert folder.size(key) == len(data)
            assert folder.source(key).read(1, 3) == data[1:4]


@pytest.mark.parametrize(
    "key",
    [
        *("", "x", "2/zarr.json", "0/c/0/4/0", "0/c/0/0/5", "0/c/1/0/0", "0/c/0/00/0"),
        *("../zarr.json", "0", "0/c", "/zarr.json", "associated/zarr.json", "0/c/0/-1/0"),
    ],
)
def test_other_keys_lead_nowhere(aperio, key):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        folder = SlideFolder(slide)
        assert folder.get(key) is None
        assert not folder.contains(key)
        assert folder.size(key) is None
        with pytest.raises(SourceNotFoundError):
            folder.source(key)


@pytest.mark.parametrize("prefix", ["2", "0/c/1", "0/c/0/4", "0/c/0/x", "0/c/0/0/0", "associated"])
def test_folders_that_are_not_there_are_empty(aperio, prefix):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        assert SlideFolder(slide).list_names(prefix) == []


def test_keys_by_prefix_are_those_that_begin_with_it(aperio):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        folder = SlideFolder(slide)
        keys = list(folder.list_keys())
        for prefix in ["0", "0/", "0/c/0/1", "0/c/0/1/", "1/z", "nothing", "0/c/0/3/4"]:
            assert sorted(folder.list_keys(prefix)) == sorted(
                k for k in keys if k.startswith(prefix)
            )


def test_tiles_are_not_decoded_but_completed(aperio):
    made = aperio("jpeg_rgb_tables", **SMALL)
    with wsistore.open_slide(made.path) as slide:
        table = slide.tile_table(0)
        raw = table.source(0).read(int(table.offsets[1, 2]), int(table.counts[1, 2]))
        chunk = SlideFolder(slide).chunk(0, 1, 2)
        assert chunk.endswith(raw[raw.index(b"\xff\xda") :])
        assert chunk.startswith(b"\xff\xd8\xff\xee")
        assert b"Adobe" in chunk[:20]


def test_the_portable_codec_is_bytes_and_zstd(aperio):
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        folder = SlideFolder(slide, codec="portable")
        for level in (0, 1):
            document = json.loads(folder.get(f"{level}/zarr.json"))
            assert [codec["name"] for codec in document["codecs"]] == ["bytes", "zstd"]
            assert document["chunk_grid"]["configuration"]["chunk_shape"] == [3, 64, 64]


@pytest.mark.parametrize("codec", ["unchanged", "portable"])
def test_our_own_reader_reads_a_view_as_a_slide(aperio, codec):
    profile = b"an ICC profile" * 9
    made = aperio("jpeg_ycbcr422_tables", icc_profile=profile, missing=[(0, 1, 1)], **SMALL)
    with wsistore.open_slide(made.path) as slide:
        again = Slide(OmeZarr(SlideFolder(slide, codec=codec)), "view")
        assert again.mpp == pytest.approx(slide.mpp)
        assert again.magnification == slide.magnification
        assert again.icc_profile == profile
        assert [a.size for a in again.levels] == [a.size for a in slide.levels]
        for level in (0, 1):
            np.testing.assert_array_equal(whole(again, level), whole(slide, level))


def test_nothing_of_a_person_is_shown(aperio):
    from wsistore.testing import CANARIES

    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        folder = SlideFolder(slide)
        shown = b"".join(folder.get(k) for k in folder.list_keys() if k.endswith("json"))
        assert b"Red" in shown
        for canary in CANARIES:
            assert canary.encode() not in shown


def test_missing_tiles_are_absent_and_white(aperio):
    made = aperio(missing=[(0, 1, 1), (0, 2, 0)], **SMALL)
    for codec in ("unchanged", "portable"):
        with wsistore.open_slide(made.path) as slide:
            folder = SlideFolder(slide, codec=codec)
            assert folder.chunk(0, 1, 1) is None
            assert not folder.contains("0/c/0/0/2")
            assert folder.list_names("0/c/0/1") == ["0", "2", "3", "4"]
            assert json.loads(folder.get("0/zarr.json"))["fill_value"] == 255
        with wsistore.open_slide(made.path, on_bad_tile="raise") as slide:
            strict = SlideFolder(slide, codec=codec)
            with pytest.raises(MissingTileError, match="column 1, row 1"):
                strict.get("0/c/0/1/1")
        with wsistore.open_slide(made.path, fill=7) as slide:
            again = Slide(OmeZarr(SlideFolder(slide, codec=codec)), "view")
            assert json.loads(SlideFolder(slide).get("0/zarr.json"))["fill_value"] == 7
            np.testing.assert_array_equal(whole(again, 0), whole(slide, 0))


@pytest.mark.parametrize("codec", ["unchanged", "portable"])
def test_a_damaged_tile_is_an_error_that_names_it(aperio, tmp_path, codec):
    path = tmp_path / "damaged.svs"
    data = bytearray(aperio(**SMALL).path.read_bytes())
    with wsistore.open_slide(aperio(**SMALL).path) as slide:
        at = int(slide.tile_table(0).offsets[2, 3])
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)
    with wsistore.open_slide(path) as slide:
        folder = SlideFolder(slide, codec=codec)
        with pytest.raises(DamagedTileError, match=r"level 0, tile column 3, row 2"):
            folder.get("0/c/0/2/3")
        assert folder.get("0/c/0/2/2")
    with wsistore.open_slide(path, on_bad_tile="fill") as slide:
        again = Slide(OmeZarr(SlideFolder(slide, codec=codec)), "view")
        np.testing.assert_array_equal(whole(again, 0), whole(slide, 0))


def test_levels_can_be_chosen(aperio):
    with wsistore.open_slide(aperio(levels=(1, 2, 4), **SMALL).path) as slide:
        folder = SlideFolder(slide, levels=[1, 2])
        assert folder.list_names("") == ["1/", "2/", "zarr.json"]
        assert folder.get("0/zarr.json") is None
        assert folder.get("0/c/0/0/0") is None
        datasets = json.loads(folder.get("zarr.json"))["attributes"]["ome"]["multiscales"][0]
        assert [d["path"] for d in datasets["datasets"]] == ["1", "2"]
        assert datasets["datasets"][0]["coordinateTransformations"][0]["scale"][1] == 0.499 * 2
        for wrong in ([], [1, 0], [1, 1]):
            with pytest.raises(UsageError, match="finest first"):
                SlideFolder(slide, levels=wrong)
        with pytest.raises(ResolutionError):
            SlideFolder(slide, levels=[3])
        with pytest.raises(UsageError, match="codec"):
            SlideFolder(slide, codec="jpeg")


def test_a_plain_image_gets_chunks_of_512(tmp_path):
    from PIL import Image

    from wsistore.testing import texture

    pixels = texture(700, 530)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    with wsistore.open_slide(tmp_path / "plain.png") as slide:
        folder = SlideFolder(slide)
        assert sorted(folder.list_keys("0/c")) == [f"0/c/0/{r}/{c}" for r in (0, 1) for c in (0, 1)]
        np.testing.assert_array_equal(whole(Slide(OmeZarr(folder), "view"), 0), pixels)


def test_a_store_is_shown_too(aperio, tmp_path):
    made = aperio("jpeg_rgb_tables", **SMALL)
    for codec in ("copy", "zstd"):
        place = tmp_path / f"{codec}.ome.zarr"
        wsistore.convert(made.path, place, codec=codec)
        with wsistore.open_slide(place) as slide:
            for shown in ("unchanged", "portable"):
                again = Slide(OmeZarr(SlideFolder(slide, codec=shown)), "view")
                for level in range(slide.level_count):
                    np.testing.assert_array_equal(whole(again, level), whole(slide, level))
