"""Annotations: named areas of a slide, drawn by people or programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsistore.errors import AnnotationError, SourceAccessError, SourceNotFoundError, UsageError
from wsistore.geometry import Size
from wsistore.tissue.mask import Mask, TissueMask
from wsistore.tissue.polygons import Polygon, rasterised

MAX_BYTES = 256 << 20
"""Largest annotation file that is read."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """One named area.

    Parameters
    ----------
    polygon : Polygon
        In level-0 px.
    label : str
        Class that it belongs to; empty where the file names none.
    name : str
        Its own name, where it has one.
    color : (r, g, b), optional
        0 to 255.
    """

    polygon: Polygon
    label: str = ""
    name: str = ""
    color: tuple[int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Annotations(Sequence[Annotation]):
    """The annotations of a slide, in the order of their file.

    Parameters
    ----------
    items : tuple of Annotation
        An area of several parts is several annotations of one label and name.
    notes : tuple of str
        What the file holds that is no area (points, lines, rulers), element by element.
    source : str
        File that they were read from.
    """

    items: tuple[Annotation, ...]
    notes: tuple[str, ...] = ()
    source: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each once, in the order of the file."""
        return tuple(dict.fromkeys(item.label for item in self.items))

    def select(self, labels: Iterable[str]) -> Annotations:
        """Return the annotations with one of these labels."""
        wanted = _wanted(labels)
        return replace(self, items=tuple(item for item in self.items if item.label in wanted))

    def without(self, labels: Iterable[str]) -> Annotations:
        """Return the annotations with none of these labels."""
        unwanted = _wanted(labels)
        return replace(self, items=tuple(i for i in self.items if i.label not in unwanted))

    def relabelled(self, label_map: dict[str, str]) -> Annotations:
        """Return the annotations with labels replaced as the map says; others stay."""
        items = (replace(i, label=label_map.get(i.label, i.label)) for i in self.items)
        return replace(self, items=tuple(items))

    def moved(self, x: float, y: float) -> Annotations:
        """Return the annotations shifted by (x, y) level-0 px."""
        items = (replace(item, polygon=item.polygon.moved(x, y)) for item in self.items)
        return replace(self, items=tuple(items))

    def pixels(self, slide_size: Size, shape: tuple[int, int]) -> Mask:
        """Return the px of a mask of (h, w) whose centres lie in an annotation."""
        return rasterised([item.polygon for item in self.items], slide_size, shape)

    def mask(
        self,
        slide_size: Size | tuple[int, int],
        shape: tuple[int, int],
        mpp: tuple[float, float] | None = None,
    ) -> TissueMask:
        """Return a mask of the annotated areas; `mpp` is that of level 0."""
        size = Size(*slide_size)
        own = None
        if mpp is not None:
            own = (mpp[0] * size.width / shape[1], mpp[1] * size.height / shape[0])
        told = {"labels": list(self.labels), "count": len(self)}
        return TissueMask(
            self.pixels(size, shape), size, own, method="annotations", parameters=told
        )

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Annotation]:
        return iter(self.items)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.items[index]


def _wanted(labels: Iterable[str]) -> frozenset[str]:
    if isinstance(labels, str):
        raise UsageError(f"labels is a list of names, got the one name {labels!r}")
    return frozenset(labels)


@dataclass
class Collected:
    """What a reader has found so far."""

    source: str
    items: list[Annotation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def polygon(self, where: str, exterior: object, holes: Sequence[object] = ()) -> Polygon:
        """Return a polygon, or raise `AnnotationError` naming the element."""
        try:
            return Polygon(exterior, tuple(holes))  # type: ignore[arg-type]
        except UsageError as error:
            raise AnnotationError(f"{self.source}, {where}: {error.message}") from error

    def finish(self) -> Annotations:
        """Return what was found."""
        return Annotations(tuple(self.items), tuple(self.notes), self.source)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of an annotation file.

    Raises
    ------
    SourceNotFoundError, SourceAccessError
        If it is not there, or may not be read.
    AnnotationError
        If it is larger than `MAX_BYTES`.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise AnnotationError(
                f"{path} has {size} bytes; annotation files of up to {MAX_BYTES} are read"
            )
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no annotation file {path}") from error
    except OSError as error:
        raise SourceAccessError(f"can't read {path}: {error.strerror or error}") from error


def load_annotations(
    path: str | os.PathLike[str], *, offset: tuple[float, float] = (0.0, 0.0)
) -> Annotations:
    """Read annotations: QuPath's GeoJSON, ImageScope's or ASAP's XML, or plain polygons.

    The format is told by the content. Coordinates are taken as level-0 px.

    Parameters
    ----------
    path : path
        A file of one of these formats; of 256 MiB at most. XML with a DTD is refused.
    offset : (x, y)
        Level-0 px added to every corner, for programs that count from the slide's bounds.

    Returns
    -------
    Annotations
        Its `notes` tell what was no area.

    Raises
    ------
    SourceNotFoundError, SourceAccessError
        If the file can't be read.
    AnnotationError
        If it is of no such format, or an element is broken; the message names it.
    """
    from wsistore.tissue import annotation_json, annotation_xml

    data = read_bytes(path)
    found = Collected(str(path))
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    readers: dict[bytes, Callable[[bytes, Collected], None]] = {
        b"<": annotation_xml.read,
        b"{": annotation_json.read,
        b"[": annotation_json.read,
    }
    if start not in readers:
        raise AnnotationError(
            f"{path} is neither JSON nor XML", hint="GeoJSON, ImageScope and ASAP XML are read."
        )
    readers[start](data, found)
    annotations = found.finish()
    return annotations.moved(*offset) if any(offset) else annotations
