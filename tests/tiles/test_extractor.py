"""The extractor: fit, extract and save; its errors, files and names."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import wsistore
from wsistore import Resolution, Size, TileExtractor, TileSpec
from wsistore.errors import IncompleteError, NotReadyError, UsageError
from wsistore.testing import damage
from wsistore.testing.blank import blank_slide
from wsistore.tiles.regions import (
    MeasurementUnit,
    Region,
    RegionLocation,
    RegionMaskSpec,
    RegionShape,
    RegionSpec,
    region_name,
    resolution_tag,
)
from wsistore.tiles.saving import image_format
from wsistore.tissue import TissueMask

SPEC = TileSpec(64, resolution="20x")


@pytest.fixture(scope="module")
def slide(slide_factory):
    file = slide_factory("lzw", size=(1000, 900), tile=256, levels=(1, 4), magnification="40")
    with wsistore.open_slide(file.path) as opened:
        yield opened


def left_half():
    mask = np.zeros((90, 100))
    mask[:, :50] = 7  # non-zero is tissue
    return mask


class Provider:
    def __init__(self, mask):
        self.mask = mask
        self.asked = []

    def generate(self, source):
        self.asked.append(source)
        return self.mask


def test_fit_and_extract_chain(slide):
    extractor = TileExtractor(SPEC, left_half())
    assert extractor.fit(slide) is extractor
    assert extractor.source_ is slide
    assert extractor.slide_name_ == slide.name
    assert extractor.region_specs_ == []
    regions = extractor.extract()
    assert regions is extractor.region_specs_
    # Columns start at 0, 128, 256 and, 116 of 128 px in tissue, 384; 7 rows.
    assert len(regions) == 4 * 7
    again = TileExtractor(SPEC, left_half()).fit_extract(slide)
    assert [r.location for r in again] == [r.location for r in regions]
    direct = TileExtractor(SPEC, left_half())
    assert [r.location for r in direct.extract(slide)] == [r.location for r in regions]
    assert extractor.plan_.x.tolist() == [r.location.x for r in regions]


def test_a_record_says_where_how_large_and_how_much(slide):
    regions = TileExtractor(SPEC, left_half()).fit_extract(slide)
    last = regions[3]
    assert isinstance(last, RegionMaskSpec)
    assert last.location == RegionLocation(384, 0)
    assert last.shape == RegionShape(64, 64)
    assert last.resolution == Resolution.magnification(20)
    assert last.tissue_ratio == pytest.approx(116 / 128)
    assert last.mask is None
    assert TileExtractor(SPEC).fit_extract(slide)[0].tissue_ratio == 1.0


@pytest.mark.parametrize(("threshold", "columns"), [(0.0, 7), (0.5, 4), (0.91, 3), (1.0, 3)])
def test_the_threshold_is_a_fraction_of_the_area(slide, threshold, columns):
    regions = TileExtractor(SPEC, left_half(), mask_threshold=threshold).fit_extract(slide)
    assert len(regions) == columns * 7


def test_a_coarse_mask_shifts_nothing():
    """A lattice rounded on the reference level would drift; ours is that of level 0."""
    slide = blank_slide((90_000, 70_000), (1, 4, 16, 61))
    mask = np.ones((7, 9), np.bool_)
    spec = TileSpec(300, 290, "15x")
    regions = TileExtractor(spec, mask).fit_extract(slide)
    first_row = [r.location.x for r in regions if r.location.y == 0]
    assert first_row == [int(k * 290 * 40 / 15 + 0.5) for k in range(len(first_row))]
    assert len(first_row) > 100


def test_a_provider_beats_a_mask(slide):
    provider = Provider(np.ones((9, 10)))
    extractor = TileExtractor(SPEC, left_half(), provider)
    assert provider.asked == []
    assert len(extractor.fit_extract(slide)) == 7 * 7
    assert provider.asked == [slide]
    masks = TissueMask(left_half(), Size(1000, 900))
    assert len(TileExtractor(SPEC, None, Provider(masks)).fit_extract(slide)) == 4 * 7


def test_masks_come_with_the_tiles_on_request(slide):
    regions = TileExtractor(SPEC, left_half(), include_masks=True).fit_extract(slide)
    # Mask px are 10 level-0 px; 384 to 512 meets columns 38 to 51.
    assert regions[3].mask.shape == (13, 14)
    assert regions[3].mask.dtype == np.bool_
    assert regions[3].mask[0].tolist() == [True] * 12 + [False] * 2
    with pytest.raises(ValueError, match="read-only"):
        regions[3].mask[0, 0] = False


def test_calls_out_of_order_are_runtime_errors(slide, tmp_path):
    extractor = TileExtractor(SPEC)
    calls = [extractor.to_csv, extractor.to_json, extractor.save]
    with pytest.raises(RuntimeError, match="fit"):
        extractor.extract()
    for call in calls:
        with pytest.raises(RuntimeError, match="fit"):
            call(tmp_path)
    extractor.fit(slide)
    for call in calls:
        with pytest.raises(NotReadyError, match="no tiles"):
            call(tmp_path)
    empty = TileExtractor(SPEC, np.zeros((5, 5)))
    assert empty.fit_extract(slide) == []
    with pytest.raises(RuntimeError, match="no tiles"):
        empty.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_units_and_values_that_make_no_sense_are_value_errors(slide):
    with pytest.raises(ValueError, match="unit"):
        TileSpec(64, resolution="20x", unit="inches")
    with pytest.raises(ValueError, match="mask_threshold"):
        TileExtractor(SPEC, mask_threshold=2)
    with pytest.raises(ValueError, match="mask"):
        TileExtractor(SPEC, np.ones((3, 3, 3))).fit(slide)
    with pytest.raises(ValueError, match="location"):
        RegionLocation(1.5, 0)
    with pytest.raises(ValueError, match="shape"):
        RegionShape(0, 3)
    um = TileExtractor(TileSpec(32, 32, "20x", MeasurementUnit.UM)).fit_extract(slide)
    assert um[0].shape == RegionShape(32, 32)  # 0.998 µm/px


def test_csv_and_json(slide, tmp_path):
    extractor = TileExtractor(SPEC, left_half(), include_masks=True)
    regions = extractor.fit_extract(slide)
    path = extractor.to_csv(tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / f"{slide.name}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(regions)
    assert rows[1] == {
        "slide_name": slide.name,
        "x": "128",
        "y": "0",
        "width": "64",
        "height": "64",
        "resolution_unit": "magnification",
        "resolution_value": "20.0",
        "tissue_ratio": "1.0",
    }
    path = extractor.to_json(tmp_path / "c", regions[1:3])
    assert path == tmp_path / "c" / f"{slide.name}.json"
    records = json.loads(path.read_text())
    assert records[0] == {
        "slide_name": slide.name,
        "location": {"x": 128, "y": 0},
        "shape": {"width": 64, "height": 64},
        "resolution": {"unit": "magnification", "value": 20.0},
        "tissue_ratio": 1.0,
    }
    assert len(records) == 2
    assert path.read_text().startswith('[\n  {\n    "slide_name"')
    for compact in (0, None):
        text = extractor.to_json(tmp_path, indent=compact).read_text()
        assert text.count("\n") == 1
        assert ", " not in text


@pytest.mark.parametrize(
    ("resolution", "tag"),
    [
        (Resolution.level(0), "l_0"),
        (Resolution.mpp(0.25), "mpp_0.25"),
        (Resolution.magnification(40), "mag_40.0x"),
    ],
)
def test_names_of_files(resolution, tag):
    assert resolution_tag(resolution) == tag
    spec = RegionMaskSpec(RegionLocation(10, -2), RegionShape(64, 32), resolution, 0.456)
    assert region_name("s", spec) == f"s_x10_y-2_w64_h32_{tag}_0.46"
    bare = RegionSpec(RegionLocation(10, 2), RegionShape(64, 32), resolution)
    assert region_name("s", bare) == f"s_x10_y2_w64_h32_{tag}_1.00"


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("form", ["png", "tiff", "jpeg", "jpg"])
def test_tiles_are_saved_as_they_are_read(slide, tmp_path, form, threads):
    extractor = TileExtractor(SPEC, left_half())
    regions = extractor.fit_extract(slide)
    paths = extractor.save(tmp_path / "deep" / "er", threads=threads, format=form)
    assert len(paths) == len(regions) == len(list((tmp_path / "deep" / "er").iterdir()))
    assert paths[3].name == f"{slide.name}_x384_y0_w64_h64_mag_20.0x_0.91.{form}"
    if form in ("png", "tiff"):
        for path, region in list(zip(paths, regions, strict=True))[::5]:
            x, y = region.location.x, region.location.y
            expected = wsistore.read_tile(slide, x, y, 64, "20x")
            assert np.array_equal(np.array(Image.open(path)), expected)
            assert Region(expected, region).spec is region


def test_other_regions_may_be_saved(slide, tmp_path):
    extractor = TileExtractor(SPEC).fit(slide)
    regions = [
        RegionSpec(RegionLocation(0, 0), RegionShape(30, 20), Resolution.level(1)),
        RegionSpec(RegionLocation(-8, 5), RegionShape(10, 10), Resolution.level(0)),
    ]
    first, second = extractor.save(tmp_path, regions)
    assert np.array(Image.open(first)).shape == (20, 30, 3)
    assert (np.array(Image.open(second))[:, :8] == 255).all()


def test_formats_that_pillow_does_not_write_are_refused(slide, tmp_path):
    extractor = TileExtractor(SPEC)
    extractor.fit_extract(slide)
    with pytest.raises(UsageError, match="'docx'"):
        extractor.save(tmp_path, format="docx")
    with pytest.raises(UsageError, match="threads"):
        extractor.save(tmp_path, threads=0)
    assert image_format("JPG") == ("jpg", "JPEG")
    assert list(tmp_path.iterdir()) == []


def test_one_bad_tile_raises_after_the_others_were_written(slide_factory, tmp_path):
    file = slide_factory("jpeg_rgb_tables", size=(1024, 512), tile=256, levels=(1,))
    path = tmp_path / "broken.svs"
    shutil.copy(file.path, path)
    damage.overwrite_tile(path, 0, 2, 1)
    with wsistore.open_slide(path) as slide:
        extractor = TileExtractor(TileSpec(256, resolution=0))
        extractor.fit_extract(slide)
        with pytest.raises(
            IncompleteError, match="1 of 8 tiles of broken failed: broken_x512_y256"
        ):
            extractor.save(tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert len(names) == 7
    assert not any("x512_y256" in name for name in names)
    assert issubclass(IncompleteError, RuntimeError)


def test_a_file_that_cannot_be_written_raises_after_the_others(slide, tmp_path):
    extractor = TileExtractor(SPEC, left_half())
    regions = extractor.fit_extract(slide)
    (tmp_path / f"{region_name(slide.name, regions[2])}.png").mkdir()
    with pytest.raises(RuntimeError, match="1 of 28 tiles"):
        extractor.save(tmp_path)
    assert sum(path.is_file() for path in tmp_path.iterdir()) == 27


def test_missing_tiles_are_painted(slide_factory, tmp_path):
    file = slide_factory(
        "jpeg_rgb_tables", size=(512, 512), tile=256, levels=(1,), missing=((0, 1, 1),)
    )
    with wsistore.open_slide(file.path) as slide:
        extractor = TileExtractor(TileSpec(256, resolution=0))
        extractor.fit_extract(slide)
        paths = extractor.save(tmp_path)
    assert (np.array(Image.open(paths[3])) == 255).all()
