"""One encoded tile to pixels: strict, bounded, colour from the container.

Public calls: `decode`, `complete_jpeg`, `register`, `names`, `BlockFormat`.
"""

from __future__ import annotations

from wsistore.codecs.model import BlockFormat, Decoder

__all__ = ["BlockFormat", "Decoder"]
