from __future__ import annotations

import ast
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

import wsistore
from wsistore import testing
from wsistore.testing import SyntheticSlide

SOURCE = Path(wsistore.__file__).parent


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_room_imports_the_kit() -> None:
    rooms = [path for path in SOURCE.rglob("*.py") if "testing" not in path.parts]
    assert len(rooms) > 10
    users = [p for p in rooms if any(n.startswith("wsistore.testing") for n in imported(p))]
    assert users == []


def test_the_kit_decodes_by_itself() -> None:
    # blank.py makes slides without pixels, so it has nothing to decode and needs the nouns.
    kit = [path for path in (SOURCE / "testing").glob("*.py") if path.name != "blank.py"]
    used = set().union(*(imported(path) for path in kit))
    own = {name for name in used if name.startswith("wsistore.")}
    assert all(name.startswith(("wsistore.testing", "wsistore.geometry")) for name in own)


def test_the_public_names() -> None:
    assert set(testing.__all__) == {
        "CANARIES",
        "VARIANTS",
        "SyntheticSlide",
        "Variant",
        "damage",
        "texture",
        "write_slide",
    }


def test_a_slide_travels_to_another_process(
    slide_factory: Callable[..., SyntheticSlide],
) -> None:
    slide = slide_factory(size=(600, 420), levels=(1, 2))
    again = pickle.loads(pickle.dumps(slide))
    np.testing.assert_array_equal(again.level_pixels(1), slide.level_pixels(1))
