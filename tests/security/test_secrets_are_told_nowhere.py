"""Secrets for storage appear in no output, file or object, whatever fails.

All secrets here hold the word that is looked for, so no name of a test or folder may.
"""

from __future__ import annotations

import base64
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.sources import open_place
from wsistore.testing import faults, write_slide
from wsistore.testing.server import FaultServer

WORD = "nightingale"
USER, PASSWORD, SIGNATURE = (
    "nightingale-user",
    "nightingale pass/word",
    "nightingale%2Fsignature%3D",
)
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture(autouse=True)
def own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget at the end what --storage-option and --index-cache leave in the environment."""
    for name in ("WSISTORE_STORAGE_OPTIONS", "WSISTORE_INDEX_CACHE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    made = write_slide(tmp_path / "s.svs", size=(400, 300), tile=64, levels=(1, 4), quality=90)
    return Path(made.path)


@pytest.fixture
def before(s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A server of faults before that of S3; the environment holds keys for it."""
    if os.environ.get("WSISTORE_TEST_S3"):
        pytest.skip("the keys of this test are for a server that takes any")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nightingale-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nightingale-key")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "nightingale-session")
    with FaultServer.before(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


QUICK = ("--storage-option", "retries=1", "--storage-option", "deadline_s=4")
GIVEN = (
    "--storage-option",
    "secret_access_key=nightingale-told",
    "--storage-option",
    "access_key_id=nightingale-told-id",
    "--storage-option",
    "session_token=nightingale-told-session",
)


def verbs(source: str, near: Path, far: str) -> list[list[object]]:
    """Return commands that read a slide, and write to a folder or below a URL."""
    made: list[list[object]] = [
        ["info", source],
        ["info", source, "--json"],
        ["convert", source, near / "s.ome.zarr"],
        ["verify", near / "s.ome.zarr", "--against", source],
        ["tile", source, near / "s.csv", "--target-mag", 20, "--size", 64],
        ["virtualize", source, "--out", near / "refs" / "s.json"],
    ]
    for out in filter(None, (str(near / "run"), far and f"{far}/run")):
        made.append(
            ["process", source, "--patch-size", 64, "--target-mag", 20, "--device", "cpu",
             "--feature-extractors", "colour-stats", "-o", out]
        )  # fmt: skip
    if far:
        made += [
            ["convert", source, f"{far}/s.ome.zarr", "--json"],
            ["verify", f"{far}/s.ome.zarr"],
            ["tile", source, f"{far}/s.csv", "--target-mag", 20, "--size", 64],
        ]
    return made


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout + done.stderr


def leaks(text: str | bytes) -> bool:
    told = text.decode("latin1") if isinstance(text, bytes) else text
    return WORD in unquote(told).lower() or BASIC in told


def leaking_files(root: Path) -> list[str]:
    """Return the files below a folder that hold a secret, or are named by one."""
    found = [path for path in root.rglob("*") if path.is_file()]
    assert found
    return [
        str(path)
        for path in found
        if leaks(str(path.relative_to(root))) or leaks(path.read_bytes())
    ]


def leaking_objects(url: str) -> list[str]:
    place = open_place(url)
    return [
        info.key
        for info in place.list_tree()
        if leaks(info.key) or leaks(place.get(info.key) or b"")
    ]


def check_all(
    commands: list[list[object]], options: tuple[object, ...], codes: Callable[[int], bool]
) -> None:
    for words in commands:
        code, told = run(*options, *words)
        assert not leaks(told), (words, told)
        assert codes(code), (words, code, told)


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x NIGHTINGALE%2Fsignature y")
    (tmp_path / "b").write_text(f"Basic {BASIC}")
    (tmp_path / "c").write_text("bird")
    assert sorted(Path(name).name for name in leaking_files(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("given", [(), GIVEN], ids=["environment", "options"])
def test_runs_that_end_well_tell_no_keys(
    given: tuple[str, ...], before: FaultServer, bucket: str, slide: Path, tmp_path: Path
) -> None:
    open_place(bucket).put("in/s.svs", slide.read_bytes())
    near = tmp_path / "out"
    options = (*given, "--index-cache", near / "cache")
    check_all(verbs(f"{bucket}/in/s.svs", near, f"{bucket}/out"), options, lambda c: c == 0)
    assert (near / "cache").is_dir()
    assert leaking_files(near) == []
    assert leaking_objects(bucket) == []
    sent = [request.headers for request in before.requests]
    assert any(leaks(str(headers)) for headers in sent)  # the keys were in use
    if given:
        assert any("nightingale-told-id" in headers.get("authorization", "") for headers in sent)


FAILING = {
    "forbidden": (faults.Status(403), lambda _: True),
    "no signing in": (faults.Status(401), lambda _: True),
    "refused as bad": (faults.Status(400), lambda _: True),
    "out of order": (faults.Status(500), lambda _: True),
    "reset": (faults.Reset(), lambda _: True),
    "wrong bytes": (faults.Garbage(), lambda r: r.method == "GET" and "s.svs" in r.path),
    "no writing": (faults.Status(403), lambda r: r.method in ("PUT", "POST")),
}


@pytest.mark.parametrize("failing", FAILING)
def test_runs_that_fail_tell_no_keys(
    failing: str, before: FaultServer, bucket: str, slide: Path, tmp_path: Path
) -> None:
    open_place(bucket).put("in/s.svs", slide.read_bytes())
    fault, where = FAILING[failing]
    before.play(itertools.repeat(fault), where)
    near = tmp_path / "out"
    near.mkdir()
    source = f"{bucket}/in/s.svs"
    for words in verbs(source, near, f"{bucket}/out"):
        code, told = run(*QUICK, *GIVEN, *words)
        assert not leaks(told), (words, told)
        if failing != "no writing" or any(f"{bucket}/out" in str(word) for word in words):
            assert code != 0, words
            assert "WSI" in told, (words, told)
    before.reset()
    (near / "end").write_text("")
    assert leaking_files(near) == []
    assert leaking_objects(bucket) == []


@pytest.mark.usefixtures("before")
def test_a_bucket_that_is_not_there_tells_no_keys(bucket: str, tmp_path: Path) -> None:
    near = tmp_path / "out"
    commands = verbs("s3://no-such-bucket/s.svs", near, "s3://no-such-bucket/out")
    check_all(commands, (*QUICK, *GIVEN), lambda code: code != 0)
    assert leaking_objects(bucket) == []


@pytest.mark.parametrize("kind", ["user and password", "signed"])
@pytest.mark.parametrize("fault", [None, faults.Status(403), faults.Status(500), faults.Cut(10)])
def test_urls_are_told_without_user_password_and_signature(
    kind: str, fault: faults.Fault | None, slide: Path, tmp_path: Path
) -> None:
    with FaultServer(slide.parent) as server:
        host = f"127.0.0.1:{server.port}"
        source = {
            "user and password": f"http://{USER}:{PASSWORD.replace(' ', '%20')}@{host}/s.svs",
            "signed": f"http://{host}/s.svs?X-Amz-Signature={SIGNATURE}&sig=nightingale",
        }[kind].replace("pass/word", "pass%2Fword")
        if fault is not None:
            server.play(itertools.repeat(fault))
        near = tmp_path / "out"
        for words in verbs(source, near, ""):
            quick = () if fault is None else QUICK
            code, told = run(*quick, "--index-cache", near / "cache", *words)
            assert not leaks(told), (words, told)
            if words[0] != "virtualize":  # which may refuse addresses with secrets
                assert (code == 0) == (fault is None), (words, told)
        sent = server.requests[0]
        assert sent.headers.get("authorization") == (f"Basic {BASIC}" if "user" in kind else None)
        assert ("X-Amz-Signature" in sent.path) == (kind == "signed")
    near.mkdir(exist_ok=True)
    (near / "end").write_text("")
    assert leaking_files(near) == []


@pytest.mark.parametrize("debug", [True, False])
def test_tracebacks_tell_no_keys(debug: bool, before: FaultServer, bucket: str) -> None:
    before.play(itertools.repeat(faults.Status(403)))
    words = ["info", f"{bucket}/s.svs", *(["--debug"] if debug else [])]
    done = subprocess.run(
        [sys.executable, "-m", "wsistore.cli", *GIVEN, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RUST_LOG": "trace", "RUST_BACKTRACE": "1"},
    )
    assert done.returncode != 0
    assert ("Traceback" in done.stderr) == debug
    assert not leaks(done.stdout + done.stderr), done.stderr
