"""A server that sends readers elsewhere gets no credentials passed on to there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsistore.errors import SourceUnavailableError
from wsistore.sources import open_source
from wsistore.testing.faults import Redirect
from wsistore.testing.server import FaultServer

KEYS = {"access_key_id": "canary-id", "secret_access_key": "canary", "region": "us-east-1"}
QUICK = {"retries": 0}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[FaultServer, FaultServer]]:
    """One that sends everybody to the other."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "s.svs").write_bytes(b"elsewhere")
    with FaultServer(tmp_path) as asked, FaultServer(tmp_path) as other:
        asked.play(itertools.repeat(Redirect(f"{other.url}/bucket/s.svs")))
        yield asked, other


def test_user_and_password_of_a_url_stay_with_its_server(
    servers: tuple[FaultServer, FaultServer],
) -> None:
    asked, other = servers
    source = open_source(f"http://canary:canary@127.0.0.1:{asked.port}/bucket/s.svs", **QUICK)
    assert source.read(0, 9) == b"elsewhere"
    assert "authorization" in asked.requests[0].headers
    assert [r.path for r in other.requests] == ["/bucket/s.svs"]
    assert "authorization" not in other.requests[0].headers
    assert "canary" not in str(other.requests)


def test_signed_requests_are_not_passed_on_with_their_signature(
    servers: tuple[FaultServer, FaultServer],
) -> None:
    asked, other = servers
    reading = {"endpoint": asked.url, **KEYS, **QUICK}
    assert open_source("s3://bucket/s.svs", **reading).size == 9
    assert "canary-id" in asked.requests[0].headers["authorization"]
    assert "canary" not in str(other.requests)


def test_a_circle_of_redirects_ends(servers: tuple[FaultServer, FaultServer]) -> None:
    asked, _ = servers
    asked.play(itertools.repeat(Redirect(f"{asked.url}/bucket/s.svs")))
    with pytest.raises(SourceUnavailableError):
        open_source(f"{asked.url}/bucket/s.svs", **QUICK)
    assert len(asked.requests) < 20


PASSED_ON = "obstore's client offers no rule for redirects, and drops Authorization alone"


@pytest.mark.xfail(reason=PASSED_ON)
def test_session_tokens_are_not_passed_on(servers: tuple[FaultServer, FaultServer]) -> None:
    # Of no use without the secret key, which never leaves.
    asked, other = servers
    keys = {**KEYS, "session_token": "canary-session"}
    open_source("s3://bucket/s.svs", endpoint=asked.url, **keys, **QUICK)
    assert other.requests
    assert "canary" not in str(other.requests)


@pytest.mark.xfail(reason=PASSED_ON)
def test_signatures_of_urls_are_not_told_as_referer(
    servers: tuple[FaultServer, FaultServer],
) -> None:
    asked, other = servers
    open_source(f"{asked.url}/bucket/s.svs?signature=canary", **QUICK)
    assert other.requests
    assert "canary" not in str(other.requests)
