"""NGFF conformance: what is right passes, each wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ome_zarr_models
import pytest
import tensorstore
import yaozarrs
import zarr

from wsistore.errors import SourceNotFoundError
from wsistore.geometry import Mpp, Size
from wsistore.pyramid import ngff
from wsistore.pyramid.layout import array_document_v2, group_document, group_document_v2, to_json
from wsistore.pyramid.validation import Finding, validate

OWN = {"ome-zarr-models", "yaozarrs"}
"""Codes of findings of other packages."""


def _store_0_4(root: Path) -> Path:
    datasets = [ngff.Dataset("0", 1.0), ngff.Dataset("1", 2.0)]
    attributes = ngff.attributes_0_4("made", datasets, Mpp(0.5, 0.5, "argument"), {})
    documents = {".zgroup": group_document_v2(), ".zattrs": attributes}
    for path, size in (("0", Size(300, 200)), ("1", Size(150, 100))):
        compressor = {"id": "zstd", "level": 3}
        documents[f"{path}/.zarray"] = array_document_v2(size, Size(64, 64), compressor)
    for name, document in documents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(to_json(document))
    return root


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "jpegxl", "zstd"])
@pytest.mark.parametrize("shard", [None, 2])
def test_stores_made_here_have_no_findings(
    write_store: Callable[..., Any], codec: str, shard: int | None
) -> None:
    assert validate(write_store(codec, shard=shard).path) == []


def test_stores_of_0_4_have_no_findings(tmp_path: Path) -> None:
    assert validate(_store_0_4(tmp_path)) == []


def test_a_store_without_pixel_size_has_warnings_only(write_store: Callable[..., Any]) -> None:
    findings = validate(write_store("zstd", mpp=None).path)
    assert [(f.severity, f.code) for f in findings] == [("warning", "unit")] * 2


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_other_validators_accept_stores(write_store: Callable[..., Any], codec: str) -> None:
    path = write_store(codec).path
    ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"), version="0.5")
    yaozarrs.validate_zarr_store(str(path))


def test_tensorstore_reads_zstd_stores(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd", skip={(0, 0)})
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store.path / "0")}}
    seen = tensorstore.open(spec, read=True).result().read().result().transpose(1, 2, 0)
    expected = store.levels[0].copy()
    expected[:64, :64] = 255
    assert (seen == expected).all()


Change = Callable[[dict[str, Any]], object]


def _image(attributes: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = attributes["ome"]["multiscales"][0]
    return found


def _level(attributes: dict[str, Any], index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = _image(attributes)["datasets"][index]
    return found


def _scale(attributes: dict[str, Any], index: int, scale: Any) -> None:
    _level(attributes, index)["coordinateTransformations"][0]["scale"] = scale


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (lambda a: a["ome"].update(version="0.4"), "version", "error"),
        (lambda a: a["ome"].pop("version"), "version", "error"),
        (lambda a: a["ome"].update(multiscales=[7]), "multiscales", "error"),
        (lambda a: _image(a).pop("name"), "name", "warning"),
        (lambda a: _image(a).pop("axes"), "axes", "error"),
        (lambda a: _image(a)["axes"].pop(), "axes-space", "error"),
        (lambda a: _image(a)["axes"][1].update(name="x"), "axes-names", "error"),
        (lambda a: _image(a)["axes"].insert(0, _image(a)["axes"].pop()), "axes-order", "error"),
        (lambda a: _image(a)["axes"].reverse(), "axes-order", "error"),
        (lambda a: _image(a)["axes"][2].update(unit="um"), "unit", "warning"),
        (lambda a: _image(a)["axes"][2].pop("unit"), "unit", "warning"),
        (lambda a: _image(a)["axes"][0].update(type="space"), "axis-type", "warning"),
        (lambda a: _image(a).update(datasets=[]), "datasets", "error"),
        (lambda a: _image(a)["datasets"].reverse(), "levels-order", "error"),
        (lambda a: _level(a).update(path="7"), "path", "error"),
        (lambda a: _level(a).update(path="../0"), "path", "error"),
        (lambda a: _level(a).pop("path"), "path", "error"),
        (lambda a: _level(a).pop("coordinateTransformations"), "transformations", "error"),
        (
            lambda a: _level(a)["coordinateTransformations"].insert(
                0, {"type": "translation", "translation": [0, 0, 0]}
            ),
            "transformations",
            "error",
        ),
        (lambda a: _scale(a, 0, [1, 1]), "transformations", "error"),
        (lambda a: _scale(a, 0, [1, 0, 1]), "scale", "error"),
        (lambda a: _scale(a, 1, [1.0, 1.0, 1.0]), "scale-shape", "warning"),
        (lambda a: _scale(a, 1, [1.0, 0.1, 0.1]), "levels-order", "error"),
        (lambda a: a["ome"].update(omero={}), "omero", "error"),
        (lambda a: a["ome"]["omero"]["channels"].pop(), "omero", "warning"),
        (lambda a: a["ome"]["omero"]["channels"][0].update(color="red"), "omero", "error"),
        (lambda a: a["ome"]["omero"]["channels"][0]["window"].pop("min"), "omero", "error"),
    ],
)
def test_each_wrong_of_the_attributes_is_named(
    write_store: Callable[..., Any], change: Change, code: str, severity: str
) -> None:
    store = write_store("zstd")
    document = json.loads((store.path / "zarr.json").read_bytes())
    change(document["attributes"])
    (store.path / "zarr.json").write_bytes(to_json(document))
    findings = _own(validate(store.path))
    assert (code, severity) in {(finding.code, finding.severity) for finding in findings}


def _own(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.code not in OWN]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d.update(zarr_format=2), "zarr-format"),
        (lambda d: d.update(node_type="group"), "node-type"),
        (lambda d: d.update(shape=[3, 200]), "shape"),
        (lambda d: d.update(shape=[3, -200, 4]), "shape"),
        (lambda d: d.update(dimension_names=["c", "x", "y"]), "dimension-names"),
        (lambda d: d.pop("dimension_names"), "dimension-names"),
        (lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[3, 0, 1]), "chunks"),
        (lambda d: d.update(codecs=[]), "codecs"),
        (
            lambda d: d["codecs"][0]["configuration"].update(chunk_shape=[3, 50, 64]),
            "shard-multiple",
        ),
        (lambda d: d["codecs"][0]["configuration"].pop("index_codecs"), "index-codecs"),
        (lambda d: d["codecs"][0]["configuration"]["index_codecs"].pop(), "index-checksum"),
    ],
)
def test_each_wrong_of_an_array_is_named(
    write_store: Callable[..., Any], change: Change, code: str
) -> None:
    store = write_store("zstd")
    name = store.path / "0/zarr.json"
    document = json.loads(name.read_bytes())
    change(document)
    name.write_bytes(to_json(document))
    found = {finding.code for finding in _own(validate(store.path))}
    assert found == {code}


def test_wrongs_of_0_4(tmp_path: Path) -> None:
    root = _store_0_4(tmp_path)
    document = json.loads((root / "0/.zarray").read_bytes())
    document["dimension_separator"] = "."
    (root / "0/.zarray").write_bytes(to_json(document))
    attributes = json.loads((root / ".zattrs").read_bytes())
    del attributes["multiscales"][0]["version"]
    (root / ".zattrs").write_bytes(to_json(attributes))
    found = {(f.severity, f.code) for f in _own(validate(root))}
    assert found == {("error", "separator"), ("warning", "version")}
    attributes["multiscales"][0]["version"] = "0.5"
    (root / ".zattrs").write_bytes(to_json(attributes))
    (root / ".zgroup").unlink()
    found = {(f.severity, f.code) for f in _own(validate(root))}
    assert found == {("error", "separator"), ("error", "version"), ("error", "zgroup")}


def test_an_array_document_that_is_no_json(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    (store.path / "1/zarr.json").write_bytes(b"{")
    (finding,) = _own(validate(store.path))
    assert (finding.code, finding.where) == ("json", "multiscales[0].datasets[1]")


def test_other_validators_are_asked(write_store: Callable[..., Any]) -> None:
    store = write_store("zstd")
    (store.path / "1/zarr.json").unlink()
    assert {finding.code for finding in validate(store.path)} == {"path", *OWN}


def test_what_is_no_image_is_one_finding(tmp_path: Path) -> None:
    (finding,) = validate(tmp_path)
    assert (finding.severity, finding.code) == ("error", "not-an-image")
    (tmp_path / "zarr.json").write_bytes(to_json(group_document()))
    (finding,) = validate(tmp_path)
    assert "multiscales" in finding.text
    assert finding.what.startswith("error [not-an-image]")
    with pytest.raises(SourceNotFoundError):
        validate(tmp_path / "absent")


@pytest.mark.parametrize("junk", [None, 7, "text", [], [7], {}, {"a": 1}, [{}]])
def test_junk_is_a_finding_and_no_crash(write_store: Callable[..., Any], junk: Any) -> None:
    store = write_store("zstd")
    good = json.loads((store.path / "zarr.json").read_bytes())
    places: list[Callable[[dict[str, Any]], tuple[Any, Any]]] = [
        lambda a: (a["ome"], "multiscales"),
        lambda a: (a["ome"], "omero"),
        lambda a: (_image(a), "axes"),
        lambda a: (_image(a), "datasets"),
        lambda a: (_level(a), "coordinateTransformations"),
        lambda a: (_level(a)["coordinateTransformations"][0], "scale"),
    ]
    for place in places:
        document = json.loads(to_json(good))
        holder, key = place(document["attributes"])
        holder[key] = junk
        (store.path / "zarr.json").write_bytes(to_json(document))
        assert any(finding.severity == "error" for finding in _own(validate(store.path)))
    (store.path / "zarr.json").write_bytes(to_json(good))
    level = json.loads((store.path / "0/zarr.json").read_bytes())
    for key in ("shape", "chunk_grid", "codecs"):
        (store.path / "0/zarr.json").write_bytes(to_json({**level, key: junk}))
        assert any(finding.severity == "error" for finding in _own(validate(store.path)))
