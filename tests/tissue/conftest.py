"""Fixtures of the tissue room."""

from __future__ import annotations

from functools import cache

import pytest

from wsistore.testing.scenes import Scene, scene


@pytest.fixture(scope="session")
def scenes():
    """Return ``scenes(name)``: thumbnails with known tissue, each made once."""
    return cache(scene)


@pytest.fixture
def ordinary(scenes) -> Scene:
    """Return an ordinary thumbnail."""
    return scenes("ordinary")
