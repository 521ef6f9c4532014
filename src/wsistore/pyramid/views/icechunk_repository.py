"""References as a repository of icechunk, each with a guard against change.

https://icechunk.io. Icechunk compares the ETag of an object, or the time of change of a
local file, with what was noted, and refuses to read where they differ. What it keeps are
absolute URLs, and how the storage is reached (region, endpoint); no credentials.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from wsistore.errors import DependencyError, StoreWriteError, UsageError
from wsistore.pyramid.views.references import LevelReferences, References
from wsistore.sources import is_url

_CHUNKS_AT_ONCE = 100_000


def write_repository(references: References, place: str, destination: str) -> None:
    """Write references as the first commit of a new repository.

    Parameters
    ----------
    references : References
        What it holds.
    place : str
        Absolute path, or ``s3://`` URL, of the slide.
    destination : str
        Local folder, which must be absent or empty.

    Raises
    ------
    DependencyError
        If icechunk is not installed.
    StoreWriteError
        If it can't be written.
    UsageError
        If the slide is at a URL of another kind.
    """
    icechunk = _library()
    location, prefix, container = _container(icechunk, place)
    guard = _guard(place, references.identity)
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, container))
    try:
        storage = icechunk.local_filesystem_storage(destination)
        session = icechunk.Repository.create(storage, config).writable_session("main")
        asyncio.run(_write_documents(session.store, references))
        for level in references.levels:
            for chunks in _specs(icechunk, level, location, guard):
                session.store.set_virtual_refs(f"/{level.path}", chunks, validate_containers=True)
        session.commit("References to the tiles of a slide")
    except (icechunk.IcechunkError, OSError, ValueError) as error:
        raise StoreWriteError(f"icechunk could not write {destination}: {error}") from error


def _library() -> Any:
    try:
        import icechunk
    except ImportError as error:
        raise DependencyError(
            "references in icechunk's form need icechunk", hint="pip install 'wsistore[icechunk]'."
        ) from error
    return icechunk


def _container(icechunk: Any, place: str) -> tuple[str, str, Any]:
    """Return the slide's URL, that of its folder, and how the storage is reached."""
    if not is_url(place):
        folder, name = os.path.split(place)
        prefix = f"file://{quote(folder)}/"
        return prefix + quote(name), prefix, icechunk.local_filesystem_store(folder)
    parts = urlsplit(place)
    if parts.scheme != "s3":
        raise UsageError(
            f"references in icechunk's form lead to local files and s3://, not {parts.scheme}://",
            hint="Use --format kerchunk-json.",
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    store = icechunk.s3_store(
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        s3_compatible=endpoint is not None,
        force_path_style=endpoint is not None,
    )
    return place, place.rpartition("/")[0] + "/", store


def _guard(place: str, identity: str) -> dict[str, Any]:
    """Return what icechunk compares before it reads."""
    if not is_url(place):
        # Icechunk compares whole seconds, and refuses what is later.
        seconds = int(Path(place).stat().st_mtime) + 1
        return {"last_updated_at_checksum": datetime.fromtimestamp(seconds, UTC)}
    etag = identity.partition(" ")[2]
    if not etag.startswith('"'):  # none, or a weak one, which equals nothing
        raise StoreWriteError(
            f"{place} has no ETag, so nothing would tell that it changed",
            hint="Use --format kerchunk-json.",
        )
    return {"etag_checksum": etag}


async def _write_documents(store: Any, references: References) -> None:
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    for key, data in sorted(references.documents.items()):
        await store.set(key, buffer.from_bytes(data))


def _specs(
    icechunk: Any, level: LevelReferences, location: str, guard: Mapping[str, Any]
) -> Iterator[list[Any]]:
    """Yield the references of a level, as icechunk takes them, some at a time."""
    tiles = level.items()
    while some := list(islice(tiles, _CHUNKS_AT_ONCE)):
        yield [
            icechunk.VirtualChunkSpec([0, row, column], location, offset, count, **guard)
            for row, column, offset, count in some
        ]
