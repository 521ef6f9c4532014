"""Labels of the tiles of a plan by annotations, as columns that stores of patches keep."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wsistore.errors import UsageError
from wsistore.export.patches import LABEL
from wsistore.tiles.plan import TilePlan
from wsistore.tissue import Annotations, LabelRule, label_boxes, load_annotations

LABEL_NAME = "label_name"
"""Column with the name of the class."""
DEFAULT_NAME = "Normal"
ANNOTATION_SUFFIXES = (".xml", ".geojson", ".json")


def label_plan(
    plan: TilePlan,
    annotations: Annotations,
    label_map: Mapping[str, int],
    *,
    rule: LabelRule = "center",
    min_coverage: float = 0.5,
    default: str = DEFAULT_NAME,
    several: bool = False,
    unknown: int = -1,
) -> TilePlan:
    """Return the plan with columns ``label`` (int32) and ``label_name``.

    Parameters
    ----------
    plan : TilePlan
        Of the annotated slide.
    annotations : Annotations
        In level-0 px.
    label_map : mapping of str to int
        Number of each class.
    rule : {"center", "top-left", "coverage"}
        When a tile is of an annotation; see `wsistore.tissue.label_boxes`.
    min_coverage : float
        For ``"coverage"``.
    default : str
        Name of tiles in no annotation; its number is that of the map, else `unknown`.
    several : bool
        Whether there is a bool column ``is_<name>`` for each class of the annotations too,
        since annotations may overlap.
    unknown : int
        Number of classes that the map does not name.

    Raises
    ------
    UsageError
        If a number of the map is no 32-bit integer, or an argument makes no sense.
    """
    for name, code in label_map.items():
        if int(code) != code or not -(2**31) <= code < 2**31:
            raise UsageError(f"the label map gives {name!r} the number {code!r}")
    found = label_boxes(annotations, plan.boxes, rule, min_coverage=min_coverage)
    names = np.array(found.names(default), dtype=np.str_).reshape(len(plan))
    codes = found.codes(label_map, unknown)
    codes[found.first < 0] = label_map.get(default, unknown)
    known = np.isin(names, list(label_map))
    codes[~known] = unknown
    columns = {LABEL: codes.astype(np.int32), LABEL_NAME: names}
    if several:
        columns |= {f"is_{name}": found.hits[:, number] for number, name in enumerate(found.labels)}
    return plan.with_columns(**columns)


def annotation_file(folder: str | os.PathLike[str], stem: str) -> Path | None:
    """Return the annotations of a slide by its file's stem, None where there are none.

    Raises
    ------
    UsageError
        If there are several.
    """
    found = [
        path
        for path in sorted(Path(folder).iterdir())
        if path.stem == stem and path.suffix.lower() in ANNOTATION_SUFFIXES
    ]
    if len(found) > 1:
        raise UsageError(
            f"{stem} has several annotation files in {folder}: "
            f"{', '.join(path.name for path in found)}"
        )
    return found[0] if found else None


def load_slide_annotations(folder: str | os.PathLike[str], stem: str) -> Annotations | None:
    """Return the annotations of a slide, found by its file's stem; None where there are none.

    Raises
    ------
    UsageError
        If there are several files.
    wsistore.errors.AnnotationError
        If the file is broken.
    """
    path = annotation_file(folder, stem)
    return None if path is None else load_annotations(path)
