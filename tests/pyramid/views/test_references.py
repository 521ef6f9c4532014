"""References to a slide's tiles, written and read again."""

import json
import os
import pickle
import shutil
import time

import numpy as np
import pytest
import zarr

import wsistore
from wsistore.errors import (
    CorruptSlideError,
    SourceAccessError,
    SourceChangedError,
    StoreExistsError,
    UnsupportedSlideError,
    UsageError,
)
from wsistore.pyramid.views import open_references, virtualize
from wsistore.testing import VARIANTS

SMALL = {"size": (300, 220), "tile": 64}
REFERABLE = [
    name
    for name, variant in VARIANTS.items()
    if variant.channels == 3
    and (variant.codec in ("jpeg", "jpeg2000", "none", "zstd", "deflate"))
    and variant.predictor == 1
]


def whole(slide, level):
    return slide.read_level(level, (0, 0, *slide.levels[level].size))


def assert_same(found, slide):
    for level in range(slide.level_count):
        np.testing.assert_array_equal(whole(found, level), whole(slide, level))


def by_fsspec(path, folder):
    """Open references as another program does: fsspec and zarr-python."""
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.reference import ReferenceFileSystem

    inner = DirFileSystem(str(folder), fsspec.filesystem("file"))
    files = ReferenceFileSystem(
        json.loads(path.read_text()),
        fs={None: AsyncFileSystemWrapper(inner, asynchronous=True)},
        asynchronous=True,
        skip_instance_cache=True,
    )
    return zarr.open_group(zarr.storage.FsspecStore(files, read_only=True, path=""), mode="r")


@pytest.fixture
def place(tmp_path):
    """Copy a slide into a folder of its own."""

    def copy(made, name="slide.svs"):
        (tmp_path / "slides").mkdir(exist_ok=True)
        path = tmp_path / "slides" / name
        shutil.copyfile(made.path, path)
        return path

    return copy


@pytest.fixture
def referred(aperio, place):
    """A slide, and references to it beside it."""
    slide = place(aperio(**SMALL))
    refs = slide.with_suffix(".json")
    virtualize(slide, refs)
    return slide, refs


@pytest.mark.parametrize("variant", sorted(REFERABLE))
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr")
def test_pixels_by_reference_equal_the_slide_s_in_every_variant(aperio, place, variant):
    tile = 256 if variant.startswith("j2k_33003_422") else 64  # there are no others
    path = place(aperio(variant, size=(300, 220), tile=tile, missing=[(0, 0, 0)]))
    refs = path.with_suffix(".json")
    done = virtualize(path, refs)
    assert done.levels == 2
    with wsistore.open_slide(path) as slide, wsistore.open_slide(refs) as found:
        assert found.format == "references"
        assert found.mpp == pytest.approx(slide.mpp)
        assert_same(found, slide)
        group = by_fsspec(refs, path.parent)
        for level in (0, 1):
            pixels = group[str(level)][:].transpose(1, 2, 0)
            np.testing.assert_array_equal(pixels, whole(slide, level))


@pytest.mark.parametrize("variant", ["lzw", "deflate_predictor", "gray_jpeg", "webp"])
def test_slides_that_zarr_can_t_read_in_place_are_refused(aperio, tmp_path, variant):
    with pytest.raises(UnsupportedSlideError, match=r"level 0 has .* tiles") as refused:
        virtualize(aperio(variant, **SMALL).path, tmp_path / "refs.json")
    assert "convert" in refused.value.hint
    assert not (tmp_path / "refs.json").exists()


def test_a_store_needs_no_references(aperio, tmp_path):
    store = tmp_path / "slide.ome.zarr"
    wsistore.convert(aperio(**SMALL).path, store)
    with pytest.raises(UnsupportedSlideError, match="no references"):
        virtualize(store, tmp_path / "refs.json")


def test_paths_are_relative_so_both_can_move(referred, tmp_path):
    slide, refs = referred
    entry = json.loads(refs.read_text())["refs"]["0/c/0/0/0"]
    assert entry[0] == "slide.svs"
    moved = tmp_path / "elsewhere"
    slide.parent.rename(moved)
    with open_references(moved / "slide.json") as found:
        assert whole(found, 0).shape == (220, 300, 3)


def test_absolute_paths_are_read_by_fsspec_from_anywhere(aperio, place, tmp_path):
    path = place(aperio(**SMALL))
    refs = path.with_suffix(".json")
    virtualize(path, refs, absolute=True)
    assert json.loads(refs.read_text())["refs"]["0/c/0/0/0"][0] == str(path.resolve())
    with wsistore.open_slide(path) as slide, wsistore.open_slide(refs) as found:
        assert_same(found, slide)


