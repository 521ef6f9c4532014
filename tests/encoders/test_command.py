"""``wsistore encoders``."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.encoders import encoder_registry, packages


@pytest.fixture
def run():
    def call(*arguments):
        return CliRunner().invoke(app, ["encoders", *arguments])

    return call


def test_the_table_has_every_name(run):
    done = run()
    assert done.exit_code == 0
    for name in encoder_registry().names():
        assert f" {name} " in done.stdout
    assert f"{len(encoder_registry().names())} encoders" in done.stdout


def test_json(run):
    told = json.loads(run("--json").stdout)
    rows = {row["name"]: row for row in told["encoders"]}
    assert list(rows) == encoder_registry().names()
    uni = rows["uni_v1"]
    assert (uni["dim"], uni["mpp"], uni["gated"]) == (1024, 0.5, True)
    assert uni["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert rows["colour-stats"]["usable"] is True


def test_only_what_can_be_used_here(run, monkeypatch):
    packages._is_here.cache_clear()
    found = packages.importlib.util.find_spec
    monkeypatch.setattr(
        packages.importlib.util,
        "find_spec",
        lambda name: None if name in {"torch", "timm"} else found(name),
    )
    rows = json.loads(run("--usable", "--json").stdout)["encoders"]
    packages._is_here.cache_clear()
    assert [row["name"] for row in rows] == ["colour-stats", "null"]


def test_one(run):
    done = run("UNI2-h")
    assert done.exit_code == 0
    assert done.stdout.startswith("uni_v2\n")
    for text in ("1536 (cls)", "CC-BY-NC-ND-4.0", "MahmoodLab/UNI2-h", "0.5 µm/px", "log in"):
        assert text in done.stdout
    assert json.loads(run("uni2", "--json").stdout)["name"] == "uni_v2"


def test_an_unknown_name_is_wrong_usage(run):
    done = run("resnet19")
    assert done.exit_code == 2
    assert "resnet18" in done.stderr


def test_listing_imports_no_torch():
    import subprocess

    code = (
        "import sys; sys.argv = ['wsistore', 'encoders', '--json']\n"
        "from wsistore.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'timm', 'transformers', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    ("package", "version", "here"),
    [
        ("transformers>=4.56", "4.56.0", True),
        ("transformers>=4.56", "4.55.9", False),
        ("transformers>=4.56", "5.23.0", True),
        ("transformers<5", "4.57.6", True),
        ("transformers<5", "5.0.0", False),
        ("transformers", "1", True),
    ],
)
def test_limits_of_versions(monkeypatch, package, version, here):
    packages._is_here.cache_clear()
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(packages, "version", lambda _: version)
    assert packages._is_here(package) is here
    packages._is_here.cache_clear()
