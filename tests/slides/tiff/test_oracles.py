"""What tifffile and OpenSlide find in the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from wsistore.errors import DamagedTileError, WsistoreError
from wsistore.geometry import Size
from wsistore.slides.tiff import TiffContainer, open_tiff
from wsistore.testing import VARIANTS, SyntheticSlide

REAL = [
    "CMU-1-Small-Region.svs",
    "gandlf-example_lm.tiff",
    "osp-small.svs",
    "osp-unreadable.svs",
    "panimg-no_dzi.tif",
    "real-33003-2x2tiles.svs",
    "real-33005-3x3tiles.svs",
    "real-jpegrgb-3x3tiles.svs",
    "wsipacker-example.tif",
]
OPTIONS: dict[str, dict[str, Any]] = {
    "aperio": {},
    "bigtiff": {"bigtiff": True},
    "sparse": {"sparse": True},
    "missing": {"missing": ((0, 1, 1), (0, 4, 3), (1, 0, 0))},
    "tile 240": {"tile": 240, "levels": (1, 2, 4, 8)},
    "comma": {"mpp": "0,2520", "magnification": "40,0"},
    "bare": {"mpp": None, "magnification": None, "label": False, "thumbnail": False},
    "icc": {"icc_profile": bytes(range(256)) * 9},
    "generic": {"kind": "generic"},
    "ome-tiff": {"kind": "ome-tiff"},
}


def same_as_tifffile(container: TiffContainer, path: Path) -> None:
    pages = []
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            pages += [page, *(page.pages or ())]
        tiled = {Size(page.imagewidth, page.imagelength): page for page in reversed(pages)
                 if page.is_tiled}  # fmt: skip
        for number, level in enumerate(container.levels):
            page = tiled[level.size]
            table = container.tile_table(number)
            refs = table.locate_all()
            counts = np.array(page.databytecounts)
            offsets = np.where(counts == 0, 0, np.array(page.dataoffsets))
            np.testing.assert_array_equal(refs.counts.ravel(), counts)
            np.testing.assert_array_equal(refs.offsets.ravel(), offsets)
            assert table.tile_size == (page.tilewidth, page.tilelength)
            assert table.block_format.tables == (page.jpegtables or b"")
            assert table.block_format.channels == page.samplesperpixel
            assert table.block_format.predictor == (
                page.predictor if table.block_format.codec in ("lzw", "deflate") else 1
            )
        first = tiled[container.levels[0].size]
        profile = first.tags.get(34675)
        assert container.icc_profile == (profile.value if profile else None)


@pytest.mark.parametrize("name", REAL)
def test_real_slides_as_tifffile_has_them(shared_data: Path, name: str) -> None:
    same_as_tifffile(open_tiff(shared_data / name), shared_data / name)


@pytest.mark.parametrize("name", OPTIONS)
def test_synthetic_slides_as_tifffile_has_them(
    slide_factory: Callable[..., SyntheticSlide], name: str
) -> None:
    slide = slide_factory(**OPTIONS[name])
    container = open_tiff(slide.path)
    same_as_tifffile(container, slide.path)
    assert tuple(level.size for level in container.levels) == slide.level_sizes
    assert tuple(level.downsample for level in container.levels) == slide.levels
    for number, written in enumerate(slide.written):
        refs = container.tile_table(number).locate_all()
        np.testing.assert_array_equal(refs.offsets, written.offsets)
        np.testing.assert_array_equal(refs.counts, written.counts)
    assert set(container.associated) == set(slide.associated)
    assert container.icc_profile == slide.icc_profile
    assert container.notes == ()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_named_right(
    slide_factory: Callable[..., SyntheticSlide], variant: str
) -> None:
    slide = slide_factory(variant, size=(300, 200), levels=(1, 2))
    container = open_tiff(slide.path)
    for level in range(2):
        found = container.tile_table(level).block_format
        assert found.codec == slide.variant.codec
        assert found.color == slide.variant.color
        assert found.channels == slide.variant.channels
        assert found.predictor == slide.variant.predictor
        assert found.tables == slide.jpeg_tables(level)


def same_as_openslide(container: TiffContainer, path: Path) -> None:
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(path) as other:
        assert tuple(level.size for level in container.levels) == other.level_dimensions
        for level, downsample in zip(container.levels, other.level_downsamples, strict=True):
            assert level.downsample == pytest.approx(downsample, rel=0.01)
        theirs = {
            key: value
            for key, value in other.properties.items()
            if not key.startswith("openslide.")
        }
        ours = {
            key: value
            for key, value in container.properties.items()
            if not key.startswith(("wsistore.", "ome."))
        }
        assert ours == theirs
        if "openslide.mpp-x" in other.properties:
            assert container.mpp is not None
            assert container.mpp.x == pytest.approx(float(other.properties["openslide.mpp-x"]))
            assert container.mpp.y == pytest.approx(float(other.properties["openslide.mpp-y"]))
        if "openslide.objective-power" in other.properties:
            power = float(other.properties["openslide.objective-power"])
            assert container.magnification == power
        same_associated(container, other)


def same_associated(container: TiffContainer, other: Any) -> None:
    assert set(container.associated) == set(other.associated_images)
    for name, read in container.associated.items():
        pixels = np.asarray(other.associated_images[name])[..., :3]
        np.testing.assert_array_equal(read(), pixels)


@pytest.mark.parametrize("name", [name for name in REAL if name != "osp-unreadable.svs"])
def test_real_slides_as_openslide_has_them(shared_data: Path, name: str) -> None:
    same_as_openslide(open_tiff(shared_data / name), shared_data / name)


def test_a_damaged_thumbnail_is_said(shared_data: Path) -> None:
    container = open_tiff(shared_data / "osp-unreadable.svs")
    with pytest.raises(DamagedTileError, match=r"osp-unreadable.svs: thumbnail, strip 0: "):
        container.associated["thumbnail"]()


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "ome-tiff"])
def test_synthetic_slides_as_openslide_has_them(
    slide_factory: Callable[..., SyntheticSlide], name: str
) -> None:
    path = slide_factory(**OPTIONS[name]).path
    same_as_openslide(open_tiff(path), path)


def test_associated_images_are_true(slide_factory: Callable[..., SyntheticSlide]) -> None:
    for kind in ("aperio", "ome-tiff"):
        slide = slide_factory(kind=kind)
        container = open_tiff(slide.path)
        assert slide.associated
        for name, pixels in slide.associated.items():
            np.testing.assert_array_equal(container.associated[name](), pixels)


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "wsipacker-example.tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_real_slides_cut_short_are_refused(
    shared_data: Path, tmp_path: Path, name: str, share: float
) -> None:
    data = (shared_data / name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WsistoreError):
        open_tiff(cut).tile_table(0).locate_all()
