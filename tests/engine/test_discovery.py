"""Which slides a run is about, and the table of pixel sizes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from wsistore.engine.discovery import find_slides, read_mpp_csv, stem_of
from wsistore.errors import SourceNotFoundError, UsageError

SLIDES = (
    ".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".bif", ".biff", ".dcm",
    ".dicom",
)  # fmt: skip
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
KNOWN = (*SLIDES, *IMAGES)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("extension", KNOWN)
def test_every_extension_is_looked_for_in_both_cases(extension: str, tmp_path: Path) -> None:
    touch(tmp_path, f"b{extension}", f"a{extension.upper()}", "notes.txt", ".hidden.svs")
    found = find_slides(tmp_path)
    assert [Path(path).name for path in found.paths] == [f"a{extension.upper()}", f"b{extension}"]
    assert found.warnings == ()


def test_folders_are_searched_when_asked(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "deep/er/b.svs", ".cache/c.svs")
    assert len(find_slides(tmp_path).paths) == 1
    names = [Path(path).name for path in find_slides(tmp_path, recursive=True).paths]
    assert names == ["a.svs", "b.svs"]


def test_a_store_is_one_slide(tmp_path: Path) -> None:
    touch(tmp_path, "a.ome.zarr/zarr.json", "a.ome.zarr/0/c/0.svs")
    assert find_slides(tmp_path, recursive=True).paths == (str(tmp_path / "a.ome.zarr"),)
    assert find_slides(tmp_path / "a.ome.zarr").paths == (str(tmp_path / "a.ome.zarr"),)


def test_a_file_of_another_extension_is_tried_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz")
    found = find_slides(tmp_path / "a.xyz")
    assert found.paths == (str(tmp_path / "a.xyz"),)
    assert len(found.warnings) == 1


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no slide"):
        find_slides(tmp_path)
    with pytest.raises(SourceNotFoundError):
        find_slides(tmp_path / "absent")


def test_two_slides_of_one_stem_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "a.tif", "b.svs")
    with pytest.raises(UsageError, match=r"a\.svs, .*a\.tif"):
        find_slides(tmp_path)


def test_urls_are_slides() -> None:
    assert find_slides("s3://bucket/a.svs?x=1").paths == ("s3://bucket/a.svs?x=1",)
    assert stem_of("https://host/b/a.svs?x=1") == "a"
    assert stem_of("x/a.1.ome.tiff") == "a.1"


def table(folder: Path, text: str) -> Path:
    path = folder / "mpp.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_pixel_sizes_match_by_stem(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffwsi,mpp\nslide1.svs,0.5\n/data/x/slide2.svs,0.25\nslide3,1\n")
    found = read_mpp_csv(path)
    assert found.by_stem == {"slide1": 0.5, "slide2": 0.25, "slide3": 1.0}
    assert found.warnings == ()


def test_values_that_are_none_are_left_out_with_a_warning(tmp_path: Path) -> None:
    found = read_mpp_csv(table(tmp_path, "mpp,wsi\nabc,a\n0,b\n-1,c\n0.5,d\n,e\n"))
    assert found.by_stem == {"d": 0.5}
    assert len(found.warnings) == 4
    assert "line 2" in found.warnings[0]


def test_nan_is_kept_to_be_refused_with_its_slide(tmp_path: Path) -> None:
    assert math.isnan(read_mpp_csv(table(tmp_path, "wsi,mpp\na,nan\n")).by_stem["a"])


@pytest.mark.parametrize(
    "text", ["", "wsi,mpp\n", "slide,mpp\na,1\n", "wsi,mpp\na,x\n", "wsi,mpp\na,1\na.svs,2\n"]
)
def test_tables_that_say_nothing_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_mpp_csv(table(tmp_path, text))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        read_mpp_csv(tmp_path / "absent.csv")


def test_links_that_go_round_in_circles_find_each_slide_once(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.svs").write_bytes(b"")
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    assert find_slides(tmp_path, recursive=True).paths == (str(tmp_path / "inner" / "a.svs"),)
