"""Reading features: one slide as a lazy `xarray.Dataset`, or a cohort."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from wsistore.errors import DependencyError, SourceNotFoundError, StoreUnfinishedError, UsageError
from wsistore.features.documents import read_info
from wsistore.features.places import (
    DOCUMENT,
    SUFFIX,
    SlidePlace,
    absolute,
    below,
    checked_attributes,
    has_document,
    objects_of,
    open_group,
    open_store,
)
from wsistore.features.records import SlideInfo
from wsistore.features.schema import node_name, status_name
from wsistore.sources import is_url, redact

if TYPE_CHECKING:
    import xarray as xr

    from wsistore.features.cohort import FeatureCohort

StoreLike = str | os.PathLike[str]

_READ_AT_ONCE = 16
"""Documents of slides that are fetched together where each costs a request."""


def open_features(
    store: StoreLike,
    slide: str | None = None,
    *,
    encoders: str | Sequence[str] | None = None,
    allow_partial: bool = False,
) -> xr.Dataset | FeatureCohort:
    """Open a feature store, lazily.

    Parameters
    ----------
    store : path or URL
        Of a cohort, of a single slide, or a folder of stores of single slides. Reading by
        plain HTTP needs the name of a slide's own store: HTTP can't list.
    slide : str, optional
        Name of a slide of a cohort.
    encoders : str or sequence of str, optional
        Which features; all that are finished where not said.
    allow_partial : bool
        Whether features are given that are not all computed: NaN, and status 1, tell what
        is missing.

    Returns
    -------
    xarray.Dataset or FeatureCohort
        One slide: the variables ``<encoder>`` (tile, feature_<encoder>) float32, read when
        they are used, with the plan's columns and status codes as coordinates. Where a
        cohort is named and no slide, the cohort.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is no such store, slide or encoder.
    wsistore.errors.StoreUnfinishedError
        If features are unfinished, and `allow_partial` is not set.
    wsistore.errors.DependencyError
        If xarray is not installed.
    """
    if slide is None and kind_of(store) != "slide":
        from wsistore.features.cohort import FeatureCohort

        return FeatureCohort(store, encoders=encoders, allow_partial=allow_partial)
    place = find_slide(store, slide)
    return open_slide_features(place, encoders=encoders, allow_partial=allow_partial)


def open_slide_features(
    place: SlidePlace,
    *,
    encoders: str | Sequence[str] | None = None,
    allow_partial: bool = False,
) -> xr.Dataset:
    """Open the features of one slide; see `open_features`."""
    try:
        import xarray as xr
    except ImportError as error:
        raise DependencyError(
            "open_features needs xarray", hint='pip install "wsistore[dask]"'
        ) from error
    info = read_info(place)
    chosen = choose_encoders(info, place, encoders, allow_partial=allow_partial)
    dropped = [name for name in info.encoders if name not in chosen]
    return xr.open_zarr(
        open_store(place.store, read_only=True),
        group=place.group or None,
        consolidated=False,
        chunks=None,
        zarr_format=3,
        drop_variables=[name for e in dropped for name in (node_name(e), status_name(e))],
    )


def choose_encoders(
    info: SlideInfo,
    place: SlidePlace,
    wanted: str | Sequence[str] | None,
    *,
    allow_partial: bool,
) -> list[str]:
    """Return the names of the encoders whose features are to be read.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If one that is wanted is not there.
    wsistore.errors.StoreUnfinishedError
        If one that is wanted is unfinished, or there is none that is finished.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    if names is None:
        found = [n for n, state in info.encoders.items() if state.done or allow_partial]
        if not found and not allow_partial:
            raise StoreUnfinishedError(f"{place} has no finished features", hint=_RESUME)
        return found
    for name in names:
        state = info.encoders.get(name)
        if state is None:
            there = ", ".join(info.encoders) or "none"
            raise SourceNotFoundError(f"{place} has no features of {name}; it has {there}")
        if not state.done and not allow_partial:
            raise StoreUnfinishedError(
                f"features of {name} in {place} are unfinished", hint=_RESUME
            )
    return list(names)


