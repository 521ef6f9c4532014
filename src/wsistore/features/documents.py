"""What the documents of feature stores say, and the errors of reading and writing them."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wsistore.durable import write_error
from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    UsageError,
    WsistoreError,
)
from wsistore.features.places import (
    READ_ERRORS,
    SlidePlace,
    check_attributes,
    checked_attributes,
    open_group,
)
from wsistore.features.records import SlideInfo

if TYPE_CHECKING:
    import zarr


def read_info(place: SlidePlace) -> SlideInfo:
    """Return what the attributes of a slide's group say.

    Raises
    ------
    wsistore.errors.SourceNotFoundError, wsistore.errors.UsageError
        If there is none.
    wsistore.errors.StoreCorruptError
        If they are not whole.
    """
    attributes = checked_attributes(open_group(place), place)
    if attributes.get("kind") != "slide":
        raise UsageError(f"{place} is no slide of a feature store", hint="Name a slide of it.")
    return SlideInfo.read(attributes, str(place))


def existing_info(place: SlidePlace) -> SlideInfo | None:
    """Return what is there; None where there is nothing, or a beginning without attributes.

    Raises
    ------
    wsistore.errors.StoreExistsError
        If something else is there.
    wsistore.errors.StoreCorruptError
        If it can't be read.
    """
    try:
        attributes = checked_attributes(open_group(place), place)
    except SourceNotFoundError:
        return None
    return info_of(attributes, place)


def info_of(attributes: dict[str, Any], place: SlidePlace) -> SlideInfo | None:
    """Return what attributes say of a slide; None where they are a beginning."""
    checked = check_attributes(attributes, place)
    if checked.get("kind") == "cohort":
        raise StoreExistsError(f"{place} is a cohort, not a slide")
    return SlideInfo.read(checked, str(place)) if "plan_id" in checked else None


def array_of(group: zarr.Group, name: str) -> Any:
    """Return an array of a group.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If it is not there, or can't be read.
    """
    try:
        return group[name]
    except WsistoreError:
        raise
    except READ_ERRORS as error:
        raise StoreCorruptError(f"{group.store_path} lacks the array {name}: {error}") from error


@contextlib.contextmanager
def writing(place: SlidePlace) -> Iterator[None]:
    """Tell failures of the operating system as errors of the store."""
    try:
        yield
    except WsistoreError:
        raise
    except OSError as error:
        raise write_error(error, place.path) from error


def stamp(now: dt.datetime | None = None) -> str:
    """Return a time, by default that of the clock, as text in UTC."""
    return (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(timespec="seconds")
