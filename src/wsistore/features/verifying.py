"""Whether features are those of the slide: some tiles are computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.encoders import Encoder
from wsistore.errors import StoreMismatchError, UsageError
from wsistore.features.cohort import FeatureCohort
from wsistore.features.reading import StoreLike
from wsistore.features.records import SlideInfo
from wsistore.features.schema import TileStatus
from wsistore.slides import Slide, open_slide
from wsistore.slides.calibration import ARGUMENT
from wsistore.tiles.batch import read_tiles
from wsistore.tiles.plan import TilePlan

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Greatest distance of a vector from the stored one, relative to that one's length, by the
precision of the encoder: sums of other batches are taken in another order."""


@dataclass(frozen=True, slots=True)
class TileCheck:
    """A tile that was computed again.

    Parameters
    ----------
    slide, encoder : str
        Of which slide, by which encoder.
    tile : int
        Row of the plan.
    difference : float
        Distance from the stored vector, relative to that one's length.
    equal : bool
        Whether that is within the tolerance.
    """

    slide: str
    encoder: str
    tile: int
    difference: float
    equal: bool


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What became of a verification.

    Parameters
    ----------
    checks : tuple of TileCheck
        All tiles that were computed again.
    """

    checks: tuple[TileCheck, ...]

    @property
    def failed(self) -> tuple[TileCheck, ...]:
        """Tiles whose features are not those that are stored."""
        return tuple(check for check in self.checks if not check.equal)

    @property
    def ok(self) -> bool:
        """Whether there were tiles to compare, and all were equal."""
        return bool(self.checks) and not self.failed


def verify_features(
    store: StoreLike,
    k: int = 32,
    *,
    encoders: Encoder | Sequence[Encoder],
    slides: Sequence[str] | None = None,
    opener: Callable[[SlideInfo], Slide] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
) -> VerifyReport:
    """Compute random tiles again, one by one, and compare them with what is stored.

    Parameters
    ----------
    store : path
        Of features.
    k : int
        Tiles per slide and encoder; all where there are fewer.
    encoders : Encoder or sequence of Encoder
        Those whose features are verified.
    slides : sequence of str, optional
        Names; all slides that have features of all these encoders, where not said.
    opener : callable, optional
        Opens a slide from what is known of it; by default from where it lay when it was
        planned.
    seed : int
        Of the choice of tiles.
    tolerance : float, optional
        Instead of `TOLERANCE`.

    Raises
    ------
    wsistore.errors.StoreMismatchError
        If slide or encoder are not those of the features.
    wsistore.errors.WsistoreError
        If a slide can't be read.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, got {k!r}")
    chosen = list(encoders) if isinstance(encoders, Sequence) else [encoders]
    cohort = FeatureCohort(store, encoders=[encoder.name for encoder in chosen])
    checks = []
    for index, name in enumerate(cohort.infos if slides is None else slides):
        cohort.place(name)
        info = cohort.infos[name]
        slide = (opener or reopen_planned)(info)
        if slide.fingerprint != info.fingerprint:
            raise StoreMismatchError(
                f"{slide.path} is not the slide of these features: its fingerprint is "
                f"{slide.fingerprint}, that of {name} was {info.fingerprint}"
            )
        for encoder in chosen:
            _check_encoder(info, encoder)
            generator = np.random.default_rng([seed, index])
            checks += _verify_slide(cohort, name, slide, encoder, k, generator, tolerance)
    return VerifyReport(tuple(checks))


def reopen_planned(info: SlideInfo) -> Slide:
    """Open the slide of features where it lay when it was planned.

    Pixel size and power are stated again where the caller had stated them.

    Raises
    ------
    wsistore.errors.WsistoreError
        If that can't be done.
    """
    return open_planned(info.provenance["slide"], info.path)


def open_planned(facts: Mapping[str, Any], path: str) -> Slide:
    """Open a slide from the facts that a plan keeps of it; see `SlideFacts.to_dict`.

    Raises
    ------
    wsistore.errors.UsageError
        If no path is known.
    wsistore.errors.WsistoreError
        If it can't be opened.
    """
    told = dict(facts)
    if not path:
        raise UsageError(f"the plan of {told.get('name', 'a slide')} knows no path; name the slide")
    stated = {
        name: told[name]
        for name in ("mpp", "magnification")
        if told.get(f"{name}_origin") == ARGUMENT
    }
    return open_slide(path, **stated)


def _check_encoder(info: SlideInfo, encoder: Encoder) -> None:
    known = info.encoders[encoder.name].fingerprint
    if known != encoder.fingerprint:
        raise StoreMismatchError(
            f"features of {info.name} were made by {known}, not by {encoder.fingerprint}",
            hint="Load the encoder with the weights and precision that were used.",
        )


def _verify_slide(
    cohort: FeatureCohort,
    name: str,
    slide: Slide,
    encoder: Encoder,
    k: int,
    generator: np.random.Generator,
    tolerance: float | None,
) -> list[TileCheck]:
    plan = cohort.plan(name)
    fine = np.flatnonzero(cohort.status(name, encoder.name) == TileStatus.OK)
    rows = np.sort(generator.choice(fine, min(k, len(fine)), replace=False))
    stored = cohort.bag(name, encoder.name)
    precision = str(encoder.describe().get("precision", "float32"))
    most = TOLERANCE.get(precision, 1e-4) if tolerance is None else tolerance
    checks = []
    for row in rows.tolist():
        fresh = encoder.encode(_pixels(slide, plan, row))[0]
        difference = _distance(fresh, stored[row])
        checks.append(TileCheck(name, encoder.name, row, difference, difference <= most))
    return checks


def _pixels(slide: Slide, plan: TilePlan, row: int) -> NDArray[np.uint8]:
    request = (slide, int(plan.x[row]), int(plan.y[row]))
    return read_tiles(
        [request],
        plan.size,
        plan.resolution,
        layout="nchw",
        on_bad_tile="raise",
        fill=plan.spec.fill,
    )


def _distance(fresh: NDArray[np.float32], stored: NDArray[np.float32]) -> float:
    gap = float(np.linalg.norm(fresh.astype(np.float64) - stored))
    length = float(np.linalg.norm(stored.astype(np.float64)))
    if not np.isfinite(gap):
        return float("inf")
    return gap / length if length else gap
