"""One obstore store, its errors told as the project's, its requests counted.

obstore is imported with the first remote source. Its engine does not survive a fork (a
read in the child would wait forever), so a process that was forked after the first remote
read is refused; start workers by spawning where slides are remote.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from wsistore.errors import SourceError, UsageError, WsistoreError
from wsistore.sources.configuring import CACHE_OPTIONS
from wsistore.sources.names import redact
from wsistore.sources.object_errors import from_object_error, secrets_of, write_failure
from wsistore.sources.store_options import for_obstore

Result = TypeVar("Result")
_engine_pid: int | None = None


class RequestCounts(NamedTuple):
    """What a process has asked of remote storage.

    Parameters
    ----------
    requests : int
        Calls; one that is repeated after a failure counts once.
    bytes_read : int
        Bytes of ranges and objects that came.
    """

    requests: int
    bytes_read: int


class _Counter:
    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._bytes = 0

    def add(self, requests: int, size: int) -> None:
        with self._lock:
            self._requests += requests
            self._bytes += size

    def read(self) -> RequestCounts:
        with self._lock:
            return RequestCounts(self._requests, self._bytes)


COUNTER = _Counter()
os.register_at_fork(after_in_child=COUNTER.renew)


def request_counts() -> RequestCounts:
    """Return how many requests this process has made of remote storage, and bytes read."""
    return COUNTER.read()


class Bucket:
    """One obstore store, whose calls raise the project's errors; it pickles.

    Parameters
    ----------
    store : obstore store
        Where the objects are; keys are relative to its prefix.
    name : str
        URL of its root for messages, without credentials.
    secrets : tuple of str
        What must not appear in messages.
    """

    def __init__(self, store: Any, name: str, secrets: tuple[str, ...] = ()) -> None:
        self.store = store
        self.name = name.rstrip("/")
        self._secrets = secrets

    @classmethod
    def at(cls, url: str, options: Mapping[str, Any]) -> Bucket:
        """Return the store at a URL; options are those of `options_for`.

        Raises
        ------
        UsageError
            If there is no such scheme, or an option is unknown.
        """
        from obstore.store import from_url

        options = {key: value for key, value in options.items() if key not in CACHE_OPTIONS}
        if "store" in options:
            bucket = cls(options.pop("store"), redact(url))
            if options:
                raise UsageError(f"with store=... there are no other options, got {[*options]}")
            return bucket
        name = redact(url)
        reached, told = for_obstore(url, options)
        secrets = secrets_of(url, {**options, **told})
        try:
            return cls(from_url(reached, **told), name, secrets)
        except library_errors() as error:
            failure = from_object_error(error, name, secrets)
        raise UsageError(failure.message, hint="Check the address and the options.")

    def call(self, name: str, function: Callable[..., Result], *args: Any, **more: Any) -> Result:
        """Call a function of obstore on the store, to read.

        Raises
        ------
        SourceError
            The one that the error of obstore means.
        """
        return self._call(from_object_error, name, function, *args, **more)

    def write(self, name: str, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function of obstore on the store, to write.

        Raises
        ------
        StoreWriteError
            If that fails.
        """
        return self._call(write_failure, name, function, *args)

    def _call(
        self,
        tell: Callable[[Exception, str, tuple[str, ...]], WsistoreError],
        name: str,
        function: Callable[..., Result],
        *args: Any,
        **more: Any,
    ) -> Result:
        _check_process(name)
        COUNTER.add(1, 0)
        try:
            return function(self.store, *args, **more)
        except WsistoreError:  # of an iterable that gives the pieces of an object
            raise
        except library_errors() as error:
            told = tell(error, name, self._secrets)
        raise told  # outside of the handler: the original holds secrets

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"


def _check_process(name: str) -> None:
    global _engine_pid  # noqa: PLW0603 (the engine is one per process, too)
    pid = os.getpid()
    if _engine_pid is None:
        _engine_pid = pid
    elif _engine_pid != pid:
        raise SourceError(
            f"{name} can't be read in a process that was forked after remote reading began",
            hint="Start workers with the method 'spawn' or 'forkserver'.",
        )


def library_errors() -> tuple[type[Exception], ...]:
    """Return what obstore raises."""
    from obstore.exceptions import BaseError

    # A store that can't do something at all says so in Python's own words.
    return BaseError, OSError, ValueError, NotImplementedError
