"""Pixel filters: their rules at the limits, their order, and what they leave behind."""

import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsistore
from wsistore import TileSpec, plan_tiles, read_tiles
from wsistore.errors import DamagedTileError, UsageError
from wsistore.testing import damage
from wsistore.testing.blank import blank_slide
from wsistore.tiles.filtering import apply_filters, as_filters
from wsistore.tiles.filters import (
    BlackFilter,
    EntropyFilter,
    FocusFilter,
    StdFilter,
    WhiteFilter,
)


def part(colour, count, other=(180, 60, 120)):
    """Return 10 x 10 px of which the first `count` have a colour."""
    pixels = np.empty((100, 3), np.uint8)
    pixels[:] = other
    pixels[:count] = colour
    return pixels.reshape(10, 10, 3)


def kept(item, pixels):
    return bool(item.keeps(np.array([item.score(pixels)]))[0])


@pytest.mark.parametrize(
    ("item", "colour", "counts"),
    [
        (WhiteFilter(), (250, 250, 250), True),
        (WhiteFilter(), (200, 200, 200), True),  # value 200 is white
        (WhiteFilter(), (199, 199, 199), False),
        (WhiteFilter(), (200, 188, 200), False),  # saturation 15 is not
        (WhiteFilter(), (200, 189, 200), True),  # and 14 is
        (WhiteFilter(saturation=60), (200, 160, 200), True),
        (BlackFilter(), (49, 49, 49), True),
        (BlackFilter(), (50, 50, 50), False),
        (BlackFilter(grey=51), (50, 50, 50), True),
        (BlackFilter(), (160, 0, 0), True),  # grey of pure red counts 0.299
    ],
)
def test_white_and_black_at_their_limits(item, colour, counts):
    assert item.score(part(colour, 70)) == (0.7 if counts else 0)
    assert kept(item, part(colour, 69))
    assert kept(item, part(colour, 70)) is not counts  # 70 % or more


@given(seed=st.integers(0, 1000), spread=st.integers(1, 255))
def test_scores_equal_numpy(seed, spread):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, spread + 1, (37, 53, 3)).astype(np.uint8)
    assert StdFilter().score(pixels) == pytest.approx(pixels.std(), rel=1e-9)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    sharp = cv2.Laplacian(grey, cv2.CV_64F).var()
    assert FocusFilter().score(pixels) == pytest.approx(sharp, rel=1e-9)
    share = np.unique(grey, return_counts=True)[1] / grey.size
    bits = -(share * np.log2(share)).sum()
    assert EntropyFilter().score(pixels) == pytest.approx(bits, abs=1e-9)


def test_flat_tiles_score_nothing():
    flat = np.full((16, 16, 3), 77, np.uint8)
    assert [item().score(flat) for item in (StdFilter, FocusFilter, EntropyFilter)] == [0, 0, 0]
    assert not kept(StdFilter(0.0), flat)
    assert kept(StdFilter(None), flat)
    assert kept(FocusFilter(), flat)  # scores without dropping
    assert not kept(EntropyFilter(1.0), flat)


def test_exactly_eight_is_too_little():
    pixels = np.full((4, 4, 3), 100, np.uint8)
    pixels[:2] = 116
    assert StdFilter().score(pixels) == 8
    assert not kept(StdFilter(), pixels)


def test_cheap_filters_run_first():
    names = [item.name for item in as_filters(["entropy", FocusFilter(), "white", "std", "black"])]
    assert names == ["black", "std", "white", "focus", "entropy"]


@pytest.mark.parametrize("filters", [["std", StdFilter(9)], ["no-such"], [object()]])
def test_filters_that_make_no_sense_are_refused(filters):
    with pytest.raises(UsageError, match=r"filter"):
        as_filters(filters)


@pytest.fixture(scope="module")
def slide(slide_factory):
    file = slide_factory("lzw", size=(1000, 900), tile=256, levels=(1, 4), magnification="40")
    with wsistore.open_slide(file.path) as opened:
        yield opened


