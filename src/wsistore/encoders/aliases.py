"""Other spellings of names."""

from __future__ import annotations

ALIASES: dict[str, str] = {}
