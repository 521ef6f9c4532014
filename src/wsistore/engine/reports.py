"""What reports of runs have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsistore.durable import exit_code

if TYPE_CHECKING:
    from wsistore.durable import Outcome
    from wsistore.errors import WsistoreError


class RunReport:
    """What became of each slide of a run: its exit code, and its first failure as an error.

    Whoever is one has ``outcomes``, one for each slide, and ``errors``, those behind the
    outcomes that failed, in their order.
    """

    if TYPE_CHECKING:

        @property
        def outcomes(self) -> tuple[Outcome, ...]:
            """What became of each slide."""

        @property
        def errors(self) -> tuple[WsistoreError, ...]:
            """Why slides failed."""

    @property
    def exit_code(self) -> int:
        """0 where all slides are complete, 3 where some failed, 1 where all did."""
        return exit_code(self.outcomes)

    def raise_for_failures(self) -> None:
        """Raise the first error if a slide failed, with the others as notes.

        Raises
        ------
        wsistore.errors.WsistoreError
            The error of the first slide that failed.
        """
        if not self.errors:
            return
        first = self.errors[0]
        for other in self.errors[1:]:
            first.add_note(f"Another slide failed too: {other}")
        raise first
