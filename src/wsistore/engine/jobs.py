"""Which slides a call names, and where each one's store goes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.sources import is_url

STORE_SUFFIX = ".ome.zarr"
_TIFFS = (".svs", ".tif", ".tiff", ".btf")
_OTHERS = (".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".czi", ".dcm")
SLIDE_SUFFIXES = frozenset((*_TIFFS, *_OTHERS))
"""Extensions of slides that are looked for in folders. Plain images are converted where
they are named, but not looked for: folders of slides hold thumbnails too."""
_DOUBLE_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.btf", STORE_SUFFIX)
_STORE_MARKS = ("zarr.json", ".zgroup", ".zattrs")

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A slide and the name of its store.

    Parameters
    ----------
    source : str
        Path or URL.
    store : str
        Absolute path.
    """

    source: str
    store: str


def places(
    sources: PathLike | Iterable[PathLike],
    destination: PathLike,
    *,
    recursive: bool = False,
    keep_tree: bool = False,
) -> list[Place]:
    """Return which slides are meant, and the name of each one's store.

    One file and a destination that is no plain folder make that store; otherwise stores
    are named ``<stem>.ome.zarr`` within the destination.

    Parameters
    ----------
    sources : path or iterable of path
        Files, URLs, stores, and folders of slides.
    destination : path
        The store, or the folder for stores.
    recursive : bool
        Whether folders within folders are searched.
    keep_tree : bool
        Whether the folders within a source folder are made anew in the destination.

    Raises
    ------
    UsageError
        If there is no slide in a folder, two stores would have one name, or the
        destination is none that can be written.
    SourceNotFoundError
        If a named file is not there.
    """
    named = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not named:
        raise UsageError("no slide is named")
    target = os.fspath(destination)
    if not target or is_url(target):
        raise UsageError(
            f"destination {target!r} is no local path",
            hint="Write to a local disk, then copy the store to where it belongs.",
        )
    found = [pair for source in named for pair in _slides(os.fspath(source), recursive)]
    root = Path(target).absolute()
    one_file = len(named) == 1 and not _is_plain_folder(os.fspath(named[0]))
    if one_file and not _is_plain_folder(target):
        return [Place(found[0][0], os.fspath(root))]
    return _in_folder(found, root, keep_tree=keep_tree)


def _in_folder(found: list[tuple[str, str]], root: Path, *, keep_tree: bool) -> list[Place]:
    made = [
        Place(source, os.fspath(_store(root, source, folder if keep_tree else "")))
        for source, folder in dict.fromkeys(found)
    ]
    by_store: defaultdict[str, list[str]] = defaultdict(list)
    for place in made:
        by_store[place.store].append(place.source)
    twice = [f"{Path(s).name}: {', '.join(who)}" for s, who in by_store.items() if len(who) > 1]
    if twice:
        raise UsageError(
            f"several slides would have the same store: {'; '.join(sorted(twice))}",
            hint="Use keep_tree (--keep-tree), or convert them to folders of their own.",
        )
    return made


def _store(root: Path, source: str, folder: str) -> Path:
    return root / folder / f"{_stem(source)}{STORE_SUFFIX}"


def _stem(source: str) -> str:
    name = PurePosixPath(source.partition("?")[0].rstrip("/")).name
    for suffix in _DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return PurePosixPath(name).stem


def _slides(source: str, recursive: bool) -> Iterator[tuple[str, str]]:
    """Yield (slide, folder below the named one) for each slide that a source names."""
    if is_url(source):
        yield source, ""
        return
    if _is_plain_folder(source):
        slides = sorted(_in_tree(Path(source), recursive))
        if not slides:
            deeper = "" if recursive else " Look into its folders with recursive (--recursive)."
            raise UsageError(
                f"there is no slide in the folder {source}",
                hint=f"Slides are looked for by their extensions.{deeper}",
            )
        for slide in slides:
            below = slide.parent.relative_to(source)
            yield os.fspath(slide), "" if below == Path() else os.fspath(below)
        return
    if not os.path.lexists(source):
        raise SourceNotFoundError(f"there is no file {source}")
    yield source, ""


def _in_tree(folder: Path, recursive: bool) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"folder {folder} can't be listed: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if _is_store(entry):
                yield entry
            elif recursive:
                yield from _in_tree(entry, recursive)
        elif entry.suffix.lower() in SLIDE_SUFFIXES:
            yield entry


def _is_plain_folder(path: str) -> bool:
    """Return whether a path is a folder, and no store."""
    return not is_url(path) and Path(path).is_dir() and not _is_store(Path(path))


def _is_store(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in _STORE_MARKS)
