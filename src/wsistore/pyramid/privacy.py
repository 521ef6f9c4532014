"""Which of a slide's properties may enter a store.

Scanners write user names, file names, host names and dates into their metadata. Only
properties known to say nothing of a person are kept, unless all are asked for; and even
then none that names files, folders, users or machines, nor the texts that repeat them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from wsistore.pyramid.options import MetadataPolicy

_ALLOWED_NUMBERS = frozenset(
    {
        "aperio.appmag",
        "aperio.mpp",
        "aperio.left",
        "aperio.top",
        "aperio.originalwidth",
        "aperio.originalheight",
        "aperio.stripewidth",
        "openslide.mpp-x",
        "openslide.mpp-y",
        "openslide.objective-power",
        "openslide.bounds-x",
        "openslide.bounds-y",
        "openslide.bounds-width",
        "openslide.bounds-height",
        "tiff.xresolution",
        "tiff.yresolution",
    }
)
_ALLOWED_WORDS = frozenset(
    {"aperio.icc profile", "tiff.resolutionunit", "wsistore.format", "openslide.vendor"}
)
_NUMBER = re.compile(r"[+-]?\d{1,12}([.,]\d{0,24})?([eE][+-]?\d{1,3})?", re.ASCII)
_WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ().,:_+-]{0,63}", re.ASCII)

_PRIVATE_KEY = re.compile(
    r"user|name\b|\bfile\b|path|folder|director|host|computer|machine|operator|scanscope id"
    r"|login|account|owner|author|creator|scanned by|e-?mail|server|workstation|\bpc\b"
    r"|technician|physician|pathologist"
    r"|imagedescription|comment|artist|copyright|description|document|title|xml|uri|url",
    re.IGNORECASE,
)
"""Keys that name files, users or machines, and texts that repeat whole headers."""
_PATH = re.compile(r"(^|[\s\"'=|;,(])(/[^\s/]|~/|[A-Za-z]:[\\/]|\\\\)|file:", re.IGNORECASE)


def kept_properties(properties: Mapping[str, str], policy: MetadataPolicy) -> dict[str, str]:
    """Return the properties that may enter a store.

    Parameters
    ----------
    properties : mapping of str to str
        All that the slide says of itself.
    policy : {"allowed", "all"}
        ``"allowed"``: magnification, pixel size, geometry, name of the ICC profile.
        ``"all"``: also the others, such as dates and scanner settings, but for keys
        that name users, files, folders or machines, texts that repeat them, and values
        that hold absolute paths.
    """
    keeps = _is_allowed if policy == "allowed" else _is_harmless
    return {key: str(value) for key, value in properties.items() if keeps(key, str(value))}


def _is_allowed(key: str, value: str) -> bool:
    name = key.lower()
    if name in _ALLOWED_NUMBERS:
        return _NUMBER.fullmatch(value.strip()) is not None
    return name in _ALLOWED_WORDS and _WORDS.fullmatch(value.strip()) is not None


def _is_harmless(key: str, value: str) -> bool:
    return _PRIVATE_KEY.search(key) is None and _PATH.search(value) is None
