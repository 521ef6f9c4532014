"""Programs that read what is served: zarr-python, tensorstore, and wsistore itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import wsistore
from wsistore.errors import DamagedTileError
from wsistore.geometry import Box
from wsistore.serving import SlideServer
from wsistore.testing import SyntheticSlide, write_slide

VARIANTS = [
    "jpeg_rgb_tables", "jpeg_ycbcr422_tables", "j2k_33003", "j2k_33003_422", "j2k_33005", "lzw",
]  # fmt: skip
CODECS = ["portable", "unchanged"]
REAL = ["CMU-1-Small-Region", "real-33003-2x2tiles", "real-33005-3x3tiles"]


def open_group(url: str) -> Any:
    """Open a group over HTTP, through obstore as zarr has it."""
    import zarr
    from obstore.store import HTTPStore

    store = HTTPStore.from_url(url, client_options={"allow_http": True})
    return zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")


def level_pixels(slide: wsistore.Slide, level: int) -> NDArray[np.uint8]:
    """Return a whole level as (3, h, w)."""
    whole = Box(0, 0, *slide.levels[level].size)
    return np.moveaxis(slide.read_level(level, whole), -1, 0)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_zarr_reads_slides(
    slide_factory: Callable[..., SyntheticSlide], variant: str, codec: Any
) -> None:
    made = slide_factory(variant)
    with SlideServer([made.path], codec=codec) as server, wsistore.open_slide(made.path) as slide:
        group = open_group(server.slides[0].url)
        datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
        assert len(datasets) == slide.level_count
        for level, dataset in enumerate(datasets):
            np.testing.assert_array_equal(group[dataset["path"]][:], level_pixels(slide, level))


@pytest.mark.parametrize("codec", CODECS)
def test_zarr_reads_stores(
    zstd_store: Path, jpeg_store: Path, slide: SyntheticSlide, codec: Any
) -> None:
    with SlideServer([zstd_store, jpeg_store], codec=codec) as server:
        for served, path in zip(server.slides, (zstd_store, jpeg_store), strict=True):
            group = open_group(served.url)
            with wsistore.open_slide(path) as opened:
                for level in range(opened.level_count):
                    np.testing.assert_array_equal(group[str(level)][:], level_pixels(opened, level))


def test_portable_stores_are_sent_as_they_are_and_others_decoded(
    zstd_store: Path, jpeg_store: Path, visit: Callable[[str], Any]
) -> None:
    with SlideServer([zstd_store, jpeg_store]) as server:
        client = visit(server.url)
        plain = client("/tissue.ome.zarr/0/zarr.json").body
        assert plain == (zstd_store / "0/zarr.json").read_bytes()
        assert b"jpeg" not in client("/copied.ome.zarr/0/zarr.json").body
        assert b"jpeg" in (jpeg_store / "0/zarr.json").read_bytes()
    with SlideServer([jpeg_store], codec="unchanged") as server:
        shard = "0/c/0/0/0"
        sent = visit(server.url)(f"/copied.ome.zarr/{shard}").body
        assert sent == (jpeg_store / shard).read_bytes()


@pytest.mark.parametrize("variant", ["jpeg_rgb_tables", "j2k_33003_422", "j2k_33005"])
def test_tensorstore_reads_the_portable_form(
    slide_factory: Callable[..., SyntheticSlide], variant: str
) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    made = slide_factory(variant, missing=[(0, 1, 0)])
    with SlideServer([made.path]) as server, wsistore.open_slide(made.path) as slide:
        for level in range(slide.level_count):
            kvstore = f"{server.slides[0].url}{level}/"
            array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
            np.testing.assert_array_equal(array.read().result(), level_pixels(slide, level))


def test_tensorstore_reads_a_sharded_store(zstd_store: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    with SlideServer([zstd_store]) as server, wsistore.open_slide(zstd_store) as slide:
        spec = {"driver": "zarr3", "kvstore": f"{server.slides[0].url}0/"}
        array = tensorstore.open(spec).result()
        np.testing.assert_array_equal(
            array[:, 300:700, 200:900].read().result(), level_pixels(slide, 0)[:, 300:700, 200:900]
        )


@pytest.mark.parametrize("codec", CODECS)
def test_wsistore_opens_what_it_serves(slide: SyntheticSlide, zstd_store: Path, codec: Any) -> None:
    with SlideServer([slide.path, zstd_store], codec=codec) as server:
        for served, path in zip(server.slides, (slide.path, zstd_store), strict=True):
            with wsistore.open_slide(served.url) as got, wsistore.open_slide(path) as expected:
                assert (got.name, got.size, got.level_count) == (
                    expected.name,
                    expected.size,
                    expected.level_count,
                )
                assert got.mpp is not None
                assert (got.mpp.x, got.mpp.y) == pytest.approx(tuple(expected.mpp or ()))
                np.testing.assert_array_equal(level_pixels(got, 0), level_pixels(expected, 0))


def test_what_is_made_is_cached_and_tagged(slide: SyntheticSlide, visit: Any) -> None:
    with SlideServer([slide.path]) as server:
        client = visit(server.url)
        chunk = f"/{server.slides[0].name}/0/c/0/1/2"
        first = client(chunk)
        assert first.status == 200
        assert client(chunk, Range="bytes=3-7").body == first.body[3:8]
        assert client(chunk, "HEAD").headers["Content-Length"] == str(len(first.body))
        tag = first.headers["ETag"]
        assert client(chunk, If_None_Match=tag).status == 304
        assert client(chunk, If_None_Match="*").status == 304
        assert client(f"/{server.slides[0].name}/0/c/0/0/1", If_None_Match="*").status == 404
        assert client(f"/{server.slides[0].name}/0/c/0/1/3").headers["ETag"] != tag
    with SlideServer([slide.path], codec="unchanged") as server:
        other = visit(server.url)(chunk, If_None_Match=tag)
        assert other.status == 200
        assert other.body != first.body


@pytest.fixture(scope="module", params=CODECS)
def slide_server(slide: SyntheticSlide, request: pytest.FixtureRequest) -> Iterator[SlideServer]:
    """A server of the slide, by each codec."""
    with SlideServer([slide.path], codec=request.param) as server:
        yield server


@pytest.mark.parametrize(
    "key",
    [
        "0/c/0/0/1", "0/c/0/99/0", "0/c/0/0/99", "0/c/1/0/0", "0/c/0/00/0", "0/c/0/0",
        "0/c/0/-1/0", "9/c/0/0/0", "0/c/0/0/0/0", "0", "c", ".zgroup", ".zattrs",
        "associated/label/zarr.json", "0/c/0/1/9999999999", "0/c/0/1/99999999999999999999",
    ],
)  # fmt: skip
def test_absent_chunks_are_not_found(slide_server: SlideServer, visit: Any, key: str) -> None:
    """The tile of column 1, row 0 is missing in the slide: viewers fill it with white."""
    path = f"/{slide_server.slides[0].name}/{key}"
    client = visit(slide_server.url)
    assert [client(path, method).status for method in ("GET", "HEAD")] == [404, 404]


def test_listings_of_slides_lead_to_chunks(slide_server: SlideServer, visit: Any) -> None:
    client = visit(slide_server.url)
    root = f"/{slide_server.slides[0].name}/"
    assert b'href="0/"' in client(root).body
    assert b'href="2"' in client(f"{root}0/c/0/1/").body
    assert b'href="1"' not in client(f"{root}0/c/0/0/").body  # it is missing
    assert b"label" not in client(root).body


def test_a_damaged_tile_is_an_error_and_the_others_live_on(tmp_path: Path, visit: Any) -> None:
    made = write_slide(tmp_path / "damaged.svs", "jpeg_rgb_tables")
    with wsistore.open_slide(made.path) as opened:
        table = opened.tile_table(0)
        assert table is not None
        offset, count = int(table.offsets[1, 2]), int(table.counts[1, 2])
    data = bytearray(made.path.read_bytes())
    data[offset + count // 2 : offset + count // 2 + 64] = bytes(64)
    made.path.write_bytes(data)
    told: list[tuple[str, Exception]] = []
    with SlideServer([made.path], report=lambda *args: told.append(args)) as server:
        client = visit(server.url)
        bad = client("/damaged.ome.zarr/0/c/0/1/2")
        assert bad.status == 500
        assert b"WSI402" in bad.body
        assert bad.headers["Cache-Control"] == "no-store"
        assert bad.headers["ETag"] is None
        assert client("/damaged.ome.zarr/0/c/0/1/3").status == 200
    ((path, error),) = told
    assert path == "/damaged.ome.zarr/0/c/0/1/2"
    assert isinstance(error, DamagedTileError)


def test_a_slide_that_changes_is_an_error(tmp_path: Path, visit: Any) -> None:
    made = write_slide(tmp_path / "changing.svs", "jpeg_rgb_tables")
    with SlideServer([made.path], cache_bytes=0) as server:
        client = visit(server.url)
        assert client("/changing.ome.zarr/0/c/0/1/2").status == 200
        made.path.write_bytes(made.path.read_bytes()[:5000])
        got = client("/changing.ome.zarr/0/c/0/1/2")
        assert got.status == 500
        assert b"WSI20" in got.body


def test_slides_and_stores_of_a_bucket(
    bucket: str, slide: SyntheticSlide, zstd_store: Path, visit: Any
) -> None:
    from wsistore.sources import open_place

    place = open_place(bucket)
    place.put("slide.svs", slide.path.read_bytes())
    for path in zstd_store.rglob("*"):
        if path.is_file():
            key = f"{zstd_store.name}/{path.relative_to(zstd_store)}"
            place.put(key, path.read_bytes())
    with SlideServer([f"{bucket}/slide.svs", f"{bucket}/{zstd_store.name}"]) as server:
        assert all("canary" not in str(shown) for shown in server.slides)
        client = visit(server.url)
        for path in ("/", "/slides.json"):
            assert b"canary" not in client(path).body
        for served, original in zip(server.slides, (slide.path, zstd_store), strict=True):
            group = open_group(served.url)
            with wsistore.open_slide(original) as expected:
                np.testing.assert_array_equal(group["0"][:], level_pixels(expected, 0))
        shard = (zstd_store / "0/c/0/0/0").read_bytes()
        got = client("/tissue.ome.zarr/0/c/0/0/0", Range="bytes=-100")
        assert (got.status, got.body) == (206, shard[-100:])
        for absent in ("", "/0/c/0/9/9"):
            assert client(f"/tissue.ome.zarr{absent}").status == 404
        assert client("/tissue.ome.zarr/0/c/0/0/0", If_None_Match=got.headers["ETag"]).status == 304


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", REAL)
def test_real_slides(shared_data: Path, name: str, codec: Any) -> None:
    path = shared_data / f"{name}.svs"
    with SlideServer([path], codec=codec) as server, wsistore.open_slide(path) as slide:
        group = open_group(server.slides[0].url)
        np.testing.assert_array_equal(group["0"][:], level_pixels(slide, 0))
