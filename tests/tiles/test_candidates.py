"""Candidates of grids, masks and places."""

import pickle

import numpy as np
import pytest

import wsistore
from wsistore.errors import MetadataError, ResolutionError, SourceNotFoundError, UsageError
from wsistore.tiles.candidates import TileIndex
from wsistore.tiles.handles import SlideCache
from wsistore.tissue import TissueMask


@pytest.fixture(scope="module")
def slides(aperio):
    """Two slides at 20x: 600x400 and 300x500 px, levels 1 and 4."""
    return [aperio(size=(600, 400)).path, aperio(size=(300, 500)).path]


def corners(index, slide):
    chosen = index.slide == slide
    return np.stack([index.x[chosen], index.y[chosen]], axis=1).tolist()


def test_a_grid_per_slide_in_level_0_px(slides):
    index = TileIndex.from_grids(slides, 100, "10x", labels=[7, 8], weights=[1, 0.5])
    assert corners(index, 0) == [[x, y] for y in (0, 200) for x in (0, 200, 400)]
    assert corners(index, 1) == [[0, y] for y in (0, 200)]
    assert index.label.tolist() == [7] * 6 + [8] * 2
    assert index.weight.tolist() == [1.0] * 6 + [0.5] * 2
    assert index.slides == tuple(slides)


def test_last_patches_and_strides(slides):
    keep = TileIndex.from_grids(slides[:1], (250, 400), 0, stride=(250, 100), last="keep")
    assert corners(keep, 0) == [[0, 0], [250, 0], [500, 0]]
    shift = TileIndex.from_grids(slides[:1], (250, 300), 0, last="shift")
    assert corners(shift, 0) == [[x, y] for y in (0, 100) for x in (0, 250, 350)]
    assert len(TileIndex.from_grids(slides[:1], 700, 0, last="drop")) == 0
    with pytest.raises(UsageError, match="keep, drop or shift"):
        TileIndex.from_grids(slides[:1], 100, 0, last="wrap")


@pytest.mark.parametrize("resolution", ["level:0", "level:1", "10x", "7x", "1.3mpp", "2mpp"])
@pytest.mark.parametrize("last", ["drop", "shift"])
def test_patches_of_a_grid_need_no_padding(aperio, resolution, last):
    path = aperio(size=(603, 403)).path  # level 1: 150.75 x 100.75 px, floored
    index = TileIndex.from_grids([path], 33, resolution, stride=19, last=last)
    requests = [(path, x, y) for x, y in corners(index, 0)]
    assert len(requests) >= 4
    _, report = wsistore.tiles.read_tiles(requests, 33, resolution, return_report=True)
    assert report.valid_fraction.tolist() == [1.0] * len(requests)


@pytest.mark.parametrize("resolution", ["level:1", "7x", "1.3mpp"])
@pytest.mark.parametrize("last", ["drop", "shift", "keep"])
def test_a_grid_lies_where_a_plan_has_it(aperio, resolution, last):
    path = aperio(size=(603, 403)).path
    index = TileIndex.from_grids([path], 33, resolution, stride=19, last=last)
    with wsistore.open_slide(path) as slide:
        spec = wsistore.TileSpec(33, 19, resolution, edge=last)
        plan = wsistore.plan_tiles(slide, spec)
    assert corners(index, 0) == np.stack([plan.x, plan.y], axis=1).tolist()


def test_shifted_patches_reach_the_last_whole_px(aperio):
    path = aperio(size=(603, 403)).path
    index = TileIndex.from_grids([path], 33, 1, last="shift")
    assert index.x.max() == (150 - 33) * 4
    assert index.y.max() == (100 - 33) * 4


def test_a_patch_of_all_whole_px_fits(aperio):
    # 603 px at 20x are 211.05 px at 7x: footprints and extents of fractions of a px agree.
    path = aperio(size=(603, 403)).path
    for last in ("drop", "shift"):
        assert corners(TileIndex.from_grids([path], (211, 141), "7x", last=last), 0) == [[0, 0]]
        shifted = TileIndex.from_grids([path], (210, 141), "7x", stride=1, last=last)
        assert shifted.x.max() + 210 * 20 / 7 <= 603
    assert len(TileIndex.from_grids([path], (212, 141), "7x", last="drop")) == 0


def test_masks_keep_patches_that_are_covered_enough(slides):
    mask = np.zeros((4, 6), bool)  # px of 100x100
    mask[0, 0] = mask[0, 1] = mask[1, 0] = True
    mask[2:4, 4:6] = True

    def kept(coverage):
        options = {"masks": [mask, None], "coverage": coverage}
        index = TileIndex.from_grids(slides, 200, 0, **options)
        assert corners(index, 1) == [[0, 0], [0, 200]]
        return corners(index, 0)

    assert kept(1.0) == [[400, 200]]
    assert kept(0.75) == [[0, 0], [400, 200]]
    assert kept(0.76) == [[400, 200]]
    tissue = TissueMask(mask, (600, 400))
    index = TileIndex.from_grids(slides[:1], 200, 0, masks=[tissue], coverage=0.75)
    assert corners(index, 0) == kept(0.75)


