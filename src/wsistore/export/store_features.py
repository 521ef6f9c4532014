"""From a feature store to the features of a slide that exporters take, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsistore.errors import StoreCorruptError, StoreExistsError, UsageError, WsistoreError
from wsistore.export.slide_features import Rows, SlideFeatures
from wsistore.features import EncoderRecord, FeatureCohort, TileStatus
from wsistore.features.documents import read_info
from wsistore.features.places import READ_ERRORS, SlidePlace, absolute, open_group
from wsistore.features.progress import begin_work
from wsistore.features.reading import StoreLike
from wsistore.features.schema import node_name, unit_count
from wsistore.features.writing import (
    UnitWriter,
    discard_slide,
    finish_slide,
    prepare_cohort,
    prepare_slide,
)

UNIT_TILES = 1024
IMPORTED = "imported"


class StoredRows:
    """A table of features in a store: read a run of rows at a time.

    Parameters
    ----------
    array : zarr.Array
        (n, d) float32.
    where : str
        For messages.
    """

    def __init__(self, array: Any, where: str) -> None:
        self.shape: tuple[int, ...] = tuple(array.shape)
        self._array = array
        self._where = where

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        try:
            return np.asarray(self._array[rows], np.float32)
        except WsistoreError:
            raise
        except READ_ERRORS as error:
            raise StoreCorruptError(f"features of {self._where} can't be read: {error}") from error


def stored_features(
    cohort: FeatureCohort, slide: str, encoders: Sequence[str] | None = None
) -> SlideFeatures:
    """Return the features of a slide, read when they are asked for.

    Parameters
    ----------
    cohort : FeatureCohort
        Open.
    slide : str
        Name of the slide.
    encoders : sequence of str, optional
        Which features; all that are finished where not said.

    Raises
    ------
    wsistore.errors.SourceNotFoundError
        If there are none of that slide.
    UsageError
        If an encoder is not finished, or not there.
    """
    place = cohort.place(slide)
    info = cohort.infos[slide]
    names = list(info.finished) if encoders is None else list(encoders)
    lacking = [name for name in names if name not in info.finished]
    if lacking:
        raise UsageError(
            f"{slide} has no finished features of {', '.join(lacking)}",
            hint=f"It has {', '.join(info.finished) or 'none'}.",
        )
    group: Any = open_group(place)
    tables: dict[str, Rows] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name in names:
        array = group[node_name(name)]
        tables[name] = StoredRows(array, f"{slide} by {name}")
        facts[name] = _facts(dict(array.attrs))
    return SlideFeatures(cohort.plan(slide), tables, facts)


def _facts(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what other files keep of an encoder: name, fingerprint, precision, description."""
    kept = {key: attributes.get(key, "") for key in ("encoder", "fingerprint", "precision")}
    kept["description"] = json.dumps(attributes.get("description", {}), sort_keys=True)
    return kept


def import_features(
    data: SlideFeatures,
    store: StoreLike,
    *,
    name: str | None = None,
    overwrite: bool = False,
    unit_tiles: int = UNIT_TILES,
) -> SlidePlace:
    """Put features of another file into the store of a cohort.

    Tiles with NaN or infinite values count as failed.

    Parameters
    ----------
    data : SlideFeatures
        What was read.
    store : path
        Of the cohort; made where missing.
    name : str, optional
        Under which the slide is kept; that of the plan where not said.
    overwrite : bool
        Whether features of the slide that are there, by all encoders, are thrown away.
    unit_tiles : int
        Tiles that are written at once.

    Returns
    -------
    SlidePlace
        Where they are.

    Raises
    ------
    StoreExistsError
        If there are finished features of that slide by one of these encoders.
    wsistore.errors.StoreMismatchError
        If the slide is there with another plan.
    UsageError
        If there are no features.
    """
    if not data.features:
        raise UsageError(f"there are no features of {data.name} to import")
    prepare_cohort(absolute(store))
    slide = name or data.name
    place = SlidePlace.in_cohort(store, slide)
    with begin_work(place) as progress:
        if overwrite:
            progress.forget()
            discard_slide(place)
        records = [_record(data, encoder) for encoder in data.features]
        info = prepare_slide(
            place,
            data.plan,
            records,
            name=slide,
            fingerprint=data.plan.slide.fingerprint,
            unit_tiles=unit_tiles,
        )
        taken = [r.name for r in records if info.encoders[r.name].done]
        if taken:
            raise StoreExistsError(
                f"{place} has features of {', '.join(taken)}", hint="Have it overwritten."
            )
        _write(UnitWriter(place, info), data)
        finish_slide(place, list(data.features))
        progress.forget()
    return place


def _record(data: SlideFeatures, encoder: str) -> EncoderRecord:
    facts = data.attributes.get(encoder, {})
    told = str(facts.get("fingerprint") or f"{IMPORTED}:{encoder}")
    described: dict[str, Any] = {IMPORTED: True}
    try:
        described |= json.loads(str(facts.get("description") or "{}"))
    except ValueError:
        described["description"] = str(facts["description"])
    return EncoderRecord(encoder, data.features[encoder].shape[1], told, described)


def _write(writer: UnitWriter, data: SlideFeatures) -> None:
    info = read_info(writer.place)
    for unit in range(unit_count(info.tiles, info.unit_rows)):
        rows = writer.rows(unit)
        for name, table in data.features.items():
            values = np.ascontiguousarray(table[rows], np.float32)
            bad = ~np.isfinite(values).all(axis=1)
            codes = np.where(bad, int(TileStatus.NOT_FINITE), int(TileStatus.OK))
            writer.write(name, unit, values, codes.astype(np.uint8))
