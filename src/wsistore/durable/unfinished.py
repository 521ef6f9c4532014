"""Whether a store that is not there has been begun: what a killed run leaves beside its name."""

from __future__ import annotations

import os
from typing import Protocol

from wsistore.errors import StoreUnfinishedError

SETTINGS = "settings.json"
"""What is written first, and removed last, of all that belongs to the making of a store."""


class Gettable(Protocol):
    """Anything that has objects by their names, such as `wsistore.sources.Folder`."""

    name: str

    def get(self, key: str) -> bytes | None:
        """Return all bytes of an object, None where there is none."""


def partial_name(name: str) -> str:
    """Return the name beside a store of what belongs to its making."""
    return f".{name}.partial"


def unfinished_folder(final: str | os.PathLike[str]) -> StoreUnfinishedError | None:
    """Return the error for a folder that has been begun; None where nothing tells of one."""
    path = os.path.abspath(final)  # noqa: PTH100 (must not resolve links)
    folder, name = os.path.split(path)
    partial = os.path.join(folder, partial_name(name))  # noqa: PTH118
    if not name or not os.path.lexists(os.path.join(partial, SETTINGS)):  # noqa: PTH118
        return None
    return _unfinished(os.fspath(final), f"remove the folder {partial}")


def unfinished_objects(place: Gettable, name: str) -> StoreUnfinishedError | None:
    """Return the error for a store of objects that has been begun; None where none has.

    Parameters
    ----------
    place : Gettable
        Where the store would lie.
    name : str
        Its name there.

    Raises
    ------
    wsistore.errors.SourceError
        If that can't be found out.
    """
    partial = partial_name(name)
    if place.get(f"{partial}/{SETTINGS}") is None:
        return None
    root = place.name.rstrip("/")
    what = f"remove all objects below {root}/{name}/, then those below {root}/{partial}/"
    return _unfinished(f"{root}/{name}", what)


def _unfinished(shown: str, give_up: str) -> StoreUnfinishedError:
    return StoreUnfinishedError(
        f"{shown} is not finished: the run that writes it has not come to its end",
        hint=f"Run the same command again, it resumes; or, to give it up when no run is "
        f"writing it any more, {give_up}.",
    )
