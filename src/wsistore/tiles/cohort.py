"""Plans of several slides as one table: `CohortPlan`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import canonical
from wsistore.errors import DependencyError, UsageError
from wsistore.geometry import Resolution
from wsistore.tiles.model import SlideLike
from wsistore.tiles.plan import TilePlan

if TYPE_CHECKING:
    import pandas as pd


def concat(plans: Sequence[TilePlan]) -> CohortPlan:
    """Return the plans of several slides as one table; see `CohortPlan`."""
    return CohortPlan(tuple(plans))


@dataclass(frozen=True)
class CohortPlan:
    """Plans of several slides, one after another, with a column that tells the slide.

    Parameters
    ----------
    plans : tuple of TilePlan
        One or more; a slide may come several times (at several resolutions).
    """

    plans: tuple[TilePlan, ...]

    def __post_init__(self) -> None:
        """Check that there is something to join."""
        if not self.plans or not all(isinstance(plan, TilePlan) for plan in self.plans):
            raise UsageError("a cohort needs one TilePlan or more")

    def __len__(self) -> int:
        return sum(len(plan) for plan in self.plans)

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns, behind ``slide``: (n,) int32, index into `plans`.

        Further columns that some plans lack are refused: a score that is absent is no
        number.
        """
        names = list(self.plans[0].columns)
        for plan in self.plans:
            if list(plan.columns) != names:
                raise UsageError(
                    f"plans of {self.plans[0].slide.name} and {plan.slide.name} have other "
                    f"columns: {', '.join(names)} against {', '.join(plan.columns)}"
                )
        counts = [len(plan) for plan in self.plans]
        codes = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        tables = [plan.columns for plan in self.plans]
        return {"slide": codes} | {
            name: np.concatenate([table[name] for table in tables]) for name in names
        }

    @property
    def plan_id(self) -> str:
        """SHA-256 of the plans' ids, in order, as hexadecimal digits."""
        return hashlib.sha256(
            canonical({"plans": [plan.plan_id for plan in self.plans]})
        ).hexdigest()

    def requests(self) -> list[tuple[SlideLike, int, int, Resolution]]:
        """Return what `read_tiles` is asked for, from where the slides lay when planned."""
        return [
            (path, x, y, plan.resolution) for plan in self.plans for path, x, y in plan.requests()
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Return the columns as a DataFrame, with the slides' names in ``slide_name``."""
        try:
            import pandas as pd
        except ImportError as error:
            raise DependencyError("to_pandas needs pandas", hint="pip install pandas") from error
        frame = pd.DataFrame(self.columns)
        names = [plan.slide.name for plan in self.plans]
        frame.insert(1, "slide_name", pd.Categorical.from_codes(frame["slide"], _unique(names)))
        return frame


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names; those of several slides get the index of the plan behind them."""
    return [n if names.count(n) == 1 else f"{n}#{i}" for i, n in enumerate(names)]
