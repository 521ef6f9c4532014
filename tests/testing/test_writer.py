from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from wsistore.testing import CANARIES, SyntheticSlide, write_slide

Factory = Callable[..., SyntheticSlide]


def read_over_white(slide: SyntheticSlide, level: int) -> np.ndarray:
    with openslide.OpenSlide(slide.path) as other:
        seen = np.asarray(other.read_region((0, 0), level, slide.level_sizes[level])).astype(int)
    alpha = seen[..., 3:]
    return (seen[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    options = {"size": (300, 280), "levels": (1, 2), "missing": [(0, 1, 0)]}
    a = write_slide(tmp_path / "a.svs", **options)
    b = write_slide(tmp_path / "b.svs", **options)
    c = write_slide(tmp_path / "c.svs", seed=1, **options)
    assert a.path.read_bytes() == b.path.read_bytes() != c.path.read_bytes()


def test_level_sizes_are_floors(slide_factory: Factory) -> None:
    slide = slide_factory(size=(1003, 777), levels=(1, 2, 4))
    assert slide.level_sizes == ((1003, 777), (501, 388), (250, 194))
    assert [slide.grid(level) for level in range(3)] == [(4, 4), (2, 2), (1, 1)]
    assert slide.level_pixels(2).shape == (194, 250, 3)


def test_reduced_levels_show_the_same_scene(slide_factory: Factory) -> None:
    slide = slide_factory("none", size=(1003, 777), levels=(1, 4))
    full = slide.level_pixels(0)[:776, :1000].reshape(194, 4, 250, 4, 3).mean((1, 3))
    assert np.abs(full - slide.level_pixels(1)).max() <= 0.5


def test_associated_images_are_true(slide_factory: Factory) -> None:
    slide = slide_factory()
    with openslide.OpenSlide(slide.path) as other:
        for name in ("thumbnail", "label", "macro"):
            seen = np.asarray(other.associated_images[name])[..., :3]
            np.testing.assert_array_equal(seen, slide.associated[name])


def test_associated_images_can_be_left_out(tmp_path: Path) -> None:
    slide = write_slide(tmp_path / "a.svs", thumbnail=False, label=False, macro=False)
    with openslide.OpenSlide(slide.path) as other:
        assert dict(other.associated_images) == {}
        assert other.level_count == 2
    assert dict(slide.associated) == {}


@pytest.mark.parametrize("tile", [240, 256, 512])
def test_tile_sizes(tile: int, slide_factory: Factory) -> None:
    slide = slide_factory(tile=tile, size=(700, 600), levels=(1, 2))
    np.testing.assert_array_equal(read_over_white(slide, 1), slide.level_pixels(1))


@pytest.mark.parametrize("options", [{"bigtiff": True}, {"sparse": True}])
def test_bigtiff_and_offsets_beyond_4_gib(options: dict, slide_factory: Factory) -> None:
    slide = slide_factory(size=(500, 300), levels=(1, 2), **options)
    assert slide.bigtiff
    with slide.path.open("rb") as file:
        assert file.read(4) == b"II\x2b\0"
    with tifffile.TiffFile(slide.path) as tiff:
        assert tiff.is_bigtiff
        assert len(tiff.pages) == 5
        lowest = min(min(page.dataoffsets) for page in tiff.pages)
        assert (lowest > 2**32) == ("sparse" in options)
        assert (min(page.offset for page in tiff.pages) > 2**32) == ("sparse" in options)
    assert slide.path.stat().st_blocks * 512 < 5_000_000  # the hole takes no space
    np.testing.assert_array_equal(read_over_white(slide, 0), slide.level_pixels(0))


def test_missing_tiles_are_white_and_have_no_bytes(slide_factory: Factory) -> None:
    gaps = ((0, 1, 1), (0, 3, 2), (1, 0, 0))
    slide = slide_factory(size=(900, 700), levels=(1, 4), missing=gaps)
    whole = slide_factory(size=(900, 700), levels=(1, 4))
    with tifffile.TiffFile(slide.path) as tiff:
        page = tiff.pages[0]
        assert [i for i, n in enumerate(page.databytecounts) if n == 0] == [5, 11]
        assert [page.dataoffsets[i] for i in (5, 11)] == [0, 0]
    assert slide.tile_bytes(0, 1, 1) == b""
    expected = whole.level_pixels(0).copy()
    expected[256:512, 256:512] = 255
    expected[512:, 768:] = 255
    np.testing.assert_array_equal(slide.level_pixels(0), expected)
    np.testing.assert_array_equal(read_over_white(slide, 0), expected)
    assert (slide.level_pixels(1) == 255).all()


def test_padding_of_edge_tiles(slide_factory: Factory) -> None:
    inside, outside = {}, {}
    for edge in ("garbage", "white", "black"):
        tile = slide_factory("none", size=(300, 300), levels=(1,), edge=edge).tile_pixels(0, 1, 1)
        inside[edge], outside[edge] = tile[:44, :44], tile[44:]
    np.testing.assert_array_equal(inside["garbage"], inside["white"])
    np.testing.assert_array_equal(inside["garbage"], inside["black"])
    assert (outside["white"] == 255).all()
    assert (outside["black"] == 0).all()
    assert outside["garbage"].std() > 20
    assert 120 < outside["garbage"].mean() < 220  # stained pixels that clip badly into glass


@pytest.mark.parametrize(
    ("magnification", "mpp"), [("20", "0.4990"), ("20,0", "0,4990"), (None, None), ("0", "1e9")]
)
def test_metadata_is_written_verbatim(
    magnification: str | None, mpp: str | None, slide_factory: Factory
) -> None:
    slide = slide_factory(size=(300, 200), levels=(1,), magnification=magnification, mpp=mpp)
    with openslide.OpenSlide(slide.path) as other:
        assert other.properties.get("aperio.AppMag") == magnification
        assert other.properties.get("aperio.MPP") == mpp
    with tifffile.TiffFile(slide.path) as tiff:
        assert 282 not in tiff.pages[0].tags  # real Aperio files have no resolution tags
        assert tiff.pages[0].description == slide.description


@pytest.mark.parametrize("kind", ["aperio", "generic", "ome-tiff"])
def test_private_values_are_there_to_be_leaked(kind: str, slide_factory: Factory) -> None:
    content = slide_factory(kind=kind).path.read_bytes()
    found = {canary for canary in CANARIES if canary.encode() in content}
    assert len(found) >= 2
    if kind != "ome-tiff":
        assert found == set(CANARIES)


def test_icc_profile(slide_factory: Factory) -> None:
    slide = slide_factory(size=(300, 200), levels=(1, 2), icc_profile=b"profile" * 100)
    with tifffile.TiffFile(slide.path) as tiff:
        assert tiff.pages[0].iccprofile == slide.icc_profile
        assert tiff.pages[2].iccprofile is None


def test_shuffled_tiles_decode_to_the_same(slide_factory: Factory) -> None:
    slide = slide_factory(size=(900, 700), levels=(1, 4), order="shuffled")
    straight = slide_factory(size=(900, 700), levels=(1, 4))
    assert (np.diff(slide.written[0].offsets.ravel().astype(int)) < 0).any()
    np.testing.assert_array_equal(slide.level_pixels(0), straight.level_pixels(0))
    np.testing.assert_array_equal(read_over_white(slide, 0), slide.level_pixels(0))


def test_a_generic_pyramid(slide_factory: Factory) -> None:
    slide = slide_factory("jpeg_ycbcr420_tables", kind="generic", size=(900, 700), levels=(1, 2, 4))
    with openslide.OpenSlide(slide.path) as other:
        assert other.properties["openslide.vendor"] == "generic-tiff"
        assert other.level_dimensions == slide.level_sizes
        assert float(other.properties["openslide.mpp-x"]) == pytest.approx(0.4990, rel=1e-6)
        assert dict(other.associated_images) == {}
    np.testing.assert_array_equal(read_over_white(slide, 1), slide.level_pixels(1))


@pytest.mark.parametrize("mpp", [None, "0,4990", "-1", "nan"])
def test_a_generic_pyramid_without_a_pixel_size(mpp: str | None, slide_factory: Factory) -> None:
    slide = slide_factory(kind="generic", size=(300, 200), levels=(1,), mpp=mpp)
    with tifffile.TiffFile(slide.path) as tiff:
        assert 282 not in tiff.pages[0].tags


@pytest.mark.parametrize("big", [False, True])
def test_an_ome_tiff_with_subifds(big: bool, slide_factory: Factory) -> None:
    slide = slide_factory(kind="ome-tiff", size=(900, 700), levels=(1, 2, 4), bigtiff=big)
    with tifffile.TiffFile(slide.path) as tiff:
        assert tiff.is_ome
        series = tiff.series[0]
        assert [tuple(level.shape[1::-1]) for level in series.levels] == list(slide.level_sizes)
        assert len(tiff.pages) == 4
        assert len(tiff.pages[0].subifds) == 2
        pixel_size = 'PhysicalSizeX="0.4990"'
        assert pixel_size in tiff.ome_metadata
        offset = series.levels[1].keyframe.dataoffsets[0]
    assert slide.path.read_bytes()[offset:].startswith(slide.tile_bytes(1, 0, 0))


def test_repeated_tiles_make_one_scene(slide_factory: Factory) -> None:
    slide = slide_factory("none", size=(2000, 1400), levels=(1, 4), distinct_tiles=6)
    full = slide.level_pixels(0)
    np.testing.assert_array_equal(full[:700, :512], full[:700, 512:1024])  # 2 x 3 tiles repeat
    np.testing.assert_array_equal(full[:512], full[768:1280])
    assert not np.array_equal(full[:256, :256], full[:256, 256:512])
    means = full.reshape(350, 4, 500, 4, 3).mean((1, 3))
    assert np.abs(means - slide.level_pixels(1)).max() <= 0.5
    assert len(set(slide.written[0].checksums.ravel().tolist())) <= 6 + 3 + 4 + 1


def test_a_large_slide_is_written_as_a_stream(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slide = write_slide(
        tmp_path / "large.svs", size=(12800, 12800), levels=(1, 4, 16), distinct_tiles=16
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = slide.path.stat().st_size
    assert size > 50_000_000
    assert after - before < 100_000  # KiB: less than the file, far less than its pixels
    with openslide.OpenSlide(slide.path) as other:
        corner = np.asarray(other.read_region((12544, 12544), 0, (256, 256)))[..., :3]
    np.testing.assert_array_equal(corner, slide.tile_pixels(0, 49, 49))
    slide.path.unlink()


def test_changed_bytes_have_no_truth(tmp_path: Path, slide_factory: Factory) -> None:
    path = tmp_path / "copy.svs"
    slide = write_slide(path, size=(300, 200), levels=(1,))
    content = bytearray(path.read_bytes())
    content[int(slide.written[0].offsets[0, 1]) + 50] ^= 1
    path.write_bytes(content)
    assert slide.tile_bytes(0, 0, 0)
    with pytest.raises(ValueError, match=r"tile \(1, 0\) of level 0 .* was changed"):
        slide.level_pixels(0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variant": "nonsense"}, "no variant"),
        ({"tile": 250}, "multiple of 16"),
        ({"levels": (2, 4)}, "ascend from 1"),
        ({"levels": (1, 4, 2)}, "ascend from 1"),
        ({"size": (100, 3), "levels": (1, 4)}, "no pixels"),
        ({"missing": [(0, 9, 0)]}, "isn't there"),
        ({"variant": "j2k_33003_422", "tile": 240}, "256 px only"),
        ({"edge": "red"}, "edge must be"),
        ({"kind": "ndpi"}, "kind must be"),
        ({"order": "random"}, "order must be"),
        ({"distinct_tiles": 0}, "at least 1"),
    ],
)
def test_what_cant_be_written_is_said(options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        write_slide(tmp_path / "never.svs", **options)
    assert not (tmp_path / "never.svs").exists()


def test_real_aperio_files_are_alike(shared_data: Path, slide_factory: Factory) -> None:
    ours = slide_factory("jpeg_rgb_tables", tile=240, levels=(1,))
    with (
        tifffile.TiffFile(shared_data / "CMU-1-Small-Region.svs") as real,
        tifffile.TiffFile(ours.path) as synthetic,
    ):
        for a, b in zip(real.pages, synthetic.pages, strict=True):
            assert {t.code for t in a.tags} - {34675, 32997} <= {t.code for t in b.tags}
            for code in (254, 258, 259, 262, 277, 284, 322, 323, 317, 530):
                assert (a.tags.get(code) and a.tags[code].value) == (
                    b.tags.get(code) and b.tags[code].value
                ), code
