"""Options of remote storage: who wins, where they come from, and that they stay secret."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest

from wsistore.errors import UsageError
from wsistore.sources import (
    configure_storage,
    objects,
    open_place,
    open_source,
    parse_storage_options,
)
from wsistore.sources.configuring import VARIABLE, options_for
from wsistore.sources.store_options import for_obstore


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (VARIABLE, "WSISTORE_CONFIG", "AWS_PROFILE", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_call_wins_over_what_was_configured_and_that_over_the_file(monkeypatch, tmp_path):
    file = tmp_path / "storage.toml"
    file.write_text(
        '["s3://b"]\nregion = "file"\nendpoint = "file"\nprofile = "file"\n[""]\nretries = 3\n'
    )
    monkeypatch.setenv("WSISTORE_CONFIG", str(file))
    configure_storage({"region": "set", "endpoint": "set"}, "s3://b/")
    assert options_for("s3://b/x", {"region": "call"}) == {
        "region": "call",
        "endpoint": "set",
        "profile": "file",
        "retries": 3,
    }
    configure_storage({}, "s3://b/")
    assert options_for("s3://b/x", {})["endpoint"] == "file"


def test_the_longest_prefix_wins_and_ends_with_a_whole_name():
    configure_storage({"region": "all"})
    configure_storage({"region": "one"}, "s3://b/one")
    assert options_for("s3://b/one/x", {})["region"] == "one"
    assert options_for("s3://b/ones/x", {})["region"] == "all"
    assert options_for("s3://b", {})["region"] == "all"


def test_what_is_meant_for_buckets_is_not_told_to_http():
    configure_storage({"region": "eu", "deadline_s": 5})
    assert options_for("https://h/x", {}) == {"deadline_s": 5}


def test_the_file_in_the_home_folder_is_read(tmp_path):
    place = tmp_path / ".config" / "wsistore"
    place.mkdir(parents=True)
    (place / "storage.toml").write_text('["s3://b"]\nregion = "home"\n')
    assert options_for("s3://b/x", {}) == {"region": "home"}


@pytest.mark.parametrize("text", ["region = 'x'", "[[a]]", "\x00", "= 1"])
def test_a_broken_file_is_told_without_its_text(monkeypatch, tmp_path, text):
    file = tmp_path / "s.toml"
    file.write_text(text)
    monkeypatch.setenv("WSISTORE_CONFIG", str(file))
    with pytest.raises(UsageError, match=r"s\.toml is no TOML file"):
        options_for("s3://b", {})


def test_a_file_that_is_named_must_be_there(monkeypatch):
    monkeypatch.setenv("WSISTORE_CONFIG", "/none.toml")
    with pytest.raises(UsageError, match="not there"):
        options_for("s3://b", {})


def test_child_processes_know_what_was_configured():
    configure_storage({"region": "told"}, "s3://b")
    code = (
        "from wsistore.sources.configuring import options_for; print(options_for('s3://b/k', {}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "{'region': 'told'}"


def test_options_of_the_command_line():
    told = ["endpoint=http://h:1/?a=b", "anonymous=true", "retries=3", "deadline_s=1.5"]
    assert parse_storage_options(told) == {
        "endpoint": "http://h:1/?a=b",
        "anonymous": True,
        "retries": 3,
        "deadline_s": 1.5,
    }
    with pytest.raises(UsageError, match="KEY=VALUE") as caught:
        parse_storage_options(["=canary"])
    assert "canary" not in str(caught.value)


def test_a_profile_gives_keys_region_and_endpoint(tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[lab]\naws_access_key_id = ID\naws_secret_access_key = canary-secret\n"
    )
    (tmp_path / ".aws" / "config").write_text(
        "[profile lab]\nregion = eu-1\nendpoint_url = http://h:1\noutput = json\n"
    )
    _, found = for_obstore("s3://b", {"profile": "lab"})
    assert {key: found[key] for key in ("access_key_id", "region", "endpoint")} == {
        "access_key_id": "ID",
        "region": "eu-1",
        "endpoint": "http://h:1",
    }
    assert found["secret_access_key"] == "canary-secret"
    assert found["client_options"]["allow_http"] is True
    assert "canary-secret" not in repr(open_place("s3://b", profile="lab"))
    with pytest.raises(UsageError, match="no profile 'other'"):
        for_obstore("s3://b", {"profile": "other"})


def test_keys_of_the_environment_come_before_its_profile(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ID")
    assert "access_key_id" not in for_obstore("s3://b", {})[1]


def test_a_deadline_leaves_time_for_repeats():
    _, found = for_obstore("https://h/x", {"deadline_s": 10})
    assert found["client_options"]["timeout"] == timedelta(seconds=5)
    assert found["retry_config"]["retry_timeout"] == timedelta(seconds=5)
    _, found = for_obstore("https://h/x", {"deadline_s": 10, "timeout_s": 30})
    assert found["client_options"]["timeout"] == timedelta(seconds=10)
    for wrong in ({"deadline_s": 0}, {"timeout_s": "1"}, {"retries": -1}, {"deadline_s": True}):
        with pytest.raises(UsageError):
            for_obstore("https://h/x", wrong)


def test_a_broken_variable_is_told_without_its_text(monkeypatch):
    monkeypatch.setenv(VARIABLE, "canary{")
    with pytest.raises(UsageError, match=VARIABLE) as caught:
        options_for("s3://b", {})
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.setenv(VARIABLE, json.dumps([1]))
    with pytest.raises(UsageError, match=VARIABLE):
        options_for("s3://b", {})


def test_the_command_line_takes_options_before_the_command(monkeypatch, capsys):
    from wsistore.cli import main

    for text, code in (("region=eu", 0), ("no-equals", 2)):
        monkeypatch.setattr(
            sys, "argv", ["wsistore", "--storage-option", text, "encoders", "--json"]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
    assert options_for("s3://b", {}) == {"region": "eu"}


def test_options_of_the_client_go_to_the_client():
    _, found = for_obstore("s3://b", {"allow_http": True, "user_agent": "me", "region": "eu"})
    assert found["client_options"]["allow_http"] is True
    assert found["client_options"]["user_agent"] == "me"
    assert "allow_http" not in found
    assert open_place("s3://b", allow_http=True, region="eu").name == "s3://b"


def test_an_endpoint_that_is_plain_http_is_meant(monkeypatch):
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert for_obstore("s3://b", {})[1]["client_options"]["allow_http"] is True
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://h")
    assert "allow_http" not in for_obstore("s3://b", {})[1]["client_options"]
    assert "allow_http" not in for_obstore("gs://b", {})[1]["client_options"]


def test_a_prefix_with_a_slash_holds_for_the_objects_right_below_it(monkeypatch):
    seen = []
    monkeypatch.setattr(objects.Bucket, "at", lambda url, options: seen.append(options))
    monkeypatch.setattr(objects, "ObjectSource", lambda bucket, key: None)
    configure_storage({"region": "eu"}, "s3://b/slides/")
    open_source("s3://b/slides/a.svs")
    assert seen == [{"region": "eu"}]
    assert options_for("s3://b/slides", {}) == {"region": "eu"}
    assert options_for("s3://b/slides2/a.svs", {}) == {}
    configure_storage({"region": "us"}, "s3://")
    assert options_for("s3://c/a.svs", {}) == {"region": "us"}
