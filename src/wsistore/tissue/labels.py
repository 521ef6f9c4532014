"""A tissue mask as the label image of a slide's OME-Zarr, so that viewers show it.

Format: NGFF 0.5, "labels" and "image-label" metadata,
https://ngff.openmicroscopy.org/0.5/. A label image has as many scale levels as the image;
its finest one has the px of the mask.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from wsistore.durable import FileLock, WorkFolder, atomic_write
from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.geometry import Size
from wsistore.tissue.combining import resized
from wsistore.tissue.files import mask_of, read_group, record, write_group
from wsistore.tissue.mask import TissueMask

_HINT = "Labels are written into slides that `wsistore convert` made (OME-Zarr 0.5)."
_RGBA = [0, 200, 0, 128]


def write_label(mask: TissueMask, store: str | os.PathLike[str], name: str = "tissue") -> None:
    """Write a mask as ``labels/NAME`` into a converted slide, in place of an older one.

    The label appears whole or not at all; the slide's own arrays are not touched.

    Parameters
    ----------
    mask : TissueMask
        Of this slide.
    store : path
        Folder of an OME-Zarr 0.5 image.
    name : str
        Name of the label.

    Raises
    ------
    UsageError
        If the store is no OME-Zarr 0.5 image, the name is none, or the mask is of a slide
        of another size.
    SourceNotFoundError
        If there is no such store.
    StoreLockedError
        If another run is writing the labels.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    root = Path(store)
    image = _multiscale(root)
    if not name or name.startswith((".", "__")) or "/" in name or name == "zarr.json":
        raise UsageError(f"{name!r} can't be the name of a label")
    size = _image_size(root, image)
    if size != mask.slide_size:
        raise UsageError(
            f"the mask is of a slide of {tuple(mask.slide_size)} px, {root.name} has {tuple(size)}"
        )
    labels = root / "labels"
    masks = _levels(mask, len(image["datasets"]))
    arrays = {str(level): part.pixels.astype(np.uint8) for level, part in enumerate(masks)}
    attributes = {"ome": _label_metadata(masks, image, name), "wsistore": record(mask)}
    labels.mkdir(exist_ok=True)
    lock = FileLock(root / ".labels.lock", str(labels))
    lock.acquire()
    try:
        with WorkFolder(
            labels / name, {"mask": mask.fingerprint}, overwrite=True, restart=True
        ) as work:
            write_group(work.path, attributes, arrays, ("y", "x"))
            work.commit()
        _list_label(labels / "zarr.json", name)
    finally:
        lock.release()


def read_label(store: str | os.PathLike[str], name: str = "tissue") -> TissueMask:
    """Read a mask that `write_label` wrote.

    Raises
    ------
    SourceNotFoundError
        If there is no such label.
    StoreCorruptError
        If it is not what was written.
    """
    path = Path(store) / "labels" / name
    if not path.is_dir():
        raise SourceNotFoundError(f"{store} has no label {name!r}")
    told, pixels = read_group(path, "0")
    return mask_of(told, pixels, str(path))


def _multiscale(root: Path) -> dict[str, Any]:
    path = root / "zarr.json"
    if not path.is_file():
        raise SourceNotFoundError(f"{root} is no Zarr v3 store: it has no zarr.json")
    try:
        ome = json.loads(path.read_bytes())["attributes"]["ome"]
        version, found = str(ome["version"]), dict(ome["multiscales"][0])
        count = len(found["datasets"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(f"{root} is no OME-Zarr image: {error!r}", hint=_HINT) from error
    if version != "0.5" or not count:
        raise UsageError(f"{root} is an OME-Zarr {version} of {count} levels", hint=_HINT)
    return found


def _image_size(root: Path, image: dict[str, Any]) -> Size:
    path = root / image["datasets"][0]["path"] / "zarr.json"
    try:
        shape = json.loads(path.read_bytes())["shape"]
        axes = [axis["name"] for axis in image["axes"]]
        return Size(shape[axes.index("x")], shape[axes.index("y")])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise StoreCorruptError(f"level 0 of {root} can't be read: {error!r}") from error


def _levels(mask: TissueMask, count: int) -> list[TissueMask]:
    """Return the mask and its halves, so many as the image has levels."""
    masks = [mask]
    while len(masks) < count:
        height, width = masks[-1].shape
        masks.append(resized(masks[-1], (max(1, (width + 1) // 2), max(1, (height + 1) // 2))))
    return masks


def _label_metadata(masks: list[TissueMask], image: dict[str, Any], name: str) -> dict[str, Any]:
    axes = [axis for axis in image["axes"] if axis["name"] in {"y", "x"}]
    names = [axis["name"] for axis in image["axes"]]
    base = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    datasets = []
    for level, mask in enumerate(masks):
        x, y = mask.downsample
        scale = [base[names.index("y")] * y, base[names.index("x")] * x]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        )
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
        "image-label": {
            "version": "0.5",
            "colors": [{"label-value": 1, "rgba": _RGBA}],
            "properties": [{"label-value": 1, "class": name}],
            "source": {"image": "../../"},
        },
    }


def _list_label(path: Path, name: str) -> None:
    """Name a label in the document of the group ``labels``, beside those named there."""
    names: list[str] = []
    attributes: dict[str, Any] = {}
    if path.exists():
        try:
            attributes = json.loads(path.read_bytes()).get("attributes", {})
            names = list(attributes.get("ome", {}).get("labels", []))
        except (ValueError, AttributeError, TypeError) as error:
            raise StoreCorruptError(f"{path} is damaged: {error!r}") from error
    if name not in names:
        names.append(name)
    attributes["ome"] = {"version": "0.5", "labels": names}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    atomic_write(path, json.dumps(document, indent=2).encode())
