from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import wsistore
from wsistore.errors import DependencyError, UsageError
from wsistore.testing.scenes import SCENES, scene
from wsistore.tissue import make_segmenter, segment_slide, segment_slides, segmenter_names
from wsistore.tissue import segmenter as registry
from wsistore.tissue.thresholds import multi_otsu, otsu

EMPTY = {"empty", "dust"}


def iou(one, two):
    return np.count_nonzero(one & two) / np.count_nonzero(one | two)


# ------------------------------------------------------------------ the default


@pytest.mark.parametrize("name", SCENES)
def test_the_default_finds_the_tissue_and_nothing_else(name, scenes):
    truth = scenes(name)
    (mask,) = make_segmenter("default").segment([truth.pixels], [8.0])
    assert mask.dtype == np.bool_
    if name in EMPTY:
        assert np.count_nonzero(mask) == 0
    else:
        assert iou(mask, truth.truth) >= 0.9


@pytest.mark.parametrize("name", ["empty", "almost-empty", "blue-ink", "pale-fat"])
def test_the_default_does_so_on_another_slide_of_another_size(name):
    truth = scene(name, width=420, height=500, seed=5)
    (mask,) = make_segmenter("default").segment([truth.pixels], [8.0])
    if name in EMPTY:
        assert not mask.any()
    else:
        assert iou(mask, truth.truth) >= 0.85


@pytest.mark.parametrize("value", [0, 40, 128, 230, 255])
def test_the_default_finds_nothing_on_one_colour_of_grey(value):
    pixels = np.full((60, 80, 3), value, np.uint8)
    assert not make_segmenter("default").segment([pixels])[0].any()


def test_the_default_finds_nothing_in_noise():
    rng = np.random.default_rng(3)
    pixels = np.clip(rng.normal(235, 2.5, (200, 300, 3)), 0, 255).astype(np.uint8)
    assert not make_segmenter("default").segment([pixels])[0].any()


def test_tissue_that_fills_the_thumbnail_is_found_whole(ordinary):
    part = ordinary.pixels[190:270, 130:200]
    assert ordinary.truth[190:270, 130:200].mean() > 0.9
    assert make_segmenter("default").segment([part])[0].mean() > 0.9


def test_ink_is_tissue_where_it_is_not_to_be_rejected(scenes):
    truth = scenes("blue-ink")
    with_ink = make_segmenter("default", reject_ink=False).segment([truth.pixels])[0]
    without = make_segmenter("default").segment([truth.pixels])[0]
    assert with_ink.sum() > 1.5 * without.sum()


# ------------------------------------------------------------------ the textbooks


@pytest.mark.parametrize(
    ("name", "least"), [("otsu", 0.97), ("multi-otsu", 0.97), ("threshold", 0.97), ("entropy", 0.6)]
)
def test_the_textbooks_find_ordinary_tissue(name, least, ordinary):
    (mask,) = make_segmenter(name).segment([ordinary.pixels])
    assert iou(mask, ordinary.truth) >= least


@pytest.mark.parametrize("name", ["otsu", "multi-otsu", "threshold", "entropy"])
def test_the_textbooks_find_nothing_on_empty_glass(name, scenes):
    (mask,) = make_segmenter(name).segment([scenes("empty").pixels])
    assert not mask.any()


def test_otsu_keeps_the_largest_holes_alone():
    pixels = np.full((120, 120, 3), 245, np.uint8)
    pixels[10:110, 10:110] = (200, 90, 160)
    for index, side in enumerate((3, 6, 12, 20)):
        pixels[20 : 20 + side, 15 + 24 * index : 15 + 24 * index + side] = 245
    segment = {"median_px": 0, "close_px": 0}
    counts = {
        keep: int(make_segmenter("otsu", most_holes=keep, **segment).segment([pixels])[0].sum())
        for keep in (0, 1, 2, 10)
    }
    # the hole of 9 px is below the 16 that a hole must have
    assert counts == {0: 10_000, 1: 9600, 2: 9456, 10: 9420}


def test_otsu_drops_pieces_below_a_fraction():
    pixels = np.full((100, 100, 3), 245, np.uint8)
    pixels[5:45, 5:45] = pixels[60:68, 60:68] = (200, 90, 160)
    segmenter = make_segmenter("otsu", least_fraction=0.01, median_px=0)
    assert segmenter.segment([pixels])[0].sum() == 1600


def test_thresholds_part_what_is_apart():
    histogram = np.zeros(256, np.int64)
    histogram[[10, 12, 100, 102, 180, 182, 250, 252]] = 50
    assert [12 <= t < 100 for t in [otsu(histogram[:150])[0]]] == [True]
    low, middle, high = multi_otsu(histogram, 4)
    assert 12 <= low < 100
    assert 102 <= middle < 180
    assert 182 <= high < 250


