"""The one door to slides: the content of a file picks the format that reads it.

Asked in this order: the formats built in (TIFF dialects, plain images), formats that other
packages and rooms register under the entry-point group ``wsistore.formats``, and OpenSlide
where it is installed. A format that answers `UnsupportedSlideError` passes the file on.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from wsistore.durable import unfinished_folder
from wsistore.errors import (
    DependencyError,
    SourceAccessError,
    SourceError,
    SourceNotFoundError,
    UnsupportedSlideError,
    UsageError,
    WsistoreError,
)
from wsistore.slides.heads import HEAD_BYTES, describe_head, openslide_vendor
from wsistore.slides.model import Container, Format
from wsistore.slides.reading import WHITE
from wsistore.slides.reopening import Opening, identity_of
from wsistore.slides.slide import Slide
from wsistore.sources import Source, is_url, open_source, redact
from wsistore.sources.local import LocalSource
from wsistore.sources.names import local_path

GROUP = "wsistore.formats"
"""Entry-point group of formats: each is a `Format`."""

FORMAT_OPTIONS = frozenset({"allow"})
"""Options that are a format's own (``references``), and no source takes."""

OPENSLIDE_EXTRA = "wsistore[openslide]"
OPENSLIDE_HINT = f"OpenSlide reads those of other vendors: pip install '{OPENSLIDE_EXTRA}'."


def open_slide(
    path_or_url: str | os.PathLike[str],
    *,
    mpp: float | Sequence[float] | None = None,
    magnification: float | None = None,
    on_bad_tile: str = "fill-missing",
    fill: int | Sequence[int] = WHITE,
    format: str | None = None,  # noqa: A002 (the word that users look for)
    **source_options: Any,
) -> Slide:
    """Open a whole-slide image; its content picks the format.

    Parameters
    ----------
    path_or_url : str or os.PathLike
        A file, a folder (OME-Zarr), or the URL of either (``s3://``, ``gs://``, ``az://``,
        ``https://``).
    mpp : float or (x, y), optional
        True pixel size at level 0 in µm/px, where the slide states none or a wrong one. All
        geometry is computed with it; without `magnification`, also the power is (10 / mpp).
    magnification : float, optional
        True objective power.
    on_bad_tile : {"fill-missing", "raise", "fill"}
        ``"fill-missing"``: tiles that the scanner left out (zero bytes) are painted with
        `fill` and listed in `Slide.bad_tiles`; damaged ones raise. ``"raise"``: both raise.
        ``"fill"``: both are painted and listed.
    fill : int or (r, g, b)
        Colour of painted tiles, 0 to 255; white by default.
    format : str, optional
        Name of the format, to skip asking: ``"tiff"``, ``"image"``, ``"ome-zarr"``,
        ``"openslide"`` or one registered by entry point.
    **source_options
        For URLs; see `wsistore.sources.open_source`. For a file of references also
        ``allow``; see `wsistore.pyramid.views.open_references`.

    Returns
    -------
    Slide

    Raises
    ------
    UnsupportedSlideError
        If no format reads it; the message says what the file looks like, and the hint which
        extra would read it.
    CorruptSlideError
        If its structure is broken.
    SourceError
        If it is not there, or may not be read.
    StoreUnfinishedError
        If it is a store that has been begun, and is not finished.
    MetadataError
        If `mpp` or `magnification` can't be one.
    UsageError
        If an argument makes no sense.
    DependencyError
        If `format` names one whose package is not installed.
    """
    path = os.fsdecode(path_or_url)
    remote = is_url(path)
    if not remote:
        path = local_path(path)
    container, stamp = _open_container(path, remote, format, source_options)
    arguments: dict[str, Any] = {
        "mpp": mpp,
        "magnification": magnification,
        "on_bad_tile": on_bad_tile,
        "fill": fill,
    }
    try:
        identity = stamp or identity_of(path) or (container.identity,)
        # Workers may have another working directory.
        place = path if remote else os.path.abspath(path)  # noqa: PTH100 (keeps links)
        opening = Opening(place, {**arguments, "format": format, **source_options}, identity)
        name = redact(path) if remote else path
        return Slide(container, name, opening=opening, **arguments)
    except BaseException:
        container.close()
        raise


class _Found(NamedTuple):
    """What a path holds: a file with its first bytes, or that it is (or may be) a folder.

    `absence` is the error of a URL that names no object, but perhaps a store of objects.
    """

    path: str
    head: bytes = b""
    source: Source | None = None
    absence: SourceNotFoundError | None = None

    @property
    def is_folder(self) -> bool:
        return self.source is None

    @property
    def stamp(self) -> tuple[object, ...]:
        """What `identity_of` would tell of a local file, known from opening it."""
        return self.source.stamp if isinstance(self.source, LocalSource) else ()

    def open_with(self, chosen: Format, options: Mapping[str, Any]) -> Container:
        """Open it as a format, by the file that is open already where that will do."""
        if self.source is None or chosen.open_source is None:
            return chosen.open(self.path, **options)
        return chosen.open_source(self.source)


def _look(path: str, remote: bool, options: Mapping[str, Any]) -> _Found:
    """Return what a path holds.

    Raises
    ------
    SourceError
        If there is nothing, or it may not be read.
    StoreUnfinishedError
        If it is a store that has been begun, and is not finished.
    """
    # The name of a store saves a request for an object that is none. Others are mostly files,
    # and to open one tells as much as asking first.
    if path.endswith(("/", ".zarr")) and (remote or _is_folder(path)):
        return _Found(path)
    try:
        source = open_source(path, **options)
    except SourceNotFoundError as error:
        if not remote:
            raise unfinished_folder(path) or error from None
        return _Found(path, absence=error)
    except (SourceError, UsageError):
        if remote or not _is_folder(path):
            raise
        return _Found(path)
    try:
        return _Found(path, source.read(0, min(HEAD_BYTES, source.size)), source)
    except BaseException:
        source.close()
        raise


