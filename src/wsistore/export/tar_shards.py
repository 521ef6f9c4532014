"""Patches in tar shards, as WebDataset reads them.

``<prefix>-<number>.tar`` holds, for each patch, an image and a JSON of the same key:
``<stem>_x<x>_y<y>.jpg`` and ``.json``. Dots in a stem are written ``%2E`` (and ``%`` as
``%25``), since a key ends at the first dot. The same patches give the same bytes: members
are in order and have no time, owner or place. ``<prefix>.shards.json`` is written last; it
names the shards with their counts, bytes and checksums.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from wsistore.durable import TEMP_SUFFIX, atomic_write, canonical, write_error
from wsistore.errors import UsageError
from wsistore.export.folders import made_folder
from wsistore.export.json_files import dump
from wsistore.export.patches import Patch, PatchEncoding, iter_patches
from wsistore.slides import Slide
from wsistore.tiles.plan import TilePlan

INDEX_SUFFIX = ".shards.json"
SHARD_PATCHES = 10_000
SHARD_BYTES = 1 << 30
EXTENSIONS: Mapping[str, str] = MappingProxyType({"jpeg": "jpg", "png": "png", "webp": "webp"})


def sample_key(patch: Patch) -> str:
    """Return the key of a patch: no two share it, and it has no dot."""
    stem = patch.slide.replace("%", "%25").replace(".", "%2E")
    return f"{stem}_x{patch.x}_y{patch.y}"


def write_shards(
    sources: Iterable[tuple[Slide, TilePlan]],
    folder: Path,
    *,
    prefix: str = "patches",
    encoding: PatchEncoding | None = None,
    shard_patches: int = SHARD_PATCHES,
    shard_bytes: int = SHARD_BYTES,
    label_map: Mapping[str, int] | None = None,
    **reading: Any,
) -> list[Path]:
    """Write the tiles of plans into tar shards; return their paths.

    Parameters
    ----------
    sources : iterable of (Slide, TilePlan)
        Slides and their plans; the column ``label`` of a plan is written as ``label``.
    folder : Path
        Made where missing.
    prefix : str
        Of the shards' names.
    encoding : PatchEncoding, optional
        JPEG by default; no plain arrays.
    shard_patches, shard_bytes : int
        Most patches and, but for a last patch, bytes of a shard.
    label_map : mapping of str to int, optional
        Names of the labels.
    **reading
        As in `wsistore.export.patches.iter_patches`.

    Raises
    ------
    UsageError
        If an argument makes no sense, or two slides have one name.
    StoreWriteError
        If the disk is full, or writing is not permitted; no torn shard is left.
    wsistore.errors.WsistoreError
        If a tile can't be read.
    """
    chosen = encoding or PatchEncoding()
    if chosen.name not in EXTENSIONS:
        raise UsageError(f"tar shards hold images, not {chosen.name!r}")
    if not prefix or "/" in prefix or "." in prefix:
        raise UsageError(f"shards can't be named {prefix!r}")
    if shard_patches < 1 or shard_bytes < 1:
        raise UsageError("a shard needs room for a patch")
    made_folder(folder)
    index = folder / f"{prefix}{INDEX_SUFFIX}"
    index.unlink(missing_ok=True)
    with _Shards(folder, prefix, shard_patches, shard_bytes) as shards:
        seen: dict[str, int] = {}
        for slide, plan in sources:
            if plan.slide.name in seen:
                raise UsageError(f"two slides are named {plan.slide.name}: their keys collide")
            seen[plan.slide.name] = len(plan)
            for patch in iter_patches(slide, plan, chosen, **reading):
                shards.add(patch)
        shards.end()
    told = {"slides": seen, "shards": shards.done, "label_map": dict(label_map or {})}
    atomic_write(index, dump({"format": "wsistore-shards", "version": 1, **told}, 1))
    _remove_others(folder, prefix, {entry["name"] for entry in shards.done})
    return [folder / entry["name"] for entry in shards.done]


def _remove_others(folder: Path, prefix: str, names: set[str]) -> None:
    """Remove shards that an earlier run of more patches has left."""
    for path in folder.glob(f"{prefix}-*.tar"):
        number = path.stem.removeprefix(f"{prefix}-")
        if number.isdigit() and path.name not in names:
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class _Shards:
    """Writes one shard after another, each under another name until it is whole."""

    folder: Path
    prefix: str
    most_patches: int
    most_bytes: int
    done: list[dict[str, Any]] = field(default_factory=list)
    _raw: Any = None
    _tar: tarfile.TarFile | None = None
    _temporary: Path | None = None
    _count: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._raw is not None:
            with suppress(OSError):
                self._raw.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def add(self, patch: Patch) -> None:
        """Put a patch into the shard, or the next where it is full."""
        try:
            if self._tar is None:
                self._begin()
            key = sample_key(patch)
            self._member(f"{key}.{EXTENSIONS[patch.codec]}", bytes(patch.data))
            self._member(f"{key}.json", canonical(_facts(patch)))
            self._count += 1
            if self._count == self.most_patches or self._raw.tell() >= self.most_bytes:
                self._finish()
        except OSError as error:
            raise write_error(error, self.folder) from error

    def end(self) -> None:
        """Finish the last shard."""
        try:
            if self._tar is not None:
                self._finish()
        except OSError as error:
            raise write_error(error, self.folder) from error

    def _begin(self) -> None:
        self._temporary = self.folder / f".{os.urandom(8).hex()}{TEMP_SUFFIX}"
        self._raw = self._temporary.open("xb")
        self._tar = tarfile.open(fileobj=self._raw, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._count = 0

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o644, 0
        if self._tar is not None:
            self._tar.addfile(info, io.BytesIO(data))

    def _finish(self) -> None:
        if self._tar is None or self._temporary is None:
            return
        self._tar.close()
        self._raw.close()
        name = f"{self.prefix}-{len(self.done):06d}.tar"
        with self._temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = self._temporary.stat().st_size
        self._temporary.rename(self.folder / name)
        self.done.append({"name": name, "patches": self._count, "bytes": size, "sha256": digest})
        self._tar = self._raw = self._temporary = None


def _facts(patch: Patch) -> dict[str, Any]:
    return {
        "slide": patch.slide,
        "index": patch.index,
        "x": patch.x,
        "y": patch.y,
        "column": patch.column,
        "row": patch.row,
        "label": patch.label,
        "width": patch.width,
        "height": patch.height,
    }
