"""Keys of objects below a root."""

from __future__ import annotations

from wsistore.errors import UsageError


def check_key(key: str) -> str:
    """Return a key that stays below its root, or raise.

    Symbolic links below a local root are followed: who may write there decides what is
    read, but the key of a store's metadata must not lead out.

    Raises
    ------
    UsageError
        If the key is empty, absolute, or has empty parts, ``.`` or ``..``.
    """
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise UsageError(
            f"{key!r} is not the key of an object",
            hint="A key is a relative path with / between its parts, without '.' and '..'.",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return a prefix to list, without the ``/`` it may end with; empty for the root.

    Raises
    ------
    UsageError
        As for `check_key`.
    """
    return check_key(prefix.removesuffix("/")) if prefix not in ("", "/") else ""
