"""What is remembered of slides and encoders beside their features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from wsistore._version import __version__
from wsistore.durable import canonical
from wsistore.errors import StoreCorruptError, UsageError
from wsistore.features.schema import (
    MARK,
    SCHEMA,
    STATUS,
    STATUS_MEANINGS,
    STATUS_PREFIX,
    feature_dim,
    node_name,
    status_name,
)
from wsistore.tiles.plan import COLUMNS, TilePlan

if TYPE_CHECKING:
    from wsistore.encoders import Encoder


@dataclass(frozen=True, slots=True)
class EncoderRecord:
    """What a store keeps of an encoder.

    Parameters
    ----------
    name : str
        Name of its variable.
    dim : int
        Length of a feature vector.
    fingerprint : str
        Same fingerprint, same features.
    described : mapping
        ``Encoder.describe()``: weights, preprocessing, precision, versions.
    reads_pixels : bool
        False where features do not depend on pixels.
    """

    name: str
    dim: int
    fingerprint: str
    described: Mapping[str, Any] = field(default_factory=dict)
    reads_pixels: bool = True

    def __post_init__(self) -> None:
        """Refuse names that the plan's columns have."""
        taken = {*COLUMNS, STATUS, "tile", "plan"}
        if self.name in taken or self.name.startswith((STATUS_PREFIX, "feature_")):
            raise UsageError(f"an encoder can't be called {self.name!r} in a feature store")
        node_name(self.name)

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Return the record of an encoder."""
        return cls(
            name=str(encoder.name),
            dim=int(encoder.dim),
            fingerprint=str(encoder.fingerprint),
            described=json.loads(canonical(encoder.describe())),
            reads_pixels=bool(getattr(encoder, "reads_pixels", True)),
        )

    @property
    def variable(self) -> str:
        """Name of its array in a slide's group."""
        return node_name(self.name)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of its array."""
        return {
            "encoder": self.name,
            "fingerprint": self.fingerprint,
            "precision": self.described.get("precision", ""),
            "description": dict(self.described),
            "coordinates": status_name(self.name),  # for xarray
        }


@dataclass(frozen=True, slots=True)
class EncoderState:
    """What the group of a slide says of one of its encoders.

    Parameters
    ----------
    name : str
        The encoder.
    dim : int
        Length of a feature vector.
    fingerprint : str
        Of the encoder.
    finished : str
        UTC time when its last tile was written; empty while it is unfinished.
    failed_tiles : int
        Tiles whose status is not `TileStatus.OK`.
    """

    name: str
    dim: int
    fingerprint: str
    finished: str = ""
    failed_tiles: int = 0

    @property
    def done(self) -> bool:
        """Whether all tiles are written."""
        return bool(self.finished)

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "dim": self.dim,
            "fingerprint": self.fingerprint,
            "finished": self.finished,
            "failed_tiles": self.failed_tiles,
        }


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """What the attributes of a slide's group say; read without any array.

    Parameters
    ----------
    name : str
        Name of the slide.
    fingerprint : str
        Of the slide's content.
    tiles : int
        Number of tiles.
    unit_rows : int
        Tiles of a unit.
    plan_id : str
        Of the plan.
    provenance : mapping
        ``TilePlan.provenance``: slide, spec, geometry, rules.
    encoders : mapping of str to EncoderState
        Finished ones and those under way.
    """

    name: str
    fingerprint: str
    tiles: int
    unit_rows: int
    plan_id: str
    provenance: Mapping[str, Any]
    encoders: Mapping[str, EncoderState]

    @property
    def done(self) -> bool:
        """Whether there is an encoder, and all are finished."""
        return bool(self.encoders) and all(state.done for state in self.encoders.values())

    @property
    def finished(self) -> tuple[str, ...]:
        """Names of the encoders that are finished."""
        return tuple(name for name, state in self.encoders.items() if state.done)

    @property
    def mpp(self) -> tuple[float, float] | None:
        """µm per level-0 px."""
        told = self.provenance["slide"]["mpp"]
        return None if told is None else (told[0], told[1])

    @property
    def path(self) -> str:
        """Where the slide lay when it was planned."""
        return str(self.provenance["slide"].get("path", ""))

    @classmethod
    def read(cls, attributes: Mapping[str, Any], where: str) -> Self:
        """Return what the attributes of a group say.

        Raises
        ------
        wsistore.errors.StoreCorruptError
            If something is missing.
        """
        try:
            return cls(
                name=attributes["slide"],
                fingerprint=attributes["slide_fingerprint"],
                tiles=int(attributes["tiles"]),
                unit_rows=int(attributes["unit_rows"]),
                plan_id=attributes["plan_id"],
                provenance=json.loads(attributes["provenance"]),
                encoders={
                    name: EncoderState(name, **told)
                    for name, told in attributes["encoders"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreCorruptError(
                f"the attributes of {where} are not those of a slide's features: {error!r}"
            ) from error


def slide_attributes(
    plan: TilePlan, name: str, fingerprint: str, rows: int, encoders: Mapping[str, EncoderState]
) -> dict[str, Any]:
    """Return the attributes of a slide's group.

    Parameters
    ----------
    plan : TilePlan
        Of the slide.
    name : str
        Under which the slide is kept.
    fingerprint : str
        Of the slide's content.
    rows : int
        Of a unit.
    encoders : mapping of str to EncoderState
        What there is of each.
    """
    slide = plan.slide
    names = (*plan.columns, STATUS)
    return {
        MARK: SCHEMA,
        "kind": "slide",
        "slide": name,
        "slide_fingerprint": fingerprint,
        "slide_size": list(slide.size),
        "mpp": None if slide.mpp is None else list(slide.mpp),
        "mpp_origin": slide.mpp_origin,
        "magnification": slide.magnification,
        "magnification_origin": slide.magnification_origin,
        "resolution": str(plan.resolution),
        "tile_size": list(plan.size),
        "tile_size_level0": list(plan.size_level0),
        "tiles": len(plan),
        "unit_rows": rows,
        "plan_id": plan.plan_id,
        "provenance": canonical(plan.provenance).decode(),
        "space": "x, y: top-left corners in level-0 px",
        "status_meanings": {str(int(code)): text for code, text in STATUS_MEANINGS.items()},
        "wsistore": __version__,
        "coordinates": " ".join(names),  # how xarray knows them from data variables
        **encoder_attributes(encoders),
    }


def encoder_attributes(encoders: Mapping[str, EncoderState]) -> dict[str, Any]:
    """Return those attributes of a slide's group that tell how far its encoders are."""
    done = bool(encoders) and all(state.done for state in encoders.values())
    return {
        "encoders": {name: state.record() for name, state in encoders.items()},
        "feature_dims": {name: feature_dim(name) for name in encoders},
        "done": done,
    }