def test_a_slide_by_reference_pickles_and_is_presented_again(referred):
    slide, refs = referred
    with wsistore.open_slide(slide) as expected, open_references(refs) as found:
        assert_same(pickle.loads(pickle.dumps(found)), expected)
        group = zarr.open_group(wsistore.as_zarr(found), mode="r")
        np.testing.assert_array_equal(group["0"][:].transpose(1, 2, 0), whole(expected, 0))
        assert len(found.fingerprint) > 16


def test_a_slide_that_changed_its_size_is_refused(referred):
    slide, refs = referred
    with slide.open("ab") as file:
        file.write(b"more")
    with open_references(refs) as found, pytest.raises(SourceChangedError, match="were made"):
        whole(found, 0)


# Nowhere but where it is allowed


def rewritten(refs, target):
    document = json.loads(refs.read_text())
    for entry in document["refs"].values():
        if isinstance(entry, list):
            entry[0] = target
    refs.write_text(json.dumps(document))


@pytest.fixture
def secret(tmp_path, aperio):
    """A slide outside of the folder of the references."""
    (tmp_path / "private").mkdir()
    path = tmp_path / "private" / "secret.svs"
    shutil.copyfile(aperio(**SMALL).path, path)
    return path


@pytest.fixture
def no_reading(monkeypatch):
    """Any file that is opened, but the references, is an error."""
    from wsistore.pyramid.views import reference_folder

    real = reference_folder.open_source

    def guarded(path, **options):
        assert str(path).endswith(".json"), path
        return real(path, **options)

    monkeypatch.setattr(reference_folder, "open_source", guarded)


HOSTILE = {
    "climbing": "../private/secret.svs",
    "climbing deep": "a/b/../../../private/secret.svs",
    "absolute": "{secret}",
    "file URL": "file://{secret}",
    "file URL of another host": "file://host/etc/passwd",
    "encoded": "file://{base}/%2e%2e/private/secret.svs",
    "sibling of a like name": "{base}-other/x.svs",
    "bucket": "s3://bucket/slide.svs",
    "metadata service": "http://169.254.169.254/latest/meta-data/",
    "loopback": "http://127.0.0.1:1/x",
    "azure": "az://container/slide.svs",
    "memory": "memory://x",
    "chained": "simplecache::s3://bucket/slide.svs",
    "empty": "",
    "a NUL": "slide.svs\0",
    "device": "/dev/zero",
    "home": "~/secret.svs",
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_references_that_lead_elsewhere_are_refused_unread(referred, secret, no_reading, kind):
    slide, refs = referred
    rewritten(refs, HOSTILE[kind].format(secret=secret, base=slide.parent))
    if kind in ("chained", "home"):  # a plain file name, of a file that is not there
        with pytest.raises((SourceAccessError, AssertionError)), open_references(refs) as found:
            whole(found, 0)
        return
    with pytest.raises(SourceAccessError, match="may not be read"):
        open_references(refs)


def test_a_link_that_leads_out_is_refused(referred, secret, no_reading):
    slide, refs = referred
    slide.unlink()
    slide.symlink_to(secret)
    with pytest.raises(SourceAccessError, match="leads out"):
        open_references(refs)
    (slide.parent / "folder").symlink_to(secret.parent)
    rewritten(refs, "folder/secret.svs")
    with pytest.raises(SourceAccessError, match="leads out"):
        open_references(refs)


def test_one_bad_reference_among_many_is_enough(referred, no_reading):
    _, refs = referred
    document = json.loads(refs.read_text())
    document["refs"]["1/c/0/0/0"] = ["/etc/passwd", 0, 10]
    refs.write_text(json.dumps(document))
    with pytest.raises(SourceAccessError):
        wsistore.open_slide(refs)


def test_places_can_be_allowed(referred, secret):
    slide, refs = referred
    rewritten(refs, "../private/secret.svs")
    for allow in (secret.parent, str(secret), [secret.parent]):
        with open_references(refs, allow=allow) as found:
            assert whole(found, 1).shape == (55, 75, 3)
            assert whole(pickle.loads(pickle.dumps(found)), 1).shape == (55, 75, 3)
    with pytest.raises(SourceAccessError):
        open_references(refs, allow=[slide.parent / "other", "s3://bucket/"])


def test_urls_are_compared_whole():
    from wsistore.pyramid.views.allowing import Allowed

    allowed = Allowed("/refs/x.json", ["s3://bucket/slides", "https://host:443/a/"])
    for url in ["s3://bucket/slides/x.svs", "s3://bucket/slides", "HTTPS://Host/a/b.svs"]:
        assert allowed.resolve(url) == url
    for url in [
        "s3://bucket/slides-private/x.svs",
        "s3://bucket/slides/../private/x.svs",
        "s3://bucket/slides/%2e%2e/private/x.svs",
        "s3://bucket/slides/%252e%252e/private/x.svs",
        "s3://bucket/slides\\..\\..\\x.svs",
        "s3://bucket2/slides/x.svs",
        "gs://bucket/slides/x.svs",
        "https://host:444/a/b.svs",
        "https://host@evil/a/b.svs",
        "https://user:word@host/a/b.svs",
        "https://host/a/b.svs?signature=1",
        "https://host.evil/a/b.svs",
        "http://host/a/b.svs",
        "https://[::1/a",
    ]:
        with pytest.raises(SourceAccessError):
            allowed.resolve(url)
    remote = Allowed("s3://bucket/refs/x.json")
    assert remote.resolve("a/b.svs") == "s3://bucket/refs/a/b.svs"
    for place in ["../b.svs", "/etc/passwd", "s3://bucket/other/x.svs", "x.svs?y", "file:///x"]:
        with pytest.raises(SourceAccessError):
            remote.resolve(place)
    with pytest.raises(UsageError, match="credentials"):
        Allowed("/refs/x.json", ["https://user:word@host/"])


def test_messages_show_no_credentials(referred):
    _, refs = referred
    rewritten(refs, "https://user:canary@host/slide.svs?token=canary")
    with pytest.raises(SourceAccessError) as refused:
        open_references(refs)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["https://user:canary@host/x.svs", "https://host/x.svs?X-Amz-Signature=canary"],
)
def test_credentials_never_enter_references(tmp_path, url):
    with pytest.raises(UsageError, match="credentials") as refused:
        virtualize(url, tmp_path / "refs.json")
    assert "canary" not in str(refused.value)
    assert not list(tmp_path.iterdir())


