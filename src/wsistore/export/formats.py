"""Files of plans, by the name of their format: `write_plan` and `read_plan`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.export import (
    csv_files,
    geojson_files,
    json_files,
    mahmood,
    parquet_files,
    slideprocessor,
)
from wsistore.export.h5_files import SIGNATURE, open_h5
from wsistore.slides import Slide
from wsistore.sources import is_url
from wsistore.sources.copies import local_copy, split_place, uploaded
from wsistore.tiles.plan import TilePlan

HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PlanFormat:
    """A kind of file that plans are written to and read from.

    Parameters
    ----------
    name : str
        Of the format.
    extension : str
        Of its files; empty for a folder.
    about : str
        One line for people.
    write : callable
        ``write(plan, path, **options)``.
    read : callable
        ``read(path, slide, **options)``.
    sniff : callable
        ``sniff(path, head) -> bool``, or for HDF5 ``sniff(open file) -> bool``.
    is_h5 : bool
        Whether it is HDF5.
    """

    name: str
    extension: str
    about: str
    write: Callable[..., None]
    read: Callable[..., TilePlan]
    sniff: Callable[..., bool]
    is_h5: bool = False


_ALL = (
    PlanFormat(
        "csv",
        ".csv",
        "a table, with its provenance in a JSON file beside it",
        csv_files.write_csv,
        csv_files.read_csv,
        csv_files.sniff_csv,
    ),
    PlanFormat(
        "geojson",
        ".geojson",
        "rectangles for QuPath",
        geojson_files.write_geojson,
        geojson_files.read_geojson,
        geojson_files.sniff_geojson,
    ),
    PlanFormat(
        "json",
        ".json",
        "one JSON object with columns",
        json_files.write_json,
        json_files.read_json,
        json_files.sniff_json,
    ),
    PlanFormat(
        "parquet",
        "",
        "a folder of the tables slides/ and tiles/, for many plans",
        parquet_files.write_parquet,
        parquet_files.read_parquet,
        parquet_files.sniff_parquet,
    ),
    PlanFormat(
        "slideprocessor",
        ".h5",
        "HDF5 with coords (N, 2) and coords_ext (N, 5)",
        slideprocessor.write_slideprocessor,
        slideprocessor.read_slideprocessor,
        slideprocessor.sniff_slideprocessor,
        is_h5=True,
    ),
    PlanFormat(
        "atlaspatch",
        ".h5",
        "HDF5 with coords (N, 5) and passports",
        slideprocessor.write_atlaspatch,
        slideprocessor.read_atlaspatch,
        slideprocessor.sniff_atlaspatch,
        is_h5=True,
    ),
    PlanFormat(
        "clam",
        ".h5",
        "HDF5 as CLAM's patches/<stem>.h5",
        mahmood.write_clam,
        mahmood.read_clam,
        mahmood.sniff_clam,
        is_h5=True,
    ),
    PlanFormat(
        "trident",
        ".h5",
        "HDF5 as TRIDENT's patches/<stem>_patches.h5",
        mahmood.write_trident,
        mahmood.read_trident,
        mahmood.sniff_trident,
        is_h5=True,
    ),
)

PLAN_FORMATS: Mapping[str, PlanFormat] = MappingProxyType({item.name: item for item in _ALL})
"""Formats by name, asked in this order whether a file is theirs."""

ALIASES = MappingProxyType({"hdf5": "slideprocessor", "h5": "slideprocessor", "qupath": "geojson"})


def plan_format(name: str) -> PlanFormat:
    """Return the format of a name.

    Raises
    ------
    UsageError
        If there is none.
    """
    key = name.lower()
    found = PLAN_FORMATS.get(ALIASES.get(key, key))
    if found is None:
        raise UsageError(
            f"there is no plan format {name!r}", hint=f"Use one of {', '.join(PLAN_FORMATS)}."
        )
    return found


def write_plan(
    plan: TilePlan,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 (the word that users look for)
    **options: Any,
) -> Path | str:
    """Write a plan to a file; the file appears whole or not at all.

    Parameters
    ----------
    plan : TilePlan
        What is written.
    path : path or URL
        The file, or for Parquet the folder. Folders above it are made where missing. For a
        URL the file is made in a temporary folder, and uploaded.
    format : str, optional
        Name of a format; told by the extension where not said: ``.csv``, ``.json``,
        ``.geojson``, ``.h5`` and ``.hdf5`` (``slideprocessor``), none (``parquet``).
    **options
        Of the format; see ``PLAN_FORMATS[name].write``.

    Returns
    -------
    Path or str
        What was written: a path, or the URL as it was given.

    Raises
    ------
    UsageError
        If there is no such format or option, or the format can't hold this plan.
    DependencyError
        If its package is not installed.
    StoreWriteError
        If the disk is full, or writing is not permitted.
    """
    from wsistore.durable import write_error

    if is_url(path):
        with uploaded(path) as place:
            write_plan(plan, place, format, **options)
        return os.fspath(path)
    target = Path(path)
    kind = plan_format(format) if format is not None else _by_extension(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, target.parent) from error
    _known_options(kind.write, options, kind.name)
    kind.write(plan, target, **options)
    return target


def read_plan(
    path: str | os.PathLike[str],
    slide: Slide | None = None,
    *,
    format: str | None = None,  # noqa: A002
    **options: Any,
) -> TilePlan:
    """Read a plan from a file; its content tells the format.

    What wsistore wrote gives the very plan back. Files of other tools give a plan of what
    they say, better with the slide: with its levels, its units and its fingerprint.

    Parameters
    ----------
    path : path or URL
        A file, or a folder of Parquet tables. What a URL names is fetched whole.
    slide : Slide, optional
        The slide that it is a plan of.
    format : str, optional
        Name of the format, to skip looking.
    **options
        Of the format; ``spec=TileSpec(...)`` for tables that hold no more than places.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    UsageError
        If it is of no known format, or not of this slide.
    StoreCorruptError
        If it is broken, or was changed after it was written.
    DependencyError
        If its package is not installed.
    """
    if is_url(path):
        with local_copy(os.fspath(path), beside=["{name}.json"]) as copy:
            return read_plan(copy, slide, format=format, **options)
    place = Path(path)
    kind = plan_format(format) if format is not None else sniff_format(place)
    _known_options(kind.read, options, kind.name)
    plan = kind.read(place, slide, **options)
    if slide is not None:
        plan.check_slide(slide)
    return plan


def read_plans(path: str | os.PathLike[str]) -> list[TilePlan]:
    """Read the plans that a name stands for.

    Parameters
    ----------
    path : path or URL
        A file of any format, a folder of Parquet tables (all of their slides), or the URL
        of a folder of plan files, as ``patches/`` of a run is: these are read one by one.

    Raises
    ------
    SourceNotFoundError
        If there is nothing.
    UsageError, StoreCorruptError, DependencyError
        As `read_plan`.
    """
    if not is_url(path):
        return _read_all(Path(path))
    url = os.fspath(path).rstrip("/")
    folder, name = split_place(url)
    inside = _plan_names(folder.list_names(name))
    if inside:
        return [read_plan(f"{url}/{quote(found)}") for found in inside]
    with local_copy(url, beside=["{name}.json"]) as copy:
        return _read_all(copy)


def _plan_names(names: list[str]) -> list[str]:
    suffixes = {kind.extension for kind in PLAN_FORMATS.values() if kind.extension} | {".hdf5"}
    plans = [name for name in names if PurePosixPath(name).suffix in suffixes]
    beside = {f"{name}.json" for name in plans}  # what a table of a plan does not hold
    return [name for name in plans if name not in beside]


def _read_all(place: Path) -> list[TilePlan]:
    return parquet_files.read_all_parquet(place) if place.is_dir() else [read_plan(place)]


def sniff_format(path: str | os.PathLike[str]) -> PlanFormat:
    """Return the format of a file, by its content.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    UsageError
        If it is of no known format.
    """
    place = Path(path)
    head = b""
    if place.is_file():
        with place.open("rb") as file:
            head = file.read(HEAD_BYTES)
    elif not place.is_dir():
        raise SourceNotFoundError(f"there is no file {place}")
    if head.startswith(SIGNATURE):
        with open_h5(place) as file:
            for kind in PLAN_FORMATS.values():
                if kind.is_h5 and kind.sniff(file):
                    return kind
    else:
        for kind in PLAN_FORMATS.values():
            if not kind.is_h5 and kind.sniff(place, head):
                return kind
    raise UsageError(
        f"{place} is no plan that is known here",
        hint=f"Formats are {', '.join(PLAN_FORMATS)}; read_plan takes one as format=...",
    )


def _by_extension(path: Path) -> PlanFormat:
    extension = path.suffix.lower()
    names = {".hdf5": "slideprocessor", ".h5": "slideprocessor"}
    for kind in PLAN_FORMATS.values():
        names.setdefault(kind.extension, kind.name)
    if extension not in names:
        raise UsageError(
            f"no plan format has the extension {extension!r}",
            hint="Name the format (--format on the command line, format=... in Python): "
            f"{', '.join(PLAN_FORMATS)}.",
        )
    return PLAN_FORMATS[names[extension]]


def _known_options(call: Callable[..., Any], options: Mapping[str, Any], name: str) -> None:
    import inspect

    known = [
        key
        for key, parameter in inspect.signature(call).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    strange = sorted(options.keys() - set(known))
    if strange:
        raise UsageError(
            f"the format {name} has no option {', '.join(strange)}",
            hint=f"It has {', '.join(known) or 'none'}.",
        )
