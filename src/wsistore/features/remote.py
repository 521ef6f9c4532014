"""Writing a slide's features to objects, where there is neither a lock nor a rename.

What is written comes in this order: the settings (once; another run's are respected), the
columns, the group's document (once), the arrays of encoders, units, receipts, and at last the
marks in the document that encoders are finished. The document is changed only in the state
that was read, so that runs of different encoders don't take back what the other has said.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wsistore.errors import SourceNotFoundError, StoreCorruptError, StoreWriteError
from wsistore.features.checking import check_encoder, check_made, check_slide
from wsistore.features.columns import Draft, make_encoder, write_columns
from wsistore.features.documents import existing_info, info_of, stamp
from wsistore.features.places import SlidePlace, objects_of
from wsistore.features.progress import RemoteProgress
from wsistore.features.records import (
    EncoderRecord,
    EncoderState,
    SlideInfo,
    encoder_attributes,
    slide_attributes,
)
from wsistore.tiles.plan import TilePlan

_TRIES = 20
"""To change a document; each further one needs another run to change it meanwhile."""


def prepare_objects(
    place: SlidePlace,
    plan: TilePlan,
    encoders: Sequence[EncoderRecord],
    *,
    name: str,
    fingerprint: str,
    rows: int,
) -> SlideInfo:
    """Make a slide's group ready at a place of objects; see `writing.prepare_slide`."""
    info = existing_info(place)
    if info is None:
        info = _create(place, plan, name=name, fingerprint=fingerprint, rows=rows)
    check_slide(place, info, plan, encoders, fingerprint=fingerprint)
    if any(record.name not in info.encoders for record in encoders):
        info = _register(place, encoders)
    unfinished = [record for record in encoders if not info.encoders[record.name].done]
    draft = Draft()
    for record in unfinished:  # a run may have been killed before it had made them
        make_encoder(draft.make, info, record)
    draft.upload(place)
    return info


def _create(
    place: SlidePlace, plan: TilePlan, *, name: str, fingerprint: str, rows: int
) -> SlideInfo:
    told = {
        "slide_fingerprint": fingerprint,
        "plan_id": plan.plan_id,
        "tiles": len(plan),
        "columns": {column: _checksum(values) for column, values in plan.extras.items()},
    }
    settled = RemoteProgress(place).settle(told | {"unit_rows": rows})
    rows = int(settled.pop("unit_rows", rows))  # that of a run which has begun before
    check_made(place, settled, told)
    # Settings end with their run, but not before the document is there.
    info = existing_info(place)
    if info is not None:
        return info
    draft = Draft()
    write_columns(draft.make, plan)
    draft.upload(place)
    attributes = slide_attributes(plan, name, fingerprint, rows, {})
    created = {} if place.group else {"created": stamp()}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes | created}
    if objects_of(place.store).create(place.document, _encoded(document)):
        return SlideInfo.read(attributes, str(place))
    info = existing_info(place)  # another run was faster
    if info is None:
        raise StoreCorruptError(f"{place} was taken away while it was written")
    return info


def _checksum(values: Any) -> int:
    if values.dtype.kind == "U":
        return zlib.crc32("\0".join(values.tolist()).encode())
    return zlib.crc32(values.tobytes())


def _register(place: SlidePlace, encoders: Sequence[EncoderRecord]) -> SlideInfo:
    """Say in the document which encoders are under way, before they have any array."""

    def add(info: SlideInfo) -> dict[str, EncoderState]:
        states = dict(info.encoders)
        for record in encoders:
            if record.name in states:
                check_encoder(place, states[record.name], record)
            else:
                states[record.name] = EncoderState(record.name, record.dim, record.fingerprint)
        return states

    return change_states(place, add)


def change_states(
    place: SlidePlace, change: Callable[[SlideInfo], dict[str, EncoderState]]
) -> SlideInfo:
    """Change what a document says of encoders; another run's changes are kept.

    Parameters
    ----------
    place : SlidePlace
        A slide of a remote store.
    change : callable
        Gets what the document says, returns the states that it shall say; is called again
        where somebody else has changed it meanwhile.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there is no document.
    wsistore.errors.StoreWriteError
        If it can't be written.
    """
    objects = objects_of(place.store)
    for _ in range(_TRIES):
        found = objects.get_tagged(place.document)
        if found is None:
            raise SourceNotFoundError(f"there are no features at {place}")
        data, etag = found
        document = _decoded(data, place)
        info = info_of(dict(document["attributes"]), place)
        if info is None:
            raise StoreCorruptError(f"the document of {place} is not whole")
        states = change(info)
        document["attributes"] |= encoder_attributes(states)
        if etag is None:
            objects.put(place.document, _encoded(document))
            return replace(info, encoders=states)
        if objects.replace(place.document, _encoded(document), etag):
            return replace(info, encoders=states)
    raise StoreWriteError(f"other runs keep changing the document of {place}")


def discard_objects(place: SlidePlace) -> None:
    """Remove all features of a slide, its document first; see `writing.discard_slide`."""
    objects = objects_of(place.store)
    objects.delete([place.document])
    objects.delete([found.key for found in objects.list_tree(place.group)])
    RemoteProgress(place).forget()


def _decoded(data: bytes, place: SlidePlace) -> dict[str, Any]:
    try:
        document = json.loads(data)
        document["attributes"].keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorruptError(f"the document of {place} is none of a group") from error
    found: dict[str, Any] = document
    return found


def _encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, allow_nan=False).encode()