def test_mask_candidates_are_centred_on_tissue_px_and_spread_over_them(slides):
    first, second = np.zeros((8, 12), bool), np.ones((5, 1), bool)
    first[2, 3] = first[7, 11] = True
    index = TileIndex.from_masks(slides, [first, second], 50, "10x", labels=[[1, 2], 3])
    assert index.spread.tolist() == [[50, 50], [300, 100]]
    # The px's corner, less half of a patch of 50 px at 10x, 100 px at level 0.
    assert corners(index, 0) == [[100, 50], [500, 300]]
    assert corners(index, 1) == [[-50, y - 50] for y in range(0, 500, 100)]
    assert index.label.tolist() == [1, 2, 3, 3, 3, 3, 3]


def test_slides_are_opened_once_and_errors_name_them(slides, tmp_path):
    cache = SlideCache(4)
    TileIndex.from_grids([*slides, *slides], 100, 0, cache=cache)
    assert len(cache) == 2
    with pytest.raises(SourceNotFoundError, match=r"none\.svs"):
        TileIndex.from_grids([tmp_path / "none.svs"], 100, 0)
    with pytest.raises(ResolutionError, match="finest level is 20x"):
        TileIndex.from_grids(slides, 100, "40x")


def test_slides_without_units_are_refused(aperio):
    path = aperio(size=(300, 300), magnification=None, mpp=None).path
    with pytest.raises(MetadataError, match="no pixel size"):
        TileIndex.from_grids([path], 100, "10x")
    assert len(TileIndex.from_grids([path], 100, 0)) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": 0}, "coverage"),
        ({"coverage": 1.5}, "coverage"),
        ({"masks": [None]}, "masks are given for 1 slides, expected 2"),
        ({"labels": [1]}, "labels are given for 1 slides"),
        ({"weights": [1, -1]}, "not negative"),
        ({"stride": 0}, "positive side"),
        ({"masks": [TissueMask(np.ones((2, 2)), (9, 9)), None]}, "mask is of a slide of"),
        ({"masks": [np.ones(5, bool), None]}, r"\(height, width\)"),
    ],
)
def test_grids_that_make_no_sense_are_refused(slides, options, message):
    with pytest.raises(UsageError, match=message):
        TileIndex.from_grids(slides, 100, 0, **options)


def test_mask_candidates_need_masks(slides):
    with pytest.raises(UsageError, match="slide 0 has no mask"):
        TileIndex.from_masks(slides, [None, None], 50, 0)


def test_given_places():
    index = TileIndex.from_positions(
        [("a.svs", [[1, 2], [3, 4]]), ("b.svs", []), ("c.svs", [[-5, 6]])],
        weights=[[1, 2], [], 3],
        labels=[0, 1, 2],
    )
    assert index.slide.tolist() == [0, 0, 2]
    assert corners(index, 2) == [[-5, 6]]
    assert index.weight.tolist() == [1, 2, 3]
    assert index.label.tolist() == [0, 0, 2]
    assert len(TileIndex.from_positions([])) == 0


@pytest.mark.parametrize("places", [[[0.5, 1]], [[1, 2, 3]], [1, 2]])
def test_places_that_are_none_are_refused(places):
    with pytest.raises(UsageError, match=r"\(n, 2\) whole level-0 px"):
        TileIndex.from_positions([("a.svs", places)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros(2, np.int64)}, "column slide has shape"),
        ({"y": np.zeros(3)}, "column y has shape .* float64"),
        ({"slide": np.array([0, 1, 0], np.int32)}, "indexes below 1"),
        ({"slide": np.array([0, -1, 0], np.int32)}, "indexes below 1"),
        ({"weight": np.array([1, np.nan, 1])}, "finite"),
        ({"label": np.zeros((3, 1), np.int64)}, "column label"),
        ({"spread": np.ones((2, 2))}, r"\(1, 2\)"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, message):
    good = {
        "slides": ("a.svs",),
        "slide": np.zeros(3, np.int32),
        "x": np.zeros(3, np.int64),
        "y": np.zeros(3, np.int64),
    }
    TileIndex(**good)
    with pytest.raises(UsageError, match=message):
        TileIndex(**{**good, **change})


def test_taking_some():
    index = TileIndex.from_positions(
        [("a.svs", [[n, n] for n in range(6)])], labels=[range(6)], weights=[2]
    )
    assert index.take([4, 1]).x.tolist() == [4, 1]
    part = index.take(index.label > 3)
    assert part.label.tolist() == [4, 5]
    assert part.weight.tolist() == [2, 2]
    assert part.slides == index.slides


def test_the_fingerprint_tells_candidates_apart_but_not_folders(slides):
    def of(name="a.svs", places=((1, 2),), **options):
        return TileIndex.from_positions([(name, places)], **options).fingerprint

    same = of("/data/a.svs")
    assert same == of("s3://bucket/other/a.svs") == of("a.svs")
    others = [of("b.svs"), of(places=[(2, 1)]), of(weights=[1]), of(labels=[1])]
    assert len({same, *others}) == 5
    by_path = TileIndex.from_grids(slides, 100, 0)
    with wsistore.open_slide(slides[0]) as one, wsistore.open_slide(slides[1]) as two:
        assert TileIndex.from_grids([one, two], 100, 0).fingerprint == by_path.fingerprint
    assert pickle.loads(pickle.dumps(by_path)).fingerprint == by_path.fingerprint
