"""OME-Zarr metadata of a pyramid: what is written into its attributes.

Formats: NGFF 0.4 (attributes of a Zarr v2 group) and 0.5 (the key ``ome`` in those of a
v3 group), https://ngff.openmicroscopy.org. Scales are µm/px per level, in the order of
the axes c, y, x. A slide without a pixel size gets axes without a unit, and scales that
count level-0 px. What other programs need not know is under the key ``wsistore``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wsistore.geometry import Magnification, Mpp

SCHEMA = 1
"""Version of the ``wsistore`` attributes."""
ASSOCIATED = "associated"
"""Name of the group that holds associated images and the ICC profile."""
CHECKSUMS = "wsistore-checksums.json"
"""File at a store's root with the checksums of its shards."""

_CHANNELS = (("Red", "FF0000"), ("Green", "00FF00"), ("Blue", "0000FF"))


@dataclass(frozen=True, slots=True)
class Dataset:
    """One level of a multiscale image.

    Parameters
    ----------
    path : str
        Name of its array below the group.
    downsample : float
        Level-0 px per px of the level.
    """

    path: str
    downsample: float


def attributes_0_5(
    name: str, datasets: Sequence[Dataset], mpp: Mpp | None, private: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the attributes of the root group of an NGFF 0.5 image.

    Parameters
    ----------
    name : str
        Name of the image.
    datasets : sequence of Dataset
        Levels, finest first.
    mpp : Mpp or None
        Pixel size at level 0.
    private : mapping
        Of `private_attributes`.
    """
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale(name, datasets, mpp)],
        "omero": _omero(),
    }
    return {"ome": ome, "wsistore": dict(private)}


def attributes_0_4(
    name: str, datasets: Sequence[Dataset], mpp: Mpp | None, private: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the ``.zattrs`` of the root of an NGFF 0.4 image; see `attributes_0_5`."""
    return {
        "multiscales": [{"version": "0.4", **_multiscale(name, datasets, mpp)}],
        "omero": {"version": "0.4", **_omero()},
        "wsistore": dict(private),
    }


def _multiscale(name: str, datasets: Sequence[Dataset], mpp: Mpp | None) -> dict[str, Any]:
    space: dict[str, str] = (
        {"type": "space"}
        if mpp is None
        else {
            "type": "space",
            "unit": "micrometer",
        }
    )
    side_x, side_y = (1.0, 1.0) if mpp is None else (mpp.x, mpp.y)
    return {
        "name": name,
        "axes": [
            {"name": "c", "type": "channel"},
            {"name": "y", **space},
            {"name": "x", **space},
        ],
        "datasets": [
            {
                "path": dataset.path,
                "coordinateTransformations": [
                    {
                        "type": "scale",
                        "scale": [1.0, side_y * dataset.downsample, side_x * dataset.downsample],
                    }
                ],
            }
            for dataset in datasets
        ],
    }


def _omero() -> dict[str, Any]:
    """Return the rendering hints of an RGB image, without which viewers guess contrast."""
    channels = [
        {
            "label": label,
            "color": color,
            "active": True,
            "window": {"min": 0, "start": 0, "end": 255, "max": 255},
        }
        for label, color in _CHANNELS
    ]
    return {"channels": channels, "rdefs": {"model": "color"}}


def private_attributes(
    *,
    source_format: str,
    source_fingerprint: str,
    codec: str,
    mode: Literal["copy", "transcode"],
    mpp: Mpp | None,
    magnification: Magnification | None,
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """Return what a store says of itself under the key ``wsistore``.

    Nothing in it depends on paths, users or the time, so equal conversions give equal
    stores.

    Parameters
    ----------
    source_format : str
        Format of the slide it was made from, such as ``"aperio"``.
    source_fingerprint : str
        Hash of the slide's content.
    codec : str
        Stored codec of level 0, such as ``"jpeg"`` or ``"zstd"``.
    mode : {"copy", "transcode"}
        Whether level 0 holds the slide's encoded tiles, or pixels encoded anew.
    mpp, magnification : Mpp or None, Magnification or None
        With their origins.
    metadata : mapping of str to str
        Properties that may be kept; choosing them is the caller's part.
    """
    return {
        "schema": SCHEMA,
        "source": {"format": source_format, "fingerprint": source_fingerprint},
        "codec": codec,
        "mode": mode,
        "mpp": None if mpp is None else {"x": mpp.x, "y": mpp.y, "origin": mpp.origin},
        "magnification": None
        if magnification is None
        else {"value": float(magnification), "origin": magnification.origin},
        "metadata": {key: str(metadata[key]) for key in sorted(metadata)},
    }


def associated_attributes(icc_profile: bytes | None, names: Iterable[str] = ()) -> dict[str, Any]:
    """Return the attributes of the group `ASSOCIATED`.

    Its arrays are named after the associated images (``thumbnail``, ...) and have the
    axes c, y, x.

    Parameters
    ----------
    icc_profile : bytes or None
        Profile of the slide's pixels, kept as base64 under ``icc_profile``.
    names : iterable of str
        The associated images in it, so that readers need not list (plain HTTP can't).
    """
    attributes: dict[str, Any] = {"images": sorted(names)}
    if icc_profile is not None:
        attributes["icc_profile"] = base64.b64encode(icc_profile).decode("ascii")
    return attributes
