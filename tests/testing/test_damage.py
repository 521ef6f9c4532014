from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsistore.testing import SyntheticSlide, damage

Factory = Callable[..., SyntheticSlide]
OPTIONS = {"size": (600, 500), "levels": (1, 2)}


@pytest.fixture
def copy(slide_factory: Factory, tmp_path: Path) -> Path:
    return Path(shutil.copy(slide_factory(**OPTIONS).path, tmp_path / "copy.svs"))


def changed_bytes(slide: SyntheticSlide, copy: Path) -> np.ndarray:
    before = np.frombuffer(slide.path.read_bytes(), np.uint8)
    after = np.frombuffer(copy.read_bytes(), np.uint8)
    assert len(before) == len(after)
    return np.flatnonzero(before != after)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"kind": "ome-tiff"}])
@pytest.mark.parametrize("level", [0, 1])
def test_noise_hits_that_tile_and_no_other(
    options: dict, level: int, slide_factory: Factory, tmp_path: Path
) -> None:
    slide = slide_factory(**OPTIONS, **options)
    copy = Path(shutil.copy(slide.path, tmp_path / "copy.svs"))
    damage.overwrite_tile(copy, level, 1, 0, "noise")
    where = slide.written[level]
    start, count = int(where.offsets[0, 1]), int(where.counts[0, 1])
    changed = changed_bytes(slide, copy)
    assert start <= changed.min() < start + 8
    assert start + count - 8 < changed.max() < start + count


def test_zeros_and_flips_are_small(copy: Path, slide_factory: Factory) -> None:
    slide = slide_factory(**OPTIONS)
    damage.overwrite_tile(copy, 0, 1, 1, "flip", seed=4)
    assert len(changed_bytes(slide, copy)) == 1
    damage.overwrite_tile(copy, 0, 0, 0, "zeros")
    assert 400 < len(changed_bytes(slide, copy)) <= 513


@pytest.mark.parametrize("how", ["truncate", "missing", "beyond"])
def test_counts_and_offsets_can_lie(how: str, copy: Path, slide_factory: Factory) -> None:
    slide = slide_factory(**OPTIONS)
    offset, count = int(slide.written[0].offsets[1, 0]), int(slide.written[0].counts[1, 0])
    damage.overwrite_tile(copy, 0, 0, 1, how)
    with copy.open("rb") as file:
        fields = damage.pages(file)[0].fields
        at = fields[324].offset + 4 * 3, fields[325].offset + 4 * 3
    content = copy.read_bytes()
    found = tuple(int.from_bytes(content[i : i + 4], "little") for i in at)
    assert (
        found
        == {
            "truncate": (offset, count // 2),
            "missing": (0, 0),
            "beyond": (len(content) + 4096, count),
        }[how]
    )


def test_truncate(copy: Path) -> None:
    whole = copy.stat().st_size
    assert damage.truncate(copy, fraction=0.5) == whole // 2 == copy.stat().st_size
    assert damage.truncate(copy, 10) == 10 == copy.stat().st_size
    with pytest.raises(ValueError, match="keep 11 of 10"):
        damage.truncate(copy, 11)
    with pytest.raises(ValueError, match="either"):
        damage.truncate(copy)


def test_mutations_are_repeatable(copy: Path, slide_factory: Factory, tmp_path: Path) -> None:
    slide = slide_factory(**OPTIONS)
    twin = Path(shutil.copy(slide.path, tmp_path / "twin.svs"))
    done = damage.mutate(copy, 3)
    assert damage.mutate(twin, 3) == done
    assert copy.read_bytes() == twin.read_bytes()
    assert set(changed_bytes(slide, copy)) == {change.offset for change in done}
    assert all(change.before != change.after for change in done)
    other = Path(shutil.copy(slide.path, tmp_path / "other.svs"))
    assert damage.mutate(other, 4) != done


def test_half_of_the_mutations_hit_directories(slide_factory: Factory, tmp_path: Path) -> None:
    slide = slide_factory(**OPTIONS)
    with slide.path.open("rb") as file:
        starts = [page.offset for page in damage.pages(file)]
    hits = []
    for seed in range(20):
        copy = Path(shutil.copy(slide.path, tmp_path / "copy.svs"))
        hits += [
            any(0 <= change.offset - start < 400 for start in starts)
            for change in damage.mutate(copy, seed)
        ]
    assert 0.3 < np.mean(hits) < 0.75


@pytest.mark.parametrize(
    ("where", "how", "said"),
    [
        ((5, 0, 0), "zeros", "no level 5"),
        ((0, 3, 0), "zeros", "no tile"),
        ((0, 0, 0), "shout", "how must be"),
    ],
)
def test_what_cant_be_damaged_is_said(
    where: tuple[int, int, int], how: str, said: str, copy: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        damage.overwrite_tile(copy, *where, how)


def test_a_missing_tile_holds_nothing_to_damage(copy: Path) -> None:
    damage.overwrite_tile(copy, 0, 0, 0, "missing")
    with pytest.raises(ValueError, match="holds no bytes"):
        damage.overwrite_tile(copy, 0, 0, 0)
