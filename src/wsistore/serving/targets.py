"""What a request names: the path of its target, and the host that it believes to speak to."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Hosts that a request to a server on the loopback interface may name."""

_HOST = re.compile(r"([A-Za-z0-9._\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?", re.ASCII)


class BadTargetError(ValueError):
    """The target of a request is not one that can be here; it never leaves this room."""


class Target(NamedTuple):
    r"""A path in parts.

    Parameters
    ----------
    parts : tuple of str
        Decoded; none is empty, ``.`` or ``..``, or holds a ``/``, a ``\`` or a control
        character.
    is_folder : bool
        Whether it ended with ``/``.
    """

    parts: tuple[str, ...]
    is_folder: bool


def parse_target(text: str) -> Target:
    """Return the path that the target of a request names; its query is dropped.

    Each part is percent-decoded for itself, so that ``%2F`` and ``%2e%2e`` don't become
    path syntax (RFC 3986, 2.4).

    Raises
    ------
    BadTargetError
        If it is no absolute path, or a part of it could lead elsewhere.
    """
    path = text.partition("#")[0].partition("?")[0]
    if not path.startswith("/"):
        raise BadTargetError("the target of a request is a path that begins with /")
    # Clients that join an address ending with / and a key ask for "//zarr.json".
    parts = tuple(_part(part) for part in path.split("/") if part)
    return Target(parts, path.endswith("/"))


def _part(part: str) -> str:
    try:
        name = unquote_to_bytes(part).decode("utf-8")
    except UnicodeError as error:
        raise BadTargetError("a part of the path is not UTF-8") from error
    if name in (".", "..") or any(char in "/\\" or ord(char) < 32 for char in name):
        raise BadTargetError("a part of the path leads upwards or holds a separator")
    return name


def address_of(header: str) -> str | None:
    """Return the address of the server as a client reaches it, which its ``Host`` header tells.

    Through a tunnel, or by the machine's name in the network, that is not the address which
    the server listens on. None where the header is no host.
    """
    host = header.strip()
    return f"http://{host}/" if _HOST.fullmatch(host) else None


def is_loopback(host: str) -> bool:
    """Return whether an address to bind is one of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, which may resolve to anything
        return False


def host_is_ours(header: str, bound: str) -> bool:
    """Return whether a ``Host`` header names the loopback interface.

    A web page whose name was made to resolve to 127.0.0.1 (DNS rebinding) sends its own name,
    and is refused by this. The port may be any: tunnels change it.

    Parameters
    ----------
    header : str
        Value of the header, with or without a port.
    bound : str
        Loopback address that the server listens on.
    """
    name, colon, port = header.strip().lower().rpartition(":")
    if not colon or port.endswith("]"):  # no port, such as [::1]
        name = header.strip().lower()
    elif not port.isascii() or not port.isdigit():
        return False
    return name in LOOPBACK_NAMES or name == bound