def reference(slide, plan, filters):
    """Return kept rows and scores by a plain loop over all pixels."""
    pixels = read_tiles(plan.requests(slide), plan.size, plan.resolution)
    rows, scores = [], {item.name: [] for item in filters}
    for row, tile in enumerate(pixels):
        found = {}
        for item in filters:
            found[item.name] = item.score(tile)
            if not item.keeps(np.array([found[item.name]]))[0]:
                break
        else:
            rows.append(row)
            for name, value in found.items():
                scores[name].append(value)
    return rows, scores


@pytest.mark.parametrize("options", [{}, {"batch_size": 3, "threads": 1, "prefetch": 0}])
def test_a_plan_is_filtered_as_by_a_loop(slide, options):
    spec = TileSpec(64, resolution="20x")
    plan = plan_tiles(slide, spec)
    every = plan_tiles(slide, spec, filters=[StdFilter(None), WhiteFilter(fraction=1.1)])
    limit = float(np.median(every.extras["std"]))
    filters = [StdFilter(limit), WhiteFilter(fraction=float(np.median(every.extras["white"])))]
    rows, scores = reference(slide, plan, filters)
    assert 0 < len(rows) < len(plan) / 2
    found = plan_tiles(slide, spec, filters=filters, **options)
    assert found.x.tolist() == plan.x[rows].tolist()
    assert found.y.tolist() == plan.y[rows].tolist()
    for name, values in scores.items():
        assert found.extras[name].tolist() == np.array(values, np.float32).tolist()
    std, white = found.rules[-2:]
    assert (std.name, std.parameters) == ("std", {"resolution": None, "minimum": limit})
    assert (std.seen, white.seen) == (len(plan), len(plan) - std.dropped)
    assert white.seen - white.dropped == len(found)
    assert found == plan_tiles(slide, spec, filters=filters)
    assert found.plan_id != plan[rows].plan_id


def test_filters_may_look_at_another_resolution(slide):
    spec = TileSpec(128, resolution="40x")
    plan = plan_tiles(slide, spec, filters=[StdFilter(None), FocusFilter(resolution="10x")])
    pixels = read_tiles(plan.requests(slide), 32, "10x")
    expected = [FocusFilter().score(tile) for tile in pixels]
    assert plan.extras["focus"].tolist() == np.array(expected, np.float32).tolist()
    pixels = read_tiles(plan.requests(slide), 128, "40x")
    expected = [StdFilter().score(tile) for tile in pixels]
    assert plan.extras["std"].tolist() == np.array(expected, np.float32).tolist()


def test_what_lies_outside_has_the_fill_of_the_spec(slide):
    spec = TileSpec(256, resolution=0, edge="pad", fill=0)
    plan = plan_tiles(slide, spec, filters=[BlackFilter(fraction=2)])
    corner = plan[-1:]
    assert corner.extras["black"][0] >= 1 - corner.valid_fraction[0] > 0.1


def test_filtering_nothing_and_the_wrong_slide(slide):
    plan = plan_tiles(slide, TileSpec(64, resolution="20x"))
    none = apply_filters(plan[:0], slide, ["std"])
    assert len(none) == 0
    assert none.extras["std"].dtype == np.float32
    with pytest.raises(UsageError, match="not the slide"):
        apply_filters(plan, blank_slide((1000, 901)), ["std"])
    with pytest.raises(UsageError, match="nothing is read"):
        plan_tiles(slide, TileSpec(64, resolution="20x"), threads=2)


def test_damage_is_no_reason_to_drop_a_tile(slide_factory, tmp_path):
    file = slide_factory("jpeg_rgb_tables", size=(512, 512), tile=256, levels=(1,))
    broken = tmp_path / "broken.svs"
    shutil.copy(file.path, broken)
    damage.overwrite_tile(broken, 0, 1, 1)
    with (
        wsistore.open_slide(broken) as slide,
        pytest.raises(DamagedTileError),
    ):
        plan_tiles(slide, TileSpec(256, resolution=0), filters=["std"])
