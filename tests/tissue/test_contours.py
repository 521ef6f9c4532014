from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import UsageError
from wsistore.tissue import (
    Polygon,
    TissueMask,
    contour_ids,
    contours_mask,
    contours_of,
    find_contours,
    from_geojson,
    polygon_coverage,
    to_geojson,
)
from wsistore.tissue.polygons import inside
from wsistore.tissue.rings import signed_area, trace


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    size = (draw(st.integers(1, 500)), draw(st.integers(1, 500)))
    return TissueMask(np.array(bits).reshape(height, width), size, (2.0, 3.0))


boxes = st.lists(
    st.tuples(
        st.integers(-50, 500), st.integers(-50, 500), st.integers(1, 300), st.integers(1, 300)
    ),
    min_size=1,
    max_size=8,
).map(np.array)


# ------------------------------------------------------------------ tracing


@given(masks())
def test_contours_give_the_mask_back(mask):
    contours = find_contours(mask)
    assert (contours_mask(contours, mask.slide_size, mask.shape).pixels == mask.pixels).all()


@given(masks())
def test_areas_and_pieces_are_those_of_the_px(mask):
    contours = find_contours(mask)
    labels_count, labels = cv2.connectedComponents(mask.pixels.astype(np.uint8), connectivity=4)
    assert [c.tissue_id for c in contours] == list(range(1, labels_count))
    px = mask.downsample[0] * mask.downsample[1]
    for contour in contours:
        count = int((labels == contour.tissue_id).sum())
        assert contour.polygon.area == pytest.approx(count * px)
        assert contour.area_mm2 == pytest.approx(count * 6e-6)


@given(masks())
def test_contours_are_valid_polygons(mask):
    shapely = pytest.importorskip("shapely")
    for contour in find_contours(mask):
        polygon = shapely.Polygon(contour.polygon.exterior, contour.polygon.holes)
        assert shapely.is_valid_reason(polygon) == "Valid Geometry"


@given(masks(), boxes)
def test_contours_cover_boxes_as_the_mask_does(mask, some):
    total = sum(
        (polygon_coverage(c.polygon, some) for c in find_contours(mask)), np.zeros(len(some))
    )
    assert total == pytest.approx(mask.coverage(some), abs=1e-9)


def test_contours_run_along_px_edges_in_level_0_px():
    pixels = np.zeros((4, 5), bool)
    pixels[1:3, 1:4] = True
    (contour,) = find_contours(TissueMask(pixels, (50, 60)))
    assert contour.polygon.bounds == (10.0, 15.0, 40.0, 45.0)
    assert sorted(map(tuple, contour.polygon.exterior)) == [(10, 15), (10, 45), (40, 15), (40, 45)]
    assert contour.area_mm2 is None


def test_holes_are_the_second_level_and_islands_are_pieces():
    pixels = np.zeros((9, 9), bool)
    pixels[1:8, 1:8] = True
    pixels[2:7, 2:7] = False
    pixels[4, 4] = True
    ring, island = find_contours(TissueMask(pixels, (90, 90)))
    assert [len(hole) for hole in ring.polygon.holes] == [4]
    assert ring.polygon.area == 24 * 100
    assert island.polygon.holes == ()
    assert ring.polygon.contains([(45, 45), (15, 15)]).tolist() == [False, True]
    assert island.polygon.contains([(45, 45)]).tolist() == [True]


def test_holes_and_pieces_are_limited():
    pixels = np.ones((30, 30), bool)
    pixels[:, 24:] = False
    pixels[0:2, 27:29] = True
    pixels[2:4, 2:4] = pixels[8:12, 2:6] = pixels[15:20, 5:10] = False
    mask = TissueMask(pixels, (300, 300))

    def holes(**limits):
        return [
            sorted(-signed_area(h) for h in c.polygon.holes) for c in find_contours(mask, **limits)
        ]

    assert holes() == [[400, 1600, 2500], []]
    assert holes(least_hole_px=16, least_fraction=0.01) == [[1600, 2500]]
    assert holes(most_holes=1) == [[2500], []]
    assert holes(most_holes=0) == [[], []]


def test_an_empty_mask_has_no_contours():
    assert find_contours(TissueMask(np.zeros((5, 5)), (50, 50))) == []
    assert trace(np.zeros((1, 1), bool)) == []


def test_a_large_ragged_mask_is_traced_fast():
    noise = np.random.default_rng(0).random((1024, 1024)).astype(np.float32)
    mask = TissueMask(cv2.GaussianBlur(noise, (0, 0), 8) > 0.5, (32768, 32768))
    begin = time.process_time()
    contours = find_contours(mask)
    assert time.process_time() - begin < 1.0  # 0.05 s on an idle machine
    assert sum(c.polygon.area for c in contours) == mask.pixels.sum() * 1024


# ------------------------------------------------------------------ polygons


