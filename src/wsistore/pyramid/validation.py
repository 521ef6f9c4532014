"""Whether a store is what NGFF says an image must be.

Own checks, without any package beyond wsistore: those of the NGFF text that readers stumble
over, units and key separators included, which no schema looks at. Where the packages
ome-zarr-models and yaozarrs are installed, their answers are reported as well.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from wsistore.errors import CorruptSlideError, SlideError, SourceNotFoundError
from wsistore.pyramid.array_rules import check_array
from wsistore.pyramid.findings import Finding, Findings, is_list
from wsistore.pyramid.groups import Group, find_image, parse_json
from wsistore.pyramid.multiscales import NGFF_LENGTHS
from wsistore.pyramid.second_opinions import ask_ome_zarr_models, ask_yaozarrs
from wsistore.pyramid.unfinished import unfinished_at
from wsistore.sources import Folder, is_url, open_folder

AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_TYPE_ORDER = ("time", "channel", "space")
_COLOR = re.compile(r"[0-9A-Fa-f]{6}")

__all__ = ["Finding", "validate"]


class _Level(NamedTuple):
    """A level as its dataset and its array have it; None where they can't be told."""

    where: str
    scale: list[float] | None
    shape: list[int] | None


def validate(path_or_url: str | os.PathLike[str], **source_options: Any) -> list[Finding]:
    """Check an OME-Zarr image against NGFF 0.4 or 0.5.

    Only documents are looked at, no pixel.

    Parameters
    ----------
    path_or_url : str or os.PathLike
        The store.
    **source_options
        As for `wsistore.sources.open_folder`.

    Returns
    -------
    list of Finding
        Empty where all is as it must and should be. What can't be opened as an image at
        all is one finding, ``"not-an-image"``.

    Raises
    ------
    StoreUnfinishedError
        If there is none yet: a run has begun it, and has not come to its end.
    SourceError
        If documents can't be had.
    """
    unfinished = partial(unfinished_at, path_or_url, **source_options)
    try:
        folder = open_folder(path_or_url, **source_options)
    except SourceNotFoundError as error:
        raise unfinished() or error from None
    found: list[Finding] = []
    out = Findings(found)
    try:
        image = find_image(folder, unfinished=unfinished)
    except SlideError as error:
        out.must(False, "not-an-image", error.message)
        return found
    inner = image.attributes.get("ome") if image.zarr_format == 3 else image.attributes
    inner = inner if isinstance(inner, Mapping) else {}
    _check_version(folder, image, inner, out)
    _check_images(folder, image, inner, out)
    if not is_url(folder.name):
        place = os.path.join(folder.name, image.prefix)  # noqa: PTH118 (as it was given)
        ask_ome_zarr_models(place, image, out.at("ome-zarr-models"))
        ask_yaozarrs(place, image, out.at("yaozarrs"))
    return found


def _check_version(folder: Folder, image: Group, inner: Mapping[str, Any], out: Findings) -> None:
    if image.zarr_format == 3:
        out.must("ome" in image.attributes, "ome-key", "metadata of 0.5 lie below the key 'ome'")
        version = inner.get("version")
        out.must(version == "0.5", "version", f"version is {version!r}, Zarr v3 goes with '0.5'")
        return
    group = folder.get(f"{image.prefix}.zgroup")
    out.must(group is not None, "zgroup", ".zgroup is missing")
    images = inner.get("multiscales")
    for item in images if is_list(images, Mapping) else ():
        version = item.get("version")
        if out.should(version is not None, "version", "no version is stated, it should be '0.4'"):
            out.must(
                version == "0.4", "version", f"version is {version!r}, Zarr v2 goes with '0.4'"
            )


def _check_images(folder: Folder, image: Group, inner: Mapping[str, Any], out: Findings) -> None:
    images = inner.get("multiscales")
    if not is_list(images, Mapping):
        out.must(False, "multiscales", "multiscales must be a list of objects, not empty")
        return
    channels = 0
    for number, multiscale in enumerate(images):
        place = out.at(f"multiscales[{number}]")
        axes = multiscale.get("axes")
        if not is_list(axes, Mapping):
            place.must(False, "axes", "axes must be a list of objects, not empty")
            continue
        _check_axes(axes, place)
        names = [str(axis.get("name")) for axis in axes]
        place.should(multiscale.get("name"), "name", "an image should have a name")
        levels = _check_datasets(folder, image, multiscale, names, place)
        _check_pyramid(names, levels, place)
        if number == 0 and levels and levels[0].shape and "c" in names:
            channels = levels[0].shape[names.index("c")]
    if "omero" in inner:
        _check_omero(inner["omero"], channels, out.at("omero"))


def _check_axes(axes: Sequence[Mapping[str, Any]], out: Findings) -> None:
    names = [axis.get("name") for axis in axes]
    types = [axis.get("type") for axis in axes]
    out.must(2 <= len(axes) <= 5, "axes-count", f"{len(axes)} axes, must be 2 to 5")
    out.must(
        all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names),
        "axes-names",
        f"names of axes must be different texts, they are {names}",
    )
    space = types.count("space")
    out.must(2 <= space <= 3, "axes-space", f"{space} axes of type space, must be 2 or 3")
    ranks = [_TYPE_ORDER.index(kind) for kind in types if kind in _TYPE_ORDER]
    out.must(
        ranks == sorted(ranks), "axes-order", f"types are {types}, must be time, channel, space"
    )
    spatial = [name for name, kind in zip(names, types, strict=True) if kind == "space"]
    out.must(
        spatial == [name for name in "zyx" if name in spatial],
        "axes-order",
        f"axes of space are {spatial}, must be in the order z, y, x",
    )
    for axis in axes:
        _check_axis(axis, out)


