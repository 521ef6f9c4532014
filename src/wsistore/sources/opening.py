"""The doors of the room: what opens a path or URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from wsistore.errors import UsageError
from wsistore.sources.configuring import CACHE_OPTIONS
from wsistore.sources.folder import LocalFolder
from wsistore.sources.local import LocalSource
from wsistore.sources.model import Folder, ObjectPlace, Source
from wsistore.sources.names import is_url


def open_source(path_or_url: str | os.PathLike[str], **options: Any) -> Source:
    """Open a file or object for ranged reading.

    Parameters
    ----------
    path_or_url : str or os.PathLike
        A local path or ``file://`` URL, or an object's ``s3://``, ``gs://``, ``az://`` or
        ``http(s)://`` URL. The query of an HTTP URL (a signature) is sent along and never
        shown; so are a user and password.
    **options
        For objects: ``endpoint=``, ``region=``, ``anonymous=True``, ``profile=`` (of
        ``~/.aws``), ``retries=``, ``deadline_s=``, ``timeout_s=`` and all those of
        ``obstore.store.from_url``; they win over those of `configure_storage` and of the
        configuration file. ``index_cache=`` is a folder in which headers and tile tables
        are kept, so that a later opening costs one request, and ``index_cache_bytes=`` how
        many bytes may be in it (1 GiB by default): what was used longest ago is removed.
        Or ``store=``, an obstore store whose keys are then relative to the folder of the
        URL.

    Raises
    ------
    wsistore.errors.SourceError
        If it can't be had; not found and not permitted have their own classes.
    wsistore.errors.UsageError
        If the scheme or an option is unknown.
    """
    if is_url(path_or_url):
        from wsistore.sources.objects import open_object

        return open_object(os.fspath(path_or_url), options)
    _refuse(options)
    return LocalSource(path_or_url)


def open_folder(path_or_url: str | os.PathLike[str], **options: Any) -> Folder:
    """Open a tree of files or objects for reading; parameters as for `open_source`.

    An object store has no folders, so whether there is anything below a URL shows only
    when it is read.

    Raises
    ------
    wsistore.errors.SourceError
        If a local path is no folder, or can't be looked into.
    wsistore.errors.UsageError
        If the scheme or an option is unknown.
    """
    if is_url(path_or_url):
        from wsistore.sources.object_folder import open_objects

        return open_objects(os.fspath(path_or_url), options)
    _refuse(options)
    return LocalFolder(path_or_url)


def open_place(url: str | os.PathLike[str], **options: Any) -> ObjectPlace:
    """Open a tree of objects for reading and writing; parameters as for `open_source`.

    Raises
    ------
    wsistore.errors.UsageError
        If it is a local path, or the scheme or an option is unknown.
    """
    if not is_url(url):
        raise UsageError(f"{os.fspath(url)} is a local path, not the URL of objects")
    from wsistore.sources.object_folder import open_objects

    return open_objects(os.fspath(url), options)


def _refuse(options: Mapping[str, Any]) -> None:
    told = sorted(options.keys() - CACHE_OPTIONS)  # of no use there, and no harm
    if told:
        raise UsageError(f"local files take no options, got {', '.join(told)}")
