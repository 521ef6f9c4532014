"""Batches of patches: the same pixels as OpenSlide, whatever the way they are read."""

import numpy as np
import openslide
import pytest

import wsistore
from wsistore import Resolution
from wsistore.errors import (
    DamagedTileError,
    MissingTileError,
    ResolutionError,
    SourceNotFoundError,
    UsageError,
)
from wsistore.testing import VARIANTS, damage
from wsistore.tiles import SlideCache, read_context, read_tile, read_tiles

READ_BY_OPENSLIDE = [name for name, variant in VARIANTS.items() if variant.openslide]
MIXED = ("jpeg_rgb_tables", "jpeg_ycbcr420_tables", "j2k_33003", "j2k_33005", "lzw")


def over_white(image):
    pixels = np.asarray(image).astype(np.uint16)
    alpha = pixels[..., 3:]
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def places(rng, size, count, patch):
    """Corners over the whole slide, across every edge, and wholly outside."""
    x = rng.integers(-2 * patch, size[0] + patch, count)
    y = rng.integers(-2 * patch, size[1] + patch, count)
    corners = [(0, 0), (-patch // 2, -patch // 2), (size[0] - 7, size[1] - 5), (9 * size[0], 0)]
    return corners + list(zip(x.tolist(), y.tolist(), strict=True))


@pytest.mark.parametrize("variant", READ_BY_OPENSLIDE)
def test_random_boxes_equal_openslide(variant, aperio):
    slide = aperio(variant, size=(600, 420))
    corners = places(np.random.default_rng(7), slide.size, 40, 100)
    got = read_tiles([(slide.path, x, y) for x, y in corners], 100, 0)
    with openslide.OpenSlide(slide.path) as peer:
        for pixels, (x, y) in zip(got, corners, strict=True):
            expected = over_white(peer.read_region((x, y), 0, (100, 100)))
            difference = np.abs(pixels.astype(int) - expected)
            assert difference.max() <= VARIANTS[variant].tolerance, (x, y)


@pytest.mark.parametrize("tile", [240, 256, 512])
@pytest.mark.parametrize("level", [0, 1])
def test_thousands_of_boxes_equal_openslide(tile, level, aperio):
    slide = aperio("jpeg_rgb_tables", size=(1600, 1200), tile=tile, levels=(1, 4))
    rng = np.random.default_rng(tile)
    step = 4 if level else 1
    corners = [(x * step, y * step) for x, y in places(rng, (1600 // step, 1200 // step), 400, 64)]
    got = read_tiles([(slide.path, x, y) for x, y in corners], (64, 48), level)
    with openslide.OpenSlide(slide.path) as peer:
        for pixels, (x, y) in zip(got, corners, strict=True):
            expected = over_white(peer.read_region((x, y), level, (64, 48)))
            assert np.array_equal(pixels, expected), (x, y)


@pytest.fixture
def mixed(aperio):
    """Requests over slides of five encodings, and their slides."""
    slides = [aperio(v, size=(900, 700), magnification="40", mpp="0.25") for v in MIXED]
    rng = np.random.default_rng(3)
    return [
        (slides[i % len(slides)].path, x, y)
        for i, (x, y) in enumerate(places(rng, (900, 700), 60, 128))
    ]


@pytest.mark.parametrize("resolution", ["40x", "10x", "20x", "0.6mpp", "level:1"])
def test_every_way_of_reading_gives_the_same_bytes(mixed, resolution):
    batch = read_tiles(mixed, 128, resolution, threads=1)
    assert batch.shape == (len(mixed), 128, 128, 3)
    assert np.array_equal(read_tiles(mixed, 128, resolution, threads=3), batch)
    planar = read_tiles(mixed, 128, resolution, layout="nchw")
    assert planar.flags.c_contiguous
    assert np.array_equal(planar.transpose(0, 2, 3, 1), batch)
    fast = read_tiles(mixed, 128, resolution, integrity="fast")
    assert np.array_equal(fast, batch)
    for single, (path, x, y) in zip(batch[::7], mixed[::7], strict=True):
        assert np.array_equal(read_tile(path, x, y, 128, resolution), single)
    backwards = read_tiles(mixed[::-1], 128, resolution)
    assert np.array_equal(backwards[::-1], batch)


def test_colours_are_right_for_every_encoding_in_one_batch(aperio):
    """Seed acceptance test 1: a mixed batch at 10x from 40x."""
    slides = [
        aperio(v, size=(1024, 1024), levels=(1,), magnification="40", mpp="0.25")
        for v in ("jpeg_rgb_tables", "jpeg_ycbcr420_tables", "j2k_33003", "j2k_33005")
    ]
    got = read_tiles([(s.path, 0, 0) for s in slides], 256, "10x")
    truth = slides[0].level_pixels(0).reshape(256, 4, 256, 4, 3).mean(axis=(1, 3))
    for pixels in got:
        assert np.abs(pixels - truth).mean() < 4
        assert np.abs(pixels.mean(axis=(0, 1)) - truth.mean(axis=(0, 1))).max() < 2


def test_requests_may_have_resolutions_and_slides_of_their_own(aperio):
    path = aperio("jpeg_rgb_tables", magnification="20", mpp="0.5").path
    slide = wsistore.open_slide(path)
    got = read_tiles(
        [(slide, 100, 80, 0), (path, 100, 80, "level:1"), (slide, 100, 80)],
        64,
        Resolution.mpp(0.5),
    )
    assert np.array_equal(got[0], slide.read_region((100, 80), 0, (64, 64)))
    assert np.array_equal(got[1], slide.read_region((100, 80), 1, (64, 64)))
    assert np.array_equal(got[2], got[0])


@pytest.mark.parametrize(
    ("size", "own", "wanted", "levels"),
    [
        (256, 40, 20, (1,)),
        (256, 40, 10, (1, 4)),
        (256, 40, 10, (1,)),
        (256, 40, 5, (1,)),
        (512, 40, 10, (1,)),
        (100, 40, 15, (1, 4)),
        (100, 40, 7, (1, 4)),
    ],
)
def test_side_lengths_are_exact(size, own, wanted, levels, aperio):
    slide = aperio("jpeg_rgb_tables", levels=levels, magnification=str(own), mpp="0.25")
    got = read_tile(slide.path, -30, 20, size, f"{wanted}x")
    assert got.shape == (size, size, 3)


@pytest.mark.parametrize("factor", [2, 3, 3.3, 5, 8])
def test_exact_reading_is_the_area_average(factor, aperio):
    slide = wsistore.open_slide(
        aperio("jpeg_ycbcr422_tables", levels=(1,), magnification="40", mpp="0.25").path
    )
    side = round(40 * factor)
    for x, y in [(0, 0), (333, 101), (512, 256)]:
        got = read_tile(slide, x, y, 40, f"{0.25 * factor}mpp", exact=True)
        whole = slide.read_region((x, y), 0, (side + 1, side + 1)).astype(float)
        mean = whole[: int(40 * factor), : int(40 * factor)].mean()
        assert abs(got.mean() - mean) < 0.6
        if factor == int(factor):
            blocks = whole[:side, :side].reshape(40, int(factor), 40, int(factor), 3)
            assert np.abs(got - blocks.mean(axis=(1, 3))).max() <= 0.5


def tissue_grid(slide, step):
    return [
        (slide.path, x, y)
        for y in range(0, slide.size[1] - 512, step)
        for x in range(0, slide.size[0] - 512, step)
    ]


@pytest.mark.parametrize(("factor", "most"), [(2, 1.5), (4, 3.0), (8, 3.0)])
def test_scaled_decoding_is_near_the_area_average_without_bias(factor, most, aperio):
    slide = aperio(
        "jpeg_ycbcr422_tables", size=(2048, 2048), levels=(1,), magnification="40", mpp="0.25"
    )
    requests = tissue_grid(slide, 512)
    scaled = read_tiles(requests, 512 // factor, f"{40 / factor}x").astype(float)
    exact = read_tiles(requests, 512 // factor, f"{40 / factor}x", exact=True)
    assert np.abs(scaled - exact).mean() <= most
    assert abs((scaled - exact).mean()) <= 0.1


def test_scaled_decoding_does_not_shift(aperio):
    """Sub-pixel registration by the phase of the cross spectrum's lowest frequencies."""
    slide = aperio(
        "jpeg_ycbcr422_tables", size=(2048, 2048), levels=(1,), magnification="40", mpp="0.25"
    )
    scaled = read_tile(slide.path, 256, 256, 512, "20x").astype(float).mean(axis=2)
    exact = read_tile(slide.path, 256, 256, 512, "20x", exact=True).astype(float).mean(axis=2)
    window = np.hanning(512)[:, None] * np.hanning(512)
    cross = np.fft.fft2((scaled - scaled.mean()) * window) * np.conj(
        np.fft.fft2((exact - exact.mean()) * window)
    )
    index = np.fft.fftfreq(512)[:32]
    for axis in (0, 1):
        phase = np.angle((cross[:32, :32]).sum(axis=1 - axis))
        weight = np.abs((cross[:32, :32]).sum(axis=1 - axis))
        shift = (weight * phase * index).sum() / (2 * np.pi * (weight * index**2).sum())
        assert abs(shift) < 0.02


def test_corners_off_the_scaled_grid_move_by_half_a_pixel_at_most(aperio):
    slide = aperio("jpeg_rgb_tables", levels=(1,), magnification="40", mpp="0.25")
    whole = read_tile(slide.path, 0, 0, 300, "20x")
    for x, expected in [(100, 50), (101, 50), (102, 51), (103, 51)]:
        got = read_tile(slide.path, x, 64, 50, "20x")
        assert np.array_equal(got, whole[32:82, expected : expected + 50])


def test_finer_than_level_0_only_when_allowed(aperio):
    path = aperio("jpeg_rgb_tables", magnification="20", mpp="0.5").path
    with pytest.raises(ResolutionError, match="finest level"):
        read_tile(path, 0, 0, 64, "40x")
    got = read_tile(path, 200, 200, 64, "40x", allow_upsample=True)
    small = read_tile(path, 200, 200, 32, "20x")
    assert got.shape == (64, 64, 3)
    assert abs(got.mean() - small.mean()) < 1


# Output and cost


def test_output_goes_where_it_is_asked_for(aperio):
    path = aperio("jpeg_rgb_tables").path
    buffer = np.zeros((3, 2, 32, 32, 3), np.uint8)
    got = read_tiles([(path, 0, 0), (path, 5, 5)], 32, 0, out=buffer[1])
    assert np.shares_memory(got, buffer)
    assert buffer[1].any()
    assert not buffer[0].any()
    assert not buffer[2].any()
    with pytest.raises(UsageError, match=r"expected \(2, 32, 32, 3\) uint8"):
        read_tiles([(path, 0, 0), (path, 5, 5)], 32, 0, out=buffer[0, :1])


def test_each_encoded_tile_is_decoded_once_per_batch(aperio):
    slide = aperio("jpeg_rgb_tables", size=(1024, 1024), tile=256, levels=(1,))
    requests = [(slide.path, x, y) for y in range(0, 768, 64) for x in range(0, 768, 64)]
    _, report = read_tiles(requests, 256, 0, return_report=True)
    assert report.tiles_decoded == 16
    assert report.bytes_read == slide.written[0].counts.sum()
    assert report.valid_fraction.tolist() == [1.0] * len(requests)


def test_an_unaligned_patch_costs_four_tiles_and_an_aligned_one(aperio):
    path = aperio("jpeg_rgb_tables", size=(1024, 1024), tile=256, levels=(1,)).path
    assert read_tiles([(path, 300, 300)], 256, 0, return_report=True)[1].tiles_decoded == 4
    assert read_tiles([(path, 256, 512)], 256, 0, return_report=True)[1].tiles_decoded == 1


def test_padding_and_valid_fraction(aperio):
    slide = aperio("jpeg_rgb_tables", size=(600, 420), levels=(1,))
    got, report = read_tiles(
        [(slide.path, -50, 0), (slide.path, 550, 400), (slide.path, 5000, 0)],
        100,
        0,
        fill=7,
        return_report=True,
    )
    assert report.valid_fraction.tolist() == pytest.approx([0.5, 0.1, 0.0])
    assert (got[0][:, :50] == 7).all()
    assert np.array_equal(got[0][:, 50:], slide.level_pixels(0)[:100, :50])
    assert (got[2] == 7).all()
    assert not report.faults


@pytest.mark.parametrize("exact", [False, True])
def test_patches_inside_are_wholly_valid_at_any_resolution(exact, aperio):
    path = aperio("jpeg_rgb_tables", size=(600, 400), levels=(1,), magnification="20").path
    corners = [(536, 100), (536, 336), (0, 0), (568, 100), (-32, 0), (700, 0)]
    _, report = read_tiles(
        [(path, x, y) for x, y in corners], 32, "10x", exact=exact, return_report=True
    )
    assert report.valid_fraction.tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.0]


def test_an_empty_batch():
    assert read_tiles([], 32, 0).shape == (0, 32, 32, 3)


# Missing and damaged


def test_missing_tiles_are_painted_and_told(aperio):
    slide = aperio("jpeg_rgb_tables", size=(768, 512), levels=(1,), missing=((0, 1, 0),))
    got, report = read_tiles(
        [(slide.path, 200, 0), (slide.path, 0, 256)], 256, 0, return_report=True
    )
    assert np.array_equal(got[0], slide.level_pixels(0)[:256, 200:456])
    assert (got[0][:, 56:] == 255).all()
    (fault,) = report.faults
    assert (fault.request, fault.level, fault.column, fault.row) == (0, 0, 1, 0)
    assert (fault.code, fault.reason) == ("WSI401", "missing")
    assert report.valid_fraction.tolist() == pytest.approx([56 / 256, 1.0])
    with pytest.raises(MissingTileError, match="column 1, row 0"):
        read_tiles([(slide.path, 200, 0)], 256, 0, on_bad_tile="raise")


@pytest.fixture
def damaged(aperio, tmp_path):
    """A copy of a slide whose tile (1, 1) does not decode, and its true pixels."""
    slide = aperio("jpeg_rgb_tables", size=(768, 768), levels=(1,), magnification="40", mpp="0.25")
    truth = slide.level_pixels(0)
    copy = tmp_path / "damaged.svs"
    copy.write_bytes(slide.path.read_bytes())
    damage.overwrite_tile(copy, 0, 1, 1, "truncate")
    return copy, truth


@pytest.mark.parametrize("threads", [1, 3])
def test_a_damaged_tile_raises_with_its_name(damaged, threads):
    path, truth = damaged
    with pytest.raises(DamagedTileError, match="damaged: level 0, tile column 1, row 1"):
        read_tiles([(path, 200, 200), (path, 0, 0)], 256, 0, threads=threads)
    assert np.array_equal(read_tile(path, 0, 0, 256, 0), truth[:256, :256])


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_damaged_tile_is_filled_and_told(damaged, layout):
    path, truth = damaged
    got, report = read_tiles(
        [(path, 200, 200), (path, 0, 0)],
        256,
        0,
        on_bad_tile="fill",
        fill=9,
        layout=layout,
        return_report=True,
    )
    if layout == "nchw":
        got = got.transpose(0, 2, 3, 1)
    assert (got[0][56:, 56:] == 9).all()
    assert np.array_equal(got[0][:56], truth[200:256, 200:456])
    assert np.array_equal(got[1], truth[:256, :256])
    (fault,) = report.faults
    assert (fault.request, fault.column, fault.row, fault.code) == (0, 1, 1, "WSI402")
    assert report.valid_fraction.tolist() == pytest.approx([1 - 200 * 200 / 65536, 1.0])


def test_a_tile_outside_of_the_file_costs_no_other(aperio, tmp_path):
    slide = aperio("jpeg_rgb_tables", size=(768, 768), levels=(1,))
    truth = slide.level_pixels(0)
    copy = tmp_path / "beyond.svs"
    copy.write_bytes(slide.path.read_bytes())
    damage.overwrite_tile(copy, 0, 1, 1, "beyond")
    got, report = read_tiles(
        [(copy, 128, 128)], 256, 0, on_bad_tile="fill", fill=0, return_report=True
    )
    expected = truth[128:384, 128:384].copy()
    expected[128:, 128:] = 0
    assert np.array_equal(got[0], expected)
    (fault,) = report.faults
    assert (fault.column, fault.row, fault.code) == (1, 1, "WSI302")


def test_a_slide_that_can_not_be_opened(aperio, tmp_path):
    good = aperio("jpeg_rgb_tables").path
    bad = tmp_path / "gone.svs"
    with pytest.raises(SourceNotFoundError):
        read_tiles([(good, 0, 0), (bad, 0, 0)], 64, 0)
    got, report = read_tiles(
        [(good, 0, 0), (bad, 0, 0)], 64, 0, on_bad_tile="fill", return_report=True
    )
    assert (got[1] == 255).all()
    assert got[0].min() < 255 or report.valid_fraction[0] == 1
    (fault,) = report.faults
    assert (fault.request, fault.code, fault.level) == (1, "WSI201", -1)
    assert report.valid_fraction.tolist() == [1.0, 0.0]


def test_a_replaced_file_is_opened_anew(aperio, tmp_path):
    first = aperio("jpeg_rgb_tables", seed=1, size=(300, 300), levels=(1,))
    second = aperio("jpeg_rgb_tables", seed=2, size=(300, 300), levels=(1,))
    path = tmp_path / "slide.svs"
    cache = SlideCache()
    for slide in (first, second):
        path.unlink(missing_ok=True)
        path.write_bytes(slide.path.read_bytes())
        got = read_tile(path, 0, 0, 300, 0, cache=cache)
        assert np.array_equal(got, slide.level_pixels(0))


# Context and wrong calls


def test_context_shares_centres(aperio):
    path = aperio("jpeg_rgb_tables", magnification="40", mpp="0.25").path
    got = read_context([(path, 500, 400), (path, 300, 300)], 64, ["40x", "20x", "10x"])
    assert got.shape == (2, 3, 64, 64, 3)
    assert np.array_equal(got[0, 0], read_tile(path, 468, 368, 64, "40x"))
    assert np.array_equal(got[1, 1], read_tile(path, 236, 236, 64, "20x"))
    assert np.array_equal(got[1, 2], read_tile(path, 172, 172, 64, "10x"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "nwhc"}, "layout must be one of"),
        ({"on_bad_tile": "ignore"}, "on_bad_tile must be one of"),
        ({"integrity": "none"}, "integrity must be one of"),
        ({"fill": 256}, "grey level"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"size": 0}, "positive side"),
        ({"size": (3, 4, 5)}, "positive side"),
        ({"resolution": 0.5}, "not a resolution"),
        ({"resolution": None}, "names no resolution"),
        ({"requests": [("a.svs", 1)]}, "request 0 is not"),
        ({"requests": [("a.svs", 1.5, 2)]}, "not whole level-0 px"),
    ],
)
def test_wrong_calls_are_refused(change, message):
    call = {"requests": [("a.svs", 0, 0)], "size": 32, "resolution": 0, **change}
    with pytest.raises(UsageError, match=message):
        read_tiles(call.pop("requests"), call.pop("size"), call.pop("resolution"), **call)
