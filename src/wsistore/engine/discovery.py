"""Which slides a planning run is about, and what a table says of their pixel sizes."""

from __future__ import annotations

import csv
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsistore.engine.jobs import SLIDE_SUFFIXES, STORE_SUFFIX, no_slides
from wsistore.engine.listing import is_prefix, slides_at, stem_source
from wsistore.engine.walking import is_store, slides_below
from wsistore.errors import SourceError, SourceNotFoundError, UsageError
from wsistore.sources import is_url, redact

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif"))
"""Plain images; they have no pixel size, so a run needs one for each of them."""
MORE_SUFFIXES = frozenset((".biff", ".dicom"))
PLANNED_SUFFIXES = SLIDE_SUFFIXES | IMAGE_SUFFIXES | MORE_SUFFIXES
"""Extensions looked for in folders, in lower and upper case."""

_DOUBLE_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.btf", STORE_SUFFIX)


@dataclass(frozen=True, slots=True)
class FoundSlides:
    """The slides of a run.

    Parameters
    ----------
    paths : tuple of str
        Sorted.
    warnings : tuple of str
        What was strange, a line each.
    """

    paths: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def find_slides(path: str | os.PathLike[str], *, recursive: bool = False) -> FoundSlides:
    """Return the slides that a path stands for.

    Parameters
    ----------
    path : path or URL
        A slide, a store, or a folder of them. A file is tried whatever its extension. A
        URL that ends with ``/``, names a bucket or is no object stands for what is below.
    recursive : bool
        Whether folders within the folder are searched. Hidden ones are not.

    Raises
    ------
    SourceNotFoundError
        If there is nothing of that name.
    SourceAccessError, SourceError
        If the folder can't be listed. One within it is a slide that fails by itself.
    UsageError
        If a folder has no slide, or two of one stem, whose results would have one name.
    """
    told = os.fspath(path)
    if is_url(told):
        return _find_remote(told, recursive)
    place = Path(told)
    if not place.exists():
        raise SourceNotFoundError(f"there is no file or folder {told}")
    if place.is_file() or is_store(place):
        known = place.is_dir() or place.suffix.lower() in PLANNED_SUFFIXES
        strange = f"{told} has none of the extensions of slides; it is tried all the same"
        return FoundSlides((told,), () if known else (strange,))
    below = slides_below(place, recursive=recursive, suffixes=PLANNED_SUFFIXES)
    found = sorted(os.fspath(slide) for slide in below)
    if not found:
        raise no_slides(told, recursive)
    _check_stems(found)
    return FoundSlides(tuple(found))


def _find_remote(url: str, recursive: bool) -> FoundSlides:
    if not is_prefix(url, PLANNED_SUFFIXES):
        return FoundSlides((url,))
    below = slides_at(url, recursive=recursive, suffixes=PLANNED_SUFFIXES)
    found = sorted(slide for slide, _ in below)
    if not found:
        raise no_slides(redact(url), recursive)
    _check_stems(found)
    return FoundSlides(tuple(found))


def stem_of(path: str) -> str:
    """Return the name of a slide's file or store without its extension."""
    name = PurePosixPath(stem_source(path).rstrip("/")).name
    for suffix in _DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return PurePosixPath(name).stem


def _check_stems(paths: list[str]) -> None:
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_stem[stem_of(path)].append(path)
    twice = [", ".join(same) for same in by_stem.values() if len(same) > 1]
    if twice:
        raise UsageError(
            f"several slides have the same stem, so their results would have one name: "
            f"{'; '.join(sorted(twice))}",
            hint="Rename some, or run on one folder after another with outputs of their own.",
        )


@dataclass(frozen=True, slots=True)
class PixelSizes:
    """Pixel sizes of slides by their stems.

    Parameters
    ----------
    by_stem : mapping of str to float
        µm per level-0 px, as stated; NaN and absurd ones are refused with their slide.
    warnings : tuple of str
        Rows that were left out, a line each.
    """

    by_stem: Mapping[str, float]
    warnings: tuple[str, ...] = ()


def read_mpp_csv(path: str | os.PathLike[str]) -> PixelSizes:
    """Read a table with columns ``wsi`` (name or path of a slide) and ``mpp`` (µm/px).

    Rows match slides by the stem alone. A value that is no number, or not above 0, is left
    out with a warning.

    Raises
    ------
    SourceNotFoundError, SourceError
        If the file can't be read.
    UsageError
        If it has no such columns, no valid row, or two values for one stem.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # noqa: PTH123
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no CSV table: {error}") from error
    found: dict[str, float] = {}
    warnings = []
    for line, row in enumerate(rows, start=2):
        if row.get("wsi") is None or row.get("mpp") is None:
            raise UsageError(f"{path} needs columns wsi and mpp; line {line} lacks one")
        stem, value = stem_of(row["wsi"].strip()), _positive(row["mpp"])
        if value is None or not stem:
            warnings.append(f"{path}, line {line}: {row['mpp']!r} is no pixel size; left out")
        elif stem in found and found[stem] != value:
            raise UsageError(f"{path} says {found[stem]:g} and {value:g} µm/px of {stem}")
        else:
            found[stem] = value
    if not found:
        raise UsageError(f"{path} has no valid row", hint="Write rows such as: slide1.svs,0.5")
    return PixelSizes(found, tuple(warnings))


def _positive(text: str) -> float | None:
    """Return a number; None where it is none, or not above 0. NaN passes, to be refused."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if not math.isnan(value) and value <= 0 else value
