from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsistore
from wsistore.errors import AnnotationError, DependencyError, SourceNotFoundError, UsageError
from wsistore.tissue import (
    Annotation,
    Annotations,
    Polygon,
    annotations,
    from_geojson,
    label_boxes,
    load_annotations,
    mask_from_picture,
    to_geojson,
)

SQUARE = [[10, 10], [50, 10], [50, 50], [10, 50]]
HOLE = [[20, 20], [30, 20], [30, 30], [20, 30]]


def closed(ring):
    return [*ring, ring[0]]


def square(x, y, side, label=""):
    ring = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    return Annotation(Polygon(ring), label)


def vertices(ring):
    return (
        "<Vertices>" + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring) + "</Vertices>"
    )


# ------------------------------------------------------------------ GeoJSON and lists


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_qupath_geojson(tmp_path):
    other = [[[x + 100, y] for x, y in closed(SQUARE)]]
    content = {
        "type": "FeatureCollection",
        "features": [
            feature(
                {"type": "Polygon", "coordinates": [closed(SQUARE), closed(HOLE)]},
                objectType="annotation",
                name="first",
                classification={"name": "Tumor", "color": [200, 0, 1]},
            ),
            feature(
                {"type": "MultiPolygon", "coordinates": [[closed(SQUARE)], other]},
                classification={"names": ["Immune", "CD3"], "colorRGB": -3670016},
            ),
            feature({"type": "Point", "coordinates": [1, 2]}),
            feature(None),
            feature(
                {
                    "type": "GeometryCollection",
                    "geometries": [
                        {"type": "Polygon", "coordinates": other},
                        {"type": "LineString", "coordinates": SQUARE},
                    ],
                },
                classification="Stroma",
            ),
        ],
    }
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    found = load_annotations(path)
    assert [item.label for item in found] == ["Tumor", "Immune: CD3", "Immune: CD3", "Stroma"]
    assert found.labels == ("Tumor", "Immune: CD3", "Stroma")
    assert found[0].polygon.area == 1600 - 100
    assert (found[0].name, found[0].color, found[1].color) == ("first", (200, 0, 1), (200, 0, 0))
    assert found[2].polygon.bounds == (110, 10, 150, 50)
    assert [note.split(":")[0] for note in found.notes] == ["feature 2", "feature 3", "feature 4"]
    assert load_annotations(path, offset=(5, 6))[0].polygon.bounds == (15, 16, 55, 56)


@pytest.mark.parametrize(
    "content",
    [
        SQUARE,
        closed(SQUARE),
        [SQUARE],
        {"type": "Polygon", "coordinates": [closed(SQUARE)]},
        feature({"type": "Polygon", "coordinates": [closed([[*p, 7] for p in SQUARE])]}),
        [feature({"type": "Polygon", "coordinates": [closed(SQUARE)]})],
    ],
)
def test_plain_polygons_and_bare_features(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    (item,) = load_annotations(path)
    assert item.polygon.area == 1600
    assert item.label == ""


ring = st.lists(
    st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)), min_size=3, max_size=6, unique=True
)


@given(st.lists(st.tuples(ring, st.text(max_size=5), st.text(max_size=5)), max_size=4))
def test_geojson_gives_annotations_back(drawn):
    items = tuple(
        Annotation(Polygon(corners), label, name, (1, 2, 3)) for corners, label, name in drawn
    )
    again = from_geojson(json.dumps(to_geojson(Annotations(items), label="none")))
    assert [(i.label, i.name, i.color) for i in again] == [
        (i.label or "none", i.name, (1, 2, 3)) for i in items
    ]
    for one, two in zip(items, again, strict=True):
        assert one.polygon.exterior.tolist() == two.polygon.exterior.tolist()


# ------------------------------------------------------------------ XML


def test_imagescope_xml(tmp_path):
    island = [[40, 40], [60, 40], [60, 60], [40, 60]]
    text = f"""<?xml version="1.0"?>
    <Annotations MicronsPerPixel="0.25">
      <Annotation Id="1" Name="Layer" LineColor="65280">
        <Attributes><Attribute Id="0" Name="Description" Value=""/></Attributes>
        <Regions><RegionAttributeHeaders/>
          <Region Id="1" Type="0" Text="Tumor" NegativeROA="0">{vertices(SQUARE)}</Region>
          <Region Id="2" Type="0" Text="" NegativeROA="1">{vertices(HOLE)}</Region>
          <Region Id="3" Type="0" NegativeROA="0">
            <Attributes><Attribute Id="1" Value="Stroma"/></Attributes>{vertices(island)}</Region>
          <Region Id="4" Type="3">{vertices(SQUARE[:2])}</Region>
          <Region Id="5" Type="1">{vertices([[0, 0], [8, 4]])}</Region>
          <Region Id="6" Type="2">{vertices([[0, 0], [20, 10]])}</Region>
          <Region Id="7" Type="0" NegativeROA="1">{vertices(FAR)}</Region>
          <Region Id="8" Type="0">{vertices(SQUARE[:2])}</Region>
        </Regions>
      </Annotation>
    </Annotations>"""
    path = tmp_path / "a.xml"
    path.write_text(text)
    found = load_annotations(path)
    assert [item.label for item in found] == ["Tumor", "Stroma", "Layer", "Layer"]
    assert [len(item.polygon.holes) for item in found] == [1, 0, 0, 0]
    areas = [item.polygon.area for item in found]
    assert areas == pytest.approx([1500, 400, 32, np.pi * 50], rel=0.01)
    assert found[0].color == (0, 255, 0)
    assert ["<Region> " + k in n for k, n in zip("487", found.notes, strict=True)] == [True] * 3