# Broken files


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.update(version=0), UnsupportedSlideError),
        (lambda d: d.update(templates={"u": "x"}), UnsupportedSlideError),
        (lambda d: d.update(gen=[{"key": "x"}]), UnsupportedSlideError),
        (lambda d: d.pop("refs"), UnsupportedSlideError),
        (lambda d: d.update(refs=[]), CorruptSlideError),
        (lambda d: d["refs"].pop("zarr.json"), UnsupportedSlideError),
        (lambda d: d["refs"].pop("1/zarr.json"), CorruptSlideError),
        (lambda d: d["refs"].update({"0/c/0/0/0": ["slide.svs", -1, 5]}), CorruptSlideError),
        (lambda d: d["refs"].update({"0/c/0/0/0": ["slide.svs", 1.5, 5]}), CorruptSlideError),
        (lambda d: d["refs"].update({"0/c/0/0/0": ["slide.svs", True, 5]}), CorruptSlideError),
        (lambda d: d["refs"].update({"0/c/0/0/0": [None, 1, 5]}), CorruptSlideError),
        (lambda d: d["refs"].update({"0/c/0/0/0": 7}), CorruptSlideError),
        (lambda d: d["refs"].update({"0/c/0/0/0": "base64:&&"}), CorruptSlideError),
    ],
)
def test_broken_references_are_told(referred, change, error):
    _, refs = referred
    document = json.loads(refs.read_text())
    change(document)
    refs.write_text(json.dumps(document))
    with pytest.raises(error):
        open_references(refs)


def test_a_reference_beyond_the_file_is_told(referred):
    _, refs = referred
    document = json.loads(refs.read_text())
    document["refs"]["0/c/0/1/2"] = ["slide.svs", 1 << 40, 100]
    refs.write_text(json.dumps(document))
    with open_references(refs) as found:
        with pytest.raises(CorruptSlideError, match="column 2, row 1"):
            whole(found, 0)
        assert whole(found, 1).shape == (55, 75, 3)


def test_inline_chunks_are_read_too(referred):
    import base64

    slide, refs = referred
    document = json.loads(refs.read_text())
    _, offset, length = document["refs"]["0/c/0/0/0"]
    raw = slide.read_bytes()[offset : offset + length]
    document["refs"]["0/c/0/0/0"] = "base64:" + base64.b64encode(raw).decode()
    refs.write_text(json.dumps(document))
    with wsistore.open_slide(slide) as expected, open_references(refs) as found:
        assert_same(found, expected)


