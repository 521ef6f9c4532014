"""What a server can do wrong, as values: each turns a right answer into what is sent.

They are put into the script of a `wsistore.testing.server.FaultServer`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol


class Request(NamedTuple):
    """One request as it came.

    Parameters
    ----------
    number : int
        Of the request since the server was reset, from 0.
    method, path : str
        As sent; the path with its query.
    range : str
        Value of the header, such as ``bytes=0-99``; empty where there is none.
    headers : dict
        All headers, by their names in lower case.
    """

    number: int
    method: str
    path: str
    range: str
    headers: dict[str, str]


class Content(Protocol):
    """The whole of what a part was asked of."""

    size: int

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop`."""


class Ending(enum.Enum):
    """What happens to the connection after the answer, or where it breaks off."""

    KEPT = "kept"
    CLOSED = "closed"
    RESET = "reset"
    STALLED = "stalled"


@dataclass(frozen=True)
class Answer:
    """One answer: the right one, or what a fault made of it.

    Parameters
    ----------
    status : int
        Of HTTP.
    headers : dict
        All but Content-Length, which follows from `length`.
    content : Content, optional
        What the body is cut from; needed where it is no `body`.
    start, stop : int
        First byte of the content that is sent, and the first one beyond.
    body : bytes, optional
        The body itself, where it is not a part of the content.
    length : int or None
        Content-Length; None sends none, so that the end of the connection ends the body.
    sent : int, optional
        Bytes of the body after which `ending` happens; all of them by default.
    ending : Ending
        What becomes of the connection.
    delay_s : float
        Seconds before the first byte, beside the latency of the server.
    """

    status: int
    headers: dict[str, str]
    content: Content | None = None
    start: int = 0
    stop: int = 0
    body: bytes | None = None
    length: int | None = 0
    sent: int | None = None
    ending: Ending = Ending.KEPT
    delay_s: float = 0.0

    @property
    def count(self) -> int:
        """Bytes of the whole body."""
        return self.stop - self.start if self.body is None else len(self.body)

    def read_body(self) -> bytes:
        """Return the whole body."""
        if self.body is not None:
            return self.body
        return b"" if self.content is None else self.content.read(self.start, self.stop)


class Fault(Protocol):
    """Anything that changes an answer."""

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""


@dataclass(frozen=True)
class Status:
    """Another status with an empty body, such as 503; a proxy asks nobody for it."""

    code: int
    retry_after: int | None = None

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return Answer(self.code, headers, delay_s=answer.delay_s)


@dataclass(frozen=True)
class Redirect:
    """Sent elsewhere (307), where the same is to be asked."""

    url: str

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return Answer(307, {"Location": self.url}, delay_s=answer.delay_s)


@dataclass(frozen=True)
class Cut:
    """The connection is closed within the body; after half of it by default."""

    after_bytes: int | None = None

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, sent=_part(answer, self.after_bytes), ending=Ending.CLOSED)


@dataclass(frozen=True)
class Stall:
    """The body stops and the connection stays; after half of it by default."""

    after_bytes: int | None = None

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, sent=_part(answer, self.after_bytes), ending=Ending.STALLED)


@dataclass(frozen=True)
class Reset:
    """The connection is reset (TCP RST); before anything of the answer by default."""

    after_bytes: int | None = -1

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, sent=_part(answer, self.after_bytes), ending=Ending.RESET)


@dataclass(frozen=True)
class ResetUpload:
    """The connection is reset when so many bytes of an upload came; a proxy passes none on."""

    after_bytes: int = 1

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, sent=-1, ending=Ending.RESET)


@dataclass(frozen=True)
class SlowStart:
    """The answer is right, and late by so many seconds."""

    seconds: float

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, delay_s=answer.delay_s + self.seconds)


@dataclass(frozen=True)
class IgnoreRange:
    """Status 200 and the whole file, as a server without ranges answers."""

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        if answer.content is None:
            return answer
        size = answer.content.size
        headers = {k: v for k, v in answer.headers.items() if k != "Content-Range"}
        return replace(answer, status=200, headers=headers, start=0, stop=size, length=size)


@dataclass(frozen=True)
class WrongRange:
    """A range moved by so many bytes; its Content-Range tells so, or lies.

    Parameters
    ----------
    shift : int
        Bytes that it is moved by, towards the beginning where there is no room behind.
    lying : bool
        Whether Content-Range tells what was asked for. Nothing of HTTP shows that then.
    """

    shift: int = 1
    lying: bool = False

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        if answer.content is None or answer.status != 206:
            return answer
        size = answer.content.size
        shift = self.shift if answer.stop + self.shift <= size else -self.shift
        start, stop = max(0, answer.start + shift), answer.stop + shift
        headers = dict(answer.headers)
        if not self.lying:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return replace(answer, headers=headers, start=start, stop=stop, length=max(0, stop - start))


@dataclass(frozen=True)
class ShortBody:
    """Fewer bytes than asked for, with a Content-Length that agrees with them."""

    missing: int = 1

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        body = answer.read_body()[: max(0, answer.count - self.missing)]
        return replace(answer, body=body, length=len(body))


@dataclass(frozen=True)
class Garbage:
    """As many bytes as asked for, each with all its bits turned."""

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, body=answer.read_body().translate(_TURNED))


@dataclass(frozen=True)
class NoLength:
    """No Content-Length; the body ends with the connection, after so many bytes if said."""

    after_bytes: int | None = None

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        sent = None if self.after_bytes is None else min(self.after_bytes, answer.count)
        return replace(answer, length=None, sent=sent, ending=Ending.CLOSED)


@dataclass(frozen=True)
class WrongSize:
    """Content-Range tells a file that is larger by so many bytes."""

    more: int = 1

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        told = answer.headers.get("Content-Range", "")
        places, slash, size = told.partition("/")
        if not slash:
            return answer
        headers = {**answer.headers, "Content-Range": f"{places}/{int(size) + self.more}"}
        return replace(answer, headers=headers)


@dataclass(frozen=True)
class ChangedETag:
    """The ETag of another state of the object, from a server that looks at no If-Match."""

    etag: str = '"another"'

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, headers={**answer.headers, "ETag": self.etag})


@dataclass(frozen=True)
class NoETag:
    """The answer is right, but tells no ETag."""

    def change(self, answer: Answer) -> Answer:
        """Return what is sent in place of an answer."""
        return replace(answer, headers={k: v for k, v in answer.headers.items() if k != "ETag"})


Chooser = Callable[[Request], Fault | None]


@dataclass
class Script:
    """Which fault strikes which request.

    Parameters
    ----------
    faults : iterable of Fault or None, or callable
        One for each request that `where` admits, until there are no more
        (``itertools.repeat`` never ends); None lets it pass. Or a function of the request.
    where : callable
        Whether a request takes part; all do by default.
    """

    faults: Iterable[Fault | None] | Chooser = ()
    where: Callable[[Request], bool] = lambda _: True
    _rest: Iterator[Fault | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rest = iter(()) if callable(self.faults) else iter(self.faults)

    def choose(self, request: Request) -> Fault | None:
        """Return what strikes this request; called once for each."""
        if not self.where(request):
            return None
        return self.faults(request) if callable(self.faults) else next(self._rest, None)


UNASKED = (Status, Redirect, ResetUpload)
"""Faults for which a proxy does not ask the server behind it."""

_TURNED = bytes(255 - value for value in range(256))


def _part(answer: Answer, after_bytes: int | None) -> int:
    return answer.count // 2 if after_bytes is None else min(after_bytes, answer.count)