def test_asap_xml(tmp_path):
    def coordinates(points):
        return (
            "<Coordinates>"
            + "".join(
                f'<Coordinate Order="{order}" X="{str(x).replace(".", ",")}" Y="{y}"/>'
                for order, x, y in points
            )
            + "</Coordinates>"
        )

    # out of order: as they stand they would make a bow
    mixed = [(2, 50, 50), (0, 10, 10), (3, 10, 50), (1, 50, 10)]
    half = [(0, 0.5, 0), (1, 4.5, 0), (2, 4.5, 5)]
    text = f"""<ASAP_Annotations><Annotations>
      <Annotation Name="A 0" Type="Polygon" PartOfGroup="Tumor"
        Color="#64FE2E">{coordinates(mixed)}</Annotation>
      <Annotation Name="A 1" Type="Spline" PartOfGroup="None"
        Color="x">{coordinates(half)}</Annotation>
      <Annotation Name="A 2" Type="Dot" PartOfGroup="None">{coordinates(half[:1])}</Annotation>
      </Annotations><AnnotationGroups><Group Name="Tumor" PartOfGroup="None"/></AnnotationGroups>
      </ASAP_Annotations>"""
    path = tmp_path / "a.xml"
    path.write_text(text)
    found = load_annotations(path)
    assert [(i.label, i.name) for i in found] == [("Tumor", "A 0"), ("", "A 1")]
    assert [i.polygon.area for i in found] == [1600, 10]
    assert (found[0].color, found[1].color) == ((0x64, 0xFE, 0x2E), None)
    assert len(found.notes) == 1
    assert "Dot" in found.notes[0]


NO_NUMBER = """<Annotations><Annotation Id="7"><Regions><Region Id="9"><Vertices>
<Vertex X="a" Y="0"/></Vertices></Region></Regions></Annotation></Annotations>"""
NO_ORDER = """<ASAP_Annotations><Annotation Name="n"><Coordinates><Coordinate X="1" Y="1"/>
</Coordinates></Annotation></ASAP_Annotations>"""
FAR = [[900, 900], [910, 900], [900, 910]]
BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]>
<Annotations><Annotation Name="&b;"/></Annotations>"""
FILE = """<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]><Annotations>&x;</Annotations>"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "document type"),
        (FILE, "document type"),
        ("<!DOCTYPE Annotations><Annotations/>", "document type"),
        ("<Annotations>", "no XML"),
        ("<svg/>", "<svg>"),
        ("", "neither"),
        ("hello", "neither"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"type": "FeatureCollection"}', "no list"),
        ('{"type": "FeatureCollection", "features": [3]}', "feature 0"),
        ('{"type": "Feature", "geometry": {"type": "Circle"}}', "feature 0.*Circle"),
        ('{"type": "Feature", "geometry": {"type": "Polygon"}}', "feature 0.*damaged"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "feature 0.*three corners"),
        ('{"type": "Polygon", "coordinates": []}', "feature 0"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [2, 2]]]}', "feature 0"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, NaN], [2, 2]]]}', "feature 0"),
        ('{"type": "Feature", "geometry": 3, "properties": {}}', "feature 0"),
        ("[3]", "polygon 0"),
        (NO_NUMBER, "7.*9.*X='a'"),
        (NO_ORDER, "'n'.*Order"),
    ],
)
def test_broken_files_are_refused_by_file_and_element(tmp_path, text, message):
    path = tmp_path / "broken.xml"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=message) as caught:
        load_annotations(path)
    assert "broken.xml" in caught.value.message


def test_absent_and_huge_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SourceNotFoundError):
        load_annotations(tmp_path / "absent.xml")
    monkeypatch.setattr(annotations, "MAX_BYTES", 10)
    (tmp_path / "a.xml").write_text(" " * 11)
    with pytest.raises(AnnotationError, match="11 bytes"):
        load_annotations(tmp_path / "a.xml")


# ------------------------------------------------------------------ labels of boxes


def scene():
    return Annotations(
        (square(0, 0, 100, "a"), square(50, 50, 100, "b"), square(300, 0, 50, "out"))
    )


BOXES = [[10, 10, 20, 20], [90, 90, 20, 20], [40, 40, 20, 20], [200, 200, 9, 9], [310, 10, 20, 20]]


