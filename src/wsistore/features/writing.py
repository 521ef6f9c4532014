"""Writing a slide's features: prepare, write whole units, finish.

The order is what makes a store trustworthy. A group gets its full attributes only when its
columns are written; arrays of an encoder are made empty; units are written each as one whole
chunk of each array; and that an encoder is finished is said last, in one atomic write of the
group's document. Whoever writes holds the lock of the slide.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsistore.durable import check_settings, write_error
from wsistore.errors import (
    SourceNotFoundError,
    StoreCorruptError,
    StoreExistsError,
    StoreMismatchError,
    UsageError,
    WsistoreError,
)
from wsistore.features.places import (
    DOCUMENT,
    READ_ERRORS,
    SlidePlace,
    checked_attributes,
    open_group,
    open_store,
    sweep,
)
from wsistore.features.records import (
    EncoderRecord,
    EncoderState,
    SlideInfo,
    encoder_attributes,
    slide_attributes,
)
from wsistore.features.schema import (
    COLUMN_CHUNK,
    MARK,
    SCHEMA,
    STATUS,
    TILE_DIM,
    TileStatus,
    feature_chunks,
    feature_dim,
    node_name,
    status_name,
    unit_count,
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
    """

    checksum: int
    bytes: int
    failed_tiles: int


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
    told = {MARK: SCHEMA, "kind": "cohort", "created": _stamp(now)}
    # Another run may do so at the same time; its document says the same.
    with writing(place), contextlib.suppress(ContainsGroupError):
        zarr.create_group(open_store(store, read_only=False), zarr_format=3, attributes=told)


def _has_strangers(place: SlidePlace) -> bool:
    """Whether a place that had no document a moment ago holds what no feature store holds."""
    if not place.path.is_dir():
        return place.path.exists()
    found = [path.name for path in place.path.iterdir()]
    unknown = any(name != DOCUMENT and not name.endswith(".partial") for name in found)
    return unknown and not (place.path / DOCUMENT).exists()


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
            _check_encoder(place, known, record)


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
    info = _existing(place)
    if info is None:
        info = _create(place, plan, name=name, fingerprint=fingerprint, unit_tiles=unit_tiles)
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
        self._group = open_group(place, read_only=False)
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
        return summary(features, status)

    def read(self, encoder: str, unit: int) -> UnitSummary | None:
        """Return what the store holds of a unit; None where that can't be read."""
        rows = self.rows(unit)
        try:
            features = np.asarray(self._array(node_name(encoder))[rows])
            status = np.asarray(self._array(status_name(encoder))[rows])
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
    info = read_info(place)
    group = open_group(place, read_only=False)
    states = dict(info.encoders)
    worst = np.zeros(info.tiles, np.uint8)
    for name, state in info.encoders.items():
        if name not in encoders and not state.done:
            continue
        codes = np.asarray(_array_of(group, status_name(name))[:])
        if (codes == TileStatus.NOT_COMPUTED).any():
            first = int(np.flatnonzero(codes == TileStatus.NOT_COMPUTED)[0])
            raise StoreCorruptError(f"{place}: tile {first} of {name} was not computed")
        failed = int(np.count_nonzero(codes))
        states[name] = replace(state, failed_tiles=failed, finished=state.finished or _stamp(now))
        worst = np.maximum(worst, codes)
    with writing(place):
        if info.tiles:
            _array_of(group, STATUS)[:] = worst
        group.update_attributes(encoder_attributes(states))
    return replace(info, encoders=states)


def read_info(place: SlidePlace) -> SlideInfo:
    """Return what the attributes of a slide's group say.

    Raises
    ------
    wsistore.errors.SourceNotFoundError, wsistore.errors.UsageError
        If there is none.
    wsistore.errors.StoreCorruptError
        If they are not whole.
    """
    attributes = checked_attributes(open_group(place), place)
    if attributes.get("kind") != "slide":
        raise UsageError(f"{place} is no slide of a feature store", hint="Name a slide of it.")
    return SlideInfo.read(attributes, str(place))


@contextlib.contextmanager
def writing(place: SlidePlace) -> Iterator[None]:
    """Tell failures of the operating system as errors of the store."""
    try:
        yield
    except WsistoreError:
        raise
    except OSError as error:
        raise write_error(error, place.path) from error


def _existing(place: SlidePlace) -> SlideInfo | None:
    """Return what is there; None where there is nothing, or a beginning without attributes."""
    try:
        attributes = checked_attributes(open_group(place), place)
    except SourceNotFoundError:
        return None
    if attributes.get("kind") == "cohort":
        raise StoreExistsError(f"{place} is a cohort, not a slide")
    return SlideInfo.read(attributes, str(place)) if "plan_id" in attributes else None


def _create(
    place: SlidePlace, plan: TilePlan, *, name: str, fingerprint: str, unit_tiles: int
) -> SlideInfo:
    import zarr

    rows = unit_rows(len(plan), unit_tiles)
    attributes = slide_attributes(plan, name, fingerprint, rows, {})
    for column in plan.extras:
        if column == STATUS or node_name(column) != column:
            raise UsageError(f"a column of a feature store can't be called {column!r}")
    with writing(place):
        group = zarr.create_group(
            open_store(place.store, read_only=False),
            path=place.group,
            zarr_format=3,
            overwrite=True,  # what a killed run began, and nobody can have read
            attributes={MARK: SCHEMA, "kind": "slide", "done": False},
        )
        for column, values in plan.columns.items():
            _create_column(group, column, values)
        _create_status(group, STATUS, len(plan), max(1, min(len(plan), COLUMN_CHUNK)))
        created = {} if place.group else {"created": _stamp(None)}
        group.update_attributes(attributes | created)
    return SlideInfo.read(attributes, str(place))


