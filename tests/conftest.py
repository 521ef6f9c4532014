"""Fixtures shared by all rooms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from wsistore.testing import SyntheticSlide, write_slide

settings.register_profile("wsistore", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("wsistore")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small real slides beside the checkout; the test is skipped without it.

    For tests of real slides only: whatever can be shown on a synthetic slide, is.
    """
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real slides here: {folder} is absent")
    return folder


@pytest.fixture(scope="session")
def slide_factory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SyntheticSlide]:
    """Write slides once per session: ``slide_factory(variant, **options)``.

    Options are those of `write_slide`. Slides are shared, so copy one before changing it.
    """
    folder = tmp_path_factory.mktemp("slides")
    made: dict[str, SyntheticSlide] = {}

    def get(variant: str = "jpeg_rgb_tables", **options: Any) -> SyntheticSlide:
        key = repr((variant, sorted(options.items())))
        if key not in made:
            suffix = {"generic": ".tif", "ome-tiff": ".ome.tif"}.get(options.get("kind"), ".svs")
            path = folder / f"{variant}-{len(made)}{suffix}"
            made[key] = write_slide(path, variant, **options)
        return made[key]

    return get


@pytest.fixture(scope="session")
def aperio(slide_factory: Callable[..., SyntheticSlide]) -> Callable[..., SyntheticSlide]:
    """Return the slide factory, by the name of what it makes by default."""
    return slide_factory
