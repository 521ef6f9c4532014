"""Writing references to a slide's tiles: ``wsistore virtualize``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from wsistore.durable import atomic_write
from wsistore.errors import StoreExistsError, StoreWriteError, UsageError
from wsistore.pyramid.views.allowing import check_shareable, folder_of
from wsistore.pyramid.views.icechunk_repository import write_repository
from wsistore.pyramid.views.kerchunk import encode
from wsistore.pyramid.views.references import make_references
from wsistore.slides import open_slide
from wsistore.sources import is_url, open_place, redact
from wsistore.sources.names import local_path

ReferenceFormat = Literal["kerchunk-json", "icechunk"]
SUFFIXES = {"kerchunk-json": ".json", "icechunk": ".icechunk"}

_NO_PARQUET = (
    "kerchunk's Parquet form holds Zarr v2 only (its .zmetadata and chunk numbers), and Zarr "
    "v2 can't present interleaved JPEG tiles along the axes c, y, x that NGFF asks for"
)


@dataclass(frozen=True, slots=True)
class Virtualized:
    """What was written for a slide.

    Parameters
    ----------
    source, destination : str
        Paths or URLs, without credentials.
    format : {"kerchunk-json", "icechunk"}
        Form of the references.
    levels, tiles : int
        How many are referred to.
    place : str
        What the references call the slide.
    notes : tuple of str
        What was left out, and what a reader must be told.
    """

    source: str
    destination: str
    format: ReferenceFormat
    levels: int
    tiles: int
    place: str
    notes: tuple[str, ...]


def check_format(name: str) -> ReferenceFormat:
    """Return the form of references of this name.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name == "kerchunk-parquet":
        raise UsageError(_NO_PARQUET, hint="Use kerchunk-json or icechunk.")
    for known in get_args(ReferenceFormat):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"unknown form of references {name!r}", hint="Use kerchunk-json or icechunk.")


def virtualize(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    format: ReferenceFormat = "kerchunk-json",  # noqa: A002 (the word of the field)
    absolute: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Virtualized:
    """Write references that present a slide as OME-Zarr where it lies; no tile is read.

    Read them with `open_references`, or `wsistore.open_slide`; kerchunk's JSON also with
    fsspec's ``reference://`` and zarr-python, with wsistore installed for its codecs.

    Parameters
    ----------
    source : str or os.PathLike
        The slide; its URL must carry neither credentials nor a query.
    destination : str or os.PathLike
        The file (kerchunk-json; a path or URL) or local folder (icechunk) to write.
    format : {"kerchunk-json", "icechunk"}
        Form of the references.
    absolute : bool
        Whether kerchunk's JSON names a local slide by its absolute path. By default the
        path is relative to the folder of the references, so that both can be moved
        together; fsspec takes relative paths from the current folder.
    overwrite : bool
        Whether a file of references is replaced. Repositories of icechunk never are.
    **options
        For `wsistore.open_slide`.

    Raises
    ------
    UnsupportedSlideError
        If level 0 has no tiles that Zarr can read where they lie.
    StoreExistsError
        If the destination is taken.
    UsageError
        If URLs carry credentials, or a remote file were to lead to a local slide.
    DependencyError
        If icechunk is asked for, and not installed.
    WsistoreError
        As `wsistore.open_slide`, and where writing fails.
    """
    format = check_format(format)  # noqa: A001
    path, target = os.fspath(source), os.fspath(destination)
    if is_url(path):
        check_shareable(path)
    place = _place(path, target, absolute=absolute or format == "icechunk")
    _check_target(target, format, overwrite=overwrite)
    with open_slide(path, **options) as slide:
        references = make_references(slide)
        if format == "icechunk":
            write_repository(references, place, str(Path(local_path(target)).absolute()))
        else:
            _write(target, b"".join(encode(references, place)), overwrite=overwrite)
    notes = list(references.notes)
    if place.startswith("../"):
        notes.append(f"{place} is outside of the references' folder; readers must allow it")
    return Virtualized(
        source=redact(path),
        destination=redact(target),
        format=format,
        levels=len(references.levels),
        tiles=references.count,
        place=place,
        notes=tuple(notes),
    )


def _place(path: str, target: str, *, absolute: bool) -> str:
    """Return what references call the slide."""
    if is_url(path):
        return path
    if is_url(target):
        raise UsageError(
            f"references at {redact(target)} can't lead to the local file {path}",
            hint="Upload the slide first, or write the references locally.",
        )
    local = os.path.realpath(local_path(path))
    if absolute:
        return local
    # Folders are resolved too, for ".." means another one behind a symbolic link.
    return os.path.relpath(local, os.path.realpath(folder_of(target)))


def _check_target(target: str, format: ReferenceFormat, *, overwrite: bool) -> None:  # noqa: A002
    if format == "icechunk":
        if is_url(target):
            raise UsageError("repositories of icechunk are written to local folders here")
        folder = Path(local_path(target))
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreExistsError(
                f"{target} is there already", hint="Name another folder, or remove it."
            )
    elif is_url(target):
        check_shareable(target)
    elif not overwrite and os.path.lexists(local_path(target)):
        raise _exists(target)


def _write(target: str, data: bytes, *, overwrite: bool) -> None:
    if is_url(target):
        folder, _, key = target.rpartition("/")
        written: object = True
        if overwrite:
            open_place(folder).put(key, data)
        else:
            written = open_place(folder).create(key, data)
        if not written:
            raise _exists(target)
        return
    path = Path(local_path(target))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreWriteError(f"folder {path.parent} can't be made: {error}") from error
    atomic_write(path, data)


def _exists(target: str) -> StoreExistsError:
    return StoreExistsError(f"{redact(target)} is there already", hint="Pass overwrite=True.")
