"""Labels of slides from CSV, and splits by patient."""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsistore.errors import SourceNotFoundError, UsageError


@dataclass(frozen=True, slots=True)
class SlideTable:
    """Slides with their patients and labels; columns of one length.

    Parameters
    ----------
    slide : tuple of str
        Names of slides, each once.
    patient : tuple of str
        Of each slide.
    label : tuple of str
        Of each slide; empty where there is none.
    """

    slide: tuple[str, ...]
    patient: tuple[str, ...]
    label: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the columns fit together."""
        if not len(self.slide) == len(self.patient) == len(self.label):
            raise UsageError(
                f"columns have lengths {len(self.slide)}, {len(self.patient)}, {len(self.label)}"
            )
        twice = [name for name, count in Counter(self.slide).items() if count > 1]
        if twice:
            raise UsageError(f"slides are named twice: {', '.join(sorted(twice))}")

    def __len__(self) -> int:
        return len(self.slide)

    @property
    def labels(self) -> dict[str, str]:
        """Label by slide, of the slides that have one."""
        return {s: label for s, label in zip(self.slide, self.label, strict=True) if label}

    @property
    def classes(self) -> tuple[str, ...]:
        """Different labels, sorted."""
        return tuple(sorted({label for label in self.label if label}))


def read_slide_table(
    path: str | os.PathLike[str],
    *,
    slide: str = "slide",
    patient: str | None = "patient",
    label: str | None = "label",
) -> SlideTable:
    """Read a CSV file with a header and a row per slide.

    Parameters
    ----------
    path : path
        UTF-8, with or without a byte order mark.
    slide : str
        Column of slides; of file names and paths only the stem counts.
    patient : str or None
        Column of patients; None says that each slide is of a patient of its own.
    label : str or None
        Column of labels.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is no such file.
    wsistore.errors.UsageError
        If a column is missing, a slide comes twice, or a slide or patient is empty.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {os.fspath(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{os.fspath(path)} can't be read as UTF-8 text: {error}") from error
    rows = list(csv.DictReader(text.splitlines()))
    header = list(rows[0]) if rows else next(csv.reader(text.splitlines()), [])
    for column in (slide, patient, label):
        if column is not None and column not in header:
            raise UsageError(
                f"{os.fspath(path)} has no column {column!r}; it has {', '.join(map(str, header))}"
            )
    names = [_stem(_cell(row, slide, path)) for row in rows]
    patients = names if patient is None else [_cell(row, patient, path) for row in rows]
    labels = [(row[label] or "").strip() if label else "" for row in rows]
    return SlideTable(tuple(names), tuple(patients), tuple(labels))


def _cell(row: Mapping[str, str | None], column: str, path: str | os.PathLike[str]) -> str:
    value = (row[column] or "").strip()
    if not value:
        raise UsageError(f"{os.fspath(path)} has a row without {column}: {dict(row)}")
    return value


def _stem(name: str) -> str:
    """Return the stem of a file name; names that only hold periods keep them."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    known = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".dcm", ".zarr", ".h5")
    for suffix in (".ome.zarr", ".ome.tiff", ".ome.tif", *known):
        if base.lower().endswith(suffix) and len(base) > len(suffix):
            return base[: -len(suffix)]
    return base


def split_patients(
    table: SlideTable,
    fractions: Mapping[str, float] | Sequence[float],
    seed: int = 0,
    *,
    by_label: bool = True,
) -> dict[str, tuple[str, ...]]:
    """Split slides into sets, so that no patient is in two of them.

    The same arguments give the same split, whatever the order of the rows.

    Parameters
    ----------
    table : SlideTable
        The slides.
    fractions : mapping of str to float, or sequence of float
        Share of slides of each set, which need not add up to 1 (they are scaled); a
        sequence of two or three stands for ``train``, ``val`` (of three) and ``test``.
    seed : int
        Of the order in which patients are dealt out.
    by_label : bool
        Whether each set shall have the same mix of labels. A patient with several labels
        counts for the one that most of its slides have.

    Returns
    -------
    dict of str to tuple of str
        Names of slides, sorted, for each set. Each patient goes to the set that lacks most
        of its share, patients with many slides first, so shares are met as far as
        patients allow.

    Raises
    ------
    wsistore.errors.UsageError
        If fractions make no sense, or there are fewer patients than sets.
    """
    shares = _shares(fractions)
    slides: defaultdict[str, list[str]] = defaultdict(list)
    label_of = dict(zip(table.slide, table.label, strict=True))
    for name, patient in sorted(zip(table.slide, table.patient, strict=True)):
        slides[patient].append(name)
    wanted = [name for name, share in shares.items() if share > 0]
    if len(slides) < len(wanted):
        raise UsageError(f"{len(slides)} patients can't be split into {len(wanted)} sets")
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for patient, names in slides.items():
        counts = Counter(label_of[name] for name in names)
        main = min(counts, key=lambda label: (-counts[label], label))
        groups[main if by_label else ""].append(patient)
    found: dict[str, list[str]] = {name: [] for name in shares}
    generator = np.random.default_rng(seed)
    for _, patients in sorted(groups.items()):
        _deal(sorted(patients), slides, shares, found, generator)
    return {name: tuple(sorted(members)) for name, members in found.items()}


def _deal(
    patients: list[str],
    slides: Mapping[str, Sequence[str]],
    shares: Mapping[str, float],
    found: dict[str, list[str]],
    generator: np.random.Generator,
) -> None:
    """Deal the patients of one label out to the sets."""
    order = [patients[i] for i in generator.permutation(len(patients))]
    order.sort(key=lambda patient: -len(slides[patient]))  # stable: equals stay shuffled
    total = sum(len(slides[patient]) for patient in order)
    given = dict.fromkeys(shares, 0)
    for patient in order:
        # What is lacking over all labels decides where this label alone leaves it open.
        everything = sum(map(len, found.values())) + len(slides[patient])
        lacking = {
            name: (round(share * total - given[name], 9), share * everything - len(found[name]))
            for name, share in shares.items()
            if share > 0
        }
        goes = max(lacking, key=lambda name: lacking[name])
        found[goes] += slides[patient]
        given[goes] += len(slides[patient])


def _shares(fractions: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    if not isinstance(fractions, Mapping):
        names = {2: ("train", "test"), 3: ("train", "val", "test")}.get(len(fractions))
        if names is None:
            raise UsageError(f"two or three fractions are meant without names, got {fractions!r}")
        fractions = dict(zip(names, fractions, strict=True))
    total = sum(fractions.values())
    if any(share < 0 for share in fractions.values()) or not 0 < total < float("inf"):
        raise UsageError(f"fractions must be at least 0, and not all 0, got {dict(fractions)!r}")
    return {name: share / total for name, share in fractions.items()}
