"""What became of a unit of work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from wsistore.errors import UsageError

Status = Literal["done", "skipped", "failed"]

EXIT_ALL_DONE = 0
EXIT_NOTHING_DONE = 1
EXIT_PART_FAILED = 3
"""2 is what command lines return for a wrong call."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit of work; small, and travels between processes.

    Parameters
    ----------
    unit : str
        Name of the unit, such as a slide.
    status : {"done", "skipped", "failed"}
        ``"skipped"``: there was nothing left to do.
    code : str
        Code of the error (``"WSI402"``) where it failed.
    detail : str
        One line for people.

    Raises
    ------
    UsageError
        If the status is none of these.
    """

    unit: str
    status: Status
    code: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        """Check the status."""
        if self.status not in get_args(Status):
            raise UsageError(
                f"unknown status {self.status!r} of {self.unit}",
                hint=f"Use one of {', '.join(get_args(Status))}.",
            )


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """Return the exit code that sums up a run.

    Returns
    -------
    int
        0 where all units were done or skipped, 3 where some failed and some did not, 1
        where none succeeded (so also where there was none).
    """
    failed = [outcome.status == "failed" for outcome in outcomes]
    if all(failed):
        return EXIT_NOTHING_DONE
    return EXIT_PART_FAILED if any(failed) else EXIT_ALL_DONE


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: ``1 slide``, ``2 slides``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
