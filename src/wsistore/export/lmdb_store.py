"""Patches in LMDB: records in one environment, what there is of each slide in another.

==============  ==============================  ===========================================
folder          key                             value
==============  ==============================  ===========================================
``<name>``      by index: ``<stem>``, a zero    `wsistore.export.lmdb_record`
                byte, row of the plan (4
                bytes, big-endian)
..              by grid: ``<stem>-<col>-<row>``
``<name>_meta`` ``<stem>``                      JSON: format, keys, tiles, columns, rows ...
``<name>_meta`` ``<stem>``, a zero byte,        the plan as JSON with its columns, zlib
                ``plan``
==============  ==============================  ===========================================

A slide counts as stored when it is in ``<name>_meta``, which is written last, in one
transaction. No value is a pickle.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np

from wsistore.durable import FileLock, canonical
from wsistore.errors import (
    StoreCorruptError,
    StoreExistsError,
    StoreLockedError,
    StoreWriteError,
    UsageError,
)
from wsistore.export.documents import as_json, plan_document
from wsistore.export.folders import made_folder
from wsistore.export.foreign import need
from wsistore.export.json_files import dump
from wsistore.export.lmdb_record import pack
from wsistore.export.patches import Patch, PatchEncoding, iter_patches
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

FORMAT = "wsistore-patches"
VERSION = 1
META_SUFFIX = "_meta"
PLAN_TAIL = b"\0plan"
Keys = Literal["index", "grid"]

FIRST_MAP_BYTES = 64 << 20
"""Room that an environment begins with; it doubles when it is full. No disk is taken for it."""
TRANSACTION_BYTES = 16 << 20
"""Records put in one transaction, and held in memory until it is done."""
MAX_KEY_BYTES = 511
"""What LMDB takes as a key."""


def meta_path(path: Path) -> Path:
    """Return the folder of the environment that tells what there is."""
    return path.with_name(path.name + META_SUFFIX)


def record_key(slide: str, index: int, column: int, row: int, keys: Keys) -> bytes:
    """Return the key of a patch.

    Raises
    ------
    UsageError
        If LMDB does not take it, or there is no place in a lattice.
    """
    stem = slide.encode()
    if keys == "index":
        found = stem + b"\0" + struct.pack(">I", index)
    else:
        if column < 0 or row < 0:
            raise UsageError(
                f"tile {index} of {slide} has no place in a lattice: column {column}, row {row}",
                hint='Use keys="index", or plan with wsistore.',
            )
        found = stem + f"-{column}-{row}".encode()
    if len(found) > MAX_KEY_BYTES:
        raise UsageError(f"the name of {slide[:40]}... makes keys of {len(found)} bytes")
    return found


def stem_of(key: bytes, keys: Keys) -> bytes:
    """Return the slide's name that a key begins with: ``a-1`` and ``a`` don't mix."""
    return key[:-5] if keys == "index" else key.rsplit(b"-", 2)[0]


class LmdbWriter:
    """Writes patches to LMDB; use it in a ``with`` statement.

    It grows by itself, survives ``kill -9``, and one writer at a time holds it.

    Parameters
    ----------
    path : Path
        Folder of the environment; made where missing, added to where it is there.
    keys : {"index", "grid"}
        ``"grid"``: ``<stem>-<column>-<row>``, as py-wsi has them.
    overwrite : bool
        Whether slides that are there are replaced.
    first_map_bytes : int
        Room to begin with.

    Raises
    ------
    UsageError
        If there is no such kind of keys, or the store has the other.
    StoreLockedError
        If another run is writing it.
    DependencyError
        If lmdb is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        keys: Keys = "index",
        overwrite: bool = False,
        first_map_bytes: int = FIRST_MAP_BYTES,
    ) -> None:
        if keys not in get_args(Keys):
            raise UsageError(f"keys are 'index' or 'grid', got {keys!r}")
        self.path, self.keys, self.overwrite = path, keys, overwrite
        self._lmdb = need("lmdb", "writing LMDB")
        made_folder(path)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), str(path))
        self._lock.acquire()
        self._environments: list[_Growing] = []
        try:
            for place in (path, meta_path(path)):
                self._environments.append(_Growing(self._lmdb, place, first_map_bytes))
            self._records, self._meta = self._environments
            self._check_keys()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both environments, and free the lock."""
        for environment in self._environments:
            environment.close()
        self._lock.release()

    def slides(self) -> tuple[str, ...]:
        """Return the slides that are wholly stored."""
        return tuple(key.decode() for key in self._meta.keys() if b"\0" not in key)  # noqa: SIM118

    def add(
        self,
        plan: TilePlan,
        patches: Iterable[Patch],
        *,
        label_map: Mapping[str, int] | None = None,
    ) -> int:
        """Store the patches of a slide; return how many.

        Parameters
        ----------
        plan : TilePlan
            Of the slide.
        patches : iterable of Patch
            One for each tile, in order; taken a few at a time.
        label_map : mapping of str to int, optional
            Names of the labels.

        Raises
        ------
        StoreExistsError
            If the slide is there and is not to be overwritten.
        UsageError
            If keys would collide, or there are not as many patches as tiles.
        StoreWriteError
            If the disk is full, or writing is not permitted.
        """
        name = plan.slide.name
        if name in self.slides() and not self.overwrite:
            raise StoreExistsError(
                f"{self.path} holds {name} already", hint="Have it overwritten, or rename a slide."
            )
        self._check_places(plan)
        self._remove(name)
        count = 0
        for batch in _batches(self._record(patch, name) for patch in patches):
            self._records.put(batch)
            count += len(batch)
        if count != len(plan):
            raise UsageError(f"{count} patches came for the {len(plan)} tiles of {name}")
        self._meta.put(self._description(plan, dict(label_map or {})))
        return count

    def _record(self, patch: Patch, name: str) -> tuple[bytes, bytes]:
        if patch.slide != name:
            raise UsageError(f"a patch of {patch.slide} came among those of {name}")
        key = record_key(name, patch.index, patch.column, patch.row, self.keys)
        return key, pack(patch)

    def _check_keys(self) -> None:
        import json

        for key, value in self._meta.items():
            if b"\0" in key:
                continue
            try:
                found = json.loads(value).get("keys")
            except (ValueError, AttributeError) as error:
                raise UsageError(
                    f"{meta_path(self.path)} was not written by wsistore",
                    hint="Write to another folder.",
                ) from error
            if found != self.keys:
                raise UsageError(
                    f"{self.path} has keys by {found}, not by {self.keys}",
                    hint=f'Use keys="{found}", or write to another folder.',
                )
            return

    def _check_places(self, plan: TilePlan) -> None:
        if self.keys != "grid":
            return
        cells = np.stack([plan.column, plan.row], axis=1)
        if len(cells) and len(np.unique(cells, axis=0)) != len(cells):
            raise UsageError(
                f"several tiles of {plan.slide.name} have one column and row",
                hint='Use keys="index": lattices of origin="region" are one for each contour.',
            )

    def _remove(self, name: str) -> None:
        """Remove a slide, or what a killed run has left of it; first the claim that it is there."""
        stem = name.encode()
        self._meta.delete([stem, stem + PLAN_TAIL])
        prefix = stem + (b"\0" if self.keys == "index" else b"-")
        own = (k for k in self._records.keys(prefix) if stem_of(k, self.keys) == stem)
        self._records.delete(list(own))

    def _description(self, plan: TilePlan, label_map: dict[str, int]) -> list[tuple[bytes, bytes]]:
        columns = {name: as_json(values) for name, values in plan.columns.items()}
        document = {**plan_document(plan), "columns": columns}
        told = {
            "format": FORMAT,
            "version": VERSION,
            "keys": self.keys,
            "tiles": len(plan),
            "columns": int(plan.column.max(initial=-1)) + 1,
            "rows": int(plan.row.max(initial=-1)) + 1,
            "plan_id": plan.plan_id,
            "label_map": label_map,
        }
        stem = plan.slide.name.encode()
        return [(stem, canonical(told)), (stem + PLAN_TAIL, zlib.compress(dump(document)))]


def write_lmdb(
    sources: Iterable[tuple[Slide, TilePlan]],
    path: Path,
    *,
    encoding: PatchEncoding | None = None,
    keys: Keys = "index",
    overwrite: bool = False,
    label_map: Mapping[str, int] | None = None,
    **reading: Any,
) -> int:
    """Store the tiles of plans in LMDB; return how many.

    Parameters
    ----------
    sources : iterable of (Slide, TilePlan)
        Slides and their plans; the column ``label`` of a plan is stored too.
    path : Path
        Folder of the environment.
    encoding : PatchEncoding, optional
        JPEG by default.
    keys, overwrite
        As in `LmdbWriter`.
    label_map : mapping of str to int, optional
        Names of the labels.
    **reading
        As in `wsistore.export.patches.iter_patches`.

    Raises
    ------
    wsistore.errors.WsistoreError
        As `LmdbWriter.add` and `iter_patches`.
    """
    with LmdbWriter(path, keys=keys, overwrite=overwrite) as writer:
        return sum(
            writer.add(plan, iter_patches(slide, plan, encoding, **reading), label_map=label_map)
            for slide, plan in sources
        )


def _batches(records: Iterator[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record[1])
        if size >= TRANSACTION_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Growing:
    """An environment that doubles its room when it is full."""

    def __init__(self, lmdb: Any, path: Path, map_bytes: int) -> None:
        self._lmdb = lmdb
        self._path = path
        there = path / "data.mdb"
        size = there.stat().st_size if there.exists() else 0
        with self._errors():
            # Without a write map: it would make holes in the file, and hide a full disk.
            self._env = lmdb.open(str(path), map_size=max(map_bytes, 2 * size), max_spare_txns=1)

    def put(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        def work(transaction: Any) -> None:
            for key, value in records:
                transaction.put(key, value)

        self._do(work)

    def delete(self, keys: Sequence[bytes]) -> None:
        def work(transaction: Any) -> None:
            for key in keys:
                transaction.delete(key)

        if keys:
            self._do(work)

    def keys(self, prefix: bytes = b"") -> Iterator[bytes]:
        with self._errors(), self._env.begin(buffers=False) as transaction:
            cursor = transaction.cursor()
            found = cursor.set_range(prefix) if prefix else cursor.first()
            while found and cursor.key().startswith(prefix):
                yield cursor.key()
                found = cursor.next()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        with self._errors(), self._env.begin(buffers=False) as transaction:
            yield from transaction.cursor()

    def close(self) -> None:
        self._env.close()

    def _do(self, work: Callable[[Any], None]) -> None:
        """Do the whole of a transaction, anew in twice the room where it does not fit."""
        while True:
            try:
                with self._errors(), self._env.begin(write=True) as transaction:
                    work(transaction)
            except self._lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])
            else:
                return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        lmdb = self._lmdb
        try:
            yield
        except lmdb.MapFullError:
            raise
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise StoreCorruptError(f"{self._path} is no whole LMDB: {error}") from error
        except lmdb.Error as error:
            if "already open" in str(error):
                raise StoreLockedError(
                    f"{self._path} is open in this process", hint="Close it first."
                ) from error
            raise StoreWriteError(f"LMDB {self._path} can't be written: {error}") from error