def kind_of(store: StoreLike) -> str:
    """Return what a store is: ``"cohort"``, ``"slide"``, or ``"folder"`` of slides.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is nothing.
    wsistore.errors.UsageError
        If it is none of these.
    """
    path = absolute(store)
    place = SlidePlace(path, "")
    if not has_document(place):
        if _single_stores(path):
            return "folder"
        raise SourceNotFoundError(f"there is no feature store at {place}")
    return str(checked_attributes(open_group(place), place)["kind"])


def _single_stores(path: str) -> list[str]:
    """Return the stores of single slides in a folder, ordered by their names.

    Of those in a bucket, names alone are looked at: some may be under way.
    """
    if not is_url(path):
        found = sorted(Path(path).glob(f"*{SUFFIX}/{DOCUMENT}"))
        return [str(document.parent) for document in found]
    names = objects_of(path).list_names()
    return [
        below(path, name[:-1])
        for name in names
        if name.endswith(f"{SUFFIX}/") and not name.startswith(".")
    ]


def find_slide(store: StoreLike, slide: str | None) -> SlidePlace:
    """Return the place of a slide; None means the only one of a store of a single slide.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If it is not there.
    """
    kind = kind_of(store)
    if kind == "slide":
        place = SlidePlace(absolute(store), "")
        if slide is not None and read_info(place).name != slide:
            raise SourceNotFoundError(f"{place} holds {read_info(place).name}, not {slide}")
        return place
    if slide is None:
        raise UsageError(f"{redact(store)} holds several slides; name one")
    make = SlidePlace.in_cohort if kind == "cohort" else SlidePlace.alone
    place = make(store, slide)
    if not has_document(place):
        raise SourceNotFoundError(f"there are no features of {slide} in {redact(store)}")
    return place


def slide_places(store: StoreLike) -> list[SlidePlace]:
    """Return the places of all slides of a store, ordered by their names."""
    kind, path = kind_of(store), absolute(store)
    if kind == "slide":
        return [SlidePlace(path, "")]
    if kind == "folder":
        return [SlidePlace(found, "") for found in _single_stores(path)]
    if is_url(path):
        names = [name[:-1] for name in objects_of(path).list_names() if name.endswith("/")]
    else:
        names = sorted(document.parent.name for document in Path(path).glob(f"*/{DOCUMENT}"))
    return [SlidePlace(path, name) for name in names]


def list_features(store: StoreLike) -> list[SlideInfo]:
    """Return what is known of each slide of a store, without reading an array.

    Slides that a killed run had only begun to prepare are left out.

    Raises
    ------
    wsistore.errors.SourceNotFoundError, wsistore.errors.UsageError
        If there is no feature store.
    wsistore.errors.StoreCorruptError
        If a group's document is broken.
    """
    return [info for _, info in scan(store)]


def scan(store: StoreLike) -> list[tuple[SlidePlace, SlideInfo]]:
    """Return the places of slides and what is known of them; see `list_features`."""
    places = slide_places(store)
    if not places or not places[0].is_remote:
        told = [_told(place) for place in places]
    else:
        with ThreadPoolExecutor(_READ_AT_ONCE, "wsistore-scan") as pool:
            told = list(pool.map(_told, places))
    return [(place, info) for place, info in zip(places, told, strict=True) if info is not None]


def _told(place: SlidePlace) -> SlideInfo | None:
    """Return what is known of a slide; None where a run has only begun to prepare it."""
    try:
        attributes = checked_attributes(open_group(place), place)
    except SourceNotFoundError:
        if place.is_remote:  # its document comes after its columns
            return None
        raise
    return SlideInfo.read(attributes, str(place)) if "plan_id" in attributes else None


_RESUME = "Run it to its end, or pass allow_partial=True."
