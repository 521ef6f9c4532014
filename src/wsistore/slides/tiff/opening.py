"""The one way into a TIFF: the index is read once, and its content picks the container."""

from __future__ import annotations

import os
import struct
from typing import Any
from xml.etree.ElementTree import ParseError

from wsistore.errors import CorruptSlideError, WsistoreError
from wsistore.slides.model import Format
from wsistore.slides.tiff.aperio import is_aperio, open_aperio
from wsistore.slides.tiff.container import TiffContainer
from wsistore.slides.tiff.generic import open_generic
from wsistore.slides.tiff.index import TiffIndex, is_tiff
from wsistore.slides.tiff.ome import is_ome, open_ome
from wsistore.slides.tiff.page import Page
from wsistore.slides.tiff.vendors import refuse_foreign, refuse_ndpi
from wsistore.sources import Source, open_source

STRAY = (
    struct.error,
    ParseError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What Python and the XML parser may raise on bytes that no check foresaw."""


def open_tiff(path_or_url: str | os.PathLike[str], **source_options: Any) -> TiffContainer:
    """Open an Aperio SVS, an OME-TIFF or another tiled TIFF.

    Parameters
    ----------
    path_or_url : str or os.PathLike
        The file or object.
    **source_options
        Passed to `wsistore.sources.open_source`.

    Raises
    ------
    wsistore.errors.UnsupportedSlideError
        If it is no TIFF, or one that is not read here.
    wsistore.errors.CorruptSlideError
        If its structure is broken.
    wsistore.errors.SourceError
        If its bytes can't be had.
    """
    source = open_source(path_or_url, **source_options)
    try:
        return open_tiff_source(source)
    except BaseException:
        source.close()
        raise


def open_tiff_source(source: Source) -> TiffContainer:
    """Open a TIFF whose bytes are at hand; see `open_tiff`. Does not close the source."""
    try:
        return _open(source)
    except WsistoreError:
        raise
    except STRAY as error:
        raise CorruptSlideError(
            f"{source.name}: can't be read as a TIFF ({type(error).__name__}: {error})",
            hint="The file is damaged; compare it with the original.",
        ) from error


def _open(source: Source) -> TiffContainer:
    index = TiffIndex(source, look=refuse_ndpi)
    first = Page(index.ifds[0])
    description = first.description
    aperio = is_aperio(description)
    if not aperio:
        refuse_foreign(first, description)
    pages = [first, *map(Page, index.ifds[1:])]
    if not aperio and is_ome(description):
        return open_ome(index, pages, description)
    if not first.is_tiled:
        raise first.ifd.unsupported(
            "its first image lies in strips, only tiled TIFFs are read as slides",
            hint="Rewrite it in tiles, for example: vips tiffsave IN OUT --tile --pyramid.",
        )
    if aperio:
        return open_aperio(index, pages)
    return open_generic(index, pages)


def _probe(path_or_url: str, head: bytes, is_folder: bool) -> bool:
    del path_or_url
    return not is_folder and is_tiff(head)


TIFF = Format(
    "tiff",
    _probe,
    open_tiff,
    frozenset({".svs", ".tif", ".tiff", ".tf8", ".btf", ".tf2"}),
    open_tiff_source,
)
