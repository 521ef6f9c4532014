"""What a validation finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be, or not as it should be.

    Parameters
    ----------
    severity : {"error", "warning"}
        ``"error"``: against a MUST of NGFF or Zarr. ``"warning"``: against a SHOULD, or a
        trap for readers.
    code : str
        Stable name of the rule, such as ``"axes-order"``.
    where : str
        Document, array or package.
    text : str
        What was found against what was expected.
    """

    severity: Severity
    code: str
    where: str
    text: str

    @property
    def what(self) -> str:
        """Severity, rule and text in one line."""
        return f"{self.severity} [{self.code}] {self.text}"


class Findings:
    """Collects findings about one place of a store.

    Parameters
    ----------
    found : list of Finding
        Where they go.
    where : str
        The place.
    """

    def __init__(self, found: list[Finding], where: str = "root") -> None:
        self._found = found
        self.where = where

    def at(self, where: str) -> Findings:
        """Return a collector for another place."""
        return Findings(self._found, where)

    def must(self, condition: object, code: str, text: str) -> bool:
        """Note an error unless the condition holds; return whether it does."""
        return self._note(condition, "error", code, text)

    def should(self, condition: object, code: str, text: str) -> bool:
        """Note a warning unless the condition holds; return whether it does."""
        return self._note(condition, "warning", code, text)

    def _note(self, condition: object, severity: Severity, code: str, text: str) -> bool:
        if not condition:
            self._found.append(Finding(severity, code, self.where, text))
        return bool(condition)


def is_list(value: object, kind: type | tuple[type, ...]) -> TypeGuard[Sequence[Any]]:
    """Return whether a JSON value is a list of such values, not empty; bool is no number."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
    )
