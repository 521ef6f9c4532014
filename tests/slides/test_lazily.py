"""Attributes made on first access: what is not asked for is not made."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest

import wsistore
from wsistore.errors import MetadataError
from wsistore.slides.lazily import lazy
from wsistore.slides.reopening import identity_of
from wsistore.slides.tiff import aperio
from wsistore.testing import SyntheticSlide

Make = Callable[..., SyntheticSlide]


class Thing:
    """Counts how often its value is computed."""

    computed = 0

    @lazy
    def value(self) -> list[int]:
        """What it is."""
        self.computed += 1
        return [self.computed]


def test_a_lazy_attribute_is_computed_once_for_each_object() -> None:
    one, other = Thing(), Thing()
    assert one.value is one.value
    assert (one.computed, other.computed) == (1, 0)
    assert one.value is not other.value
    one.value = [7]
    assert (one.value, other.value) == ([7], [1])
    assert Thing.value.__doc__ == "What it is."


@pytest.fixture
def fields_asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the descriptions that were taken apart so far."""
    asked: list[str] = []

    def fields(description: str) -> dict[str, str]:
        asked.append(description)
        return real(description)

    real = aperio.aperio_fields
    monkeypatch.setattr(aperio, "aperio_fields", fields)
    return asked


def test_a_sampler_does_not_pay_for_the_description(
    slide_factory: Make, fields_asked: list[str]
) -> None:
    with wsistore.open_slide(slide_factory().path) as slide:
        assert slide.resolve("level:1").downsample == 4
        assert slide.tile_table(0) is not None
        assert (slide.size, slide.level_count) == ((1200, 900), 2)
        slide.read_region((0, 0), 0, (10, 10))
        assert fields_asked == []
        assert slide.resolve("5x").downsample == 4
        assert len(fields_asked) == 1
    assert slide.mpp == slide.levels[0].mpp == (0.499, 0.499)  # told after closing, too
    assert slide.properties["aperio.MPP"] == "0.4990"
    assert slide.notes == ()
    assert sorted(slide.associated) == ["label", "macro", "thumbnail"]
    assert len(fields_asked) == 1


def test_an_override_that_cant_be_is_refused_on_opening(slide_factory: Make) -> None:
    written = slide_factory()
    with pytest.raises(MetadataError):
        wsistore.open_slide(written.path, mpp=-1)
    with pytest.raises(MetadataError):
        wsistore.open_slide(written.path, magnification=float("nan"))


def test_slides_go_without_waiting_for_the_garbage_collector(slide_factory: Make) -> None:
    slide = wsistore.open_slide(slide_factory().path)
    slide.read_region((0, 0), 0, (10, 10))
    gone = weakref.ref(slide)
    gc.disable()
    try:
        del slide
        assert gone() is None
    finally:
        gc.enable()


def test_the_file_is_told_by_what_was_opened(
    slide_factory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = slide_factory()
    monkeypatch.setattr("os.path.isdir", lambda path: pytest.fail(f"asked whether {path} is one"))
    slide = wsistore.open_slide(written.path)
    monkeypatch.undo()
    assert slide.opening is not None
    assert slide.opening.identity == identity_of(str(written.path))


def test_equal_formats_are_one(slide_factory: Make) -> None:
    written = slide_factory()
    formats = []
    for _ in range(2):
        with wsistore.open_slide(written.path) as slide:
            table = slide.tile_table(0)
            assert table is not None
            formats.append(table.block_format)
    assert formats[0] is formats[1]
