"""Fixtures shared by all rooms."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from wsistore.testing import SyntheticSlide, write_slide

settings.register_profile("wsistore", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("wsistore")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script runs in the background begins so, and children that are interrupted would.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small real slides beside the checkout; the test is skipped without it.

    For tests of real slides only: whatever can be shown on a synthetic slide, is.
    """
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real slides here: {folder} is absent")
    return folder


@pytest.fixture(scope="session")
def slide_factory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SyntheticSlide]:
    """Write slides once per session: ``slide_factory(variant, **options)``.

    Options are those of `write_slide`. Slides are shared, so copy one before changing it.
    """
    folder = tmp_path_factory.mktemp("slides")
    made: dict[str, SyntheticSlide] = {}

    def get(variant: str = "jpeg_rgb_tables", **options: Any) -> SyntheticSlide:
        key = repr((variant, sorted(options.items())))
        if key not in made:
            suffix = {"generic": ".tif", "ome-tiff": ".ome.tif"}.get(options.get("kind"), ".svs")
            path = folder / f"{variant}-{len(made)}{suffix}"
            made[key] = write_slide(path, variant, **options)
        return made[key]

    return get


@pytest.fixture(scope="session")
def aperio(slide_factory: Callable[..., SyntheticSlide]) -> Callable[..., SyntheticSlide]:
    """Return the slide factory, by the name of what it makes by default."""
    return slide_factory


@pytest.fixture
def own_encoders() -> Iterator[None]:
    """Forget the encoders that a test adds to those of its process by a plug-in."""
    from wsistore.encoders import encoder_registry

    encoder_registry.cache_clear()
    yield
    encoder_registry.cache_clear()


_BUCKETS = itertools.count()
_REAL_S3 = os.environ.get("WSISTORE_TEST_S3", "").rstrip("/")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Endpoint of an S3 server: moto on a free loopback port, as long as the session lives.

    `WSISTORE_TEST_S3` names another, such as Ceph's, which then has to be there; the keys
    for it are ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` of the environment.
    """
    if _REAL_S3:
        yield _REAL_S3
        return
    moto = pytest.importorskip("moto.server", reason="the extra 'test' brings moto")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a new, empty bucket, ``s3://...``; the environment says how to reach it."""
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "canary-key-id", "AWS_SECRET_ACCESS_KEY": "canary-secret"}
    name = f"bucket-{next(_BUCKETS)}"
    if _REAL_S3:  # Which knows only its own keys, and keeps the buckets of earlier runs.
        keys = {}
        name = f"{name}-{uuid.uuid4().hex[:12]}"
    for key, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        **keys,
    }.items():
        monkeypatch.setenv(key, value)
    client = boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{name}"
