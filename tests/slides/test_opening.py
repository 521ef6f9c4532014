"""Opening: content picks the format, errors say what is wrong, overrides drive geometry."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from PIL import Image

import wsistore
from wsistore.errors import (
    CorruptSlideError,
    DependencyError,
    MetadataError,
    ResolutionError,
    SourceAccessError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.geometry import Box
from wsistore.slides import Slide, opening
from wsistore.slides.model import Format
from wsistore.testing import SyntheticSlide

Make = Callable[..., SyntheticSlide]


def test_a_slide_tells_what_it_is(slide_factory: Make) -> None:
    written = slide_factory()
    with wsistore.open_slide(written.path) as slide:
        assert slide.format == "aperio"
        assert slide.size == written.size
        assert slide.level_count == 2
        assert [level.downsample for level in slide.levels] == [1.0, 4.0]
        assert [level.tile_size for level in slide.levels] == [(256, 256)] * 2
        assert slide.mpp == (0.499, 0.499)
        assert slide.mpp.origin == "aperio.MPP"
        assert slide.levels[1].mpp == pytest.approx((1.996, 1.996))
        assert (slide.magnification, slide.magnification.origin) == (20, "aperio.AppMag")
        assert slide.properties["aperio.AppMag"] == "20"
        assert slide.name == written.path.stem
        assert slide.path == str(written.path)
        assert slide.bad_tiles == ()
        assert repr(slide) == f"<Slide {slide.name!r} aperio, 1200x900, 2 levels, 0.499 µm/px>"


def test_associated_images_are_decoded_on_access_alone(slide_factory: Make) -> None:
    written = slide_factory()
    with wsistore.open_slide(written.path) as slide:
        calls = []
        readers = slide.associated._readers  # type: ignore[attr-defined]
        spied = {name: lambda n=name: calls.append(n) or readers[n]() for name in readers}
        slide.associated._readers = spied  # type: ignore[attr-defined]
        assert set(slide.associated) == set(written.associated)
        assert "label" in slide.associated
        assert "nothing" not in slide.associated
        assert repr(slide.associated) == "<associated images: thumbnail, label, macro>"
        assert calls == []
        label = slide.associated["label"]
        assert calls == ["label"]
        assert label.shape == written.associated["label"].shape
        with pytest.raises(KeyError):
            slide.associated["nothing"]
        with pytest.raises(TypeError):
            slide.associated["label"] = label  # type: ignore[index]


def test_a_closed_slide_reads_nothing_more(slide_factory: Make) -> None:
    slide = wsistore.open_slide(slide_factory().path)
    slide.read_region((0, 0), 0, (8, 8))
    slide.close()
    slide.close()
    for read in (
        lambda: slide.read_region((0, 0), 0, (8, 8)),
        lambda: slide.thumbnail(10),
        lambda: slide.associated["label"],
        lambda: slide.fingerprint,
        lambda: slide.icc_profile,
    ):
        with pytest.raises(UsageError, match="is closed"):
            read()
    assert slide.levels[0].size == slide.size


# Errors


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.svs", b"", "it is empty"),
        ("notes.txt", "Größe: 3 µm\n".encode() * 30, "it is text, starting with 'Größe"),
        ("zeros.svs", bytes(5000), "256 zero bytes"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(300), "an HDF5 file"),
        ("x.svs", b"\xde\xad\xbe\xef" * 80, "de ad be ef"),
        ("short.svs", b"\x80", "bytes 80"),
    ],
)
def test_what_no_format_reads_is_described(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnsupportedSlideError) as caught:
        wsistore.open_slide(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_tiff_of_another_make_says_so(tmp_path: Path) -> None:
    path = tmp_path / "odd.svs"
    path.write_bytes(b"II\x55\x00" + bytes(100))
    with pytest.raises((UnsupportedSlideError, CorruptSlideError), match=r"odd\.svs"):
        wsistore.open_slide(path)


def test_a_slide_cut_short_is_corrupt(slide_factory: Make, tmp_path: Path) -> None:
    path = tmp_path / "cut.svs"
    path.write_bytes(slide_factory().path.read_bytes()[:40_000])
    with pytest.raises(CorruptSlideError, match=r"cut\.svs"):
        wsistore.open_slide(path)


def test_missing_files_folders_and_permissions(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"nowhere\.svs"):
        wsistore.open_slide(tmp_path / "nowhere.svs")
    with pytest.raises(SourceNotFoundError):
        wsistore.open_slide("a\0b")
    with pytest.raises(UnsupportedSlideError, match="a folder without a slide"):
        wsistore.open_slide(tmp_path)
    with pytest.raises(UsageError):
        wsistore.open_slide("")
    with pytest.raises(WsistoreError, match="not a regular file"):
        wsistore.open_slide("/dev/null")


def test_no_permission(slide_factory: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object, **options: object) -> None:
        raise SourceAccessError("slide.svs may not be read")

    monkeypatch.setattr(opening, "open_source", denied)  # root may read everything
    with pytest.raises(SourceAccessError):
        wsistore.open_slide(slide_factory().path)


@pytest.mark.parametrize(
    ("name", "vendor"), [("a.ndpi", "Hamamatsu"), ("b.mrxs", "MIRAX"), ("c.DCM", "DICOM")]
)
def test_without_openslide_the_extra_is_named(
    name: str, vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "has_openslide", lambda: False)
    path = tmp_path / name
    path.write_bytes(b"\xff\xd8\xff\xe0 a thumbnail" + bytes(100))
    if name != "b.mrxs":  # a MIRAX file is a JPEG, and must not be taken for one
        path.write_bytes(b"\x01\x02\x03\x04" * 50)
    with pytest.raises(UnsupportedSlideError) as caught:
        wsistore.open_slide(path)
    assert vendor in caught.value.hint
    assert "pip install 'wsistore[openslide]'" in caught.value.hint
    with pytest.raises(DependencyError, match="wsistore\\[openslide\\]"):
        wsistore.open_slide(path, format="openslide")


# Choosing the format


def test_content_picks_the_format_whatever_the_extension(
    slide_factory: Make, tmp_path: Path
) -> None:
    path = tmp_path / "scan.png"
    shutil.copy(slide_factory().path, path)
    assert wsistore.open_slide(path).format == "aperio"
    Image.new("RGB", (5, 4)).save(tmp_path / "real.png")
    picture = (tmp_path / "real.png").rename(tmp_path / "picture.svs")
    assert wsistore.open_slide(picture).format == "image"


def test_a_format_can_be_forced(slide_factory: Make) -> None:
    path = slide_factory().path
    with wsistore.open_slide(path, format="openslide") as forced, wsistore.open_slide(path) as own:
        assert forced.format == "openslide:aperio"
        assert np.array_equal(
            forced.read_region((64, 32), 1, (90, 80)), own.read_region((64, 32), 1, (90, 80))
        )
        assert forced.tile_table(0) is None
    with pytest.raises(UnsupportedSlideError):
        wsistore.open_slide(Path(__file__), format="tiff")
    with pytest.raises(UsageError, match="no format 'dicom'"):
        wsistore.open_slide(path, format="dicom")
    with pytest.raises(SourceNotFoundError):
        wsistore.open_slide(path.with_name("gone.svs"), format="openslide")


def _entry(value: str) -> EntryPoint:
    return EntryPoint("hologram", value, opening.GROUP)


def test_a_format_that_can_not_be_loaded_speaks_up_where_it_is_asked(
    tmp_path: Path, slide_factory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = opening._load(_entry("no_such_package.reader:FORMAT"))
    monkeypatch.setattr(opening, "_STAGES", (opening._tiff, lambda: (broken,)))
    assert wsistore.open_slide(slide_factory().path).format == "aperio"
    with pytest.raises(UnsupportedSlideError, match=r"'hologram' .*can't be loaded"):
        wsistore.open_slide(tmp_path)
    with pytest.raises(DependencyError, match="hologram"):
        wsistore.open_slide(tmp_path, format="hologram")


def test_a_format_that_declines_passes_the_file_on(
    slide_factory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def decline(path: str) -> Any:
        asked.append(path)
        raise UnsupportedSlideError(f"{path}: a variant that is not read")

    def claim(path: str, head: bytes, is_folder: bool) -> bool:
        assert len(head) == 64
        return not is_folder

    first = Format("choosy", claim, decline)
    path = slide_factory().path
    monkeypatch.setattr(opening, "_STAGES", (lambda: (first,), opening._tiff))
    assert wsistore.open_slide(path).format == "aperio"
    assert asked == [str(path)]
    monkeypatch.setattr(opening, "_STAGES", (lambda: (first,),))
    with pytest.raises(UnsupportedSlideError, match="TIFF; a variant that is not read"):
        wsistore.open_slide(path)


def test_options_are_for_urls(slide_factory: Make) -> None:
    with pytest.raises(UsageError, match="region"):
        wsistore.open_slide(slide_factory().path, region="eu")


# Units


def test_an_override_drives_all_geometry(slide_factory: Make) -> None:
    path = slide_factory().path
    with wsistore.open_slide(path, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp.origin) == ((0.25, 0.25), "argument")
        assert slide.levels[1].mpp == (1.0, 1.0)
        assert (slide.magnification, slide.magnification.origin) == (40, "mpp (argument)")
        assert slide.resolve("1mpp") == slide.resolve("10x") == slide.resolve("level:1")
        assert slide.resolve("20x").factor == 2
    with wsistore.open_slide(path, mpp=(0.2, 0.3), magnification=60) as slide:
        assert slide.mpp == (0.2, 0.3)
        assert slide.resolve("30x").downsample == 2
        assert any("contradict" in note for note in slide.notes)


@pytest.mark.parametrize("options", [{"mpp": 0}, {"mpp": 1e4}, {"magnification": float("nan")}])
def test_absurd_overrides_are_refused(options: dict[str, float], slide_factory: Make) -> None:
    with pytest.raises(MetadataError):
        wsistore.open_slide(slide_factory().path, **options)


def test_a_slide_without_units_still_has_levels(slide_factory: Make) -> None:
    with wsistore.open_slide(slide_factory(magnification=None, mpp=None).path) as slide:
        assert (slide.mpp, slide.magnification) == (None, None)
        assert slide.levels[1].mpp is None
        assert slide.read((0, 0, 400, 400), 1).shape == (100, 100, 3)
        with pytest.raises(MetadataError, match="mpp="):
            slide.read((0, 0, 400, 400), "0.5mpp")
        assert "no mpp" in repr(slide)


# Any resolution


def _area(pixels: Any, factor: int) -> Any:
    h, w = pixels.shape[0] // factor, pixels.shape[1] // factor
    return pixels[: h * factor, : w * factor].reshape(h, factor, w, factor, 3).mean((1, 3))


def test_read_averages_the_level_that_serves(slide_factory: Make) -> None:
    written = slide_factory("none", mpp="0.5", size=(1200, 900))
    with wsistore.open_slide(written.path) as slide:
        box = Box(64, 32, 512, 400)
        half = slide.read(box, "1mpp")
        truth = _area(written.level_pixels(0)[32:432, 64:576].astype(float), 2)
        assert half.shape == (200, 256, 3)
        assert np.abs(half - truth).max() <= 0.5
        eighth = slide.read(box, "4mpp")
        truth = _area(written.level_pixels(1)[8:108, 16:144].astype(float), 2)
        assert eighth.shape == (50, 64, 3)
        assert np.abs(eighth - truth).max() <= 0.5
        assert np.array_equal(slide.read(box, "2mpp"), slide.read_region((64, 32), 1, (128, 100)))
        assert slide.read((5, 5, 1, 1), "8mpp").shape == (1, 1, 3)
        assert slide.read((0, 0, 2, 900), "8mpp").shape == (56, 1, 3)


def test_read_is_white_outside_and_not_at_the_edge(slide_factory: Make) -> None:
    written = slide_factory("none", mpp="0.5", size=(1203, 901), levels=(1, 4))
    with wsistore.open_slide(written.path) as slide:
        outside = slide.read((-400, -400, 200, 200), "1mpp")
        assert np.unique(outside).tolist() == [255]
        edge = slide.read((1003, 701, 200, 200), "4mpp")
    # The level has floor(1203 / 4) = 300 columns, so the box ends where the level ends.
    truth = written.level_pixels(1).astype(float)
    rows, columns = _weights(701 / 4, 225, 25), _weights(1003 / 4, 300, 25)
    down = np.tensordot(rows, truth, (1, 0))
    truth = np.tensordot(down, columns, (1, 1)).transpose(0, 2, 1)
    assert np.abs(edge - truth).max() <= 0.51


def _weights(start: float, stop: int, count: int) -> Any:
    edges = np.linspace(start, stop, count + 1)[:, None]
    px = np.arange(stop)
    covered = np.maximum(np.minimum(edges[1:], px + 1) - np.maximum(edges[:-1], px), 0)
    return covered / covered.sum(1, keepdims=True)


def test_finer_than_level_0_only_on_request(slide_factory: Make) -> None:
    with wsistore.open_slide(slide_factory(mpp="0.5").path) as slide:
        with pytest.raises(ResolutionError, match="allow_upsample"):
            slide.read((0, 0, 64, 64), "0.25mpp")
        larger = slide.read((10, 20, 64, 32), "0.25mpp", allow_upsample=True)
        assert larger.shape == (64, 128, 3)
        back = _area(larger.astype(float), 2)
        assert np.abs(back - slide.read_region((10, 20), 0, (64, 32))).mean() < 6


@pytest.mark.parametrize(
    ("max_size", "shape"),
    [
        (300, (225, 300, 3)),
        (100, (75, 100, 3)),
        (5000, (900, 1200, 3)),
        (1, (1, 1, 3)),
        ((50, 5000), (38, 50, 3)),
        ((5000, 90), (90, 120, 3)),
        (np.int64(64), (48, 64, 3)),
    ],
)
def test_thumbnails_fit_and_are_never_enlarged(
    max_size: Any, shape: tuple[int, int, int], slide_factory: Make
) -> None:
    written = slide_factory("none")
    with wsistore.open_slide(written.path) as slide:
        thumbnail = slide.thumbnail(max_size)
    assert thumbnail.shape == shape
    assert abs(thumbnail.mean() - written.level_pixels(0).mean()) < 6 or max_size == 1


@pytest.mark.parametrize("max_size", [0, -3, (10, 0), 2.5, "big", (1, 2, 3)])
def test_thumbnails_of_no_size(max_size: Any, slide_factory: Make) -> None:
    with wsistore.open_slide(slide_factory().path) as slide, pytest.raises(UsageError):
        slide.thumbnail(max_size)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/scan 1.svs", "scan 1"),
        ("/a/slide.ome.zarr/", "slide"),
        ("/a/slide.ome.tiff", "slide"),
        ("s3://bucket/x/slide.svs", "slide"),
        ("/a/.hidden", ".hidden"),
    ],
)
def test_names_have_no_extension(path: str, name: str, slide_factory: Make) -> None:
    with wsistore.open_slide(slide_factory().path) as slide:
        assert Slide(slide._container, path).name == name


# Objects


def _bucket(*names: str, data: bytes) -> Any:
    store = obstore.store.MemoryStore()
    for name in names:
        obstore.put(store, name, data)
    return store


def test_an_object_is_opened_and_its_credentials_are_not_shown(slide_factory: Make) -> None:
    written = slide_factory()
    store = _bucket("slide.svs", data=written.path.read_bytes())
    url = "s3://key:secret@bucket/slide.svs?signature=hidden"
    with wsistore.open_slide(url, store=store) as slide:
        assert slide.path == "s3://bucket/slide.svs"
        assert slide.name == "slide"
        got = slide.read_region((100, 100), 0, (300, 200))
        assert np.array_equal(got, written.level_pixels(0)[100:300, 100:400])


def test_plain_images_may_be_objects(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (10, 20, 30)).save(tmp_path / "a.png")
    store = _bucket("a.png", data=(tmp_path / "a.png").read_bytes())
    with wsistore.open_slide("s3://bucket/a.png", store=store) as slide:
        assert slide.read_region((0, 0), 0, (1, 1)).tolist() == [[[10, 20, 30]]]


def test_objects_that_are_none_and_objects_that_are_no_slides() -> None:
    store = _bucket("notes.txt", data=b"no slide at all")
    with pytest.raises(SourceNotFoundError, match=r"gone\.svs"):
        wsistore.open_slide("s3://bucket/gone.svs", store=store)
    with pytest.raises(UnsupportedSlideError, match=r"s3://bucket/notes\.txt .*it is text"):
        wsistore.open_slide("s3://bucket/notes.txt", store=store)
    with pytest.raises(UnsupportedSlideError, match="a folder without a slide"):
        wsistore.open_slide("s3://bucket/folder/", store=store)


def test_a_store_made_here_opens_by_the_registered_format(
    slide_factory: Make, tmp_path: Path
) -> None:
    written = slide_factory()
    path = tmp_path / "slide.ome.zarr"
    wsistore.convert(written.path, path)
    with wsistore.open_slide(path) as slide:
        assert slide.format == "ome-zarr"
        assert slide.name == "slide"
        for level in range(2):
            whole = slide.read_region((0, 0), level, slide.levels[level].size)
            assert np.array_equal(whole, written.level_pixels(level))
        text = pickle.dumps(slide)
    assert pickle.loads(text).size == written.size
    (path / "zarr.json").write_bytes((path / "zarr.json").read_bytes() + b" ")
    with pytest.raises(SourceChangedError):
        pickle.loads(text)


def test_a_folder_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SourceAccessError, match="may not be looked into"):
        wsistore.open_slide(tmp_path)