def test_multi_otsu_is_the_best_there_is():
    from itertools import combinations, pairwise

    rng = np.random.default_rng(0)
    histogram = rng.integers(0, 50, 14)
    values = np.arange(14)

    def between(limits):
        cuts = [0, *(limit + 1 for limit in limits), 14]
        total = 0.0
        for start, end in pairwise(cuts):
            weight = histogram[start:end].sum()
            if weight:
                total += (histogram[start:end] * values[start:end]).sum() ** 2 / weight
        return total

    best = max(between(limits) for limits in combinations(range(13), 3))
    assert between(multi_otsu(histogram, 4)) == pytest.approx(best)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("otsu", {"median_px": 4}),
        ("otsu", {"least_fraction": 2}),
        ("multi-otsu", {"classes": 9}),
        ("entropy", {"window_px": 2}),
        ("threshold", {"channel": "hue"}),
        ("default", {"no_such": 1}),
        ("sam2", {}),
        ("sam2", {"weights": ""}),
        ("sam2", {"weights": "x", "batch_size": 0}),
        ("nothing", {}),
        (np.mean, {"value": 1}),
        (7, {}),
    ],
)
def test_methods_and_parameters_are_checked(name, parameters):
    with pytest.raises(UsageError):
        make_segmenter(name, **parameters)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), "u1")])
def test_thumbnails_are_checked(bad):
    with pytest.raises(UsageError, match="thumbnail 1"):
        make_segmenter("default").segment([np.zeros((4, 4, 3), np.uint8), bad])


# ------------------------------------------------------------------ slides


def test_a_slide_is_segmented_at_8_um(aperio):
    written = aperio("jpeg_rgb_tables", size=(1300, 900), levels=(1, 4), seed=3)
    with wsistore.open_slide(written.path) as slide:
        mask = segment_slide(slide)
        assert mask.slide_size == slide.size
        assert mask.mpp == pytest.approx((8, 8), rel=0.02)
        assert mask.origin == slide.mpp.origin
        assert mask.method == "stain"
        assert mask.parameters["reject_ink"] is True
        assert mask.source == slide.fingerprint
        assert mask == segment_slide(slide, "stain")
        assert mask != segment_slide(slide, "otsu")
        assert 0.1 < mask.tissue_fraction < 0.95


def test_batches_give_what_single_calls_give(aperio):
    paths = [aperio("jpeg_rgb_tables", size=(500 + 100 * k, 400), seed=k).path for k in range(3)]
    slides = [wsistore.open_slide(path) for path in paths]
    try:
        together = segment_slides(slides, batch_size=2)
        assert together == [segment_slide(slide) for slide in slides]
        assert len({mask.shape for mask in together}) == 3
    finally:
        for slide in slides:
            slide.close()


def test_functions_are_methods(aperio):
    def dark(thumbnail):
        return thumbnail.mean(axis=2) < 200

    with wsistore.open_slide(aperio("jpeg_rgb_tables", size=(500, 400)).path) as slide:
        mask = segment_slide(slide, dark)
        assert mask.method.endswith("dark")
        assert (mask.pixels == dark(slide.thumbnail((mask.shape[1], mask.shape[0])))).all()
        with pytest.raises(UsageError, match="made a mask of"):
            segment_slide(slide, lambda thumbnail: thumbnail[::2, :, 0])


def test_slides_without_a_pixel_size_are_segmented_too(aperio):
    written = aperio("jpeg_rgb_tables", size=(2400, 300), mpp=None, magnification=None)
    with wsistore.open_slide(written.path) as slide:
        mask = segment_slide(slide)
        assert (mask.mpp, mask.origin) == (None, "")
        assert mask.shape == (256, 2048)


def test_entry_points_bring_methods(monkeypatch, ordinary):
    entries = [
        EntryPoint("ours", "wsistore.tissue.classical:OtsuSegmenter", registry.GROUP),
        EntryPoint("broken", "wsistore.tissue.no_such:Thing", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    assert {"ours", "broken", "default", "otsu", "sam2"} <= set(segmenter_names())
    ours = make_segmenter("ours", most_holes=0)
    assert dataclasses.asdict(ours)["most_holes"] == 0
    with pytest.raises(DependencyError, match="broken"):
        make_segmenter("broken")


def test_real_slides(shared_data):
    with wsistore.open_slide(shared_data / "CMU-1-Small-Region.svs") as slide:
        mask = segment_slide(slide)
        assert mask.tissue_fraction == pytest.approx(0.40, abs=0.05)
        glass, tissue = mask.coverage([[50, 1500, 400, 400], [900, 1500, 200, 300]])
        assert (glass, tissue) == (0.0, 1.0)
    with wsistore.open_slide(shared_data / "wsipacker-example.tif") as slide:
        assert segment_slide(slide).tissue_fraction == pytest.approx(0.24, abs=0.04)
