"""Ranged bytes from a file or an object, each answer checked for its length.

Public calls: `open_source`, `open_folder`, `open_place`, `configure_storage`,
`parse_storage_options`, `request_counts`, `is_url`, `redact`, `Source`, `Folder`,
`ObjectPlace`.
"""

from __future__ import annotations

from wsistore.sources.bucket import RequestCounts, request_counts
from wsistore.sources.configuring import configure_storage, parse_storage_options
from wsistore.sources.folder import LocalFolder
from wsistore.sources.local import LocalSource
from wsistore.sources.model import Folder, ObjectInfo, ObjectPlace, Source
from wsistore.sources.names import is_url, redact
from wsistore.sources.opening import open_folder, open_place, open_source

__all__ = [
    "Folder",
    "LocalFolder",
    "LocalSource",
    "ObjectInfo",
    "ObjectPlace",
    "RequestCounts",
    "Source",
    "configure_storage",
    "is_url",
    "open_folder",
    "open_place",
    "open_source",
    "parse_storage_options",
    "redact",
    "request_counts",
]
