"""Folders that exporters write to."""

from __future__ import annotations

from pathlib import Path

from wsistore.durable import write_error


def made_folder(folder: Path) -> Path:
    """Return the folder, made with those above it where missing.

    Raises
    ------
    StoreWriteError
        If it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder) from error
    return folder