def star(draw):
    count = draw(st.integers(3, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turn = (np.arange(count) + 0.8 * rng.random(count)) * 2 * np.pi / count
    reach = 20 + 200 * rng.random(count)
    return np.column_stack([250 + reach * np.cos(turn), 250 + reach * np.sin(turn)])


@given(st.data(), boxes)
def test_coverage_and_points_agree_with_shapely(data, some):
    shapely = pytest.importorskip("shapely")
    corners = star(data.draw)
    shape = shapely.Polygon(corners)
    if not shape.is_valid:
        return
    cells = shapely.box(some[:, 0], some[:, 1], some[:, 0] + some[:, 2], some[:, 1] + some[:, 3])
    expected = shapely.area(shapely.intersection(shape, cells)) / (some[:, 2] * some[:, 3])
    polygon = Polygon(corners[::-1])
    assert polygon_coverage(polygon, some) == pytest.approx(expected, abs=1e-9)
    points = np.random.default_rng(0).random((200, 2)) * 500
    assert (polygon.contains(points) == shapely.contains_xy(shape, points)).all()


def test_neighbours_share_no_point_and_leave_none_out():
    left, right = (
        np.array([(0, 0), (5, 0), (5, 9), (0, 9)]),
        np.array([(5, 0), (9, 0), (9, 9), (5, 9)]),
    )
    points = np.stack(np.meshgrid(np.arange(0, 10), np.arange(0, 10)), -1).reshape(-1, 2)
    one, two = (inside([ring.astype(float)], points) for ring in (left, right))
    assert not (one & two).any()
    assert (one | two).sum() == 81


@pytest.mark.parametrize(
    "ring",
    [
        [(0, 0), (1, 1)],
        [(0, 0), (1, 1), (0, 0)],
        [(0, 0), (1, 1), (2, float("nan"))],
        "abc",
        [1, 2, 3],
    ],
)
def test_polygons_are_checked(ring):
    with pytest.raises(UsageError):
        Polygon(ring)


# ------------------------------------------------------------------ rules


def square_with_hole():
    pixels = np.zeros((20, 20), bool)
    pixels[5:15, 5:15] = True
    pixels[9:11, 9:11] = False
    return find_contours(TissueMask(pixels, (200, 200)))


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        # quarter points at 20 and 60, centre at 40: one corner point inside
        ((0, 0, 80, 80), {"four_pt", "any"}),
        ((60, 60, 20, 20), {"four_pt", "four_pt_hard", "center", "basic", "any"}),
        ((45, 45, 40, 40), {"four_pt", "four_pt_hard", "center", "any"}),
        # its centre lies in the hole
        ((80, 80, 40, 40), {"any"}),
        # within the hole
        ((92, 92, 10, 10), set()),
        # touches from outside
        ((10, 60, 40, 40), set()),
        ((140, 140, 40, 40), {"basic", "any"}),
        ((0, 0, 10, 10), set()),
    ],
)
def test_rules(box, kept):
    found = {
        rule
        for rule in ("four_pt", "four_pt_hard", "center", "basic", "any")
        if contour_ids(square_with_hole(), [box], rule)[0] == 1
    }
    assert found == kept


def test_three_points_of_four_are_not_all():
    pixels = np.ones((10, 10), bool)
    pixels[:4, 6:] = False
    contours = find_contours(TissueMask(pixels, (100, 100)))
    box = [[30, 10, 60, 60]]  # its upper right point, (75, 25), lies outside
    assert contour_ids(contours, box, "four_pt").tolist() == [1]
    assert contour_ids(contours, box, "four_pt_hard").tolist() == [0]


def test_each_box_goes_to_one_contour():
    pixels = np.zeros((10, 30), bool)
    pixels[2:8, 2:10] = pixels[2:8, 20:28] = True
    contours = find_contours(TissueMask(pixels, (300, 100)))
    ids = contour_ids(
        contours, [[30, 30, 20, 20], [220, 30, 20, 20], [130, 30, 20, 20], [0, 20, 300, 60]]
    )
    assert ids.tolist() == [1, 2, 0, 1]
    assert ids.dtype == np.int32
    with pytest.raises(UsageError, match="rule"):
        contour_ids(contours, [[0, 0, 1, 1]], "five_pt")


# ------------------------------------------------------------------ GeoJSON


@given(masks())
def test_geojson_gives_the_mask_back(mask):
    contours = find_contours(mask)
    text = json.dumps(to_geojson(contours))
    again = contours_of(from_geojson(text), mpp=(0.5, 0.5))
    assert (contours_mask(again, mask.slide_size, mask.shape).pixels == mask.pixels).all()
    assert [c.tissue_id for c in again] == [c.tissue_id for c in contours]
    for one, two in zip(contours, again, strict=True):
        assert two.area_mm2 == pytest.approx(one.polygon.area * 0.25e-6)


def test_geojson_has_what_qupath_reads():
    content = to_geojson(square_with_hole(), label="Tissue", color=(1, 2, 3), offset=(10, 20))
    assert content["type"] == "FeatureCollection"
    (feature,) = content["features"]
    assert feature["type"] == "Feature"
    assert feature["properties"] == {
        "objectType": "annotation",
        "name": "Tissue 1",
        "classification": {"name": "Tissue", "color": [1, 2, 3]},
        "metadata": {"tissue_id": "1"},
    }
    geometry = feature["geometry"]
    assert geometry["type"] == "Polygon"
    exterior, hole = geometry["coordinates"]
    assert exterior[0] == exterior[-1]
    assert hole[0] == hole[-1]
    assert sorted(map(tuple, exterior[:-1])) == [(40, 30), (40, 130), (140, 30), (140, 130)]
    assert all(isinstance(v, int) for point in exterior for v in point)
    back = from_geojson(content).moved(10, 20)
    assert back[0].label == "Tissue"
    assert back[0].color == (1, 2, 3)
    assert back[0].polygon.bounds == (50, 50, 150, 150)
