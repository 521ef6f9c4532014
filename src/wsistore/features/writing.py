"""Writing a slide's features: prepare, write whole units, finish.

The order is what makes a store trustworthy. A group gets its full attributes only when its
columns are written; arrays of an encoder are made empty; units are written each as one whole
chunk of each array; and that an encoder is finished is said last, in one atomic write of the
group's document. Whoever writes a local store holds the lock of the slide; of objects tells
`wsistore.features.remote`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    UsageError,
    WsistoreError,
)
from wsistore.features.checking import check_slide
from wsistore.features.columns import check_columns, make_encoder, maker_in, write_columns
from wsistore.features.documents import array_of, existing_info, read_info, stamp, writing
from wsistore.features.places import (
    DOCUMENT,
    READ_ERRORS,
    SlidePlace,
    checked_attributes,
    objects_of,
    open_group,
    open_store,
    sweep,
)
from wsistore.features.progress import receipt_objects
from wsistore.features.records import (
    EncoderRecord,
    EncoderState,
    SlideInfo,
    encoder_attributes,
    slide_attributes,
)
from wsistore.features.remote import change_states, discard_objects, prepare_objects
from wsistore.features.schema import (
    MARK,
    SCHEMA,
    STATUS,
    TileStatus,
    node_name,
    status_name,
    unit_rows,
    unit_slice,
)
from wsistore.tiles.plan import TilePlan

if TYPE_CHECKING:
    import zarr

ROOT = ""


@dataclass(frozen=True, slots=True)
class UnitSummary:
    """What a written unit of an encoder holds.

    Parameters
    ----------
    checksum : int
        CRC-32 of its features and status codes, decoded.
    bytes : int
        Of features, decoded.
    failed_tiles : int
        Tiles whose status is not `TileStatus.OK`.
    objects : tuple of (str, int, str or None)
        Key, size and ETag of each object that was written; empty of local stores.
    """

    checksum: int
    bytes: int
    failed_tiles: int
    objects: tuple[tuple[str, int, str | None], ...] = ()


def prepare_cohort(store: str, *, now: dt.datetime | None = None) -> None:
    """Make the root of a cohort, unless it is there.

    Raises
    ------
    wsistore.errors.StoreExistsError
        If something else is there.
    wsistore.errors.StoreWriteError
        If it can't be written.
    """
    import zarr
    from zarr.errors import ContainsGroupError

    place = SlidePlace(store, ROOT)
    try:
        attributes = checked_attributes(open_group(place), place)
    except SourceNotFoundError:
        pass
    except UsageError as error:
        raise StoreExistsError(
            f"{store} is no feature store", hint="Choose another name."
        ) from error
    else:
        if attributes.get("kind") != "cohort":
            raise StoreExistsError(
                f"{store} holds the features of a single slide, not of a cohort",
                hint="Choose another name.",
            )
        return
    if _has_strangers(place):
        raise StoreExistsError(f"{store} is there, and no feature store", hint="Choose another.")
    told = {MARK: SCHEMA, "kind": "cohort", "created": stamp(now)}
    # Another run may do so at the same time; its document says the same.
    with writing(place), contextlib.suppress(ContainsGroupError):
        zarr.create_group(open_store(store, read_only=False), zarr_format=3, attributes=told)


def _has_strangers(place: SlidePlace) -> bool:
    """Whether a place that had no document a moment ago holds what no feature store holds."""
    if place.is_remote:
        found = objects_of(place.store).list_names()
        return bool(found) and DOCUMENT not in found
    # Looked at once: asked twice, it could be absent first, and then another run's.
    try:
        found = [path.name for path in place.path.iterdir()]
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True
    unknown = any(name != DOCUMENT and not name.endswith(".partial") for name in found)
    return unknown and not (place.path / DOCUMENT).exists()


def prepare_slide(
    place: SlidePlace,
    plan: TilePlan,
    encoders: Sequence[EncoderRecord],
    *,
    name: str,
    fingerprint: str,
    unit_tiles: int,
) -> SlideInfo:
    """Make the group of a slide ready for these encoders, or check that it is.

    The caller holds the slide's lock: what killed writers left half-written is removed.

    Parameters
    ----------
    place : SlidePlace
        Where.
    plan : TilePlan
        The tiles.
    encoders : sequence of EncoderRecord
        Those whose features are wanted.
    name : str
        Under which the slide is kept.
    fingerprint : str
        Of the slide's content.
    unit_tiles : int
        Tiles of a unit; a group that exists keeps its own.

    Returns
    -------
    SlideInfo
        What is there now.

    Raises
    ------
    wsistore.errors.StoreMismatchError
        If the group was made from another slide, plan or encoder of the same name; the
        message names what differs.
    wsistore.errors.StoreWriteError
        If it can't be written.
    """
    rows = unit_rows(len(plan), unit_tiles)
    check_columns(plan)
    if place.is_remote:
        return prepare_objects(place, plan, encoders, name=name, fingerprint=fingerprint, rows=rows)
    info = existing_info(place)
    if info is None:
        info = _create(place, plan, name=name, fingerprint=fingerprint, rows=rows)
    else:
        check_slide(place, info, plan, encoders, fingerprint=fingerprint)
        with writing(place):
            sweep(place)
    states = dict(info.encoders)
    for record in encoders:
        if record.name not in states:
            _create_encoder(place, info, record)
            states[record.name] = EncoderState(record.name, record.dim, record.fingerprint)
    if states != dict(info.encoders):
        _put_attributes(place, encoder_attributes(states))
    return replace(info, encoders=states)


def discard_slide(place: SlidePlace) -> None:
    """Remove all features of a slide; nothing happens where there are none.

    Raises
    ------
    wsistore.errors.StoreWriteError
        If that is not permitted.
    """
    if place.is_remote:
        discard_objects(place)
        return
    from zarr.core.sync import sync

    with writing(place):
        sync(open_store(place.store, read_only=False).delete_dir(place.group))


class UnitWriter:
    """Writes whole units of one slide. It can write nothing else.

    Safe in threads and in several processes, as long as no unit is written by two at once.

    Parameters
    ----------
    place : SlidePlace
        A group that `prepare_slide` made ready.
    info : SlideInfo
        What that returned.
    """

    def __init__(self, place: SlidePlace, info: SlideInfo) -> None:
        self.place = place
        self.info = info
        self._store = open_store(place.store, read_only=False)
        self._group = open_group(place, read_only=False, store=self._store)
        self._arrays: dict[str, Any] = {}

    def rows(self, unit: int) -> slice:
        """Return the rows of a unit."""
        return unit_slice(unit, self.info.tiles, self.info.unit_rows)

    def write(
        self, encoder: str, unit: int, features: NDArray[np.float32], status: NDArray[np.uint8]
    ) -> UnitSummary:
        """Write a unit of an encoder: all of its tiles.

        Rows whose status is not `TileStatus.OK` are written as NaN, whatever they hold.

        Parameters
        ----------
        encoder : str
            Name of the encoder.
        unit : int
            Number of the unit.
        features : (n, dim) float32
            A row for each tile of the unit.
        status : (n,) uint8
            Codes of `TileStatus`.

        Raises
        ------
        wsistore.errors.UsageError
            If these are not the rows of that unit.
        wsistore.errors.StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        rows = self.rows(unit)
        count = rows.stop - rows.start
        dim = self.info.encoders[encoder].dim
        if features.shape != (count, dim) or features.dtype != np.float32:
            raise UsageError(
                f"unit {unit} of {encoder} needs ({count}, {dim}) float32, got "
                f"{features.shape} {features.dtype}"
            )
        if status.shape != (count,) or status.dtype != np.uint8:
            raise UsageError(
                f"unit {unit} needs ({count},) uint8 codes, got {status.shape} {status.dtype}"
            )
        failed = status != TileStatus.OK
        if failed.any():
            features = np.where(failed[:, None], np.float32(np.nan), features)
        with writing(self.place):
            self._array(node_name(encoder))[rows] = features
            self._array(status_name(encoder))[rows] = status
        return replace(summary(features, status), objects=self._written(encoder, unit))

    def _written(self, encoder: str, unit: int) -> tuple[tuple[str, int, str | None], ...]:
        if not self.place.is_remote:
            return ()
        from wsistore.features.object_store import ObjectStore

        if not isinstance(self._store, ObjectStore):
            return ()
        keys = (f"{node_name(encoder)}/c/{unit}/0", f"{status_name(encoder)}/c/{unit}")
        return receipt_objects(self._store.taken([self.place.key(key) for key in keys]))

    def read(self, encoder: str, unit: int) -> UnitSummary | None:
        """Return what the store holds of a unit; None where that can't be read."""
        rows = self.rows(unit)
        try:
            features = np.asarray(self._array(node_name(encoder))[rows])
            status = np.asarray(self._array(status_name(encoder))[rows])
        except WsistoreError:
            raise
        except READ_ERRORS:
            return None
        return summary(features, status)

    def _array(self, name: str) -> Any:
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = self._group[name]
        return array


