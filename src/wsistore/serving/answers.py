"""What is sent back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from wsistore.errors import WsistoreError
from wsistore.serving.contents import Resource

Headers = list[tuple[str, str]]


@dataclass(slots=True)
class Answer:
    """What is sent back.

    Parameters
    ----------
    status : HTTPStatus
        Its number and phrase.
    headers : list of (str, str)
        Those of this answer; the general ones are added to each.
    resource : Resource or None
        Where the body comes from.
    span : (int, int)
        First byte of the body in the resource, and the one behind its last.
    ends : bool
        Whether the connection is closed after it.
    """

    status: HTTPStatus
    headers: Headers = field(default_factory=list)
    resource: Resource | None = None
    span: tuple[int, int] = (0, 0)
    ends: bool = False


def validators(tag: str) -> Headers:
    """Return what lets a client keep a copy, and ask each time whether it is still good."""
    return [("ETag", tag), ("Cache-Control", "no-cache"), ("Accept-Ranges", "bytes")]


def plain_answer(
    status: HTTPStatus, headers: Headers | None = None, *, ends: bool = False
) -> Answer:
    """Return an answer whose body is its status in words."""
    body = f"{status.value} {status.phrase}\n".encode()
    return _whole(status, body, "text/plain; charset=utf-8", headers or [], ends=ends)


def failed_answer(error: WsistoreError) -> Answer:
    """Return the answer that tells an error's code; its message may name local paths."""
    about = (type(error).__doc__ or "").partition("\n")[0]
    body = json.dumps({"error": {"code": error.code, "about": about}}).encode()
    told = [("Cache-Control", "no-store")]
    return _whole(HTTPStatus.INTERNAL_SERVER_ERROR, body, "application/json", told)


def _whole(
    status: HTTPStatus, body: bytes, kind: str, headers: Headers, *, ends: bool = False
) -> Answer:
    headers = [("Content-Type", kind), *headers]
    return Answer(status, headers, Resource(body, '""'), (0, len(body)), ends)
