"""What embedding runs say: a bar with rate, remaining time and slides, a table, JSON."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from wsistore.cli.boundary import complain, error_record, plain, print_json
from wsistore.cli.tables import console, human_bytes, table
from wsistore.durable.outcome import counted

if TYPE_CHECKING:
    from rich.progress import Progress

    from wsistore.engine.embed_events import EmbedEvent
    from wsistore.engine.embedding import EmbedReport
    from wsistore.engine.exporting import ExportReport
    from wsistore.engine.processing import ProcessedSlide, ProcessReport


@contextmanager
def embedding_progress(*, verbose: bool, as_json: bool) -> Iterator[Callable[[EmbedEvent], None]]:
    """Give what is to be told the events of a run; its bar on stderr ends with the block."""
    if verbose:
        logging.basicConfig(level=logging.INFO)
        yield _Lines().tell
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    out = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=as_json or not out.is_terminal,
    ) as progress:
        yield _Bar(progress).tell


@dataclasses.dataclass
class _Counts:
    """Slides and tiles so far."""

    slides: int = 0
    done: int = 0
    failed: int = 0
    tiles: int = 0
    begun: float = dataclasses.field(default_factory=time.monotonic)

    def take(self, event: EmbedEvent) -> None:
        """Count an event."""
        kind = type(event).__name__
        if kind == "EmbedStarted":
            self.slides, self.begun = getattr(event, "slides", 0), time.monotonic()
        elif kind == "UnitDone":
            self.tiles += getattr(event, "tiles", 0)
        elif kind == "SlideFinished":
            self.done += 1
        elif kind == "SlideFailed":
            self.failed += 1

    @property
    def rate(self) -> float:
        """Tiles a second."""
        return self.tiles / max(1e-6, time.monotonic() - self.begun)

    def text(self) -> str:
        """Return slides done and failed."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done}/{self.slides} slides{failed}"