def _is_folder(path: str) -> bool:
    """Return whether a local path is a folder.

    Raises
    ------
    SourceAccessError
        If it is one that may not be looked into.
    """
    if not os.path.isdir(path):  # noqa: PTH112 (a Path costs more than the call)
        return False
    if not os.access(path, os.R_OK | os.X_OK):
        raise SourceAccessError(
            f"folder {path} may not be looked into",
            hint="Check its owner and mode.",
        )
    return True


def _open_container(
    path: str, remote: bool, name: str | None, options: Mapping[str, Any]
) -> tuple[Container, tuple[object, ...]]:
    """Return what a path holds, opened, and the stamp of a local file."""
    chosen = None if name is None else _by_name(name)
    # Looked at whatever the format, so that a missing file is told as such.
    of_source = {key: value for key, value in options.items() if key not in FORMAT_OPTIONS}
    found = _look(path, remote, of_source)
    opened: Container | None = None
    try:
        opened = _first(found, options) if chosen is None else found.open_with(chosen, options)
        return opened, found.stamp
    finally:
        if found.source is not None and (opened is None or not opened.keeps(found.source)):
            found.source.close()


def _first(found: _Found, options: Mapping[str, Any]) -> Container:
    """Open what was found as the first format that takes it."""
    refusals: list[WsistoreError] = []
    for candidate in _candidates(found):
        try:
            return found.open_with(candidate, options)
        except (UnsupportedSlideError, DependencyError) as error:
            refusals.append(error)
    raise found.absence or _unsupported(found, refusals)


def _candidates(found: _Found) -> Iterator[Format]:
    """Yield the formats that claim the content, each looked up when its turn has come."""
    head = found.head[:64]
    for stage in _STAGES:
        for candidate in stage():
            if candidate.probe(found.path, head, found.is_folder):
                yield candidate


@functools.cache
def _tiff() -> tuple[Format, ...]:
    from wsistore.slides.tiff import FORMATS

    return FORMATS


@functools.cache
def _images() -> tuple[Format, ...]:
    from wsistore.slides.image import IMAGE

    return (IMAGE,)


def _tiff_images() -> tuple[Format, ...]:
    """Return the reader of TIFFs in strips; asked last, as scanners' TIFFs are not plain."""
    from wsistore.slides.image import PLAIN_TIFF

    return (PLAIN_TIFF,)


@functools.cache
def _registered() -> tuple[Format, ...]:
    """Return the formats registered by entry point, those that can't be loaded included."""
    return tuple(map(_load, entry_points(group=GROUP)))


def _load(entry: EntryPoint) -> Format:
    """Return a registered format, or one that says why it can't be loaded.

    So a broken package speaks up where its format is asked, and nowhere else.
    """
    try:
        loaded: Format = entry.load()
    except (ImportError, AttributeError) as error:
        reason = f"the format {entry.name!r} ({entry.value}) can't be loaded: {error}"
    else:
        return loaded

    def refuse(path_or_url: str, **source_options: Any) -> Container:
        del path_or_url, source_options
        raise DependencyError(reason, hint="Install what it needs, or remove its package.")

    return Format(entry.name, lambda _path, _head, _is_folder: True, refuse)


def has_openslide() -> bool:
    """Return whether openslide-python is installed (whether its library is shows later)."""
    return importlib.util.find_spec("openslide") is not None


def _openslide() -> tuple[Format, ...]:
    if not has_openslide():
        return ()
    from wsistore.slides.openslide import OPENSLIDE

    return (OPENSLIDE,)


_STAGES: tuple[Callable[[], tuple[Format, ...]], ...] = (
    _tiff,
    _images,
    _registered,
    _openslide,
    _tiff_images,
)
"""Who is asked, in this order."""


def _by_name(name: str) -> Format:
    """Return the format with a name.

    Raises
    ------
    DependencyError
        If it is OpenSlide, and that is not installed.
    UsageError
        If there is none.
    """
    for stage in _STAGES:
        for candidate in stage():
            if candidate.name == name:
                return candidate
    if name == "openslide":
        raise DependencyError("OpenSlide is not installed", hint=OPENSLIDE_HINT)
    known = sorted({candidate.name for stage in _STAGES for candidate in stage()})
    raise UsageError(f"there is no format {name!r}", hint=f"Known are: {', '.join(known)}.")


def _unsupported(found: _Found, refusals: Sequence[WsistoreError]) -> UnsupportedSlideError:
    """Return the error for content that no format reads, with all that is known of it."""
    name = redact(found.path)
    said = [error.message.removeprefix(f"{name}: ") for error in refusals]
    if not found.is_folder:
        said.insert(0, describe_head(found.head))
    else:
        said.insert(0, "it is a folder without a slide")
    return UnsupportedSlideError(
        f"{name} can't be read as a slide: {'; '.join(dict.fromkeys(said))}",
        hint=_advice(found, refusals),
    )


def _advice(found: _Found, refusals: Sequence[WsistoreError]) -> str:
    if found.is_folder:
        return "A folder must be an OME-Zarr; to open a slide within it, name the slide."
    vendor = openslide_vendor(found.path)
    if not has_openslide() and found.head and (vendor or refusals):
        if vendor:
            return f"By its extension it is a slide of {vendor}. {OPENSLIDE_HINT}"
        return OPENSLIDE_HINT
    hints = [error.hint for error in refusals if error.hint and OPENSLIDE_EXTRA not in error.hint]
    return hints[0] if hints else "Is it the right file, and whole?"
