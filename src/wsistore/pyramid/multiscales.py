"""Reading OME-Zarr metadata: the levels of an image and their pixel sizes in µm.

NGFF 0.4 keeps ``multiscales`` in the attributes of a group, 0.5 below the key ``ome``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsistore.errors import CorruptSlideError, UnsupportedSlideError
from wsistore.geometry import Size, snap_downsample

NGFF_LENGTHS: Mapping[str, float] = {
    "yoctometer": 1e-18,
    "zeptometer": 1e-15,
    "attometer": 1e-12,
    "femtometer": 1e-9,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "decimeter": 1e5,
    "meter": 1e6,
    "hectometer": 1e8,
    "kilometer": 1e9,
    "megameter": 1e12,
    "gigameter": 1e15,
    "terameter": 1e18,
    "petameter": 1e21,
    "exameter": 1e24,
    "zettameter": 1e27,
    "yottameter": 1e30,
    "parsec": 3.0856775814913673e22,
    "inch": 25400.0,
    "foot": 304800.0,
    "yard": 914400.0,
    "mile": 1609344000.0,
}
"""µm per unit of length, for all that NGFF lists."""

MICROMETERS: Mapping[str, float] = {
    **NGFF_LENGTHS,
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}
"""The same, and names that are met although NGFF does not list them."""

VERSIONS = ("0.4", "0.5")


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of an image.

    Parameters
    ----------
    name : str
        ``"t"``, ``"c"``, ``"z"``, ``"y"`` or ``"x"``.
    type : str
        ``"time"``, ``"channel"``, ``"space"``; empty where it is not said.
    unit : str
        Empty where it is not said.
    """

    name: str
    type: str
    unit: str


@dataclass(frozen=True, slots=True)
class ScaledDataset:
    """A level of an image, as the metadata have it.

    Parameters
    ----------
    path : str
        Of its array, below the group.
    scale : tuple of float or None
        Size of a px along each axis in the axis' unit; None where it can't be told.
    """

    path: str
    scale: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image pyramid, as the metadata have it.

    Parameters
    ----------
    version : str
        Of NGFF; empty where it is not said.
    name : str
        Of the image; may be empty.
    axes : tuple of Axis
        In the order of the arrays' dimensions.
    datasets : tuple of ScaledDataset
        In the order of the metadata.
    notes : tuple of str
        What was ignored or is missing.
    """

    version: str
    name: str
    axes: tuple[Axis, ...]
    datasets: tuple[ScaledDataset, ...]
    notes: tuple[str, ...]

    @property
    def order(self) -> str:
        """Names of the axes, such as ``"cyx"``."""
        return "".join(axis.name for axis in self.axes)

    def pixel_size(self, dataset: ScaledDataset) -> tuple[float, float] | None:
        """Return the size (x, y) of a level's px in µm, None where it can't be told."""
        if dataset.scale is None:
            return None
        sizes = []
        for name in "xy":
            index = self.order.index(name)
            factor = MICROMETERS.get(self.axes[index].unit.strip().lower())
            if factor is None:
                return None
            sizes.append(dataset.scale[index] * factor)
        return sizes[0], sizes[1]

    def downsample(
        self, finest: ScaledDataset, dataset: ScaledDataset, full: Size, size: Size
    ) -> float:
        """Return level-0 px per px of a level.

        Told by the scales where they explain the sizes to within a px, else by the sizes.

        Parameters
        ----------
        finest, dataset : ScaledDataset
            Level 0, and the level.
        full, size : Size
            Their sizes, in px of their levels.
        """
        if finest.scale is None or dataset.scale is None:
            return snap_downsample(full, size)
        ratios = [
            dataset.scale[self.order.index(name)] / finest.scale[self.order.index(name)]
            for name in "xy"
        ]
        ratio = sum(ratios) / 2
        if not all(abs(f / ratio - s) <= 1 for f, s in zip(full, size, strict=True)):
            return snap_downsample(full, size)
        nominal = round(ratio)
        return float(nominal) if abs(ratio - nominal) <= 1e-6 * nominal else ratio


def parse_multiscale(attributes: Mapping[str, Any]) -> Multiscale:
    """Return the first image that the attributes of a group describe.

    Parameters
    ----------
    attributes : mapping
        Of the group: those of ``zarr.json``, or ``.zattrs``.

    Raises
    ------
    UnsupportedSlideError
        If they describe no image, or one of another version.
    CorruptSlideError
        If the description contradicts the format.
    """
    inner = attributes.get("ome", attributes)
    try:
        images = inner["multiscales"]
        first = images[0]
    except (KeyError, TypeError, IndexError) as error:
        raise UnsupportedSlideError(
            "its attributes describe no OME-Zarr image (no multiscales)"
        ) from error
    try:
        return _parse(inner, first, more=len(images) - 1)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptSlideError(
            f"its OME-Zarr metadata can't be understood ({type(error).__name__}: {error})"
        ) from error


def _parse(inner: Mapping[str, Any], image: Mapping[str, Any], more: int) -> Multiscale:
    version = str(inner.get("version") or image.get("version") or "")
    if version and not version.startswith(VERSIONS):
        raise UnsupportedSlideError(f"it is OME-Zarr {version}; {' and '.join(VERSIONS)} are read")
    axes = tuple(map(_axis, image.get("axes") or ()))
    order = "".join(axis.name for axis in axes)
    if len(set(order)) != len(axes) or not {"x", "y"} <= set(order):
        raise UnsupportedSlideError(f"its axes are {order or 'not named'}; y and x are needed")
    if not set(order) <= set("tczyx"):
        raise UnsupportedSlideError(f"its axes are {order}; only t, c, z, y and x are read")
    common = _scale(image.get("coordinateTransformations"), len(axes))
    datasets = tuple(_dataset(entry, common, len(axes)) for entry in image["datasets"])
    if not datasets:
        raise CorruptSlideError("its OME-Zarr metadata name no level")
    notes = []
    if more:
        notes.append(f"{more} more multiscale images in the same group are ignored")
    if not version:
        notes.append("the metadata name no version of OME-Zarr")
    return Multiscale(version, str(image.get("name") or ""), axes, datasets, tuple(notes))


def _axis(axis: object) -> Axis:
    if not isinstance(axis, Mapping):
        raise UnsupportedSlideError("its axes have no types, as in OME-Zarr 0.3 and older")
    return Axis(str(axis["name"]).lower(), str(axis.get("type", "")), str(axis.get("unit") or ""))


def _dataset(
    entry: Mapping[str, Any], common: tuple[float, ...] | None, count: int
) -> ScaledDataset:
    path = str(entry["path"]).strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise CorruptSlideError(f"a level has the path {entry['path']!r}")
    own = _scale(entry.get("coordinateTransformations"), count)
    if own is None or common is None:
        return ScaledDataset(path, own)
    return ScaledDataset(path, tuple(a * b for a, b in zip(own, common, strict=True)))


def _scale(
    transformations: Sequence[Mapping[str, Any]] | None, count: int
) -> tuple[float, ...] | None:
    """Return the product of all scales; translations don't matter to sizes."""
    found: tuple[float, ...] | None = None
    for step in transformations or ():
        if step["type"] != "scale" or "scale" not in step:
            continue
        values = tuple(map(float, step["scale"]))
        if len(values) != count or not all(0 < value < float("inf") for value in values):
            raise CorruptSlideError(f"a scale is {list(values)}, expected {count} positive numbers")
        found = (
            values if found is None else tuple(a * b for a, b in zip(found, values, strict=True))
        )
    return found
