"""Files of features, by the name of their format, and what tells a file's format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.export.features_anndata import (
    read_anndata,
    read_spatialdata,
    write_anndata,
    write_spatialdata,
)
from wsistore.export.features_hdf5 import (
    read_features_h5,
    write_features_h5,
)
from wsistore.export.features_mil import (
    write_clam_features,
    write_stamp_features,
    write_trident_features,
)
from wsistore.export.features_parquet import read_features_parquet, write_features_parquet
from wsistore.export.folders import made_folder
from wsistore.export.slide_features import SlideFeatures
from wsistore.slides import Slide

Write = Callable[[SlideFeatures, Path], list[Path]]


@dataclass(frozen=True, slots=True)
class FeatureFormat:
    """A kind of file that features of a slide are written to.

    Parameters
    ----------
    name : str
        Of the format.
    about : str
        One line for people.
    write : callable
        ``write(data, folder)`` returns the files that it wrote.
    """

    name: str
    about: str
    write: Write


def _h5(layout: str) -> Write:
    def write(data: SlideFeatures, folder: Path) -> list[Path]:
        path = made_folder(folder / "patches") / f"{data.name}.h5"
        write_features_h5(data, path, layout=layout)
        return [path]

    return write


def _each(write_one: Callable[[SlideFeatures, Path, str], list[Path]], *, apart: bool) -> Write:
    """Return a writer of formats that hold one encoder a file."""

    def write(data: SlideFeatures, folder: Path) -> list[Path]:
        several = apart and len(data.features) > 1
        return [
            path
            for name in data.features
            for path in write_one(data, folder / name if several else folder, name)
        ]

    return write


_ALL = (
    FeatureFormat("slideprocessor", "patches/<stem>.h5 with coords (N, 2)", _h5("slideprocessor")),
    FeatureFormat("atlaspatch", "patches/<stem>.h5 with coords (N, 5)", _h5("atlaspatch")),
    FeatureFormat(
        "clam",
        "h5_files/<stem>.h5 and pt_files/<stem>.pt",
        _each(
            lambda data, folder, name: write_clam_features(data, folder, encoder=name), apart=True
        ),
    ),
    FeatureFormat(
        "trident",
        "features_<encoder>/<stem>.h5",
        _each(
            lambda data, folder, name: [write_trident_features(data, folder, encoder=name)],
            apart=False,
        ),
    ),
    FeatureFormat(
        "stamp",
        "<stem>.h5 with feats and coords in µm",
        _each(
            lambda data, folder, name: [write_stamp_features(data, folder, encoder=name)],
            apart=True,
        ),
    ),
    FeatureFormat(
        "parquet",
        "<stem>.parquet, a row a tile",
        lambda data, folder: [write_features_parquet(data, folder)],
    ),
    FeatureFormat(
        "anndata",
        "<stem>.h5ad (needs anndata)",
        _each(lambda data, folder, name: [write_anndata(data, folder, encoder=name)], apart=True),
    ),
    FeatureFormat(
        "spatialdata",
        "<stem>.zarr (needs spatialdata)",
        _each(
            lambda data, folder, name: [write_spatialdata(data, folder, encoder=name)], apart=True
        ),
    ),
)

FEATURE_FORMATS: Mapping[str, FeatureFormat] = MappingProxyType({f.name: f for f in _ALL})
PATCH_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "lmdb": "pixels: an LMDB environment and its _meta",
        "images": "pixels: <stem>/<stem>_x<x>_y<y>.png",
        "tar": "pixels: tar shards as WebDataset reads them",
        "hdf5-tiles": "pixels: <stem>.h5 with tiles (N, h, w, 3)",
    }
)
"""Formats that hold the pixels of tiles, and need the slides."""


def check_format(name: str) -> str:
    """Return the name of a format in lower case.

    Raises
    ------
    UsageError
        If there is none.
    """
    key = name.lower()
    if key not in FEATURE_FORMATS and key not in PATCH_FORMATS:
        raise UsageError(
            f"there is no format {name!r} to export to",
            hint=f"Use one of {', '.join([*FEATURE_FORMATS, *PATCH_FORMATS])}.",
        )
    return key


def read_features(path: Path, slide: Slide | None = None) -> SlideFeatures:
    """Read the features of a slide: HDF5, Parquet or AnnData by content, SpatialData a folder.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    UsageError
        If it holds no features that are known here.
    wsistore.errors.StoreCorruptError
        If it is broken.
    """
    if path.is_dir() and (path / "tables").is_dir():
        return read_spatialdata(path)
    if not path.is_file():
        raise SourceNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PAR1"):
        return read_features_parquet(path)
    if head.startswith(b"\x89HDF"):
        return read_anndata(path) if path.suffix == ".h5ad" else read_features_h5(path, slide)
    raise UsageError(f"{path} is neither HDF5 nor Parquet, so no features of a slide")
