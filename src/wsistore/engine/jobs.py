"""Which slides a call names, and where each one's store goes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from wsistore.engine.listing import is_prefix, quoted, slides_at, stem_source
from wsistore.engine.walking import is_plain_folder, is_store, slides_below
from wsistore.errors import SourceNotFoundError, UsageError
from wsistore.sources import is_url, redact

STORE_SUFFIX = ".ome.zarr"
_TIFFS = (".svs", ".tif", ".tiff", ".btf")
_OTHERS = (".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".czi", ".dcm")
SLIDE_SUFFIXES = frozenset((*_TIFFS, *_OTHERS))
"""Extensions of slides that are looked for in folders. Plain images are converted where
they are named, but not looked for: folders of slides hold thumbnails too."""
_DOUBLE_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.btf", STORE_SUFFIX)

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A slide and the name of its store.

    Parameters
    ----------
    source : str
        Path or URL.
    store : str
        Absolute path, or URL.
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

    One file and a destination that is no folder (nor written like one, ``stores/``) make
    that store; otherwise stores are named ``<stem>.ome.zarr`` within the destination. A
    destination below a source folder is not searched for slides, and stores that a run
    would write are none of its sources.

    A URL that ends with ``/``, names a bucket or is no object stands for all slides below
    it. Of a destination only the spelling counts: ``s3://bucket/out/`` is a folder,
    ``s3://bucket/out`` the store of one slide.

    Parameters
    ----------
    sources : path or iterable of path
        Files, stores and folders of slides, local or by URL.
    destination : path
        The store, or the folder for stores: a path or a URL.
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
    SourceAccessError, SourceError
        If a named folder can't be listed.
    """
    named = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not named:
        raise UsageError("no slide is named")
    target = os.fspath(destination)
    if not target:
        raise UsageError("an empty path names no destination")
    root = target.rstrip("/") if is_url(target) else os.path.abspath(target)  # noqa: PTH100 (keeps links)
    names = [os.fspath(source) for source in named]
    folders = {name for name in names if _is_folder(name)}
    found = [
        pair for name in names for pair in _slides(name, recursive, root, is_folder=name in folders)
    ]
    if len(names) == 1 and not folders and not _means_folder(target):
        return [Place(found[0][0], root)]
    return _in_folder(found, root, names, keep_tree=keep_tree)


def _is_folder(source: str) -> bool:
    """Return whether a source is a folder of slides, or a prefix of a bucket."""
    return is_plain_folder(source) or is_prefix(source, SLIDE_SUFFIXES)


def _in_folder(
    found: list[tuple[str, str]], root: str, named: Collection[str], *, keep_tree: bool
) -> list[Place]:
    made = _places(found, root, keep_tree=keep_tree)
    # Where slides and stores share a folder, the results of the last run are no slides.
    results = {place.store for place in made}
    made = [p for p in made if p.source in named or _absolute(p.source) not in results]
    if not made:
        raise UsageError(
            f"{redact(root)} is both source and destination, and holds nothing but stores",
            hint="Name another folder as destination.",
        )
    twice = _with_one_store(made)
    if twice:
        apart = not keep_tree and not _with_one_store(_places(found, root, keep_tree=True))
        raise UsageError(
            f"several slides would have the same store: {'; '.join(twice)}",
            hint="Use keep_tree (--keep-tree), or convert them to folders of their own."
            if apart
            else "Convert them to folders of their own, or one by one.",
        )
    return made


def _absolute(source: str) -> str:
    return source.rstrip("/") if is_url(source) else os.path.abspath(source)  # noqa: PTH100


def _places(found: list[tuple[str, str]], root: str, *, keep_tree: bool) -> list[Place]:
    return [
        Place(source, _store(root, source, folder if keep_tree else ""))
        for source, folder in dict.fromkeys(found)
    ]


def _with_one_store(made: list[Place]) -> list[str]:
    """Return a line for each store that several slides would have."""
    by_store: defaultdict[str, list[str]] = defaultdict(list)
    for place in made:
        by_store[place.store].append(redact(place.source))
    return sorted(
        f"{Path(store).name}: {', '.join(who)}" for store, who in by_store.items() if len(who) > 1
    )


def _store(root: str, source: str, folder: str) -> str:
    name = f"{_stem(source)}{STORE_SUFFIX}"
    if is_url(root):
        return "/".join(part for part in (root, quoted(folder), quoted(name)) if part)
    return os.fspath(Path(root, folder, name))


def _stem(source: str) -> str:
    name = PurePosixPath(stem_source(source).rstrip("/")).name
    for suffix in _DOUBLE_SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return PurePosixPath(name).stem


def _slides(
    source: str, recursive: bool, root: str, *, is_folder: bool
) -> Iterator[tuple[str, str]]:
    """Yield (slide, folder below the named one) for each slide that a source names."""
    if is_url(source):
        if is_folder:
            yield from _listed(source, recursive, root)
        else:
            yield source, ""
        return
    if is_plain_folder(source):
        found = slides_below(
            Path(source),
            recursive=recursive,
            suffixes=SLIDE_SUFFIXES,
            leave_out=None if is_url(root) else Path(root),
        )
        slides = sorted(found)
        if not slides:
            raise no_slides(source, recursive)
        for slide in slides:
            below = slide.parent.relative_to(source)
            yield os.fspath(slide), "" if below == Path() else os.fspath(below)
        return
    if _is_absent(source):
        raise SourceNotFoundError(f"there is no file {source}")
    yield source, ""


def _listed(url: str, recursive: bool, root: str) -> Iterator[tuple[str, str]]:
    found = sorted(slides_at(url, recursive=recursive, suffixes=SLIDE_SUFFIXES, leave_out=root))
    if not found:
        raise no_slides(redact(url), recursive)
    yield from found


def no_slides(folder: str, recursive: bool) -> UsageError:
    """Return the error of a folder without slides."""
    deeper = "" if recursive else " Look into its folders with recursive (--recursive)."
    return UsageError(
        f"there is no slide in the folder {folder}",
        hint=f"Slides are looked for by their extensions.{deeper}",
    )


def _is_absent(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False  # something else is wrong with it: opening it tells what
    return False


def _means_folder(target: str) -> bool:
    """Return whether a destination is a folder, or is written like one that is to be made."""
    ends_like_one = target.endswith("/") and not target.rstrip("/").endswith(".zarr")
    if is_url(target):
        return ends_like_one or not urlsplit(target).path.strip("/")
    return is_plain_folder(target) or (ends_like_one and not is_store(target))
