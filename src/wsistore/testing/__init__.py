"""Synthetic whole-slide images of every encoding, for tests and benchmarks.

A public kit that stands beside the rooms of wsistore: none of them imports it, and its
pixels are decoded by other means than theirs.
"""

from __future__ import annotations

from wsistore.testing import damage
from wsistore.testing.describe import CANARIES
from wsistore.testing.slide import SyntheticSlide
from wsistore.testing.texture import texture
from wsistore.testing.variants import VARIANTS, Variant
from wsistore.testing.writer import write_slide

__all__ = [
    "CANARIES",
    "VARIANTS",
    "SyntheticSlide",
    "Variant",
    "damage",
    "texture",
    "write_slide",
]
