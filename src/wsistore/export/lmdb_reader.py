"""Reading the patches that `wsistore.export.lmdb_store` wrote."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.export.documents import plan_from_document
from wsistore.export.foreign import need
from wsistore.export.lmdb_environment import SharedEnvironment
from wsistore.export.lmdb_record import unpack
from wsistore.export.lmdb_store import FORMAT, PLAN_TAIL, VERSION, meta_path, record_key
from wsistore.export.patch_store import PatchStore, PatchTable
from wsistore.export.patches import Patch
from wsistore.tiles.plan import TilePlan

MAX_PLAN_BYTES = 4 << 30
"""Of the JSON of a plan: what 10 million tiles take, and no bomb."""


class LmdbPatches(PatchStore):
    """Patches in LMDB, opened for reading; may be pickled, and used after a fork.

    Parameters
    ----------
    path : path
        Folder of the environment; that of its descriptions is ``<path>_meta``.

    Raises
    ------
    SourceNotFoundError
        If there is none.
    UsageError
        If wsistore did not write it.
    DependencyError
        If lmdb is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        need("lmdb", "reading LMDB")
        self.path = Path(path)
        for place in (self.path, meta_path(self.path)):
            if not (place / "data.mdb").is_file():
                raise SourceNotFoundError(f"there is no LMDB {place}")
        self._records = SharedEnvironment(self.path)
        self._meta = SharedEnvironment(meta_path(self.path))
        self._told = self._descriptions()
        self.slides = tuple(sorted(self._told))
        merged: dict[str, int] = {}
        for told in self._told.values():
            merged |= told.get("label_map", {})
        self.label_map: Mapping[str, int] = MappingProxyType(merged)
        self._tables: dict[str, PatchTable] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (LmdbPatches, (self.path,))

    def table(self, slide: str) -> PatchTable:
        """Return which patches there are of a slide."""
        if slide not in self._tables:
            self._tables[slide] = PatchTable.of(self.plan(slide))
        return self._tables[slide]

    def plan(self, slide: str) -> TilePlan:
        """Return the plan that the patches of a slide were read by.

        Raises
        ------
        StoreCorruptError
            If it is not there, or broken.
        """
        self.check_slide(slide)
        where = f"the plan of {slide} in {meta_path(self.path)}"
        data = self._meta.get(slide.encode() + PLAN_TAIL)
        if data is None:
            raise StoreCorruptError(f"{where} is missing")
        try:
            unzip = zlib.decompressobj()
            text = unzip.decompress(data, MAX_PLAN_BYTES)
            document = json.loads(text)
        except (zlib.error, ValueError) as error:
            raise StoreCorruptError(f"{where} is broken: {error}") from error
        return plan_from_document(document, document.get("columns", {}), where)

    def patch(self, slide: str, index: int) -> Patch:
        """Return one patch of a slide, by its row in the plan.

        Raises
        ------
        UsageError
            If there is no such patch.
        StoreCorruptError
            If its record is missing or damaged.
        """
        self.check_slide(slide)
        if not 0 <= index < self._told[slide]["tiles"]:
            raise UsageError(f"{slide} has patches 0 to {self._told[slide]['tiles'] - 1}")
        column = row = -1
        keys = self._told[slide]["keys"]
        if keys == "grid":
            table = self.table(slide)
            column, row = int(table.column[index]), int(table.row[index])
        return self._get(record_key(slide, index, column, row, keys), slide)

    def by_key(self, key: str) -> Patch:
        """Return a patch by ``<slide>_x<x>_y<y>``, or by ``<slide>-<column>-<row>``.

        The latter is for stores with keys by grid.
        """
        parts = key.rsplit("-", 2)
        if len(parts) == 3 and self._told.get(parts[0], {}).get("keys") == "grid":
            return self._get(key.encode(), parts[0])
        return super().by_key(key)

    def keys(self) -> Iterator[bytes]:
        """Yield the keys of all records, in the order of LMDB."""
        return self._records.keys()

    def close(self) -> None:
        """Give back both environments."""
        self._records.close()
        self._meta.close()

    def _get(self, key: bytes, slide: str) -> Patch:
        record = self._records.get(key)
        where = f"patch {key!r} of {self.path}"
        if record is None:
            raise (UsageError if key.count(b"-") else StoreCorruptError)(f"there is no {where}")
        return unpack(record, slide, where)

    def _descriptions(self) -> dict[str, dict[str, Any]]:
        found = {}
        for key in self._meta.keys():  # noqa: SIM118 (no mapping)
            if b"\0" in key:
                continue
            where = f"{meta_path(self.path)}, {key!r}"
            try:
                told = json.loads(self._meta.get(key) or b"")
                known = told["format"] == FORMAT and {told["keys"]} <= {"index", "grid"}
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"{where} was not written by wsistore",
                    hint="Databases of py-wsi hold pickles: see wsistore.export.py_wsi.",
                ) from error
            if not known or told.get("version", 0) > VERSION:
                raise UsageError(f"{where} is of another format or version")
            found[key.decode()] = told
        return found
