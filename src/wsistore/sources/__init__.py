"""Ranged bytes from a file or an object, each answer checked for its length.

Public calls: `open_source`, `open_folder`, `Source`, `Folder`.
"""

from __future__ import annotations

from wsistore.sources.model import Folder, Source

__all__ = ["Folder", "Source"]