def _create_column(group: zarr.Group, name: str, values: NDArray[Any]) -> None:
    text = values.dtype.kind == "U"
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        chunks=(max(1, min(len(values), COLUMN_CHUNK)),),
        fill_value=np.nan if values.dtype.kind == "f" else None,
        compressors=_compressor(),
        dimension_names=(TILE_DIM,),
        attributes=_COLUMN_NOTES.get(name, {}),
    )
    if len(values):
        array[:] = values.astype(object) if text else values


def _create_encoder(place: SlidePlace, info: SlideInfo, record: EncoderRecord) -> None:
    chunks, shards = feature_chunks(info.unit_rows, record.dim)
    with writing(place):
        group = open_group(place, read_only=False)
        group.create_array(
            record.variable,
            shape=(info.tiles, record.dim),
            dtype="float32",
            chunks=chunks,
            shards=shards,
            fill_value=np.nan,
            compressors=_compressor(),
            dimension_names=(TILE_DIM, feature_dim(record.name)),
            attributes=record.attributes(),
            overwrite=True,  # made by a run that was killed before it could say so
        )
        _create_status(group, status_name(record.name), info.tiles, info.unit_rows)


def _create_status(group: zarr.Group, name: str, tiles: int, chunk: int) -> None:
    group.create_array(
        name,
        shape=(tiles,),
        dtype="uint8",
        chunks=(chunk,),
        fill_value=int(TileStatus.NOT_COMPUTED),
        compressors=_compressor(),
        dimension_names=(TILE_DIM,),
        attributes={
            "flag_values": [int(code) for code in TileStatus],
            "flag_meanings": " ".join(code.name.lower() for code in TileStatus),
        },
        overwrite=True,
    )


def _compressor() -> Any:
    """Return zstd with a checksum: features hardly shrink, but damage is found."""
    from zarr.codecs import ZstdCodec

    return [ZstdCodec(level=1, checksum=True)]


def _array_of(group: zarr.Group, name: str) -> Any:
    try:
        return group[name]
    except READ_ERRORS as error:
        raise StoreCorruptError(f"{group.store_path} lacks the array {name}: {error}") from error


def _put_attributes(place: SlidePlace, attributes: Mapping[str, Any]) -> None:
    with writing(place):
        open_group(place, read_only=False).update_attributes(dict(attributes))


def _check_same(place: SlidePlace, info: SlideInfo, plan: TilePlan, fingerprint: str) -> None:
    found = {"slide_fingerprint": info.fingerprint, "plan_id": info.plan_id, "tiles": info.tiles}
    wanted = {"slide_fingerprint": fingerprint, "plan_id": plan.plan_id, "tiles": len(plan)}
    if found != wanted:
        found |= {"spec": info.provenance.get("spec"), "rules": info.provenance.get("rules")}
        wanted |= {"spec": plan.provenance["spec"], "rules": plan.provenance["rules"]}
    _check(place, found, wanted)
    group = open_group(place)
    for name, values in plan.extras.items():
        if name not in group:
            raise StoreMismatchError(f"{place} was made without the column {name}", hint=_HINT)
        if not _equal(np.asarray(_array_of(group, name)[:]), values):
            raise StoreMismatchError(f"{place} has other values in column {name}", hint=_HINT)


def _equal(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    if wanted.dtype.kind == "U":
        return bool(found.tolist() == wanted.tolist())
    return bool(np.array_equal(found, wanted, equal_nan=wanted.dtype.kind == "f"))


def _check_encoder(place: SlidePlace, known: EncoderState, record: EncoderRecord) -> None:
    _check(
        place,
        {known.name: {"fingerprint": known.fingerprint, "dim": known.dim}},
        {record.name: {"fingerprint": record.fingerprint, "dim": record.dim}},
    )


def _check(place: SlidePlace, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    try:
        check_settings(found, wanted, name=str(place))
    except StoreMismatchError as error:
        raise StoreMismatchError(error.message, hint=_HINT) from None


def _stamp(now: dt.datetime | None) -> str:
    return (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC).isoformat(timespec="seconds")


def missing_units(info: SlideInfo, kept: set[int]) -> list[int]:
    """Return the numbers of the units that are not among those kept."""
    return [u for u in range(unit_count(info.tiles, info.unit_rows)) if u not in kept]


_HINT = "Use what it was made with, another store, or overwrite it."
_COLUMN_NOTES: dict[str, dict[str, Any]] = {
    "x": {"units": "px", "long_name": "left edge of the tile in level-0 px"},
    "y": {"units": "px", "long_name": "top edge of the tile in level-0 px"},
    "tissue_ratio": {"long_name": "fraction of the tile's area that is tissue"},
    "valid_fraction": {"long_name": "fraction of the tile's area that lies in the slide"},
}
