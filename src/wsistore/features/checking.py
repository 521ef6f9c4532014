"""Whether features that are there were made from what is wanted now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import check_settings
from wsistore.errors import StoreMismatchError
from wsistore.features.documents import array_of
from wsistore.features.places import SlidePlace, open_group
from wsistore.features.records import EncoderRecord, EncoderState, SlideInfo
from wsistore.tiles.plan import TilePlan

_HINT = "Use what it was made with, another store, or overwrite it."


def check_slide(
    place: SlidePlace,
    info: SlideInfo,
    plan: TilePlan,
    encoders: Sequence[EncoderRecord],
    *,
    fingerprint: str,
) -> None:
    """Check that what is there was made from this slide and plan, and by these encoders.

    Encoders that are not there are none that differ. Nothing is written.

    Raises
    ------
    wsistore.errors.StoreMismatchError
        If it was made otherwise; the message names what differs.
    """
    _check_same(place, info, plan, fingerprint)
    for record in encoders:
        known = info.encoders.get(record.name)
        if known is not None:
            check_encoder(place, known, record)


def check_encoder(place: SlidePlace, known: EncoderState, record: EncoderRecord) -> None:
    """Check that features that are there are by this encoder.

    Raises
    ------
    wsistore.errors.StoreMismatchError
        If they are not.
    """
    check_made(
        place,
        {known.name: {"fingerprint": known.fingerprint, "dim": known.dim}},
        {record.name: {"fingerprint": record.fingerprint, "dim": record.dim}},
    )


def check_made(place: SlidePlace, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that settings are the same.

    Raises
    ------
    wsistore.errors.StoreMismatchError
        If they are not; the message names what differs.
    """
    try:
        check_settings(found, wanted, name=str(place))
    except StoreMismatchError as error:
        raise StoreMismatchError(error.message, hint=_HINT) from None


def _check_same(place: SlidePlace, info: SlideInfo, plan: TilePlan, fingerprint: str) -> None:
    found = {"slide_fingerprint": info.fingerprint, "plan_id": info.plan_id, "tiles": info.tiles}
    wanted = {"slide_fingerprint": fingerprint, "plan_id": plan.plan_id, "tiles": len(plan)}
    if found != wanted:
        found |= {"spec": info.provenance.get("spec"), "rules": info.provenance.get("rules")}
        wanted |= {"spec": plan.provenance["spec"], "rules": plan.provenance["rules"]}
    check_made(place, found, wanted)
    if not plan.extras:
        return
    group = open_group(place)
    for name, values in plan.extras.items():
        if name not in group:
            raise StoreMismatchError(f"{place} was made without the column {name}", hint=_HINT)
        if not _equal(np.asarray(array_of(group, name)[:]), values):
            raise StoreMismatchError(f"{place} has other values in column {name}", hint=_HINT)


def _equal(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    if wanted.dtype.kind == "U":
        return bool(found.tolist() == wanted.tolist())
    return bool(np.array_equal(found, wanted, equal_nan=wanted.dtype.kind == "f"))
