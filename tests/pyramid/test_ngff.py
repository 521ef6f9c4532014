"""NGFF metadata: built and read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.geometry import Magnification, Mpp, Size
from wsistore.pyramid import ngff
from wsistore.pyramid.layout import to_json
from wsistore.pyramid.multiscales import parse_multiscale

DATASETS = [ngff.Dataset("0", 1.0), ngff.Dataset("1", 4.0)]
PRIVATE = {"schema": 1}
BUILDERS = {"0.4": ngff.attributes_0_4, "0.5": ngff.attributes_0_5}


@pytest.mark.parametrize("version", sorted(BUILDERS))
def test_built_attributes_are_read_back(version: str) -> None:
    mpp = Mpp(0.5, 0.25, "aperio.MPP")
    attributes = json.loads(to_json(BUILDERS[version]("made", DATASETS, mpp, PRIVATE)))
    image = parse_multiscale(attributes)
    assert (image.version, image.name, image.order) == (version, "made", "cyx")
    assert [dataset.path for dataset in image.datasets] == ["0", "1"]
    assert image.datasets[1].scale == (1.0, 1.0, 2.0)
    assert image.pixel_size(image.datasets[0]) == (0.5, 0.25)
    assert image.pixel_size(image.datasets[1]) == (2.0, 1.0)
    assert image.notes == ()
    inner = attributes["ome"] if version == "0.5" else attributes
    assert [c["color"] for c in inner["omero"]["channels"]] == ["FF0000", "00FF00", "0000FF"]
    assert attributes["wsistore"] == PRIVATE


@pytest.mark.parametrize("version", sorted(BUILDERS))
def test_without_a_pixel_size_axes_have_no_unit(version: str) -> None:
    image = parse_multiscale(BUILDERS[version]("made", DATASETS, None, PRIVATE))
    assert [axis.unit for axis in image.axes] == ["", "", ""]
    assert image.datasets[1].scale == (1.0, 4.0, 4.0)
    assert image.pixel_size(image.datasets[0]) is None
    assert image.downsample(*image.datasets, Size(400, 80), Size(100, 20)) == 4.0


def _attributes(
    unit: object = "micrometer", axes: str = "cyx", scale: Any = (1, 0.5, 0.5), **more: Any
) -> dict[str, Any]:
    listed = [
        {"name": name, "type": "space", **({"unit": unit} if name in "xyz" and unit else {})}
        for name in axes
    ]
    dataset = {
        "path": "0",
        "coordinateTransformations": [{"type": "scale", "scale": list(scale)}],
    }
    image = {"version": "0.4", "axes": listed, "datasets": [dataset], **more}
    return {"multiscales": [image]}


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("micrometer", 0.5),
        ("nanometer", 0.0005),
        ("millimeter", 500.0),
        ("meter", 5e5),
        ("angstrom", 5e-5),
        ("inch", 12700.0),
        ("Micrometer ", 0.5),
        ("µm", 0.5),
        ("furlong", None),
        (None, None),
    ],
)
def test_units_are_converted_to_micrometers(unit: str | None, expected: float | None) -> None:
    image = parse_multiscale(_attributes(unit))
    seen = image.pixel_size(image.datasets[0])
    assert seen == (None if expected is None else pytest.approx((expected, expected)))


def test_axes_are_found_by_name_whatever_their_order() -> None:
    image = parse_multiscale(_attributes(axes="tczyx", scale=(1, 1, 9, 0.5, 0.25)))
    assert image.pixel_size(image.datasets[0]) == (0.25, 0.5)


def test_scales_of_image_and_level_are_multiplied() -> None:
    common = [{"type": "scale", "scale": [1, 10, 10]}]
    image = parse_multiscale(_attributes(coordinateTransformations=common))
    assert image.pixel_size(image.datasets[0]) == (5.0, 5.0)


def test_translations_do_not_matter() -> None:
    attributes = _attributes()
    steps = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    steps.append({"type": "translation", "translation": [0, 9, 9]})
    image = parse_multiscale(attributes)
    assert image.pixel_size(image.datasets[0]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("scales", "sizes", "expected"),
    [
        ((0.5, 2.0), (1001, 250), 4.0),
        ((0.5, 2.0000000001), (1001, 250), 4.0),
        # Scales that don't explain the sizes are not believed.
        ((0.5, 0.5), (1000, 250), 4.0),
        # A tiny level, of which the size alone could not tell 512 from 700.
        ((1.0, 512.0), (1000, 1), 512.0),
        ((1.0, 2.5), (1000, 400), 2.5),
    ],
)
def test_downsample(scales: tuple[float, float], sizes: tuple[int, int], expected: float) -> None:
    attributes = _attributes(scale=(1, scales[0], scales[0]))
    second = {
        "path": "1",
        "coordinateTransformations": [{"type": "scale", "scale": [1, scales[1], scales[1]]}],
    }
    attributes["multiscales"][0]["datasets"].append(second)
    image = parse_multiscale(attributes)
    full, size = (Size(side, side) for side in sizes)
    assert image.downsample(*image.datasets, full, size) == expected


@pytest.mark.parametrize(
    ("attributes", "kind", "match"),
    [
        ({}, UnsupportedSlideError, "no multiscales"),
        ({"multiscales": []}, UnsupportedSlideError, "no multiscales"),
        ({"ome": "text"}, UnsupportedSlideError, "no multiscales"),
        ({"multiscales": [7]}, CorruptSlideError, "understood"),
        (_attributes(version="0.3"), UnsupportedSlideError, r"0\.3"),
        (_attributes(axes="cy", scale=(1, 1)), UnsupportedSlideError, "axes are cy"),
        (_attributes(axes="qyx"), UnsupportedSlideError, "only t, c, z, y and x"),
        (_attributes() | {"multiscales": [{"axes": ["y", "x"]}]}, UnsupportedSlideError, "0.3"),
        (_attributes(datasets=[]), CorruptSlideError, "no level"),
        (_attributes(datasets=[{"path": "../x"}]), CorruptSlideError, "path"),
        (_attributes(datasets=[{"path": "/"}]), CorruptSlideError, "path"),
        (_attributes(datasets=[{}]), CorruptSlideError, "understood"),
        (_attributes(scale=(1, 0, 1)), CorruptSlideError, "positive"),
        (_attributes(scale=(1, 1)), CorruptSlideError, "expected 3"),
        (_attributes(scale=(1, "a", 1)), CorruptSlideError, "understood"),
    ],
)
def test_what_is_no_image_says_why(
    attributes: dict[str, Any], kind: type[Exception], match: str
) -> None:
    with pytest.raises(kind, match=match):
        parse_multiscale(attributes)


def test_private_attributes_hold_values_with_their_origins() -> None:
    private = ngff.private_attributes(
        source_format="aperio",
        source_fingerprint="wsi1-7",
        codec="jpeg",
        mode="copy",
        mpp=Mpp(0.5, 0.25, "aperio.MPP"),
        magnification=Magnification(20, "aperio.AppMag"),
        metadata={"b": "2", "a": "1"},
    )
    assert private["mpp"] == {"x": 0.5, "y": 0.25, "origin": "aperio.MPP"}
    assert private["magnification"] == {"value": 20.0, "origin": "aperio.AppMag"}
    assert list(private["metadata"]) == ["a", "b"]
    assert b"wsi1-7" in to_json(private)


def test_associated_attributes() -> None:
    assert ngff.associated_attributes(None) == {"images": []}
    attributes = ngff.associated_attributes(b"\0icc", ["b", "a"])
    assert attributes == {"images": ["a", "b"], "icc_profile": "AGljYw=="}
