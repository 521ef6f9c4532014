"""The doors of the room: what opens a path or URL."""

from __future__ import annotations

import os
from typing import Any

from wsistore.errors import UsageError
from wsistore.sources.local import LocalSource
from wsistore.sources.model import Source
from wsistore.sources.names import is_url


def open_source(path_or_url: str | os.PathLike[str], **options: Any) -> Source:
    """Open a file or object for ranged reading."""
    if is_url(path_or_url):
        raise UsageError("remote sources are not there yet")
    if options:
        raise UsageError(f"a local file takes no options, got {sorted(options)}")
    return LocalSource(path_or_url)