def summary(features: NDArray[np.float32], status: NDArray[np.uint8]) -> UnitSummary:
    """Return the summary of a unit."""
    told = zlib.crc32(np.ascontiguousarray(features, "<f4").data)
    told = zlib.crc32(np.ascontiguousarray(status).data, told)
    return UnitSummary(told, features.nbytes, int(np.count_nonzero(status)))


def finish_slide(
    place: SlidePlace, encoders: Sequence[str], *, now: dt.datetime | None = None
) -> SlideInfo:
    """Say that all units of these encoders are written. The last thing that is written.

    Raises
    ------
    wsistore.errors.StoreCorruptError
        If the status of a tile says that it was not computed.
    wsistore.errors.StoreWriteError
        If it can't be written.
    """
    group = open_group(place, read_only=False)

    def finish(info: SlideInfo) -> dict[str, EncoderState]:
        states, worst = _finished_states(place, group, info, encoders, stamp(now))
        with writing(place):
            if info.tiles:
                array_of(group, STATUS)[:] = worst
        return states

    if place.is_remote:
        return change_states(place, finish)
    info = read_info(place)
    states = finish(info)
    with writing(place):
        group.update_attributes(encoder_attributes(states))
    return replace(info, encoders=states)


def _finished_states(
    place: SlidePlace, group: zarr.Group, info: SlideInfo, encoders: Sequence[str], when: str
) -> tuple[dict[str, EncoderState], NDArray[np.uint8]]:
    """Return the states of encoders that have all tiles, and the worst code of each tile."""
    states = dict(info.encoders)
    worst = np.zeros(info.tiles, np.uint8)
    for name, state in info.encoders.items():
        if name not in encoders and not state.done:
            continue
        codes = np.asarray(array_of(group, status_name(name))[:])
        if (codes == TileStatus.NOT_COMPUTED).any():
            first = int(np.flatnonzero(codes == TileStatus.NOT_COMPUTED)[0])
            raise StoreCorruptError(f"{place}: tile {first} of {name} was not computed")
        failed = int(np.count_nonzero(codes))
        states[name] = replace(state, failed_tiles=failed, finished=state.finished or when)
        worst = np.maximum(worst, codes)
    return states, worst


def _create(
    place: SlidePlace, plan: TilePlan, *, name: str, fingerprint: str, rows: int
) -> SlideInfo:
    import zarr

    attributes = slide_attributes(plan, name, fingerprint, rows, {})
    with writing(place):
        group = zarr.create_group(
            open_store(place.store, read_only=False),
            path=place.group,
            zarr_format=3,
            overwrite=True,  # what a killed run began, and nobody can have read
            attributes={MARK: SCHEMA, "kind": "slide", "done": False},
        )
        write_columns(maker_in(group), plan)
        created = {} if place.group else {"created": stamp()}
        group.update_attributes(attributes | created)
    return SlideInfo.read(attributes, str(place))


def _create_encoder(place: SlidePlace, info: SlideInfo, record: EncoderRecord) -> None:
    # In place of what a run made that was killed before it could say so.
    with writing(place):
        make_encoder(maker_in(open_group(place, read_only=False)), info, record)


def _put_attributes(place: SlidePlace, attributes: Mapping[str, Any]) -> None:
    with writing(place):
        open_group(place, read_only=False).update_attributes(dict(attributes))