@pytest.mark.parametrize(
    ("rule", "first", "both"),
    [
        # the top-left of box 1 lies in both, its centre in b alone
        ("top-left", ["a", "a", "a", "", ""], [False, True, False, False, False]),
        ("center", ["a", "b", "a", "", ""], [False, False, True, False, False]),
        ("coverage", ["a", "b", "a", "", ""], [False, False, False, False, False]),
    ],
)
def test_rules_of_labels(rule, first, both):
    found = label_boxes(scene(), BOXES, rule, exclude=["out"])
    assert found.labels == ("a", "b")
    assert found.names() == first
    assert found.hits.all(axis=1).tolist() == both
    assert found.excluded.tolist() == [False, False, False, False, True]
    if rule == "coverage":
        assert found.coverage.tolist() == [[1, 0], [0.25, 1], [1, 0.25], [0, 0], [0, 0]]
    else:
        assert found.coverage is None


def test_least_coverage_and_single_labels():
    assert label_boxes(scene(), BOXES, "coverage", min_coverage=0.25).hits[:3].tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, False],
    ]
    single = label_boxes(scene(), BOXES, "coverage", min_coverage=0.25, several=False)
    assert single.hits.sum(axis=1).tolist() == [1, 1, 1, 0, 1]
    assert single.names("Normal") == ["a", "b", "a", "Normal", "out"]


def test_codes_and_unknown_labels():
    found = label_boxes(scene(), BOXES, labels=["a", "never"], exclude=["out"])
    assert (found.labels, found.unknown) == (("a",), ("b",))
    assert found.codes({"a": 5}).tolist() == [5, -1, 5, -1, -1]
    assert found.codes({"a": 5}, default=0).tolist() == [5, 0, 5, 0, 0]


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 2, st.integers(1, 40)), min_size=1, max_size=4))
def test_overlaps_of_one_label_count_once(squares):
    pytest.importorskip("shapely")
    items = tuple(square(x, y, side, "a") for x, y, side in squares)
    boxes = np.array([[0, 0, 100, 100], [10, 10, 30, 30], [55, 3, 7, 50]])
    found = label_boxes(Annotations(items), boxes, "coverage", min_coverage=0.01).coverage
    grid = np.zeros((120, 120))
    for x, y, side in squares:
        grid[y : y + side, x : x + side] = 1
    expected = [grid[y : y + h, x : x + w].mean() for x, y, w, h in boxes]
    assert found[:, 0] == pytest.approx(expected, abs=1e-9)


def test_overlaps_need_shapely(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    apart = Annotations((square(0, 0, 10, "a"), square(10, 0, 10, "a")))
    assert label_boxes(apart, [[0, 0, 20, 10]], "coverage").coverage.tolist() == [[1.0]]
    over = Annotations((square(0, 0, 10, "a"), square(5, 0, 10, "a")))
    with pytest.raises(DependencyError, match="shapely"):
        label_boxes(over, [[0, 0, 20, 10]], "coverage")


@pytest.mark.parametrize(
    "options", [{"rule": "middle"}, {"min_coverage": 0}, {"min_coverage": 1.1}]
)
def test_arguments_of_labels_are_checked(options):
    with pytest.raises(UsageError):
        label_boxes(scene(), BOXES, **options)


def test_no_annotations_label_nothing():
    for rule in ("top-left", "center", "coverage"):
        found = label_boxes(Annotations(()), BOXES, rule)
        assert found.names() == [""] * 5
        assert found.hits.shape == (5, 0)
        assert not found.excluded.any()


def test_choosing_and_masks():
    all_of_it = scene()
    assert all_of_it.select(["b"]).labels == ("b",)
    assert all_of_it.without(["b"]).labels == ("a", "out")
    assert all_of_it.relabelled({"b": "a"}).labels == ("a", "out")
    assert all_of_it.moved(5, -5)[0].polygon.bounds == (5, -5, 105, 95)
    with pytest.raises(UsageError, match="list of names"):
        all_of_it.select("a")
    mask = all_of_it.select(["a"]).mask((400, 200), (20, 40), mpp=(0.5, 0.5))
    assert mask.pixels.sum() == 100
    assert mask.mpp == (5.0, 5.0)


def test_pictures_of_labels_are_masks(aperio, shared_data):
    with wsistore.open_slide(shared_data / "gandlf-example_lm.tiff", mpp=0.25) as picture:
        mask = mask_from_picture(picture)
        assert mask.slide_size == picture.size
        assert max(mask.shape) <= 6000
        assert 0 < mask.tissue_fraction < 1
        other = mask_from_picture(picture, (picture.size.width * 2, picture.size.height * 2))
        assert (other.pixels == mask.pixels).all()
        assert mask_from_picture(picture, values=[251]).is_empty
        with pytest.raises(UsageError, match="shape"):
            mask_from_picture(picture, (picture.size.width, picture.size.height * 2))