def _check_axis(axis: Mapping[str, Any], out: Findings) -> None:
    name, kind, unit = axis.get("name"), axis.get("type"), axis.get("unit")
    expected = AXIS_TYPES.get(str(name), kind)
    out.should(kind == expected, "axis-type", f"axis {name!r} has type {kind!r}, not {expected!r}")
    if kind != "space":
        return
    if out.should(unit, "unit", f"axis {name!r} has no unit, so pixels have no size"):
        out.should(
            isinstance(unit, str) and unit in NGFF_LENGTHS,
            "unit",
            f"unit {unit!r} of axis {name!r} is no name of a length that NGFF lists",
        )


def _check_datasets(
    folder: Folder,
    image: Group,
    multiscale: Mapping[str, Any],
    names: Sequence[str],
    out: Findings,
) -> list[_Level]:
    datasets = multiscale.get("datasets")
    if not is_list(datasets, Mapping):
        out.must(False, "datasets", "datasets must be a list of objects, not empty")
        return []
    levels = []
    for number, dataset in enumerate(datasets):
        place = out.at(f"{out.where}.datasets[{number}]")
        scale = _check_transformations(dataset.get("coordinateTransformations"), len(names), place)
        shape = _check_level(folder, image, dataset.get("path"), names, place)
        levels.append(_Level(place.where, scale, shape))
    return levels


def _check_transformations(steps: object, count: int, out: Findings) -> list[float] | None:
    """Check the transformations of a level; return its scale."""
    if not is_list(steps, Mapping):
        out.must(False, "transformations", "coordinateTransformations must be a list, not empty")
        return None
    kinds = [step.get("type") for step in steps]
    out.must(
        kinds in (["scale"], ["scale", "translation"]),
        "transformations",
        f"transformations are {kinds}, must be one scale, and a translation after it at most",
    )
    for step in steps:
        values = step.get(str(step.get("type")))
        out.must(
            is_list(values, (int, float)) and len(values) == count,
            "transformations",
            f"{step.get('type')} is {values!r}, must be {count} numbers",
        )
    scale = next((step.get("scale") for step in steps if step.get("type") == "scale"), None)
    if not is_list(scale, (int, float)) or len(scale) != count:
        return None
    positive = all(math.isfinite(value) and value > 0 for value in scale)
    out.must(positive, "scale", f"scale {scale} must be of positive numbers")
    return list(map(float, scale)) if positive else None


def _check_level(
    folder: Folder, image: Group, path: object, names: Sequence[str], out: Findings
) -> list[int] | None:
    """Check the array of a level; return its shape."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if any(part in ("", ".", "..") for part in parts):
        out.must(False, "path", f"path must name an array below the group, it is {path!r}")
        return None
    name = f"{image.prefix}{path}/{'zarr.json' if image.zarr_format == 3 else '.zarray'}"
    data = folder.get(name)
    if data is None:
        out.must(False, "path", f"there is no {name}")
        return None
    try:
        document = parse_json(data, name)
    except CorruptSlideError as error:
        out.must(False, "json", error.message)
        return None
    return check_array(document, names, image.zarr_format, out)


def _check_pyramid(names: Sequence[str], levels: Sequence[_Level], out: Findings) -> None:
    """Check how levels go together: finest first, and scales that explain the shapes."""
    for finer, coarser in pairwise(levels):
        place = out.at(coarser.where)
        if finer.shape and coarser.shape:
            place.must(
                all(a >= b for a, b in zip(finer.shape, coarser.shape, strict=True)),
                "levels-order",
                f"shape {coarser.shape} comes after {finer.shape}, the largest must be first",
            )
        if finer.scale and coarser.scale:
            place.must(
                all(a <= b for a, b in zip(finer.scale, coarser.scale, strict=True)),
                "levels-order",
                f"scale {coarser.scale} comes after {finer.scale}, the finest must be first",
            )
    for level in levels[1:]:
        first = levels[0]
        if first.shape and level.shape and first.scale and level.scale:
            _check_extent(names, first.shape, first.scale, level, out.at(level.where))


def _check_extent(
    names: Sequence[str],
    shape: Sequence[int],
    scale: Sequence[float],
    level: _Level,
    out: Findings,
) -> None:
    """Check that a level covers what level 0 covers, within two of its px."""
    for i, name in enumerate(names):
        if level.shape is None or level.scale is None:
            return
        expected = shape[i] * scale[i] / level.scale[i]
        out.should(
            abs(level.shape[i] - expected) <= 2,
            "scale-shape",
            f"axis {name!r} has {level.shape[i]} px, its scale says {expected:.1f}",
        )


def _check_omero(omero: object, channels: int, out: Findings) -> None:
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not is_list(listed, Mapping):
        out.must(False, "omero", "omero must have a list of channels")
        return
    out.should(
        not channels or len(listed) == channels,
        "omero",
        f"{len(listed)} channels are described, the image has {channels}",
    )
    for number, channel in enumerate(listed):
        color, window = channel.get("color"), channel.get("window")
        out.must(
            isinstance(color, str) and _COLOR.fullmatch(color),
            "omero",
            f"color of channel {number} must be 6 hexadecimal digits, it is {color!r}",
        )
        whole = isinstance(window, Mapping) and {"min", "max", "start", "end"} <= window.keys()
        out.must(whole, "omero", f"window of channel {number} needs min, max, start and end")
