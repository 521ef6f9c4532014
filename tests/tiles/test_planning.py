"""Planning: edges, tissue, contours, layouts and alignment, for all slides and specs."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsistore
from wsistore import TileSpec, plan_tiles
from wsistore.errors import ResolutionError, UsageError
from wsistore.geometry import Size
from wsistore.testing.blank import blank_slide
from wsistore.tiles import iter_tiles
from wsistore.tissue import TissueMask
from wsistore.tissue.contours import Contour, find_contours
from wsistore.tissue.polygons import Polygon

SLIDE = (5000, 3000)


def box(left, top, right, bottom, tissue_id=1, holes=()):
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return Contour(Polygon(np.array(corners, float), holes), tissue_id)


def covered(plan, size):
    """Return which px of level 0 tiles lie on."""
    width, height = size
    seen = np.zeros((height, width), np.bool_)
    for x, y, w, h in plan.boxes.tolist():
        seen[y : y + h, x : x + w] = True
    return seen


# Edges


@given(
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    tile=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    factor=st.sampled_from([1, 2, 4]),
    gap=st.integers(0, 199),
)
def test_shift_covers_every_px_and_leaves_the_slide_for_small_slides_alone(size, tile, factor, gap):
    slide = blank_slide(size, (1,))
    stride = tuple(max(1, side - gap) for side in tile)
    spec = TileSpec(tile, stride, f"{40 / factor}x", edge="shift")
    plan = plan_tiles(slide, spec)
    whole = [max(1, side // factor * factor) for side in size]  # of the resolution's own px
    assert covered(plan, size)[: whole[1], : whole[0]].all()
    for start, side, extent in zip((plan.x, plan.y), plan.size_level0, size, strict=True):
        assert (start + side <= max(extent, side)).all()


@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    tile=st.integers(20, 600),
    stride=st.integers(20, 700),
    power=st.floats(2.0, 40.0),
    layout=st.sampled_from(["rectangular", "hexagonal"]),
    edge=st.sampled_from(["drop", "keep", "shift", "pad"]),
)
def test_plans_hold_what_they_promise(size, tile, stride, power, layout, edge):
    slide = blank_slide(size, (1, 4))
    spec = TileSpec(tile, stride, f"{power:.3f}x", edge=edge, layout=layout)
    plan = plan_tiles(slide, spec)
    width, height = plan.size_level0
    places = list(zip(plan.y.tolist(), plan.x.tolist(), strict=True))
    assert places == sorted(set(places))  # in order and without repeats
    assert plan.x.min(initial=0) >= 0
    assert plan.y.min(initial=0) >= 0
    assert (plan.x < size[0]).all()
    assert (plan.y < size[1]).all()  # none wholly outside
    assert (plan.valid_fraction > 0).all()
    if edge == "drop":
        assert (plan.x + width <= size[0]).all()
        assert (plan.y + height <= size[1]).all()
        assert (plan.valid_fraction == 1).all()
    if edge == "keep":
        level = slide.levels[plan.geometry.level]
        right = np.floor(plan.x / level.downsample + 1e-6) + plan.read_width
        assert (right <= max(level.size.width, 1)).all()
    else:
        assert (plan.read_width == plan.geometry.read_size.width).all()


def test_the_four_policies():
    slide = blank_slide((1000, 512), (1,))

    def starts(edge):
        plan = plan_tiles(slide, TileSpec(300, 250, 0, edge=edge))
        assert (plan.y == 0).sum() == len(plan.x[plan.y == 0])
        return plan, plan.x[plan.y == 0].tolist()

    assert starts("drop")[1] == [0, 250, 500]
    assert starts("shift")[1] == [0, 250, 500, 700]
    kept, at = starts("keep")
    assert at == starts("pad")[1] == [0, 250, 500, 750]
    assert kept.read_width[:4].tolist() == [300, 300, 300, 250]
    assert kept.valid_fraction[:4].tolist() == pytest.approx([1, 1, 1, 250 / 300])
    padded, _ = starts("pad")
    assert set(padded.read_width.tolist()) == {300}
    assert (padded.valid_fraction == kept.valid_fraction).all()


def test_no_patch_reaches_past_the_edge_unless_asked():
    """The tool of seed 001 kept 9 patches of 25 that did."""
    slide = blank_slide((1100, 1100), (1,))
    contour = box(0, 0, 1100, 1100)
    for spec in (TileSpec(256, resolution=0), TileSpec(256, resolution=0, origin="region")):
        plan = plan_tiles(slide, spec, contours=[contour], contour_rule="any")
        assert len(plan) == 16
        assert (plan.valid_fraction == 1).all()
    padded = plan_tiles(
        slide, TileSpec(256, resolution=0, edge="pad"), contours=[contour], contour_rule="any"
    )
    assert len(padded) == 25
    assert (padded.valid_fraction < 1).sum() == 9


def test_a_stated_pixel_size_moves_the_footprint(aperio):
    """A stated mpp drives the geometry even where the slide has an objective power."""
    file = aperio("jpeg_rgb_tables", magnification="40", mpp="0.25")
    with wsistore.open_slide(file.path) as slide:
        assert plan_tiles(slide, TileSpec(64, resolution="1mpp")).size_level0 == (256, 256)
    with wsistore.open_slide(file.path, mpp=0.5) as slide:
        assert plan_tiles(slide, TileSpec(64, resolution="1mpp")).size_level0 == (128, 128)
        plan = plan_tiles(slide, TileSpec(64, resolution="20x"))  # 0.5 µm/px is 20x
        assert plan.size_level0 == (64, 64)
        assert plan.slide.mpp_origin == "argument"
    with pytest.raises(ResolutionError):
        plan_tiles(blank_slide(SLIDE), TileSpec(256, resolution="41x"))


# Tissue


@given(
    seed=st.integers(0, 1000),
    tile=st.integers(10, 900),
    stride=st.integers(50, 900),
    least=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_tissue_ratios_are_exact(seed, tile, stride, least):
    rng = np.random.default_rng(seed)
    size = (600, 400)
    pixels = rng.random((40, 60)) < 0.5
    truth = np.kron(pixels, np.ones((10, 10)))
    slide = blank_slide(size, (1,))
    plan = plan_tiles(slide, TileSpec(tile, stride, 0, edge="pad"), pixels, min_tissue=least)
    everything = plan_tiles(slide, TileSpec(tile, stride, 0, edge="pad"))
    kept = set(zip(plan.x.tolist(), plan.y.tolist(), strict=True))
    ratios = {(x, y): r for x, y, r in zip(plan.x, plan.y, plan.tissue_ratio, strict=True)}
    for x, y in zip(everything.x.tolist(), everything.y.tolist(), strict=True):
        share = truth[y : y + tile, x : x + tile].sum() / tile**2
        if abs(share - least) > 1e-9:
            assert ((x, y) in kept) == (share >= least)
        if (x, y) in kept:
            assert ratios[x, y] == pytest.approx(share, abs=1e-6)


def test_what_decides_where_mask_and_contours_are_given():
    slide = blank_slide(SLIDE)
    mask = TissueMask(np.pad(np.ones((10, 10), bool), ((5, 15), (5, 35))), Size(*SLIDE))
    spec = TileSpec(100, resolution=0)
    contours = find_contours(mask)
    assert len(plan_tiles(slide, spec, mask)) == 100
    some = plan_tiles(slide, spec, mask, contours=contours, contour_rule="any")
    assert len(some) == 100
    moved = [box(550, 550, 1600, 1600)]
    both = plan_tiles(slide, spec, mask, contours=moved, contour_rule="any")
    assert len(both) == 121
    assert both.tissue_ratio.min() == 0  # recorded, not put to a limit
    assert len(plan_tiles(slide, spec, mask, contours=moved, min_tissue=0.5)) < 121
    assert np.isnan(plan_tiles(slide, spec).tissue_ratio).all()
    with pytest.raises(UsageError, match="needs a mask"):
        plan_tiles(slide, spec, min_tissue=0.5)
    with pytest.raises(UsageError, match="fraction"):
        plan_tiles(slide, spec, mask, min_tissue=1.5)
    with pytest.raises(UsageError, match="the mask is of a slide"):
        plan_tiles(blank_slide((5000, 3001)), spec, mask)


# Contours


@pytest.mark.parametrize("origin", ["slide", "region"])
def test_regions_that_share_a_cell_give_its_tile_once(origin):
    """The tool of seed 001 wrote 3 rows for 2 patches."""
    slide = blank_slide(SLIDE, (1,))
    contours = [box(0, 0, 200, 500, 1), box(0, 0, 1000, 500, 2), box(300, 0, 700, 500, 3)]
    plan = plan_tiles(
        slide, TileSpec(512, resolution=0, origin=origin), contours=contours, contour_rule="any"
    )
    places = list(zip(plan.x.tolist(), plan.y.tolist(), strict=True))
    assert len(set(places)) == len(places)
    assert plan.contour[places.index((0, 0))] == 1  # the first one that takes it
    assert plan.contour[places.index((512, 0))] == 2
    if origin == "slide":
        assert places == [(0, 0), (512, 0)]
        assert [(rule.seen, rule.dropped) for rule in plan.rules] == [(60, 15), (45, 43)]


def test_an_origin_in_the_region():
    slide = blank_slide(SLIDE, (1,))
    spec = TileSpec(100, resolution=0, origin="region")
    plan = plan_tiles(slide, spec, contours=[box(77.5, 33, 280, 150)], contour_rule="basic")
    # The corner of the box rounds down, and so lies outside of the contour itself.
    assert plan.x.tolist() == [177, 277, 177, 277]
    plan = plan_tiles(slide, spec, contours=[box(77, 33, 280, 150)], contour_rule="basic")
    assert plan.x.tolist() == [77, 177, 277] * 2
    assert plan.y.tolist() == [33] * 3 + [133] * 3
    assert plan.column.tolist() == [0, 1, 2] * 2
    with pytest.raises(UsageError, match="needs contours"):
        plan_tiles(slide, spec)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("basic", [100, 200, 300]),  # corners within [100, 350)
        ("center", [100, 200]),  # centres 50 further
        ("four_pt", [100, 200, 300]),  # 25 and 75 further
        ("four_pt_hard", [100, 200]),
        ("any", [0, 100, 200, 300]),
    ],
)
def test_contour_rules(rule, expected):
    slide = blank_slide((1000, 100), (1,))
    left = 99 if rule == "any" else 100
    plan = plan_tiles(
        slide, TileSpec(100, resolution=0), contours=[box(left, 0, 350, 100)], contour_rule=rule
    )
    assert plan.x.tolist() == expected


def test_a_centre_in_a_hole_drops_the_tile():
    slide = blank_slide((1000, 1000), (1,))
    hole = np.array([(340, 340), (460, 340), (460, 460), (340, 460)], float)
    ring = box(0, 0, 1000, 1000, holes=(hole,))
    spec = TileSpec(100, resolution=0)
    plan = plan_tiles(slide, spec, contours=[ring])
    lost = {(300, 300), (400, 300), (300, 400), (400, 400)}
    places = set(zip(plan.x.tolist(), plan.y.tolist(), strict=True))
    assert len(places) == 96
    assert not places & lost
    assert len(plan_tiles(slide, spec, contours=[ring], contour_rule="any")) == 100


@given(seed=st.integers(0, 500), stride=st.integers(40, 300), edge=st.sampled_from(["drop", "pad"]))
def test_windows_of_contours_miss_no_tile(seed, stride, edge):
    """Contours one by one, each on its window of the lattice, find what all tiles do."""
    rng = np.random.default_rng(seed)
    slide = blank_slide((2000, 1500), (1, 4))
    contours = []
    for number in range(3):
        x, y = rng.integers(-200, 1800, 2)
        w, h = rng.integers(50, 900, 2)
        contours.append(box(x, y, x + w, y + h, number + 1))
    spec = TileSpec(100, stride, 0, edge=edge)
    found = plan_tiles(slide, spec, contours=contours, contour_rule="any")
    everything = plan_tiles(slide, spec)
    left, top = everything.x, everything.y
    hit = np.zeros(len(everything), np.bool_)
    for contour in contours:
        x0, y0, x1, y1 = contour.polygon.bounds
        hit |= (left < x1) & (left + 100 > x0) & (top < y1) & (top + 100 > y0)
    assert found.x.tolist() == left[hit].tolist()
    assert found.y.tolist() == top[hit].tolist()
    assert found.column.tolist() == everything.column[hit].tolist()


# Layout and alignment


def test_odd_rows_of_a_hexagonal_layout_are_shifted_by_half_a_tile():
    plan = plan_tiles(
        blank_slide((1000, 800), (1,)), TileSpec(201, 200, 0, layout="hexagonal", edge="keep")
    )
    even, odd = plan.x[plan.row % 2 == 0], plan.x[plan.row % 2 == 1]
    assert sorted(set(even.tolist())) == [0, 200, 400, 600, 800]
    assert sorted(set(odd.tolist())) == [101, 301, 501, 701, 901]
    assert plan.row[plan.y == 200].tolist() == [1] * 5


def test_aligned_tiles_cost_one_decode_each(aperio):
    file = aperio("jpeg_rgb_tables", size=(1024, 768), tile=256, levels=(1, 4), magnification="40")
    with wsistore.open_slide(file.path) as slide:
        for size, level in ((128, 0), (256, 0), (64, 1)):
            spec = TileSpec(size, resolution=level, align="tiles")
            plan = plan_tiles(slide, spec, contours=[box(130, 70, 1000, 700)], contour_rule="any")
            assert len(plan) > 3
            for batch in iter_tiles(slide, plan, plan.size, level, batch_size=1, cache_bytes=0):
                assert batch.report.tiles_decoded == 1
        moved = TileSpec(128, resolution=0, align="tiles", origin="region")
        plan = plan_tiles(slide, moved, contours=[box(130, 70, 1000, 700)], contour_rule="any")
        assert plan.x.min() == 128
        assert plan.y.min() == 0


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (TileSpec(240, resolution=0, align="tiles"), "Sizes that fit: 256, 128, 64, 32 px"),
        (TileSpec(256, 128, 0, align="tiles"), "don't fit"),
        (TileSpec(256, resolution="20x", align="tiles"), "Sizes that fit: 128, 64, 32, 16 px"),
        (TileSpec(256, resolution="15x", align="tiles"), "they are 682.667 px there"),
        (TileSpec(256, resolution=0, align="tiles", layout="hexagonal"), "hexagonal"),
        (TileSpec(256, resolution=0, align="tiles", edge="shift"), "shift"),
    ],
)
def test_lattices_that_cannot_be_aligned_are_refused(spec, told):
    with pytest.raises(UsageError, match=told.replace("(", r"\(")):
        plan_tiles(blank_slide(SLIDE), spec)


def test_without_encoded_tiles_nothing_can_be_aligned():
    with pytest.raises(UsageError, match="no encoded tiles"):
        plan_tiles(blank_slide(SLIDE, tile=None), TileSpec(256, resolution=0, align="tiles"))


# All of it


def test_plans_don_t_depend_on_threads_or_portions(monkeypatch):
    rng = np.random.default_rng(3)
    slide, pixels = blank_slide(SLIDE), rng.random((60, 100)) < 0.4
    spec = TileSpec(100, 60, "20x")
    mask = TissueMask(pixels, Size(*SLIDE))
    contours = find_contours(mask)[:40]
    expected = plan_tiles(slide, spec, mask, contours=contours, min_tissue=0.3)
    assert 20 < len(expected) < 2000
    with ThreadPoolExecutor(4) as pool:
        many = pool.map(
            lambda _: plan_tiles(slide, spec, mask, contours=contours, min_tissue=0.3), range(8)
        )
        assert all(plan == expected for plan in many)
    monkeypatch.setattr("wsistore.tiles.planning.ROWS_AT_ONCE", 7)
    assert plan_tiles(slide, spec, mask, contours=contours, min_tissue=0.3) == expected


def test_a_path_will_do(aperio):
    file = aperio("jpeg_rgb_tables")
    with wsistore.open_slide(file.path) as slide:
        assert plan_tiles(file.path, TileSpec(256, resolution=0)) == plan_tiles(
            slide, TileSpec(256, resolution=0)
        )


def test_tables_are_not_imported_for_planning():
    heavy = {"dask", "xarray", "pandas", "torch", "zarr"}
    code = (
        "import sys\nfrom wsistore.testing.blank import blank_slide\n"
        "from wsistore import TileSpec, plan_tiles\n"
        "plan_tiles(blank_slide((500, 500)), TileSpec(100, resolution=0))\nprint(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(run.stdout.split())


def test_the_benchmark_runs():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "plan.py"
    spec = importlib.util.spec_from_file_location("bench_plan", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    told = module.run(tiles=2500, rounds=1, side=20_000)
    assert 2000 < told["tiles"] < 4000
    assert all(case["peak_mib"] < 300 for case in told["cases"].values())
