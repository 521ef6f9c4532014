"""Plain images as slides of one level."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

import wsistore
from wsistore.errors import (
    CorruptSlideError,
    MetadataError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.slides import image as image_module

TEXTURE = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
LOSSLESS: dict[str, dict[str, Any]] = {
    "a.png": {},
    "a.bmp": {},
    "a.webp": {"lossless": True},
    "a.tif": {},
    "b.tif": {"compression": "tiff_lzw"},
}


def _save(path: Path, pixels: Any = TEXTURE, mode: str | None = None, **options: Any) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_images_have_their_pixels(name: str, tmp_path: Path) -> None:
    path = _save(tmp_path / name, **LOSSLESS[name])
    with wsistore.open_slide(path) as slide:
        assert (slide.format, slide.size, slide.level_count) == ("image", (80, 60), 1)
        assert slide.tile_table(0) is None
        assert np.array_equal(slide.read_region((0, 0), 0, (80, 60)), TEXTURE)
        part = slide.read_region((70, -5), 0, (20, 10))
        expected = np.full((10, 20, 3), 255, np.uint8)
        expected[5:, :10] = TEXTURE[:5, 70:]
        assert np.array_equal(part, expected)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert slide.fingerprint == f"im1-{digest}"


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.gif"])
def test_lossy_images_have_pillows_pixels(name: str, tmp_path: Path) -> None:
    path = _save(tmp_path / name)
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    with wsistore.open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), 0, (80, 60)), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_modes(mode: str, tmp_path: Path) -> None:
    path = _save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), mode=mode)
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    with wsistore.open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), 0, (80, 60)), expected)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.dstack([TEXTURE, np.random.default_rng(1).integers(0, 256, (60, 80), np.uint8)])
    path = _save(tmp_path / "a.png", rgba)
    alpha = rgba[..., 3:].astype(float)
    expected = np.rint((rgba[..., :3] * alpha + 255 * (255 - alpha)) / 255)
    with wsistore.open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), 0, (80, 60)), expected)


def test_geometry_needs_a_pixel_size(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", dpi=(72, 72))
    with wsistore.open_slide(path) as slide:
        assert slide.mpp is None
        with pytest.raises(MetadataError, match="mpp="):
            slide.read((0, 0, 40, 40), "1mpp")
    with wsistore.open_slide(path, mpp=0.5) as slide:
        assert slide.read((0, 0, 40, 40), "1mpp").shape == (20, 20, 3)
        assert slide.read((0, 0, 40, 40), "10x").shape == (20, 20, 3)


def test_orientation_and_further_images_are_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[image_module.ORIENTATION] = 6
    path = _save(tmp_path / "a.jpg", exif=exif)
    with wsistore.open_slide(path) as slide:
        assert slide.size == (80, 60)
        assert "orientation" in slide.notes[0]
    frames = [Image.fromarray(TEXTURE), Image.fromarray(255 - TEXTURE)]
    frames[0].save(tmp_path / "b.tif", save_all=True, append_images=frames[1:])
    with wsistore.open_slide(tmp_path / "b.tif") as slide:
        assert slide.notes == ("the file holds 2 images; the first is read",)
        assert np.array_equal(slide.read_region((0, 0), 0, (80, 60)), TEXTURE)


def test_an_icc_profile_is_kept(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", icc_profile=b"a profile")
    with wsistore.open_slide(path) as slide:
        assert slide.icc_profile == b"a profile"
    with wsistore.open_slide(_save(tmp_path / "b.png")) as slide:
        assert slide.icc_profile is None


@pytest.mark.parametrize("limit", [100, 3000])
def test_pillows_size_limit_is_respected(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnsupportedSlideError, match=r"a\.png"):
        wsistore.open_slide(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnsupportedSlideError, match=r"a\.png"):
            wsistore.open_slide(path)


def test_deep_samples_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.zeros((8, 8), np.uint16))
    with pytest.raises(UnsupportedSlideError, match="8 bits a sample"):
        wsistore.open_slide(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.gif"])
def test_damaged_images_are_errors_and_never_pixels(name: str, tmp_path: Path) -> None:
    whole = _save(tmp_path / name).read_bytes()
    for keep in (0.02, 0.3, 0.9):
        path = tmp_path / f"cut-{keep}-{name}"
        path.write_bytes(whole[: max(16, int(len(whole) * keep))])
        with pytest.raises((CorruptSlideError, UnsupportedSlideError)):
            _read_whole(path)


def _read_whole(path: Path) -> None:
    with wsistore.open_slide(path) as slide:
        slide.read_region((0, 0), 0, slide.size)


READERS = ("Image", "ImageFile", "PngImagePlugin", "JpegImagePlugin", "BmpImagePlugin",
           "WebPImagePlugin", "GifImagePlugin", "TiffImagePlugin", "ImageSequence", "ImagePalette",
           "ImageMode", "ExifTags", "TiffTags", "MpoImagePlugin")  # fmt: skip
"""Modules of Pillow that reading these formats may reach."""


def _library_exceptions() -> list[type[Exception]]:
    modules = [PIL, *(importlib.import_module(f"PIL.{name}") for name in READERS)]
    found = {
        item
        for module in modules
        for item in vars(module).values()
        if inspect.isclass(item)
        and issubclass(item, Exception)
        and item.__module__.startswith("PIL")
    }
    return sorted(found, key=lambda item: item.__name__)


@pytest.mark.parametrize("error", [*_library_exceptions(), *image_module.PILLOW_ERRORS])
def test_every_exception_of_pillow_is_mapped(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "a.png")
    slide = wsistore.open_slide(path)

    def fail(*args: object, **options: object) -> None:
        raise error("made up")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises((CorruptSlideError, UnsupportedSlideError), match=r"a\.png"):
        slide.read_region((0, 0), 0, (1, 1))
    with pytest.raises(WsistoreError, match=r"a\.png"):
        wsistore.open_slide(path)


def test_an_image_travels_and_closes(tmp_path: Path) -> None:
    slide = wsistore.open_slide(_save(tmp_path / "a.png"), mpp=0.5)
    other = pickle.loads(pickle.dumps(slide))
    assert np.array_equal(other.read_region((0, 0), 0, (80, 60)), TEXTURE)
    assert other.mpp == (0.5, 0.5)
    slide.close()
    with pytest.raises(UsageError):
        slide.read_region((0, 0), 0, (1, 1))


@pytest.mark.parametrize(
    ("tag", "value"), [(65420, 1), (270, "Aperio Image Library v1"), (305, "Philips 1.0")]
)
def test_a_scanners_tiff_in_strips_is_no_plain_image(
    tag: int, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.slides.opening.has_openslide", lambda: False)
    path = _save(tmp_path / "a.tif", tiffinfo={tag: value})
    with pytest.raises(UnsupportedSlideError):
        wsistore.open_slide(path)
