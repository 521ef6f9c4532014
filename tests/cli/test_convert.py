"""`wsistore convert`: what it says, and the JSON lines that scripts rely on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsistore.cli.app import app
from wsistore.cli.narrating import event_record, readers_line
from wsistore.pyramid import events
from wsistore.testing import SyntheticSlide

EVENT_KEYS = {
    "slide_started": {"event", "source", "store", "plan", "shards"},
    "slide_resumed": {"event", "source", "kept", "kept_bytes", "redone"},
    "shard_done": {
        "event", "source", "level", "key", "bytes_in", "bytes_out", "tiles", "missing", "damaged",
    },
    "slide_finished": {
        "event", "source", "store", "skipped", "bytes_out", "missing", "damaged", "notes",
    },
    "slide_failed": {"event", "source", "store", "code", "detail"},
}  # fmt: skip

EVERY_OPTION = """
--codec jpeg --quality 80 --chunk 512 --shard 1024 --format 0.5 --add-levels --keep-levels
--associated label --associated macro --keep-metadata all --mpp 0.25,0.26 --magnification 40
--on-bad-tile fill --recursive --keep-tree --overwrite --workers 3 --scheduler processes --dry-run
"""


@pytest.fixture
def slide(slide_factory: Callable[..., SyntheticSlide]) -> Path:
    return slide_factory(missing=[(0, 1, 0)]).path


def convert(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["convert", *(str(argument) for argument in arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_copy_says_what_it_wrote_and_who_reads_it(slide: Path, tmp_path: Path) -> None:
    store = tmp_path / "out.ome.zarr"
    code, out, err = convert(slide, store)
    done, readers = out.splitlines()
    assert (code, err) == (0, "")
    assert done.startswith(f"{slide} -> ")
    assert "1 missing tile left out" in done
    assert "imagecodecs" in readers
    assert "--codec zstd" in readers
    assert (store / "zarr.json").is_file()


def test_a_finished_slide_is_skipped(slide: Path, tmp_path: Path) -> None:
    convert(slide, tmp_path / "out.ome.zarr")
    code, out, _ = convert(slide, tmp_path / "out.ome.zarr")
    assert code == 0
    assert out.splitlines() == [
        f"{slide}: {tmp_path / 'out.ome.zarr'} is finished already, skipped"
    ]


def test_other_settings_are_refused_until_overwritten(slide: Path, tmp_path: Path) -> None:
    store = tmp_path / "out.ome.zarr"
    convert(slide, store)
    code, _, err = convert(slide, store, "--shard", "512")
    assert code == 1
    assert "WSI502" in err
    assert "shard" in err
    assert convert(slide, store, "--shard", "512", "--overwrite")[0] == 0


def test_json_lines_have_their_documented_keys(slide: Path, tmp_path: Path) -> None:
    code, out, err = convert(slide, tmp_path / "out.ome.zarr", "--json", "--shard", "512")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    kinds = [line["event"] for line in lines]
    assert kinds[0] == "slide_started"
    assert kinds[-2:] == ["slide_finished", "summary"]
    assert set(kinds[1:-2]) == {"shard_done"}
    assert len(kinds) - 3 == lines[0]["shards"]
    for line in lines[:-1]:
        assert line.keys() == EVENT_KEYS[line["event"]]
    assert lines[-1]["exit_code"] == 0
    (outcome,) = lines[-1]["outcomes"]
    assert outcome.keys() == {"unit", "status", "code", "detail"}
    assert sum(line.get("missing", 0) for line in lines if line["event"] == "shard_done") == 1


@pytest.mark.parametrize(
    "event",
    [
        events.SlideResumed("a.svs", 3, 1000, 1),
        events.ShardDone("a.svs", 0, "0/c/0/0/0", 10, 12, 1, 0, 0),
        events.SlideFinished("a.svs", "a.ome.zarr", True, 12, 0, 0),
        events.SlideFailed("a.svs", "a.ome.zarr", "WSI302", "broken"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_event_has_its_record(event: events.Event) -> None:
    record = event_record(event)
    assert record.keys() == EVENT_KEYS[record["event"]]
    json.dumps(record)


def test_a_dry_run_writes_nothing(slide: Path, tmp_path: Path) -> None:
    code, out, err = convert(slide, tmp_path / "out.ome.zarr", "--dry-run")
    assert (code, err) == (0, "")
    assert "1200 x 900" in out
    assert "300 x 225" in out
    assert "files" in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_its_plan_in_json(slide: Path, tmp_path: Path) -> None:
    _, out, _ = convert(slide, tmp_path / "out.ome.zarr", "--dry-run", "--json")
    plan, summary = (json.loads(line) for line in out.splitlines())
    assert (plan["event"], plan["source"], summary["event"]) == ("plan", str(slide), "summary")
    assert plan["plan"]["estimated_bytes"] > 0
    assert [level["width"] for level in plan["plan"]["levels"]] == [1200, 300]


def test_quiet_says_nothing(slide: Path, tmp_path: Path) -> None:
    assert convert(slide, tmp_path / "out.ome.zarr", "--quiet") == (0, "", "")


def test_all_options_reach_the_engine(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wsistore
    from wsistore.engine import ConvertReport

    seen: dict[str, Any] = {}

    def fake(sources: list[str], destination: str, **options: Any) -> ConvertReport:
        seen.update(options, sources=sources, destination=destination)
        return ConvertReport(())

    monkeypatch.setitem(wsistore.__dict__, "convert", fake)
    code, _, _ = convert(slide, slide, tmp_path, *shlex.split(EVERY_OPTION))
    assert code == 1  # nothing done
    assert callable(seen.pop("on_event"))
    assert seen == {
        "sources": [str(slide), str(slide)],
        "destination": str(tmp_path),
        "codec": "jpeg",
        "quality": 80,
        "chunk": 512,
        "shard": 1024,
        "format": "0.5",
        "add_levels": True,
        "keep_levels": True,
        "associated": ("label", "macro"),
        "keep_metadata": "all",
        "mpp": (0.25, 0.26),
        "magnification": 40.0,
        "on_bad_tile": "fill",
        "recursive": True,
        "keep_tree": True,
        "overwrite": True,
        "workers": 3,
        "scheduler": "processes",
        "dry_run": True,
    }


def test_no_associated_image_is_kept_on_request(slide: Path, tmp_path: Path) -> None:
    _, out, _ = convert(slide, tmp_path / "out", "--dry-run", "--json", "--associated", "none")
    assert json.loads(out.splitlines()[0])["plan"]["associated"] == []


@pytest.mark.parametrize(
    ("codecs", "part"),
    [
        ((), ""),
        (("zstd",), ""),
        (("jpeg",), "imagecodecs >= 2026.5.10"),
        (("jpeg2000", "zstd"), "imagecodecs >= 2026.5.10"),
        (("jpeg2000-ycbcr",), "where wsistore is installed"),
        (("jpeg", "jpeg2000-ycbcr"), "where wsistore is installed"),
    ],
)
def test_the_line_on_readers(codecs: tuple[str, ...], part: str) -> None:
    line = readers_line(codecs)
    assert part in line
    assert bool(line) == bool(part)
