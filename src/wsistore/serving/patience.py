"""How long a connection is waited for."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class PatientReader(io.RawIOBase):
    """Reads requests off a connection: long idle is borne, a header that drips is not.

    Parameters
    ----------
    connection : socket
        Blocking.
    idle_s : float
        Seconds to wait for a request, and for each piece that is sent.
    header_s : float
        Seconds from the first byte of a header to its last.
    """

    def __init__(self, connection: socket.socket, idle_s: float, header_s: float) -> None:
        self._connection = connection
        self._idle_s, self._header_s = idle_s, header_s
        self._until: float | None = None

    def rest(self) -> None:
        """Expect the next request."""
        self._until = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is there.

        Raises
        ------
        TimeoutError
            If nothing came in time, or the header takes too long.
        """
        left = self._idle_s if self._until is None else self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the header of a request took too long")
        self._connection.settimeout(left)
        try:
            count = self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._idle_s)
        if self._until is None:
            self._until = time.monotonic() + self._header_s
        return count
