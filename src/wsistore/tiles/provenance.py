"""What a plan was made of: slide, mask, and the rules that kept or dropped tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from wsistore.errors import SourceChangedError, UsageError
from wsistore.geometry import Size
from wsistore.slides import Slide
from wsistore.sources import is_url


@dataclass(frozen=True, slots=True)
class SlideFacts:
    """What a plan remembers of its slide.

    Parameters
    ----------
    name : str
        File name without extension.
    size : Size
        Level-0 px.
    fingerprint : str
        `Slide.fingerprint`; empty where unknown (a plan read from another tool's file).
    mpp : (x, y) or None
        µm per level-0 px.
    mpp_origin : str
        Who said so, such as ``"aperio.MPP"`` or ``"argument"``.
    magnification : float or None
        Objective power.
    magnification_origin : str
        Who said so.
    path : str
        Where the slide lay; no part of a plan's identity.
    state : str
        Which state of the object at that URL was planned (size and ETag); empty of local
        files and of stores, and no part of a plan's identity.
    """

    name: str
    size: Size
    fingerprint: str = ""
    mpp: tuple[float, float] | None = None
    mpp_origin: str = ""
    magnification: float | None = None
    magnification_origin: str = ""
    path: str = ""
    state: str = ""

    @classmethod
    def of(cls, slide: Slide) -> Self:
        """Return what there is to remember of a slide."""
        mpp, power = slide.mpp, slide.magnification
        return cls(
            name=slide.name,
            size=slide.size,
            fingerprint=slide.fingerprint,
            mpp=None if mpp is None else (mpp.x, mpp.y),
            mpp_origin="" if mpp is None else mpp.origin,
            magnification=None if power is None else float(power),
            magnification_origin="" if power is None else power.origin,
            path=slide.path,
            state=state_of(slide),
        )

    def check_state(self, slide: Slide) -> None:
        """Raise if the object at the planned URL is not in the state that was planned.

        Raises
        ------
        wsistore.errors.SourceChangedError
            Naming the object.
        """
        if not self.state or slide.path != self.path:
            return
        found = state_of(slide)
        if found and found != self.state:
            raise SourceChangedError(
                f"{self.path} is not the object that was planned: it was {self.state}, is {found}",
                hint="Plan it again; results that were made from the old one are to be "
                "thrown away (--force, --overwrite).",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values; `from_dict` reads them."""
        told = asdict(self)
        if not self.state:
            del told["state"]
        told["size"] = list(self.size)
        told["mpp"] = None if self.mpp is None else list(self.mpp)
        return told

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the facts that `to_dict` described.

        Raises
        ------
        wsistore.errors.UsageError
            If a value is missing or makes no sense.
        """
        told = dict(values)
        try:
            told["size"] = Size(*(int(side) for side in told["size"]))
            if told.get("mpp") is not None:
                told["mpp"] = (float(told["mpp"][0]), float(told["mpp"][1]))
            return cls(**told)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"these are no facts of a slide: {values!r}") from error


def state_of(slide: Slide) -> str:
    """Return what tells the state of a remote slide's object; empty where nothing does."""
    if not is_url(slide.path) or not slide.levels:
        return ""
    table = slide.tile_table(0)
    if table is None:
        return ""
    source = table.source(0)
    # The parts of a store are other objects, which its fingerprint knows by checksums.
    return source.identity if source.name == slide.path else ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that tiles were put to, and what it did.

    Parameters
    ----------
    name : str
        Such as ``"tissue"``, ``"contour"``, ``"std"`` or ``"edge"``.
    parameters : mapping
        JSON-able; thresholds and, for a mask, its fingerprint, method and parameters.
    seen, dropped : int
        Tiles put to the rule, and tiles that it dropped.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON-able values."""
        told = asdict(self)
        told["parameters"] = dict(self.parameters)
        return told

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the rule that `to_dict` described."""
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"these are no values of a rule: {values!r}") from error