class _Bar:
    """A bar of tiles."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._counts = _Counts()
        self._task = progress.add_task("features", total=None, rate="")

    def tell(self, event: EmbedEvent) -> None:
        """Move the bar."""
        counts, kind = self._counts, type(event).__name__
        counts.take(event)
        if kind == "EmbedStarted":
            self._progress.update(self._task, total=getattr(event, "tiles", 0))
        elif kind == "UnitDone" or (kind == "SlideFinished" and getattr(event, "skipped", False)):
            self._progress.advance(self._task, getattr(event, "tiles", 0))
        rate = f"{counts.rate:.0f} tiles/s"
        self._progress.update(self._task, description=f"features, {counts.text()}", rate=rate)


class _Lines:
    """A line for what happens to slides."""

    def __init__(self) -> None:
        self._counts = _Counts()

    def tell(self, event: EmbedEvent) -> None:
        """Print a line, but none for each unit."""
        self._counts.take(event)
        kind = type(event).__name__
        if kind in ("UnitDone", "EmbedStarted"):
            return
        word = {"SlideFinished": "[OK]", "SlideFailed": "[FAIL]"}.get(kind, f"[{kind}]")
        told = dataclasses.asdict(event)
        slide = told.pop("slide", "")
        rest = ", ".join(f"{name} {value}" for name, value in told.items())
        typer.echo(f"{word} {slide}: {rest} ({self._counts.rate:.0f} tiles/s)", err=True)


def embed_record(report: EmbedReport) -> dict[str, Any]:
    """Return a run as JSON has it; keys are only ever added."""
    outcomes = [plain(dataclasses.asdict(outcome)) for outcome in report.outcomes]
    return {
        "exit_code": report.exit_code,
        "slides": outcomes,
        "encoders": [
            {"name": record.name, "dim": record.dim, "fingerprint": record.fingerprint}
            for record in report.encoders
        ],
        "counters": dataclasses.asdict(report.counters),
    }


def print_embedded(report: EmbedReport, store: str, *, as_json: bool) -> None:
    """Print how an embedding run went."""
    if as_json:
        print_json({"store": store, **embed_record(report)})
    else:
        rows = [[o.unit, o.status, _cut(o.detail)] for o in report.outcomes]
        console().print(table(("slide", "status", "what"), rows, left=3))
        typer.echo(f"{_counted(report)}; features are in {store}")
    failed = [outcome.unit for outcome in report.outcomes if outcome.status == "failed"]
    for unit, error in zip(failed, report.errors, strict=True):
        complain(error, about=unit)


def print_exported(report: ExportReport, output: str, *, as_json: bool) -> None:
    """Print how an export went."""
    if as_json:
        slides = [
            {
                **plain(dataclasses.asdict(outcome)),
                "files": [str(path) for path in report.files.get(outcome.unit, ())],
            }
            for outcome in report.outcomes
        ]
        print_json({"output": output, "exit_code": report.exit_code, "slides": slides})
    else:
        done = sum(outcome.status == "done" for outcome in report.outcomes)
        typer.echo(
            f"{counted(done, 'slide')} written, {len(report.errors)} failed; files are in {output}"
        )
    failed = [outcome.unit for outcome in report.outcomes if outcome.status == "failed"]
    for unit, error in zip(failed, report.errors, strict=True):
        complain(error, about=unit)


def process_record(report: ProcessReport) -> dict[str, Any]:
    """Return a run of all stages as JSON has it; keys are only ever added."""
    embedded = report.embedding
    return {
        "folder": str(report.folder),
        "store": str(report.store),
        "exit_code": report.exit_code,
        "slides": [
            {
                "path": slide.path,
                "name": slide.name,
                "status": slide.status,
                "stage": slide.stage,
                "tiles": slide.tiles,
                "detail": slide.detail,
                "files": [str(path) for path in slide.files],
                "error": None if slide.error is None else error_record(slide.error),
            }
            for slide in report.slides
        ],
        "encoders": [] if embedded is None else embed_record(embedded)["encoders"],
        "counters": {} if embedded is None else dataclasses.asdict(embedded.counters),
        "exports": {kind: str(path) for kind, path in report.exports.items()},
        "contact_sheets": [str(path) for path in report.planning.sheets],
    }


def print_processed(report: ProcessReport, *, as_json: bool) -> None:
    """Print how a run of all stages went: a table and its failures, or one JSON object."""
    if as_json:
        print_json(process_record(report))
    else:
        rows = [
            [
                s.name,
                s.status + (f" ({s.stage})" if s.stage else ""),
                _known(s.tiles),
                _cut(s.detail),
            ]
            for s in report.slides
        ]
        console().print(table(("slide", "status", "tiles", "what"), rows, left=4))
        typer.echo(_closing(report))
    for slide in report.slides:
        if slide.error is not None:
            complain(slide.error, about=slide.path)


def _status(slide: ProcessedSlide) -> str:
    return f"{slide.status} ({slide.stage})" if slide.stage else slide.status


def _closing(report: ProcessReport) -> str:
    failed = sum(slide.status == "failed" for slide in report.slides)
    line = f"{len(report.slides) - failed} completed, {failed} failed"
    if report.embedding is not None:
        line += f"; {_counted(report.embedding)}"
    return f"{line}; results are in {report.folder}, features in {report.store}"


def _counted(report: EmbedReport) -> str:
    counters = report.counters
    told = f"{counted(counters.tiles, 'tile')} computed"
    if counters.failed_tiles:
        told += f" ({counters.failed_tiles} without features)"
    names = ", ".join(f"{record.name} ({record.dim})" for record in report.encoders)
    return f"{told} by {names}, {human_bytes(counters.bytes_written)} of features"


def _known(value: int | None) -> str:
    return "-" if value is None else str(value)


def _cut(text: str, most: int = 70) -> str:
    """Return a text that leaves room for other columns; errors are told whole below."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
