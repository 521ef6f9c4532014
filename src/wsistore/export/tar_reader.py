"""Reading the patches of tar shards that `wsistore.export.tar_shards` wrote, at random."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from wsistore.errors import SourceNotFoundError, StoreCorruptError, UsageError
from wsistore.export.foreign import read_bytes
from wsistore.export.patch_store import PatchStore, PatchTable
from wsistore.export.patches import Patch
from wsistore.export.tar_shards import EXTENSIONS, INDEX_SUFFIX

_CODECS = {extension: codec for codec, extension in EXTENSIONS.items()}
_COLUMNS = ("x", "y", "column", "row", "label")


@dataclass(slots=True)
class _Place:
    """Where the image of a sample lies."""

    shard: str
    offset: int
    size: int
    codec: str


class TarPatches(PatchStore):
    """Patches in tar shards, opened for random reading; may be pickled.

    The heads of all members are read once when it is opened.

    Parameters
    ----------
    path : path
        Folder of the shards.
    prefix : str, optional
        Of their names; needed where the folder holds several sets of shards.

    Raises
    ------
    SourceNotFoundError
        If there are none.
    UsageError
        If there are several sets, and none is named.
    StoreCorruptError
        If a shard is missing, cut, or has other samples than the index says.
    """

    def __init__(self, path: str | os.PathLike[str], prefix: str | None = None) -> None:
        self.path = Path(path)
        found = sorted(self.path.glob(f"{prefix or '*'}{INDEX_SUFFIX}"))
        if not found:
            raise SourceNotFoundError(f"there are no shards in {self.path}")
        if len(found) > 1:
            raise UsageError(
                f"{self.path} holds several sets of shards",
                hint=f"Name one: {', '.join(p.name.removesuffix(INDEX_SUFFIX) for p in found)}.",
            )
        self._prefix = found[0].name.removesuffix(INDEX_SUFFIX)
        try:
            told = json.loads(read_bytes(found[0]))
            counts = {str(name): int(count) for name, count in told["slides"].items()}
            shards, self.label_map = told["shards"], MappingProxyType(dict(told["label_map"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreCorruptError(f"{found[0]} is no index of shards: {error!r}") from error
        self._rows: dict[str, list[tuple[dict[str, Any], _Place]]] = {n: [] for n in counts}
        for entry in shards:
            self._scan(self.path / entry["name"])
        self._check(counts)
        self.slides = tuple(sorted(counts))
        self._files: dict[str, int] = {}
        self._tables: dict[str, PatchTable] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (TarPatches, (self.path, self._prefix))

    def table(self, slide: str) -> PatchTable:
        """Return which patches there are of a slide."""
        self.check_slide(slide)
        if slide not in self._tables:
            rows = [facts for facts, _ in self._rows[slide]]
            columns = [np.array([facts[name] for facts in rows], np.int64) for name in _COLUMNS]
            self._tables[slide] = PatchTable(*columns)
        return self._tables[slide]

    def patch(self, slide: str, index: int) -> Patch:
        """Return one patch of a slide, by its row in the plan.

        Raises
        ------
        UsageError
            If there is no such patch.
        StoreCorruptError
            If the shard was cut.
        """
        self.check_slide(slide)
        if not 0 <= index < len(self._rows[slide]):
            raise UsageError(f"{slide} has patches 0 to {len(self._rows[slide]) - 1}")
        facts, place = self._rows[slide][index]
        data = self._read(place)
        return Patch(codec=place.codec, data=data, **facts)

    def close(self) -> None:
        """Give back the files."""
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def _read(self, place: _Place) -> bytes:
        path = self.path / place.shard
        try:
            if place.shard not in self._files:
                self._files[place.shard] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._files[place.shard], place.size, place.offset)
        except OSError as error:
            raise StoreCorruptError(f"{path} can't be read: {error.strerror}") from error
        if len(data) != place.size:
            raise StoreCorruptError(f"{path} was cut: {len(data)} bytes of {place.size}")
        return data

    def _scan(self, path: Path) -> None:
        image: _Place | None = None
        strange: list[str] = []
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    extension = member.name.partition(".")[2]
                    if extension in _CODECS:
                        codec = _CODECS[extension]
                        image = _Place(path.name, member.offset_data, member.size, codec)
                    elif extension == "json" and image is not None:
                        held = tar.extractfile(member)
                        facts = json.loads(held.read() if held is not None else b"")
                        self._rows[facts["slide"]].append((facts, image))
                        image = None
                    else:
                        strange.append(member.name)
        except FileNotFoundError as error:
            raise StoreCorruptError(f"the shard {path} is missing") from error
        except (tarfile.TarError, ValueError, KeyError, TypeError, OSError) as error:
            raise StoreCorruptError(f"{path} is no shard of patches: {error!r}") from error
        if strange or image is not None:
            raise StoreCorruptError(f"{path} holds strange members: {strange[:3] or 'no JSON'}")

    def _check(self, counts: dict[str, int]) -> None:
        for slide, rows in self._rows.items():
            rows.sort(key=lambda row: int(row[0]["index"]))
            if [int(facts["index"]) for facts, _ in rows] != list(range(counts[slide])):
                raise StoreCorruptError(
                    f"the shards of {self.path} hold {len(rows)} patches of {slide}, "
                    f"the index says {counts[slide]}"
                )
