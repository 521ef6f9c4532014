"""Entity tags (RFC 9110, 8.8.3 and 13.1): whether a client's copy is still good."""

from __future__ import annotations

import re
from hashlib import blake2b

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def make_tag(*facts: str) -> str:
    """Return the strong tag that stands for some facts, with its quotes."""
    digest = blake2b(digest_size=16)
    for fact in facts:
        data = fact.encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return f'"{digest.hexdigest()}"'


def tag_is_listed(header: str, tag: str) -> bool:
    """Return whether a tag is in an ``If-None-Match`` or ``If-Match`` header, or ``*`` is.

    Tags are compared weakly, that is without their ``W/``: proxies put it there.
    """
    return header.strip() == "*" or tag in _TAG.findall(header)