def test_a_destination_that_is_taken_is_kept(referred):
    slide, refs = referred
    before = refs.read_bytes()
    with pytest.raises(StoreExistsError):
        virtualize(slide, refs)
    virtualize(slide, refs, overwrite=True)
    assert refs.read_bytes() == before
    with pytest.raises(UsageError, match="Zarr v2"):
        virtualize(slide, refs, format="kerchunk-parquet")
    with pytest.raises(UsageError, match="unknown"):
        virtualize(slide, refs, format="zip")


# Buckets


def upload(bucket, **files):
    import obstore
    from obstore.store import from_url

    store = from_url(bucket)
    for name, data in files.items():
        obstore.put(store, name.replace("__", "/").replace("_svs", ".svs"), data)


def test_references_in_a_bucket_to_a_slide_beside_them(aperio, bucket, tmp_path):
    made = aperio(**SMALL)
    upload(bucket, slides__a_svs=made.path.read_bytes())
    url, refs = f"{bucket}/slides/a.svs", f"{bucket}/slides/a.json"
    virtualize(url, refs)
    with pytest.raises(StoreExistsError):
        virtualize(url, refs)
    with wsistore.open_slide(made.path) as slide:
        with wsistore.open_slide(refs) as found:
            assert_same(found, slide)
        virtualize(url, tmp_path / "a.json")
        with pytest.raises(SourceAccessError, match="no URL that is allowed"):
            open_references(tmp_path / "a.json")
        with open_references(tmp_path / "a.json", allow=[f"{bucket}/slides"]) as found:
            assert_same(found, slide)
    assert b"canary" not in (tmp_path / "a.json").read_bytes()
    with pytest.raises(UsageError, match="local file"):
        virtualize(made.path, f"{bucket}/x.json")


# icechunk


def test_icechunk_notices_a_slide_that_changed(aperio, place, tmp_path):
    icechunk = pytest.importorskip("icechunk")
    path = place(aperio(**SMALL))
    os.utime(path, (time.time() - 3600,) * 2)
    done = virtualize(path, tmp_path / "repo", format="icechunk")
    assert done.tiles == 5 * 4 + 2

    def group():
        storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
        # Without a credential of its own before icechunk 2.
        local = getattr(icechunk.credentials, "LocalFileSystemAccess", None)
        access = {f"file://{path.parent}/": local}
        repo = icechunk.Repository.open(storage, authorize_virtual_chunk_access=access)
        return zarr.open_group(repo.readonly_session("main").store, mode="r")

    with wsistore.open_slide(path) as slide:
        for level in (0, 1):
            pixels = group()[str(level)][:].transpose(1, 2, 0)
            np.testing.assert_array_equal(pixels, whole(slide, level))
    os.utime(path, (time.time() + 10,) * 2)
    with pytest.raises(icechunk.IcechunkError):
        group()["0"][:]
    with pytest.raises(StoreExistsError):
        virtualize(path, tmp_path / "repo", format="icechunk")
    with pytest.raises(UsageError, match="local folders"):
        virtualize("s3://bucket/slide.svs", "s3://bucket/repo", format="icechunk")


def test_icechunk_of_a_slide_in_a_bucket(aperio, bucket, tmp_path):
    icechunk = pytest.importorskip("icechunk")
    made = aperio(**SMALL)
    upload(bucket, slides__a_svs=made.path.read_bytes())
    virtualize(f"{bucket}/slides/a.svs", tmp_path / "repo", format="icechunk")
    for file in (tmp_path / "repo").rglob("*"):
        assert not file.is_file() or b"canary" not in file.read_bytes()
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    access = {f"{bucket}/slides/": icechunk.s3_credentials(from_env=True)}

    def group():
        repo = icechunk.Repository.open(
            storage, authorize_virtual_chunk_access=icechunk.containers_credentials(access)
        )
        return zarr.open_group(repo.readonly_session("main").store, mode="r")

    with wsistore.open_slide(made.path) as slide:
        np.testing.assert_array_equal(group()["0"][:].transpose(1, 2, 0), whole(slide, 0))
    upload(bucket, slides__a_svs=made.path.read_bytes() + b"x")
    with pytest.raises(icechunk.IcechunkError):
        group()["0"][:]
